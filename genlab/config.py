"""Settings of a run: dataclasses, and their conversion to and from flags and JSON."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NotRequired, TypedDict, TypeVar, get_type_hints

import numpy as np
import tyro

from genlab import files, models, settings
from genlab.bounds import LARGEST
from genlab.data.dataset import Facts
from genlab.data.options import DataOptions
from genlab.errors import GenlabError, UsageError, closest
from genlab.models.base import Hparams
from genlab.networks.precision import Precision

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")


def profiled_steps(span: str) -> tuple[int, int]:
    """Parse START:STOP into two steps. Raises ValueError for any other format."""
    found = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", span)
    if found is None or not int(found[1]) < int(found[2]):
        raise ValueError(f"profile is {span[:40]!r}; it must be START:STOP, two increasing steps like 100:120")
    return int(found[1]), int(found[2])


@dataclasses.dataclass(frozen=True)
class Options:
    """Training settings shared by all models; each field is a flag."""

    from_run: Annotated[str, tyro.conf.arg(name="from", metavar="RUN")] = ""
    """Start from the weights of another run, wherever shapes fit: folder, number or latest. If it is of the same model, its
    hyper-parameters are the defaults."""
    data: str = "digits"
    """Data set or path. Names: digits, mnist, fashion_mnist, kmnist, cifar10; stacked (three MNIST digits as RGB) or
    stacked:SOURCE; ring, grid (points); tfds:NAME. Paths: a folder of images (class/*.png, or *.png), of idx files or of
    TFRecord files; an .npz, .npy or .tfrecord file."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Length of the run in training steps. By default the model's own, or given by --epochs."""
    epochs: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Length of the run in passes over the training images, instead of --steps."""
    seed: int = 0
    """Seed of the initial weights, the data order and all noise."""
    out: str = "runs"
    """Folder in which the run folder is created."""
    description: str = ""
    """A few words to append to the name of the run folder."""
    precision: Precision = "auto"
    """Precision of the networks. auto: bfloat16 for images if the GPU, or a CPU with AMX or AVX512-BF16, is faster in it;
    else float32."""
    schedule_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Length of the learning-rate schedules in training steps. By default the run's initial length; --resume may change it."""
    log_every: int = 100
    """Steps between lines of metrics."""
    sample_every: int = 500
    """Steps between grids of samples; early grids are more frequent, and the first and last step always have one."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 3
    """Number of newest checkpoints to keep."""
    evaluate_every: int = 0
    """Steps between quick evaluations of samples; the best checkpoint is kept. 0: none."""
    evaluate_samples: int = 2000
    """Samples of a quick evaluation, at most the number of training images."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """On mode collapse, or when one network wins: warn, or stop with exit status 3."""
    on_nan: Literal["stop", "rollback"] = "stop"
    """When a metric is not finite: stop, or roll back to the last checkpoint with halved learning rates, up to 3 times."""
    strategy: Literal["none", "mirrored", "multiworker"] = "none"
    """How tf.distribute spreads training: none; mirrored over this machine's GPUs (or --replicas of its CPU);
    multiworker over the machines in TF_CONFIG."""
    replicas: int = 0
    """Devices that share each batch with --strategy mirrored; 0: all GPUs."""
    worker_timeout: int = 300
    """Seconds that a worker of --strategy multiworker waits for the others to connect."""
    histograms: bool = False
    """Write histograms of weights and activations per layer to TensorBoard with each grid of samples."""
    projector: bool = False
    """When training ends, write up to 1,000 held-out images for TensorBoard's projector: their codes, or the discriminator's
    features."""
    profile: str = ""
    """START:STOP: trace these steps for TensorBoard, and log the ten most expensive operations and the time spent waiting
    for data."""
    jit: bool = False
    """Compile steps with XLA, for GPUs; on a CPU convolutions become several times slower. Random numbers differ."""

    def __post_init__(self) -> None:
        """Raise ValueError for the first value that is of another type or out of range."""
        settings.check(type(self), vars(self))
        if self.evaluate_every < 0:
            raise ValueError(f"evaluate_every is {self.evaluate_every}; it must be at least 0")
        for name in ("log_every", "sample_every", "checkpoint_every", "keep", "evaluate_samples", "worker_timeout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.replicas < 0 or (self.replicas and self.strategy != "mirrored"):
            raise ValueError(f"replicas is {self.replicas}; it must be at least 0, and goes with strategy mirrored")
        if self.jit and self.strategy != "none":
            raise ValueError("jit and a strategy are both given; XLA compiles steps for one device only")
        for name in ("steps", "epochs", "schedule_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs are both given; leave one out")
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
    "projector",
    "profile",
)
"""Options that --resume may change. They do not affect what a step computes, except the learning rates (schedule_steps)."""


class Ancestor(TypedDict):
    """A run whose weights another started from."""

    run: str
    """Name of its folder."""
    model: str
    step: int
    """Training step of its weights."""
    data: str
    sha256: str
    """Hash of its data."""


@dataclasses.dataclass(frozen=True)
class Config:
    """All resolved settings of a run, as stored in config.json."""

    FORMAT: ClassVar[int] = 9
    """Version of config.json; see `upgraded`."""

    model: str
    preset: str
    """Preset that the hyper-parameters started from; `default` for none."""
    hparams: Hparams
    """The model's Hparams."""
    options: Options
    """Training options, with `steps`, `schedule_steps` and `precision` resolved, and `epochs` None."""
    dataset: Facts
    """Name, source, shape, classes, counts and hash of the data."""
    environment: dict[str, Any]
    """Package versions, and everything else that the last bit of a result depends on."""
    data_options: DataOptions = dataclasses.field(default_factory=DataOptions)
    """How the data was prepared."""
    lineage: list[Ancestor] = dataclasses.field(default_factory=list)
    """With --from: the run that this one started from, and those that came before it, the nearest first."""

    @property
    def steps(self) -> int:
        """Length of the run in training steps."""
        assert self.options.steps is not None
        return self.options.steps

    def to_json(self) -> dict[str, Any]:
        return {"format": self.FORMAT} | dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Config:
        """Build from the content of config.json of any version.

        Raises GenlabError for missing or unknown keys, values of another type or out of range, or a newer format.
        """
        try:
            stored: Stored = files.checked(upgraded(content), Stored)
            hparams = from_dict(models.load(stored["model"]).Hparams, stored["hparams"])
            options = from_dict(Options, stored["options"])
            data_options = from_dict(DataOptions, stored.get("data_options", {}))
            _check_facts(stored["dataset"])
        except (ValueError, UsageError) as error:
            raise GenlabError(f"{str(error).rstrip('.')}.") from error
        if options.steps is None or options.schedule_steps is None or options.precision == "auto":
            raise GenlabError(
                "its options must have steps and schedule_steps as numbers, and a precision other than auto."
            )
        dataset, environment = stored["dataset"], stored["environment"]
        lineage = stored.get("lineage", [])
        return cls(stored["model"], stored["preset"], hparams, options, dataset, environment, data_options, lineage)


class Stored(TypedDict):
    """The content of config.json, without its `format`."""

    model: str
    preset: str
    hparams: dict[str, Any]
    options: dict[str, Any]
    dataset: Facts
    environment: dict[str, Any]
    data_options: NotRequired[dict[str, Any]]
    lineage: NotRequired[list[Ancestor]]


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a config.json of any version as this version writes it, without its `format`."""
    content = dict(content)
    version = content.pop("format", 1)
    if type(version) is not int or version < 1:
        raise GenlabError("its format is no version number.")
    if version > Config.FORMAT:
        raise GenlabError(
            f"the run was written by a newer genlab: it has format {version}, and this version reads up to {Config.FORMAT}. "
            "Update genlab."
        )
    hparams = content.get("hparams")
    if not isinstance(hparams, dict):
        return content
    if version < 2 and content.get("model") == "wgan":
        # It had a loss setting with a single choice.
        hparams = {name: value for name, value in hparams.items() if name != "loss"}
    if version < 3 and "kernel_size" in hparams:
        hparams = hparams | {"coarsest_size": 7}  # it was not a setting
    if version < 4 and "differentiable_augmentation" in hparams:
        hparams = hparams | {"augmentation_target": 0.0, "latent_clusters": 0}  # nor were these
    if version < 5 and content.get("model") == "began":
        hparams = hparams | {"hidden_units": 0, "code_normalization": "none"}
    if version < 6 and content.get("model") == "flow":
        hparams = hparams | {"time_shift": 1.0}
    if version < 7 and "average_decay" in hparams:
        hparams = {"average_share": 0.5} | hparams  # a bias correction, which is nearly this, was not a setting
    if version < 8 and "differentiable_augmentation" in hparams:
        hparams = hparams | {"auxiliary_classifier": 0.0}  # GANs had none
    if version < 9 and content.get("model") == "semi_gan":
        hparams = hparams | {"rotation_weight": 0.0}
    return content | {"hparams": hparams}


def _check_facts(facts: Facts) -> None:
    """Raise ValueError if facts about data contradict each other."""
    shape = facts["shape"]
    if len(shape) not in (1, 3) or not all(1 <= side <= LARGEST for side in shape):
        raise ValueError("dataset: shape must be three numbers, or one for vectors, each at least 1")
    if facts["num_classes"] != len(facts["class_names"]):
        raise ValueError("dataset: num_classes differs from the number of class_names")
    if facts["train_images"] < 1 or min(facts["test_images"], facts["validation_images"]) < 0:
        raise ValueError("dataset: train_images must be at least 1, test_images and validation_images at least 0")
    if not 0 <= facts.get("labelled_images", 0) <= facts["train_images"]:
        raise ValueError("dataset: labelled_images must be from 0 to train_images")


def from_dict(kind: type[Settings], content: dict[str, Any]) -> Settings:
    """Build a settings dataclass from JSON values; lists become tuples.

    Raises GenlabError for an unknown or missing key, UsageError for a value of another type or out of range.
    """
    _check_keys(kind, content)
    return make(kind, content)


def make(kind: type[Settings], given: dict[str, Any]) -> Settings:
    """Build a dataclass from values; lists become tuples, and numbers of NumPy those of Python.

    Raises UsageError for an unknown name (suggesting close ones), or for a value of another type or out of range.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    for name in given:
        if name not in known:
            raise UsageError(f"there is no option {name!r}{closest(name, known)} Known: {', '.join(sorted(known))}.")
    plain = {name: _plain(value) for name, value in given.items()}
    try:
        settings.check(kind, plain)
        return kind(**plain)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{error}.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(each) for each in value)
    return value.item() if isinstance(value, np.generic) else value


def preset_for(model: str, asked: str | None, *, points: bool) -> str:
    """Return the preset asked for, or the default: `points` for points, if the model has it, else `default`."""
    if asked is None:
        return "points" if points and "points" in models.presets(model) else "default"
    return asked


def starting_hparams(model: str, preset: str) -> Hparams:
    """Return a preset's hyper-parameters. Raises UsageError if the model has no such preset."""
    presets = models.presets(model)
    if preset not in presets:
        raise UsageError(f"{model} has no preset {preset!r}; it has {', '.join(presets)}.")
    return models.load(model).Hparams(**presets[preset])


def flag(kind: type[DataclassInstance], name: str) -> str:
    """Return the flag of a setting, as it is typed: --from for `from_run`, whose name Python does not allow."""
    metadata = getattr(get_type_hints(kind, include_extras=True)[name], "__metadata__", ())
    given = next((each.name for each in metadata if getattr(each, "name", None)), None)
    return f"--{given or name.replace('_', '-')}"


def difference(stored: Settings, asked: Settings, except_for: tuple[str, ...] = ()) -> list[str]:
    """Describe each field in which two settings dataclasses differ: `--flag: stored, asked`."""
    return [
        f"{flag(type(stored), field.name)}: the run has {getattr(stored, field.name)}, asked for {getattr(asked, field.name)}"
        for field in dataclasses.fields(stored)
        if field.name not in except_for and getattr(stored, field.name) != getattr(asked, field.name)
    ]


def _check_keys(kind: type[DataclassInstance], content: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := set(content) - known:
        raise GenlabError(f"the stored settings have entries unknown to this version: {', '.join(sorted(unknown))}.")
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := required - set(content):
        raise GenlabError(f"the stored settings lack {', '.join(sorted(missing))}.")
