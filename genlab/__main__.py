"""`python -m genlab` lists the commands; `python -m genlab train dcgan` runs `python -m genlab.train dcgan`."""

from __future__ import annotations

import importlib
import sys

from genlab.errors import UsageError, closest, reported, say

COMMANDS = {
    "train": "train a model, or resume a run",
    "sample": "draw samples from a run: grids, single images, animations, arrays",
    "evaluate": "measure runs against real images",
    "augment": "does a run help to train a classifier?",
    "export": "write a run as files that other programs run",
    "transfer": "what a run's backbone gains a classifier with few labels",
    "encode": "turn images into short codes and back",
    "runs": "list runs, and delete those that are not needed",
    "data": "inspect images, or write them as TFRecord shards",
}


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    with reported("python -m genlab"):
        if not arguments or arguments[0] in ("-h", "--help"):
            width = max(map(len, COMMANDS))
            lines = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
            say("\n".join(["usage: python -m genlab COMMAND [options]", "", "Commands:", *lines]))
            return
        name, *rest = arguments
        if name not in COMMANDS:
            raise UsageError(f"there is no command {name!r}{closest(name, COMMANDS)} Commands: {', '.join(COMMANDS)}.")
        module = f"genlab.{name}" if name == "sample" else f"genlab.{name}.__main__"
        importlib.import_module(module).main(rest)


if __name__ == "__main__":
    main()
