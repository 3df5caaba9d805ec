"""Trace a few training steps and find their most expensive operations."""

from __future__ import annotations

import collections
import dataclasses
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from genlab.backend import tf
from genlab.config import profiled_steps

log = logging.getLogger("genlab")

SHOWN = 10
"""Number of kinds of operations to log."""
OPERATION = re.compile(r"^(?P<name>[^\s:]+):(?P<kind>\w+)$")
LOOP = re.compile(r"^while/(body/)?(_\d+/)?(while/)?")
"""Prefix of the names of all operations in the loop over steps."""


@dataclasses.dataclass
class Cost:
    """Total cost of all operations of one kind."""

    seconds: float = 0.0
    count: int = 0
    by_name: dict[str, float] = dataclasses.field(default_factory=lambda: collections.defaultdict(float))


class Profile:
    """Traces the steps from START to STOP for TensorBoard, then logs the most expensive operations."""

    def __init__(self, span: str, folder: pathlib.Path) -> None:
        """Trace `span` (START:STOP; empty: nothing) into `folder`, a TensorBoard folder."""
        self.steps: tuple[int, ...] = profiled_steps(span) if span else ()
        self.folder = folder
        self.running = False
        self.seconds = self.waited = 0.0

    def before(self, step: int) -> None:
        """Call before the steps that follow `step`."""
        if self.steps and step == self.steps[0]:
            tf.profiler.experimental.start(str(self.folder))
            self.running = True

    def after(self, step: int, seconds: float, waited: float) -> None:
        """Call after the steps up to `step`, with their duration in seconds, of which `waited` for data."""
        if not self.running:
            return
        self.seconds += seconds
        self.waited += waited
        if step == self.steps[1]:
            self.close()
            for line in self._report():
                log.info(line)

    def close(self) -> None:
        """End the trace, if one is running."""
        if self.running:
            self.running = False
            tf.profiler.experimental.stop()

    def _report(self) -> Iterator[str]:
        start, stop = self.steps
        count = stop - start
        yield (
            f"profile steps {start:,} to {stop:,}: {1000 * self.seconds / count:.1f} ms per step, "
            f"{self.waited / self.seconds:.1%} waiting for data; most expensive operations:"
        )
        costs = operation_costs(newest_trace(self.folder))
        total = sum(cost.seconds for cost in costs.values())
        for kind, cost in sorted(costs.items(), key=lambda item: -item[1].seconds)[:SHOWN]:
            most = max(cost.by_name, key=cost.by_name.__getitem__)
            yield (
                f"  {cost.seconds / total:6.1%}  {1000 * cost.seconds / count:8.2f} ms per step  "
                f"{cost.count / count:6.1f} times  {kind}, most in {most}"
            )
        yield f"profile trace in {self.folder}: tensorboard --logdir {self.folder} (needs pip install xprof)"


def newest_trace(folder: pathlib.Path) -> pathlib.Path:
    """Return the newest trace in a TensorBoard folder."""
    return max(folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)


def operation_costs(trace: pathlib.Path) -> dict[str, Cost]:
    """Return the cost of the operations in a trace, by kind: on GPUs if there are any, else on the CPU."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(trace.read_bytes())
    on_devices = [plane for plane in space.planes if plane.name.startswith("/device:GPU") and plane.lines]
    costs: dict[str, Cost] = {}
    for plane in on_devices or [plane for plane in space.planes if plane.name.startswith("/host:CPU")]:
        for kind, name, seconds in _operations(plane):
            cost = costs.setdefault(kind, Cost())
            cost.seconds += seconds
            cost.count += 1
            cost.by_name[LOOP.sub("", name)] += seconds
    return costs


def _operations(plane: Any) -> Iterator[tuple[str, str, float]]:
    """Yield kind, name and seconds of each operation. A GPU kernel counts for the operation that launched it."""
    for line in plane.lines:
        for event in line.events:
            label = plane.event_metadata[event.metadata_id].name
            for stat in event.stats:
                if plane.stat_metadata[stat.metadata_id].name == "tf_op":
                    label = stat.str_value or plane.stat_metadata[stat.ref_value].name
            if found := OPERATION.match(label):
                yield found["kind"], found["name"], event.duration_ps / 1e12
