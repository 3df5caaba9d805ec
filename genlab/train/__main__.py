"""Command line: `python -m genlab.train MODEL` trains a model and writes a run folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from genlab import command_line, config, models
from genlab.config import Options
from genlab.console import console_log, reported, say
from genlab.data import points
from genlab.data.options import DataOptions
from genlab.errors import UsageError
from genlab.models.base import Hparams

if TYPE_CHECKING:
    from genlab.run import Run

log = logging.getLogger("genlab")

PROGRAM = "python -m genlab.train"


@dataclasses.dataclass(frozen=True)
class Command:
    """Options of the command itself, which are not settings of the run."""

    preset: str = "default"
    """Preset to start from; other options override it. For vectors the default is `points`, if the model has it."""
    resume: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Resume a run: folder, number or `latest` (the default without a value). Add --steps to train longer."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved configuration and exit."""
    debug: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run steps eagerly (slow), so that a debugger and print work inside a model."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print only warnings, errors, and at the end the path of the run."""


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    with reported(PROGRAM):
        if not arguments or arguments[0] in ("-h", "--help"):
            say(overview())
            return
        # What is logged before the arguments are parsed must be quiet, too.
        with console_log(quiet="--quiet" in arguments):
            run_command(arguments)


def overview() -> str:
    """Return the usage and a list of models, one line each."""
    width = max(len(name) for name in models.names())
    lines = [f"usage: {PROGRAM} MODEL [options]", "", "Models:"]
    lines += [f"  {name:{width}}  {models.summary(name)}" for name in models.names()]
    lines += ["", f"Options of a model: {PROGRAM} MODEL --help", f"Resume a run:       {PROGRAM} --resume [RUN]"]
    return "\n".join(lines)


def run_command(arguments: list[str]) -> None:
    early, rest = _read_early(arguments)
    if early.resume is None:
        if early.model is None:
            raise UsageError(f"no model was given. Models: {', '.join(models.names())}.")
        preset, hparams = _begin_with(early, rest)
        begin = (Options(), DataOptions(), hparams, Command(preset=preset))
        _train(early.model, *_parse(early.model, rest, *begin))
    else:
        _resume(early, rest)


def _begin_with(early: argparse.Namespace, rest: list[str]) -> tuple[str, Hparams]:
    """Return the preset and the hyper-parameters that the other arguments change."""
    on_points = early.data in points.NAMES
    if ancestor := _peek(rest, "--from", ""):
        from genlab.train import fit as training  # imports TensorFlow

        options = Options(from_run=ancestor, out=_peek(rest, "--out", "runs"))
        return training.begin_with(early.model, early.preset, options, points=on_points)
    preset = config.preset_for(early.model, early.preset, points=on_points)
    return preset, config.starting_hparams(early.model, preset)


def _read_early(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the model, --preset, --data and --resume, which set the defaults of the other options, and the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    model = None if arguments[0].startswith("-") else arguments[0]
    if model is not None:
        models.load(model)  # raises UsageError for an unknown name
        arguments = arguments[1:]
    parser.add_argument("--preset")
    parser.add_argument("--resume", nargs="?", const="latest")
    early, rest = parser.parse_known_args(arguments)
    early.model, early.data = model, _peek(rest, "--data", "digits")
    return early, rest


def _peek(arguments: list[str], flag: str, default: str) -> str:
    """Return the value of one flag before the arguments are parsed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, nargs="?", default=default, dest="value")
    return parser.parse_known_args(arguments)[0].value


def arguments_of(hparams: type[Hparams]) -> Any:
    """Return the dataclass of all options of a model with these hyper-parameters."""
    parts = [("command", Command), ("training", Options), ("data_options", DataOptions), ("model", hparams)]
    return dataclasses.make_dataclass("Arguments", parts, frozen=True)


def _parse(
    model: str, arguments: list[str], options: Options, data_options: DataOptions, hparams: Hparams, command: Command
) -> tuple[Options, DataOptions, Hparams, Command]:
    """Parse the arguments, with the given options, hyper-parameters and command as defaults."""
    presets = ", ".join(models.presets(model))
    kind = arguments_of(type(hparams))
    try:
        parsed: Any = command_line.parse(
            kind,
            arguments,
            f"{PROGRAM} {model}",
            default=kind(command, options, data_options, hparams),
            description=f"{models.summary(model)}\n\nPresets: {presets}.",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ValueError as error:
        raise UsageError(f"{error}. See {PROGRAM} {model} --help.") from error
    return parsed.training, parsed.data_options, parsed.model, parsed.command


def _train(model: str, options: Options, data_options: DataOptions, hparams: Hparams, command: Command) -> None:
    from genlab import data
    from genlab.train import distribution
    from genlab.train import fit as training

    distribution.prepare(options)
    dataset = data.load(options.data, options=data_options)
    settings = training.resolve(model, command.preset, hparams, options, dataset, data_options)
    if command.dry_run:
        say(json.dumps(settings.to_json(), indent=2))
        return
    run = training.start(settings, dataset, debug=command.debug)
    if distribution.is_chief(options):
        _farewell(run, quiet=command.quiet)


def _resume(early: argparse.Namespace, rest: list[str]) -> None:
    from genlab import run as runs
    from genlab.train import distribution
    from genlab.train import fit as training

    run = runs.open(early.resume, _peek(rest, "--out", "runs"), early.model)
    stored = run.config
    if early.model not in (None, stored.model):
        raise UsageError(f"{run.path} is a run of {stored.model}, not of {early.model}.")
    if early.preset not in (None, stored.preset):
        raise UsageError(f"{run.path} began from the preset {stored.preset}, not {early.preset}.")
    begin = Command(preset=stored.preset, resume=early.resume)
    # The stored settings are the defaults, so any difference after parsing was typed.
    by_epochs = any(argument.partition("=")[0] == "--epochs" for argument in rest)
    default = dataclasses.replace(stored.options, steps=None) if by_epochs else stored.options
    parsed = _parse(stored.model, rest, default, stored.data_options, stored.hparams, begin)
    options, data_options, hparams, command = parsed
    changes = config.difference(stored.options, options, config.MAY_CHANGE)
    changes += config.difference(stored.data_options, data_options)
    changes += config.difference(stored.hparams, hparams)
    if changes:
        raise UsageError(
            f"{run.path} cannot resume with different settings. "
            + "; ".join(changes)
            + ". Leave them out, or start a new run."
        )
    if command.dry_run:
        say(json.dumps(dataclasses.replace(stored, options=options).to_json(), indent=2))
        return
    run = training.resume(run, options, debug=command.debug)
    if distribution.is_chief(options):
        _farewell(run, quiet=command.quiet)


def _farewell(run: Run, *, quiet: bool) -> None:
    if quiet:
        say(run.path)
    log.info(
        f"done    animation in {run.samples / 'progress.gif'}, grids in {run.samples}, checkpoints in {run.checkpoints}"
    )
    log.info(f"next    python -m genlab.sample --run {run.path}")


if __name__ == "__main__":
    main()
