"""What every model offers the engine, the command line and its users."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np

from genlab.backend import LazyModule, keras, tf
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.networks import replicas
from genlab.networks.averaging import WeightAverage
from genlab.networks.priors import Prior

optimizers = LazyModule("genlab.networks.optimizers")

SAMPLE_BATCH = 64
"""How many samples are decoded at once, always."""


@dataclasses.dataclass(frozen=True)
class Hparams:
    """The hyper-parameters that all models have. A model's own dataclass adds to them; each field is a flag.

    Names have a meaning: values of `*_size`, `*widths`, `*learning_rate` and `*dropout` are checked, and what a
    `generator_learning_rate` trains is logged as `generator_loss` (`learning_rate`: `loss`).
    """

    batch_size: int = 64
    """Images in a batch."""
    initializer: Literal["he", "glorot", "dcgan"] = "he"
    """Initial weights: he (He et al. 2015; Glorot's on outputs), glorot (Glorot & Bengio 2010), dcgan (N(0, 0.02))."""
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    """Optimizer of every network."""
    beta1: float = 0.9
    """Adam's first decay rate; the momentum of rmsprop and sgd. 0 to 1."""
    beta2: float = 0.99
    """Adam's second decay rate; rmsprop's decay rate. 0 to 1."""
    schedule: Literal["constant", "linear", "cosine", "step"] = "cosine"
    """Course of the learning rates from --decay-start on: constant, linear, cosine, or step (a tenth, then a 100th)."""
    decay_start: float = 0.5
    """When the learning rates begin to fall, as a share of --schedule-steps. 0 to 1."""
    final_rate: float = 0.01
    """Where a linear or cosine schedule ends, as a share of the learning rate. 0 to 1."""
    average_decay: float = 0.998
    """Decay per step of the running average of the weights that samples are drawn with. 0: no average. 0 to 1."""

    def __post_init__(self) -> None:
        """Raise ValueError for the first value that cannot be meant."""
        for name in ("beta1", "beta2", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        for name in ("decay_start", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_size") and value < 1:
                raise ValueError(f"{field.name} is {value}; it must be at least 1")
            if field.name.endswith("learning_rate") and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
            if field.name.endswith("widths") and (not value or min(value) < 1):
                raise ValueError(f"{field.name} is {value}; it must hold one number or more, each at least 1")
            if field.name.endswith("dropout") and not 0 <= value < 1:
                raise ValueError(f"{field.name} is {value}; it must be at least 0 and below 1")

    @property
    def batches_per_step(self) -> int:
        """Real batches that one training step consumes."""
        return 1


def needs_labels() -> UsageError:
    """The error of a conditional model that was given data without labels."""
    return UsageError(
        "a conditional model needs labels, and the data has none. Give labelled data, or --conditioning none."
    )


class GenerativeModel(abc.ABC):
    """One paper: its networks, its optimizers, its step.

    A subclass builds its networks and optimizers in `__init__` and binds them to attributes; every Keras network,
    optimizer, average and variable that is an attribute is saved with the run. It is not a tf.Module: that would
    import TensorFlow for `--help`, and tf.Module finds no variables in Keras 3 networks.
    """

    Hparams: ClassVar[type[Hparams]]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named settings beside the default: `paper`, `book`, `points` (taken for vectors); each the hyper-parameters that
    differ from the default."""
    default_steps: ClassVar[int] = 2000
    """Training steps of a run that names none."""
    preset_steps: ClassVar[dict[str, int]] = {}
    """The same for presets that need another length."""

    decoder: Any
    """Keras model in float32, the averaged weights: latents [B, latent] -> images [B, H, W, C] in [-1, 1]."""
    discriminator: Any = None
    """Keras model images [, labels] -> ... that was trained to tell real images from generated ones, where there is one."""
    open_run: Callable[[str], GenerativeModel] | None = None
    """Opens the model of another run by its folder or number, for models that learn from one; the run that builds this sets it."""
    encoder: Any = None
    """Keras model images -> codes [B, latent], where the model has one."""
    prior: Prior
    """What latents are drawn from."""
    conditional: bool = False
    """Whether samples are drawn of a class: the decoder then takes [latents, labels]."""
    feature_layers: ClassVar[str] = "down*_act,dense*_act"
    """Names of layers of `feature_network`, as comma-separated patterns: a classifier starts from the features after the last
    of them. By default the last hidden layer of the networks in `genlab.networks.blocks` before what compares the images of
    a batch, and before the codes."""
    exact_likelihood: ClassVar[bool] = False
    """Whether `likelihood_metrics` computes log p(x) itself, and not an estimate from importance samples."""

    def __init__(self, hparams: Any, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None) -> None:
        """`seed` seeds the initial weights; `schedule_steps` is the length of the learning-rate schedules, in steps."""
        self.hparams = hparams
        self.spec = spec
        self.seed = seed
        self.schedule_steps = schedule_steps or self.default_steps
        self.step = tf.Variable(0, dtype=tf.int64, name="step")
        """Training steps taken. Schedules, warm-ups, averages and lazy penalties follow it, whatever an optimizer counts; the
        loop advances it after each `train_step`."""
        self.rate_factor = tf.Variable(1.0, name="rate_factor")
        """What every learning rate is multiplied by, whatever its schedule."""
        self._compiled_decode: Any = None
        self._compiled_draw: Any = None

    @abc.abstractmethod
    def train_step(self, batches, seed) -> dict[str, Any]:
        """One step of training, in replica context; returns scalar float32 tensors by name, losses and what to watch.

        `batches` is a list of `hparams.batches_per_step` pairs: images [B, H, W, C] float32 in [-1, 1], and labels [B] int32
        (zeros where the data has none). `seed` is an int32 pair: every random number of the step derives from it,
        so that a step is a function of the weights, the batches and the seed alone.
        """

    def sample_latents(self, seeds):
        """The model's own prior: one latent vector for each seed, [N] integers -> [N, latent].

        A row depends on its own seed alone, whatever stands beside it.
        """
        if self._compiled_draw is None:  # ten thousand draws one by one take a minute in Python
            signature = [tf.TensorSpec([None], tf.int64)]
            self._compiled_draw = tf.function(self._draw_each, input_signature=signature, autograph=False)
        return self._compiled_draw(tf.cast(tf.convert_to_tensor(seeds), tf.int64))

    def _draw_each(self, seeds):
        return self.prior.draw_each(tf.stack([seeds, tf.zeros_like(seeds)], axis=1))

    def draw_latents(self, count, seed):
        """[count, latent] numbers from the prior, all from one seed: what a training step needs."""
        return replicas.own_rows(lambda rows: self.prior.draw(rows, seed), count)

    @property
    def latent_size(self) -> int:
        """Numbers in a latent vector."""
        return self.prior.size

    @property
    def feature_network(self) -> Any:
        """Keras model, images [, labels] -> ..., whose layers a classifier can start from (`genlab.transfer`); None: there is none."""
        return None

    def default_labels(self, seeds):
        """The class that a seed draws where none is named: seed modulo the number of classes; None without labels."""
        return np.asarray(seeds) % self.spec.num_classes if self.conditional else None

    def warnings(self, metrics: dict[str, float]) -> dict[str, str]:
        """What in a log line's metrics looks like a training gone wrong: a sentence each, with the usual cures, by name.

        The names are the model's own: a warning is given once its name has come back several times in a row.
        """
        return {}

    def fit_prior(self, batches) -> None:  # noqa: B027  most models have nothing to fit
        """Fit what latents are drawn from to batches of training images [N, H, W, C] in [-1, 1], where the prior is fitted."""

    def pictures(self, images, labels) -> dict[str, Any]:
        """What to draw beside samples: uint8 pictures [height, width, C] by name.

        `images` [N, H, W, C] in [-1, 1] are held-out ones, with `labels` [N] or None.
        """
        return {}

    def reconstruct(self, images):
        """Images [N, H, W, C] in [-1, 1] -> encoded and decoded again. Raises UsageError for a model without an encoder."""
        if self.encoder is None:
            raise UsageError(f"{type(self).__name__} has no encoder: it cannot reconstruct images.")
        return self.decode(self.encoder(images, training=False))

    def decode(self, latents, labels=None):
        """Latents [B, latent] of one batch, and labels [B] where the model is conditional -> images in [-1, 1], or vectors."""
        return self.decoder([latents, labels] if self.conditional else latents, training=False)

    def likelihood_metrics(self, images, importance_samples: int, seed: int) -> dict[str, tuple[float, float | None]]:
        """Metrics of log p(x) for models that have a likelihood: (value, standard error or None) by name.

        `images` [N, H, W, C] in [-1, 1] are held-out ones.
        """
        return {}

    def sample(self, latents, labels=None):
        """Latents [N, latent] -> images [N, H, W, C], float32 in [-1, 1], or vectors [N, D].

        Decoded in batches of one fixed size, the last one padded: arithmetic may differ in the last bit between batch
        sizes, and a sample must not depend on which others were asked for with it. `labels`, [N] integers from 0 on,
        are for conditional models and needed there. Raises UsageError for labels that do not fit.
        """
        if self._compiled_decode is None:
            self._compiled_decode = self._compile_decode()
        latents = tf.convert_to_tensor(latents, tf.float32)
        if labels is None and self.conditional:
            raise UsageError(f"this model draws by class: labels from 0 to {self.spec.num_classes - 1} are needed.")
        if labels is not None and not self.conditional:
            raise UsageError("this model draws without labels.")
        if labels is not None and not tf.is_symbolic_tensor(labels):
            low, high = int(np.min(labels, initial=0)), int(np.max(labels, initial=0))
            if low < 0 or high >= self.spec.num_classes:
                raise UsageError(f"labels go from {low} to {high}; this model knows 0 to {self.spec.num_classes - 1}.")
        labels = tf.zeros(tf.shape(latents)[:1], tf.int32) if labels is None else tf.cast(labels, tf.int32)
        return self._compiled_decode(latents, labels)

    def _compile_decode(self):
        def decode(latents, labels):
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

    def make_optimizer(self, learning_rate: float, variables) -> Any:
        """A built Keras optimizer with the hyper-parameters' schedule; one for each set of variables.

        It is built at once: an optimizer without slots would restore nothing from a checkpoint, and say nothing.
        """
        hparams = self.hparams
        rate = self._schedule(learning_rate)
        match hparams.optimizer:
            case "adam":
                optimizer = optimizers.FusedAdam(rate, beta_1=hparams.beta1, beta_2=hparams.beta2)
            case "rmsprop":
                optimizer = keras.optimizers.RMSprop(rate, rho=hparams.beta2, momentum=hparams.beta1)
            case _:
                optimizer = keras.optimizers.SGD(rate, momentum=hparams.beta1)
        if keras.config.dtype_policy().compute_dtype == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)
        return optimizer

    def scaled(self, optimizer: Any, loss: Any) -> Any:
        """What to differentiate for `optimizer.apply`, which sums gradients over replicas: a replica's part of the mean loss."""
        return optimizer.scale_loss(loss / replicas.count())

    def _schedule(self, rate: float) -> Any:
        """The learning rate by the training step, as a Keras schedule."""
        course, factor, training_step = self._course(rate), self.rate_factor, self.step

        class Schedule(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, updates):
                # Keras hands in the optimizer's updates, of which a step may take several.
                return factor * course(tf.cast(training_step, tf.float32))

            def get_config(self):
                raise NotImplementedError("runs store their hyper-parameters, not their schedules")

        return Schedule()

    def _course(self, rate: float) -> Callable[[Any], Any]:
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
        # A warm-up from the rate to itself is how Keras spells "hold it, then decay".
        return schedules.CosineDecay(rate, rest, alpha=self.hparams.final_rate, warmup_target=rate, warmup_steps=start)

    def average(self, *pairs) -> WeightAverage:
        """The running average of networks: pairs of (averaged, trained)."""
        return WeightAverage(pairs, self.hparams.average_decay, self.step)

    def state(self) -> dict[str, Any]:
        """All that training changes, by name, for tf.train.Checkpoint."""
        kinds = (keras.Model, keras.optimizers.Optimizer, tf.Module, tf.Variable)
        found = {name: value for name, value in self._parts() if isinstance(value, kinds)}
        found |= {f"prior_{name}": variable for name, variable in self.prior.variables().items()}
        for name, network in self.networks.items():
            # The generators that dropout draws from are no weights to Keras, and would not be saved.
            weights = {id(weight) for weight in network.weights}
            random_states = [variable.value for variable in network.variables if id(variable) not in weights]
            if random_states:
                found[f"{name}_random_states"] = random_states
        return found

    @property
    def networks(self) -> dict[str, Any]:
        """The model's Keras networks by name."""
        return {name: value for name, value in self._parts() if isinstance(value, keras.Model)}

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """The attributes by name; the items of lists, tuples and dictionaries, nested ones too, as `name_0`, `name_key`, ..."""
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
    def weights(self) -> list[Any]:
        """Every weight of every network."""
        return [weight for network in self.networks.values() for weight in network.weights]
