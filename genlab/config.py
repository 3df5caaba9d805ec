"""The settings of a run: dataclasses on one side, flags and JSON on the other."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Any, ClassVar, Literal

from genlab import models
from genlab.data.options import DataOptions
from genlab.errors import GenlabError, UsageError, closest
from genlab.networks.precision import Precision


def profiled_steps(span: str) -> tuple[int, int]:
    """START:STOP -> the two steps. Raises ValueError where it says anything else."""
    found = re.fullmatch(r"(\d+):(\d+)", span)
    if found is None or not int(found[1]) < int(found[2]):
        raise ValueError(f"profile is {span!r}; it must be two steps, the smaller first, like 100:120")
    return int(found[1]), int(found[2])


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings that every model's training has; each field is a flag."""

    data: str = "digits"
    """Name of a data set (digits, mnist, fashion_mnist, kmnist, cifar10; stacked: three digits as RGB, of MNIST or of
    stacked:SOURCE; points: ring, grid; tfds:NAME), or path: of a folder of images (class/*.png, or *.png), of idx files, or
    of TFRecord files; of an .npz, .npy or .tfrecord file."""
    steps: int | None = None
    """Length of the run, in training steps. By default the model's own, or what --epochs gives."""
    epochs: float | None = None
    """Length of the run, in passes over the training images, instead of --steps."""
    seed: int = 0
    """Seeds the initial weights, the data order and all noise."""
    out: str = "runs"
    """Folder in which the run's own folder is made."""
    description: str = ""
    """A few words that are added to the name of the run's folder."""
    precision: Precision = "auto"
    """What the networks compute in; auto: bfloat16 for images where the GPU, or a CPU with AMX or AVX512-BF16, is faster with it, else float32."""
    schedule_steps: int | None = None
    """Length of the learning-rate schedules, in training steps. By default that of the run as first started; --resume may change it."""
    log_every: int = 100
    """Steps from one line of metrics to the next."""
    sample_every: int = 500
    """Steps from one grid of samples to the next; grids are drawn more often early, and always first and last."""
    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next; the last step is always saved."""
    keep: int = 3
    """How many of the newest checkpoints are kept."""
    evaluate_every: int = 0
    """Steps from one quick evaluation of samples to the next; the best one's checkpoint is kept. 0: none."""
    evaluate_samples: int = 2000
    """Samples of a quick evaluation, at most as many as there are training images."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """What to do when samples grow alike or a loss shows that the game is over: say so, or stop with exit status 3."""
    on_nan: Literal["stop", "rollback"] = "stop"
    """What to do when a metric is not finite: stop, or go back to the last checkpoint with halved rates, 3 times at most."""
    strategy: Literal["none", "mirrored", "multiworker"] = "none"
    """How training is spread by tf.distribute: none; mirrored over the GPUs of this machine (or --replicas of its CPU);
    multiworker over machines, which TF_CONFIG names."""
    replicas: int = 0
    """How many devices share each batch with --strategy mirrored; 0: all GPUs."""
    worker_timeout: int = 300
    """Seconds that a worker of --strategy multiworker waits for the others to come."""
    histograms: bool = False
    """Log weights and activations by layer to TensorBoard with each grid of samples."""
    profile: str = ""
    """START:STOP: trace these steps for TensorBoard, and tell the ten most expensive operations and the wait for data."""
    jit: bool = False
    """Compile steps by XLA, for GPUs: on a CPU convolutions take several times as long. Noise is other noise of the same kind."""

    def __post_init__(self) -> None:
        if self.evaluate_every < 0:
            raise ValueError(f"evaluate_every is {self.evaluate_every}; it must be at least 0")
        for name in ("log_every", "sample_every", "checkpoint_every", "keep", "evaluate_samples", "worker_timeout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.replicas < 0 or (self.replicas and self.strategy != "mirrored"):
            raise ValueError(f"replicas is {self.replicas}; it must be at least 0, and goes with strategy mirrored")
        if self.jit and self.strategy != "none":
            raise ValueError("jit and a strategy are both asked for; XLA compiles steps of one device alone")
        for name in ("steps", "epochs", "schedule_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs are both given; the length of the run is one of them")
        if self.profile:
            profiled_steps(self.profile)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**31 - 1}")


MAY_CHANGE = (
    "steps",
    "epochs",
    "schedule_steps",
    "out",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep",
    "evaluate_every",
    "evaluate_samples",
    "on_collapse",
    "on_nan",
    "strategy",
    "replicas",
    "worker_timeout",
    "histograms",
    "profile",
)
"""Options that a resumed run may change: they do not touch what a step computes, but for the learning rates (schedule_steps)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Every resolved setting of a run, as config.json holds it."""

    FORMAT: ClassVar[int] = 2
    """Version of config.json; see `upgraded`."""

    model: str
    preset: str
    """Which of the model's presets the hyper-parameters began from; `default` for none."""
    hparams: Any
    """The model's Hparams."""
    options: Options
    """With `steps`, `schedule_steps` and `precision` resolved, and `epochs` None."""
    dataset: dict[str, Any]
    """Name, source, shape, classes, counts and hash of the data."""
    environment: dict[str, Any]
    """Versions and what else the last bit of a result depends on."""
    data_options: DataOptions = dataclasses.field(default_factory=DataOptions)
    """How the data was prepared."""

    @property
    def steps(self) -> int:
        """Length of the run."""
        assert self.options.steps is not None
        return self.options.steps

    def to_json(self) -> dict[str, Any]:
        return {"format": self.FORMAT} | dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Config:
        """Raises GenlabError where a key is missing or unknown, or the content is of a newer version of genlab."""
        content = upgraded(content)
        _check_keys(cls, content)
        hparams = from_dict(models.load(content["model"]).Hparams, content["hparams"])
        options = from_dict(Options, content["options"])
        data_options = from_dict(DataOptions, content.get("data_options", {}))
        return cls(**content | {"hparams": hparams, "options": options, "data_options": data_options})


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.json of any version, as this version writes it, but for its format."""
    content = dict(content)
    version = content.pop("format", 1)
    if version > Config.FORMAT:
        raise GenlabError(
            f"the run was written by a newer genlab: its format is {version}, and this version reads up to {Config.FORMAT}. "
            "Update genlab."
        )
    if version < 2 and content.get("model") == "wgan":  # it had a loss to choose, of one
        content["hparams"] = {name: value for name, value in content["hparams"].items() if name != "loss"}
    return content


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """A settings dataclass from plain values; JSON's lists become tuples. Raises GenlabError for an unknown key."""
    _check_keys(kind, values)
    return make(kind, {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def make(kind: type, values: dict[str, Any]) -> Any:
    """The dataclass with these values. Raises UsageError for an unknown name (with the close ones) or a bad value."""
    known = {field.name for field in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            raise UsageError(f"there is no option {name!r}{closest(name, known)} Known: {', '.join(sorted(known))}.")
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        choices = typing.get_args(hints[name]) if typing.get_origin(hints[name]) is Literal else ()
        if choices and value not in choices:
            raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{error}.") from error


def preset_for(model: str, asked: str | None, *, points: bool) -> str:
    """The preset asked for; else `points` for points, where the model has that, and `default`."""
    if asked is None:
        return "points" if points and "points" in models.presets(model) else "default"
    return asked


def starting_hparams(model: str, preset: str) -> Any:
    """The model's hyper-parameters as a preset gives them. Raises UsageError where the model has no such preset."""
    presets = models.presets(model)
    if preset not in presets:
        raise UsageError(f"{model} has no preset {preset!r}; it has {', '.join(presets)}.")
    return models.load(model).Hparams(**presets[preset])


def difference(stored: Any, asked: Any, except_for: tuple[str, ...] = ()) -> list[str]:
    """`--flag: stored, asked` for each field in which two settings dataclasses differ."""
    return [
        f"--{field.name.replace('_', '-')}: the run has {getattr(stored, field.name)}, asked for {getattr(asked, field.name)}"
        for field in dataclasses.fields(stored)
        if field.name not in except_for and getattr(stored, field.name) != getattr(asked, field.name)
    ]


def _check_keys(kind: type, content: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := set(content) - known:
        raise GenlabError(
            f"the stored settings have entries that this version does not know: {', '.join(sorted(unknown))}."
        )
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := required - set(content):
        raise GenlabError(f"the stored settings lack {', '.join(sorted(missing))}.")
