"""Processes that take turns at a measurement: each runs steps on request and reports the time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

SECONDS = 2.0
"""Approximate duration of a turn."""


def serve(run: Callable[[int], object]) -> None:
    """Worker's side: print `ready`, then read numbers of steps, one per line, and print the seconds that they took."""
    run(5)  # what compiles may do so again in the second and third step
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - started, flush=True)


class Worker:
    """Caller's side: a process that runs steps on request."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seconds: list[float] = []
        """Seconds per step in each turn."""
        if self._answer().strip() != "ready":
            raise SystemExit(f"{' '.join(command)} did not start. Run it by hand to see why.")
        self._count = max(1, round(SECONDS / (self._steps(5) / 5)))

    def turn(self) -> None:
        self.seconds.append(self._steps(self._count) / self._count)

    def end(self) -> None:
        self.process.kill()

    def _steps(self, count: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()
