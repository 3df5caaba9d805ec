"""Processes that take turns at a measurement: each works when it is told to, and says how long that took."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

SECONDS = 2.0
"""How long a turn is, about."""


def serve(run: Callable[[int], object]) -> None:
    """The worker's side: say `ready`, then answer each line that holds a number with the seconds that so many steps took."""
    run(2)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - started, flush=True)


class Worker:
    """The other side: a process that runs steps when it is told to."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seconds: list[float] = []
        """Of a step, in each turn."""
        if self._answer().strip() != "ready":
            raise SystemExit(f"{' '.join(command)} did not start: call it by hand to see why")
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
