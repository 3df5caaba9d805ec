"""The interface of every model, as used by the training loop, the command line and the Python API."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from genlab import bounds, settings
from genlab.backend import LazyModule, Network, Optimizer, Tensor, Variable, in_parts, keras, tf
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.models._scores import Score
from genlab.networks import inversion, replicas
from genlab.networks.averaging import WeightAverage
from genlab.networks.priors import Prior

optimizers = LazyModule("genlab.networks.optimizers")

SAMPLE_BATCH = 64
"""Fixed batch size in which samples are decoded."""
RANDOM_STATES = "_random_states"
"""What follows a network's name in the state of a model, for its seed generators."""


Schedule: TypeAlias = Literal["auto", "constant", "linear", "cosine", "step"]
Following: TypeAlias = float | Literal["auto"]
"""A number, or one that follows the data."""


@dataclasses.dataclass(frozen=True)
class Hparams:
    """Hyper-parameters shared by all models. A model's own dataclass adds to them; each field is a flag.

    Names have a meaning: values of `*_size`, `*units`, `*widths`, `*learning_rate` and `*dropout` are checked, and what a
    `generator_learning_rate` trains is logged as `generator_loss` (`learning_rate`: `loss`).
    """

    follow_data: ClassVar[tuple[str, ...]] = ()
    """Settings that `for_data` resolves; a run that starts from another does not take them over."""

    batch_size: int = 64
    """Images per batch."""
    initializer: Literal["he", "glorot", "dcgan"] = "he"
    """Weight initializer: he (He et al. 2015; Glorot on outputs), glorot (Glorot & Bengio 2010), dcgan (N(0, 0.02))."""
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    """Optimizer of every network."""
    beta1: float = 0.9
    """beta1 of Adam; momentum of rmsprop and sgd. 0 to 1."""
    beta2: float = 0.99
    """beta2 of Adam; rho of rmsprop. 0 to 1."""
    schedule: Schedule = "cosine"
    """Learning-rate schedule after --decay-start: constant, linear, cosine, or step (1/10, then 1/100 of the rate). auto: constant
    for a GAN, unless its images are in colour, else cosine."""
    decay_start: float = 0.5
    """When the learning rates start to decay, as a fraction of --schedule-steps. 0 to 1."""
    final_rate: float = 0.01
    """Final rate of a linear or cosine schedule, as a fraction of the learning rate. 0 to 1."""
    # `dcgan` with a constant rate on MNIST, one seed, as multiples of the Frechet distance of real images: after 20 epochs, 18,750
    # steps, 1.48, 1.45, 1.53 and 1.73 with shares of 0.03, 0.06, 0.1 and 0.2, and 2.6, 1.8, 1.49 and 1.45 with decays of 0.99, 0.995, 0.998
    # and 0.999 instead; 12 without an average. With a falling rate, 2,000 steps: 11.4, 10.5, 11.8 and 18.4 with those decays, without
    # 12.5 (benchmarks/results/averages-mnist.md). So the best average spans a share of the run.
    average_decay: float = 0.9999
    """Largest decay per step of the moving average of weights that samples are drawn with; 0: no average. 0 to 1."""
    average_share: float = 0.06
    """Mean age of the weights in that average, as a share of the steps so far, until --average-decay is reached. Above 0, to 0.5."""

    def __post_init__(self) -> None:
        """Raise ValueError for the first value that is of another type or out of range."""
        settings.check(type(self), vars(self))
        for name in ("beta1", "beta2", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not 0 < self.average_share <= 0.5:
            raise ValueError(f"average_share is {self.average_share}; it must be above 0 and at most 0.5")
        for name in ("decay_start", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_size"):
                self.check_least(1, field.name)
            if field.name.endswith("units"):
                self.check_least(0, field.name)
            if field.name.endswith("learning_rate") and value != "auto" and not value > 0:
                raise ValueError(f"{field.name} is {value}; it must be above 0")
            if field.name.endswith("widths") and (not value or min(value) < 1):
                raise ValueError(f"{field.name} is {value}; it must hold at least one number, each at least 1")
            if field.name.endswith("dropout") and not 0 <= value < 1:
                raise ValueError(f"{field.name} is {value}; it must be at least 0 and below 1")

    def check_least(self, least: float, *names: str) -> None:
        """Raise ValueError if one of these settings is below `least`; `auto` is fine."""
        for name in names:
            value = getattr(self, name)
            if value != "auto" and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least:g}")

    @property
    def batches_per_step(self) -> int:
        """Number of real batches that one training step consumes."""
        return 1

    def for_data(self, spec: DataSpec, images: int) -> Self:
        """Return the settings for this many training images: no value is `auto`."""
        return self.for_spec(spec)

    def for_spec(self, spec: DataSpec) -> Self:
        """Return the settings for data of such a shape: every `auto` is resolved that does not depend on the number of images."""
        return self.with_auto(schedule="cosine")

    def with_auto(self, **values: Any) -> Self:
        """Return the settings with these values for those of them that are `auto`."""
        return dataclasses.replace(
            self, **{name: each for name, each in values.items() if getattr(self, name) == "auto"}
        )

    @property
    def needs_ancestor(self) -> str:
        """Return the flag of a setting that has a meaning only with --from; empty if there is none."""
        return ""

    @property
    def labelled_batches_per_step(self) -> int:
        """Number of batches of labelled images alone that one training step consumes besides, where not all have a label."""
        return 0

    def check_data(self, spec: DataSpec) -> None:
        """Raise UsageError if a model with these settings cannot learn from such data; called before a run is created."""

    def width_limit(self, spec: DataSpec) -> int | None:
        """Return how many `*_widths` a network for such data has a place for; None: any number, as in dense layers."""
        return None


def check_all_labelled(spec: DataSpec) -> None:
    """Raise UsageError, for a conditional model, unless every image of the data has a label."""
    if not spec.num_classes:
        raise UsageError(
            "a conditional model needs labels, and the data has none. Use labelled data, or draw without labels."
        )
    if spec.partly_labelled:
        raise UsageError(
            "a conditional model needs a label for every image, and some have none. Train a semi_gan on the data, and let it "
            "label the others: python -m genlab.data label RUN OUT. Then train with --data OUT."
        )


class GenerativeModel(abc.ABC):
    """One paper: its networks, optimizers and training step.

    A subclass builds its networks and optimizers in `__init__` and stores them as attributes. Every attribute that is a
    Keras network, optimizer, average or variable is saved with the run. This is not a tf.Module: that would import
    TensorFlow for `--help`, and tf.Module finds no variables in Keras 3 networks.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    """Hyper-parameters. A model repeats these two lines with the `Hparams` of its own file, which gives them its type."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named presets: `paper`, `book`, `points` (used for vectors). Each lists the hyper-parameters that differ from the
    default."""
    default_steps: ClassVar[int] = 2000
    """Training steps when none are given."""
    preset_steps: ClassVar[dict[str, int]] = {}
    """Default steps of presets that need a different number."""

    decoder: Network
    """Keras model in float32 with averaged weights: latents [B, latent] -> images [B, H, W, C] in [-1, 1]."""
    discriminator: Network | None = None
    """Keras model images [, labels] -> ... trained to tell real from generated images; None if there is none."""
    open_run: Callable[[str], GenerativeModel] | None = None
    """Opens the model of another run by folder or number, for models that learn from one. Set by the run that builds this."""
    classifier: Network | None = None
    """Keras model in float32 with averaged weights: images [B, H, W, C] in [-1, 1] -> logits [B, K] of the data's classes; None
    if there is none."""
    encoder: Network | None = None
    """Keras model images -> codes [B, latent]; None if there is none."""
    renoiser: Network | None = None
    """Keras model [images, latents [B, latent], strengths [B]][, labels] -> images; None if there is none. Strength 0 gives the
    image itself, 1 the sample of the latents, and what is between a variation of the image."""
    prior: Prior
    """Distribution of the latents."""
    conditional: bool = False
    """Whether samples are drawn by class; the decoder then takes [latents, labels]."""
    # With 100 labels of MNIST, a vae's encoder cut here gains 8 points over training from scratch; with its dense layer, none.
    feature_layers: ClassVar[str] = "down*_act,dense*_act"
    """Names of layers of `feature_network`, as comma-separated patterns: a classifier starts from the features after the last
    of them. By default the last hidden layer of the networks in `genlab.networks.blocks`, before minibatch layers and codes."""

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None) -> None:
        """Build the networks: `seed` sets the initial weights, `schedule_steps` the length of learning-rate schedules."""
        self.hparams = hparams.for_spec(spec)
        self.spec = spec
        self.seed = seed
        self.schedule_steps = schedule_steps or self.default_steps
        self.step = tf.Variable(0, dtype=tf.int64, name="step")
        """Training steps taken; the loop advances it after each `train_step`. Schedules, warm-ups, averages and lazy
        penalties follow it, not an optimizer's own count."""
        self.rate_factor = tf.Variable(1.0, name="rate_factor")
        """Factor on every learning rate, on top of its schedule."""
        self.averages: list[WeightAverage] = []
        """The moving averages of weights."""
        self._compiled_decode: Callable[[Tensor, Tensor], Tensor] | None = None
        self._compiled_draw: Callable[[Tensor], Tensor] | None = None

    @abc.abstractmethod
    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        """Take one training step in replica context. Return metrics by name: scalar float32 tensors, losses and others.

        `batches` is a list of `hparams.batches_per_step` pairs: images [B, H, W, C] float32 in [-1, 1], and labels [B] int32
        (zeros unless every image has one); then as many pairs of labelled images alone as `hparams.labelled_batches_per_step`
        says. `seed` is an int32 pair. All random numbers of the step derive from it, so a step
        depends only on the weights, the batches and the seed.
        """

    def sample_latents(self, seeds: Tensor) -> Tensor:
        """Draw one latent vector from the prior for each seed: [N] integers -> [N, latent].

        Each row depends only on its own seed. Raises UsageError for seeds that are no integers of 64 bits.
        """
        if not tf.is_tensor(seeds):
            seeds = np.asarray(seeds)
            if seeds.ndim != 1 or (seeds.size and seeds.dtype.kind not in "iu"):
                raise UsageError(f"seeds are {seeds.dtype} {list(seeds.shape)}; they must be integers [N] of 64 bits.")
        if self._compiled_draw is None:  # in Python, ten thousand single draws take a minute
            draw = tf.function(self._draw_each, autograph=False)
            self._compiled_draw = draw.get_concrete_function(tf.TensorSpec([None], tf.int64))
        return self._compiled_draw(tf.cast(tf.convert_to_tensor(seeds), tf.int64))

    def _draw_each(self, seeds: Tensor) -> Tensor:
        return self.prior.draw_each(tf.stack([seeds, tf.zeros_like(seeds)], axis=1))

    def draw_latents(self, count: Tensor, seed: Tensor) -> Tensor:
        """Draw latents [count, latent] from the prior with one seed, for a training step."""
        return replicas.own_rows(lambda rows: self.prior.draw(rows, seed), count)

    @property
    def latent_size(self) -> int:
        """Dimensions of the latent space."""
        return self.prior.size

    @property
    def feature_network(self) -> Network | None:
        """Keras model images [, labels] -> ... to use as a backbone (`genlab.transfer`); None if there is none."""
        return None

    def truncated(self, latents: Tensor, truncation: float) -> Tensor:
        """Move latents [N, latent] towards the prior's mean: 1 leaves them, below 1 samples are more typical and less diverse.

        Raises UsageError for a truncation that is not from 0 to 2.
        """
        truncation = bounds.real("truncation", truncation, 0, 2)
        return latents if truncation == 1 else self.prior.truncated(latents, truncation)

    def default_labels(self, seeds: npt.ArrayLike) -> np.ndarray | None:
        """Return default labels [N]: each seed modulo the number of classes; None if the model is not conditional."""
        return np.asarray(seeds) % self.spec.num_classes if self.conditional else None

    def warnings(self, metrics: dict[str, float]) -> dict[str, str]:
        """Return warnings about the metrics of a log line, by name: what is going wrong and what to try.

        The names are the model's own. A warning is logged once its name was returned several times in a row.
        """
        return {}

    def fit_prior(self, batches: Iterable[Tensor]) -> None:  # noqa: B027  most models have nothing to fit
        """Fit the prior to batches of training images [N, H, W, C] in [-1, 1], if the model has a fitted prior."""

    def pictures(self, images: Tensor, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return pictures to draw in addition to samples: uint8 [height, width, C] by name.

        `images` [N, H, W, C] in [-1, 1] are held out; `labels` are [N] or None.
        """
        return {}

    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode images [N, H, W, C] in [-1, 1]. Raises UsageError if the model has no encoder."""
        if self.encoder is None:
            raise UsageError(f"{type(self).__name__} has no encoder: it cannot reconstruct images.")
        return self.decode(self.encoder(images, training=False))

    def renoise(
        self, images: Tensor, strength: float, *, seed: int = 0, labels: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """Vary images [N, H, W, C] in [-1, 1], or vectors, by partial re-noising: strength 0 returns them, 1 fresh samples.

        Noise takes the place of a part of each image, and the model removes it again. Image i gets the noise of seed + i: at
        strength 1 it becomes the sample of that seed. `labels` [N] are required for conditional models and not allowed
        otherwise. Raises UsageError if the model has no such network, for images or labels that do not fit, and for a strength
        that is not from 0 to 1.
        """
        strength = bounds.real("strength", strength, 0, 1)
        if self.renoiser is None:
            raise UsageError(f"{type(self).__name__} cannot re-noise images. Use a flow.")
        images = np.asarray(images, np.float32)
        if images.shape[1:] != tuple(self.spec.shape) or not len(images):
            raise UsageError(
                f"images have the shape {list(images.shape)}; it must be [N, {', '.join(map(str, self.spec.shape))}]."
            )
        self._check_labels(labels, len(images), "images")
        bounds.whole("seed", seed, 0, bounds.LARGEST_SEED - len(images))
        network = self.renoiser

        def varied(part: np.ndarray, seeds: np.ndarray, *labels: np.ndarray) -> Tensor:
            inputs = [part, self.sample_latents(seeds), np.full(len(part), strength, np.float32), *labels]
            return network(list(map(tf.convert_to_tensor, inputs)), training=False)

        classes = [] if labels is None else [np.asarray(labels, np.int32)]
        return in_parts(varied, images, np.arange(seed, seed + len(images)), *classes, size=SAMPLE_BATCH)

    def invert(
        self,
        images: Tensor,
        labels: npt.ArrayLike | None = None,
        *,
        steps: int = 200,
        candidates: int = 1000,
        seed: int = 0,
    ) -> inversion.Inversion:
        """Search latents whose samples come close to images [N, H, W, C] in [-1, 1]: see `genlab.networks.inversion`.

        It starts from the closest of `candidates` latents, drawn with consecutive seeds from `seed`. `labels` [N] are classes
        for a conditional model; without, each image gets the class of its closest candidate. Raises UsageError for images of
        another shape, and for a model of vectors.
        """
        images = np.asarray(images, np.float32)
        if not self.spec.is_image or images.shape[1:] != tuple(self.spec.shape) or not len(images):
            raise UsageError(
                f"images have the shape {list(images.shape)}; it must be [N, {', '.join(map(str, self.spec.shape))}]."
            )
        bounds.whole("steps", steps, 1)
        seeds = np.arange(seed, seed + bounds.whole("candidates", candidates, 1, 100_000))
        latents, classes = np.asarray(self.sample_latents(seeds)), self.default_labels(seeds)
        drawn = in_parts(self.sample, latents, *([] if classes is None else [classes]))
        wanted = None if labels is None or classes is None else np.asarray(labels)
        return inversion.invert(self.decode, self.prior, images, drawn, wanted, (latents, classes), steps)

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode a batch: latents [B, latent], and labels [B] if conditional, -> images in [-1, 1], or vectors."""
        return self.decoder([latents, labels] if self.conditional else latents, training=False)

    def likelihood_metrics(
        self, images: Tensor, importance_samples: int, seed: int
    ) -> dict[str, tuple[float, float | None]]:
        """Return metrics of log p(x) by name, (value, standard error or None), if the model has a likelihood.

        `images` [N, H, W, C] in [-1, 1] are held out.
        """
        return {}

    def likelihood_protocol(self, importance_samples: int) -> dict[str, Any]:
        """Return how `likelihood_metrics` estimates log p(x), for the protocol of an evaluation; nothing if it is exact."""
        return {}

    def anomaly_scores(self, importance_samples: int = 50) -> dict[str, Score]:
        """Return the scores of how strange images are to the model, by name, the best first; nothing if it has none.

        `importance_samples` are those of an estimated likelihood. Raises UsageError for a number that is not from 1 to 1,000.
        """
        return {}

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return samples for latents [N, latent]: images [N, H, W, C], float32 in [-1, 1], or vectors [N, D].

        `labels`, [N] integers from 0 up, are required for conditional models and not allowed otherwise. All batches have
        the same size, the last one padded: results may differ in the last bit between batch sizes, and a sample must not
        depend on what it is drawn with. Raises UsageError for latents or labels that do not fit.
        """
        if self._compiled_decode is None:
            self._compiled_decode = self._compile_decode()
        latents = tf.convert_to_tensor(latents, tf.float32)
        if latents.shape.rank != 2 or latents.shape[1] not in (None, self.latent_size):
            raise UsageError(f"latents have the shape {latents.shape}; it must be [N, {self.latent_size}].")
        self._check_labels(labels, latents.shape[0], "latent vectors")
        labels = tf.zeros(tf.shape(latents)[:1], tf.int32) if labels is None else tf.cast(labels, tf.int32)
        return self._compiled_decode(latents, labels)

    def _check_labels(self, labels: Tensor | None, count: int | None, of: str) -> None:
        """Raise UsageError for labels that the model does not know or that are not one for each of `count`, and without any."""
        if labels is None and self.conditional:
            raise UsageError(f"a conditional model needs labels from 0 to {self.spec.num_classes - 1}, and got none.")
        if labels is not None and not self.conditional:
            raise UsageError("this model draws without labels, and labels were given. Leave them out.")
        if labels is None or tf.is_symbolic_tensor(labels):
            return
        labels = np.asarray(labels)
        if labels.shape != (count,) or (labels.size and labels.dtype.kind not in "iu"):
            raise UsageError(
                f"labels are {labels.dtype} {list(labels.shape)}; they must be one integer for each of the {count} {of}."
            )
        low, high = int(np.min(labels, initial=0)), int(np.max(labels, initial=0))
        if low < 0 or high >= self.spec.num_classes:
            raise UsageError(f"labels go from {low} to {high}; the model knows 0 to {self.spec.num_classes - 1}.")

    def _compile_decode(self) -> Callable[[Tensor, Tensor], Tensor]:
        def decode(latents: Tensor, labels: Tensor) -> Tensor:
            count = tf.shape(latents)[0]
            missing = -count % SAMPLE_BATCH
            batches = (
                tf.reshape(tf.pad(latents, [[0, missing], [0, 0]]), [-1, SAMPLE_BATCH, self.latent_size]),
                tf.reshape(tf.pad(labels, [[0, missing]]), [-1, SAMPLE_BATCH]),
            )
            images = tf.map_fn(lambda batch: self.decode(*batch), batches, fn_output_signature=tf.float32)
            return tf.reshape(images, [-1, *self.spec.shape])[:count]

        return tf.function(decode, autograph=False).get_concrete_function(
            tf.TensorSpec([None, self.latent_size]), tf.TensorSpec([None], tf.int32)
        )

    def make_optimizer(self, learning_rate: float, variables: Sequence[Variable]) -> Optimizer:
        """Return a built Keras optimizer for these variables, with the learning-rate schedule of the hyper-parameters.

        It is built at once: an optimizer without slots would silently restore nothing from a checkpoint.
        """
        hparams = self.hparams
        rate = self._schedule(learning_rate)
        match hparams.optimizer:
            case "adam":
                optimizer = optimizers.FusedAdam(rate, beta_1=hparams.beta1, beta_2=hparams.beta2)
            case "rmsprop":
                optimizer = optimizers.RMSprop(rate, rho=hparams.beta2, momentum=hparams.beta1)
            case _:
                optimizer = optimizers.SGD(rate, momentum=hparams.beta1)
        if keras.config.dtype_policy().compute_dtype == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)
        return optimizer

    def scaled(self, optimizer: Optimizer, loss: Tensor) -> Tensor:
        """Return a replica's share of the mean loss, to differentiate for `optimizer.apply`, which sums over replicas."""
        return optimizer.scale_loss(loss / replicas.count())

    def _schedule(self, rate: float) -> keras.optimizers.schedules.LearningRateSchedule:
        """Return the learning rate as a Keras schedule that follows training steps."""
        schedule, factor, training_step = self._rate_by_step(rate), self.rate_factor, self.step

        class Schedule(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, updates: Tensor) -> Tensor:
                # Keras passes the optimizer's updates, and a training step may take several.
                return factor * schedule(tf.cast(training_step, tf.float32))

            def get_config(self) -> dict[str, Any]:
                raise NotImplementedError("runs store their hyper-parameters, not their schedules")

        return Schedule()

    def _rate_by_step(self, rate: float) -> Callable[[Tensor], Tensor]:
        schedules = keras.optimizers.schedules
        start = int(self.hparams.decay_start * self.schedule_steps)
        rest = max(1, self.schedule_steps - start)
        match self.hparams.schedule:
            case "constant":
                return lambda step: tf.constant(rate)
            case "step":
                return schedules.PiecewiseConstantDecay([start, start + rest // 2], [rate, rate * 0.1, rate * 0.01])
            case "linear":
                decay = schedules.PolynomialDecay(rate, rest, rate * self.hparams.final_rate)
                return lambda step: decay(tf.maximum(step - start, 0.0))
        # Keras has no "hold, then decay": a warm-up from the rate to itself does that.
        return schedules.CosineDecay(rate, rest, alpha=self.hparams.final_rate, warmup_target=rate, warmup_steps=start)

    def average(self, *pairs: tuple[Network, Network]) -> WeightAverage:
        """Return a moving average of weights for pairs of networks (averaged, trained)."""
        average = WeightAverage(pairs, self.hparams.average_decay, self.hparams.average_share, self.step)
        self.averages.append(average)
        return average

    def state(self) -> dict[str, Any]:
        """Return everything that training changes, by name, for tf.train.Checkpoint."""
        kinds = (keras.Model, keras.optimizers.Optimizer, tf.Module, tf.Variable)
        each_once = {
            id(value): (name, value) for name, value in reversed(list(self._parts())) if isinstance(value, kinds)
        }
        found = dict(each_once.values())
        found |= {f"prior_{name}": variable for name, variable in self.prior.variables().items()}
        for name, network in self.networks.items():
            # Keras does not count the seed generators of dropout as weights, and would not save them.
            weights = {id(weight) for weight in network.weights}
            random_states = [variable.value for variable in network.variables if id(variable) not in weights]
            if random_states:
                found[f"{name}{RANDOM_STATES}"] = random_states
        return found

    @property
    def networks(self) -> dict[str, Network]:
        """The model's Keras networks by name."""
        return {name: value for name, value in self._parts() if isinstance(value, keras.Model)}

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the attributes by name, and the items of lists, tuples and dictionaries as `name_0`, `name_key`, ..."""
        parts = list(vars(self).items())
        while parts:
            name, value = parts.pop(0)
            if isinstance(value, list | tuple):
                value = dict(enumerate(value))
            if isinstance(value, dict):
                parts += [(f"{name}_{key}", item) for key, item in value.items()]
            else:
                yield name, value

    @property
    def weights(self) -> list[Variable]:
        """All weights of all networks."""
        return [weight for network in self.networks.values() for weight in network.weights]
