"""`python -m genlab` lists the commands; `python -m genlab train dcgan` runs `python -m genlab.train dcgan`."""

from __future__ import annotations

import importlib
import sys

from genlab.console import reported, say
from genlab.errors import UsageError, closest

COMMANDS = {
    "train": "train a model, or resume a run",
    "sample": "draw samples from a run: grids, single images, animations, arrays",
    "evaluate": "measure runs against real images",
    "report": "an HTML page about runs: verdict, metrics, curves, samples",
    "explore": "a local web page to play with a run's model",
    "augment": "does a run help to train a classifier?",
    "export": "write a run as files that other programs run",
    "transfer": "what a run's backbone gains a classifier with few labels",
    "encode": "turn images into short codes and back",
    "anomaly": "which images are strange to a run's model?",
    "runs": "list runs, and delete those that are not needed",
    "data": "inspect images, or write them as TFRecord shards",
}


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    with reported("python -m genlab"):
        if not arguments or arguments[0] in ("-h", "--help"):
            say(overview())
            return
        name, *rest = arguments
        if name == "--completion":
            from genlab import completion

            say(completion.script(rest[0] if rest else "", COMMANDS))
            return
        if name not in COMMANDS:
            raise UsageError(f"there is no command {name!r}{closest(name, COMMANDS)} Commands: {', '.join(COMMANDS)}.")
        module = f"genlab.{name}" if name == "sample" else f"genlab.{name}.__main__"
        importlib.import_module(module).main(rest)


def overview() -> str:
    """Return the usage and a list of commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = ["usage: genlab COMMAND [options], or python -m genlab COMMAND [options]", "", "Commands:"]
    lines += [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "Options of a command: genlab COMMAND --help"]
    return "\n".join([*lines, "Completion of words:  genlab --completion bash, zsh or fish"])


if __name__ == "__main__":
    main()
