"""What a command prints of the log while it works."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

import tqdm


class _Console(logging.Handler):
    """Prints above the progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.tqdm.write(self.format(record), file=sys.stdout)


@contextlib.contextmanager
def console_log() -> Iterator[None]:
    """Meanwhile lines of the log go to standard output, but for those that only the log file wants."""
    handler = _Console()
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    log = logging.getLogger("genlab")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
