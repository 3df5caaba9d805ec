"""A trained decoder as a Keras layer that augments images. Importing this module imports Keras."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genlab.augment import conversion
from genlab.augment.decoders import SELECTIONS, TrainedDecoder
from genlab.backend import keras, tf
from genlab.errors import UsageError, closest

if TYPE_CHECKING:  # an exported decoder augments without what trained it
    from genlab import run as runs

MODES = ("replace", "append", "balance", "perturb", "interpolate")
FORMAT = 2
"""Of saved settings; see `_upgraded`."""
ENCODED = ("perturb", "interpolate")
"""Modes that change the images at hand, through an encoder."""
BATCH_STREAM, ARRAY_STREAM = 0x617567, 0x67656E
"""Second halves of seeds: a batch whose pixels sum to 0 would else draw what `generate` draws."""


@keras.saving.register_keras_serializable(package="genlab")
class Augmenter(keras.layers.Layer):
    """Puts generated images among real ones, with their labels, in the caller's own range, size and type.

        augment = genlab.Augmenter.from_run("runs/00003-cgan-mnist", fraction=0.5, seed=0)
        dataset = dataset.map(augment)                                # batches of (images, labels)
        images, labels = augment.generate(1000, labels=[7, 9])        # arrays

    Modes:

    - `replace`: a fraction of each batch by generated images of the same labels.
    - `append`: so many more, of labels that are drawn from the batch's.
    - `balance`: as many more as make the classes of the batch equal.
    - `perturb`: a fraction of the batch is encoded, moved by `amount` standard deviations of the codes, and decoded; the label
      stays.
    - `interpolate`: as `perturb`, but moved towards another image of the same class in the batch, by up to `amount` of the distance.

    Images are [B, H, W, C] or [B, H, W] of any type; `value_range` is what black and white are in them, by default 0 and 255
    for integers, 0 and 1 for floats. Generated ones are brought to the batch's size and channels. Labels are integers [B]
    or [B, 1], or one-hot [B, K], and come back as they came. All randomness is a function of the seed and the batch: equal
    batches are augmented alike, in whatever order a pipeline maps them. In a model it is active in training only; a model
    hands a layer no labels, so that `perturb` alone can stand in `keras.Sequential`.

    With `select` `discriminator` or `classifier`, `candidates` are generated for each image, and the one is taken that the
    discriminator finds the most real, or that the classifier takes for its label with the most certainty. That classifier
    has seen all labels of the run's data (of digits, MNIST's). To measure what generated images are worth with fewer labels,
    take `python -m genlab.augment`, which trains the selecting classifier on those few.
    """

    def __init__(
        self,
        decoders: Sequence[TrainedDecoder],
        *,
        classes: Mapping[int, tuple[int, int]] | None = None,
        mode: str = "replace",
        fraction: float = 0.5,
        amount: float = 0.3,
        candidates: int = 1,
        select: str = "none",
        value_range: tuple[float, float] | None = None,
        seed: int = 0,
        name: str = "augmenter",
        **keywords: Any,
    ) -> None:
        """Usually made by `from_run`, `from_runs` or `from_export`.

        `classes` says which decoder draws a label and what the label is there: {label: (decoder, its label)}; by default
        the first draws all that it knows. Raises UsageError for settings that do not fit.
        """
        super().__init__(name=name, **keywords)
        for setting, value, known in (("mode", mode, MODES), ("select", select, SELECTIONS)):
            if value not in known:
                raise UsageError(f"{setting} is {value!r}{closest(value, known)} Known: {', '.join(known)}.")
        if not 0 <= fraction <= 1 or amount < 0 or candidates < 1:
            raise UsageError("fraction must be from 0 to 1, amount at least 0, and candidates at least 1.")
        if (candidates > 1) != (select != "none"):
            raise UsageError("candidates above 1 and select (discriminator or classifier) go together; one is missing.")
        if classes is None:
            classes = {label: (0, label) for label in range(decoders[0].num_classes)}
        encoder: Any = decoders[0].encoder if len(decoders) == 1 else None
        if mode in ENCODED and encoder is None:
            raise UsageError(f"mode {mode!r} needs a run with an encoder: an autoencoder or a vae.")
        if mode not in ENCODED and not classes:
            raise UsageError(
                f"mode {mode!r} draws images of given labels, and the run draws without. Take a conditional run (cgan), one run for "
                "each class (from_runs), or mode perturb with an autoencoder or a vae."
            )
        if select != "none" and any(each.scorer is None for each in decoders):
            raise UsageError(f"select {select!r}: the run has no {select} to select by.")
        self.decoders = list(decoders)
        self.networks = [each.network for each in decoders]  # tracked by Keras, which knows no TrainedDecoder
        self.scorers = [each.scorer for each in decoders if each.scorer is not None]
        self.encoder = encoder
        self.classes = {int(label): (int(number), int(own)) for label, (number, own) in classes.items()}
        self.mode, self.fraction, self.amount = mode, float(fraction), float(amount)
        self.candidates, self.select = int(candidates), select
        self.value_range = None if value_range is None else (float(value_range[0]), float(value_range[1]))
        self.seed = int(seed)
        # Drawing hundreds of latents one by one takes seconds in Python.
        self._draws = [
            tf.function(
                functools.partial(each.draw, candidates=self.candidates, select=select),
                reduce_retracing=True,
                autograph=False,
            )
            for each in self.decoders
        ]
        self.trainable = False  # what is inside, too
        self.built = True

    # -- making one ----------------------------------------------------------------------------------------------------

    @classmethod
    def from_run(
        cls, run: str | os.PathLike | runs.Run, *, checkpoint: str | int = "latest", **settings: Any
    ) -> Augmenter:
        """From a trained run: its folder, number or `latest`. `settings` are those of the class.

        A conditional run draws the classes it was trained on, by their numbers there. An autoencoder or a vae can `perturb` and
        `interpolate`. Raises UsageError where the run cannot do what is asked.
        """
        return cls([TrainedDecoder.of_run(_opened(run, checkpoint), settings.get("select", "none"))], **settings)

    @classmethod
    def from_export(cls, folder: str | os.PathLike, **settings: Any) -> Augmenter:
        """From a folder that `python -m genlab.export` wrote, with `keras` among its formats; the run is not needed.

        Raises UsageError where the folder is no such export.
        """
        if settings.get("select", "none") != "none":
            raise UsageError("select needs the run (from_run): an export holds no discriminator and no classifier.")
        return cls([TrainedDecoder.of_export(folder)], **settings)

    @classmethod
    def from_runs(cls, by_label: Mapping[int, Any], **settings: Any) -> Augmenter:
        """From one run for each class: {7: "runs/00004-dcgan-sevens", 9: ...}; each draws images of its label alone.

        A conditional run draws the class of that number. Raises UsageError where the runs' images differ in shape.
        """
        if not by_label:
            raise UsageError("from_runs needs a run for one label at least.")
        select = settings.get("select", "none")
        decoders = [TrainedDecoder.of_run(_opened(run), select) for run in by_label.values()]
        shapes = {each.image_shape for each in decoders}
        if len(shapes) > 1:
            raise UsageError(
                f"the runs draw images of several shapes, {', '.join(map(str, sorted(shapes)))}; one is needed."
            )
        classes = {int(label): (number, int(label)) for number, label in enumerate(by_label)}
        return cls(decoders, classes=classes, **settings)

    # -- using it ------------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        # Dataset.map hands (images, labels) over as two arguments, and there it is always training.
        if len(inputs) == 2 and not isinstance(inputs[1], bool | type(None)):
            return self.augment(*inputs)
        return super().__call__(*inputs, **keywords)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Images, or (images, labels), as they are or, in training, augmented."""
        if not training:
            return inputs
        if isinstance(inputs, tuple | list):
            return self.augment(*inputs)
        if self.mode != "perturb":
            raise UsageError(
                f"mode {self.mode!r} needs labels, and a layer in a model is handed images alone. Use it in the pipeline, "
                "dataset.map(augment), or take mode perturb."
            )
        return self.augment(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def augment(self, images: Any, labels: Any = None) -> Any:
        """A batch, augmented: (images, labels), or images alone where no labels are handed in (`perturb`).

        Works on tensors in a tf.function and on arrays. Raises UsageError for labels of an unknown shape, or of a class that
        nothing here draws where that can be seen at once.
        """
        images = tf.convert_to_tensor(images)
        low, high = self.value_range or conversion.usual_range(images)
        scaled = conversion.to_model_range(images, low, high)
        numbers = None if labels is None else conversion.label_numbers(labels)
        seed = self._batch_seed(scaled)
        if numbers is None and self.mode != "perturb":
            raise UsageError(
                f"mode {self.mode!r} needs labels; dataset.map(augment) is handed them with batches of (images, labels)."
            )
        if self.mode in ("append", "balance"):
            added = self._added_labels(numbers, seed)
            made = conversion.from_model_range(self._drawn(added, seed, scaled), images, low, high)
            more = conversion.labels_like(added, labels)
            return tf.concat([images, made], axis=0), tf.concat([labels, more], axis=0)
        rows = self._chosen_rows(scaled, seed)
        if self.mode == "replace":
            made = self._drawn(tf.gather(numbers, rows), seed, scaled)
        else:
            made = self._moved(scaled, numbers, rows, seed)
        # The others come back as they were, to the last bit.
        made = conversion.from_model_range(made, images, low, high)
        images = tf.tensor_scatter_nd_update(images, rows[:, None], made)
        return images if labels is None else (images, labels)

    def generate(self, count: int, labels: Any = None, *, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """That many images and their labels as arrays: uint8 [count, H, W, C], or floats with a `value_range`; int64 [count].

        `labels`, one or several, are drawn in turn; by default all that are known. A `seed` gives other images.
        """
        if not self.classes:
            raise UsageError("this run draws without labels; python -m genlab.sample --array draws images without.")
        wanted = sorted(self.classes) if labels is None else np.atleast_1d(np.asarray(labels)).tolist()
        unknown = sorted(set(wanted) - set(self.classes))
        if unknown:
            raise UsageError(f"nothing here draws the labels {unknown}; it draws {sorted(self.classes)}.")
        numbers = np.resize(np.asarray(wanted, np.int64), count)
        base = tf.constant([self.seed if seed is None else seed, ARRAY_STREAM], tf.int32)
        shape = self.decoders[0].image_shape
        parts = []
        for start in range(0, count, 256):
            part = tf.constant(numbers[start : start + 256], tf.int32)
            parts.append(self._drawn(part, tf.random.fold_in(base, start, alg="philox"), tf.zeros([1, *shape])))
        images = tf.concat(parts, axis=0) if parts else tf.zeros([0, *shape])
        like = tf.zeros([0, *shape], tf.uint8 if self.value_range is None else tf.float32)
        low, high = self.value_range or conversion.usual_range(like)
        return conversion.from_model_range(images, like, low, high).numpy(), numbers

    # -- its parts -----------------------------------------------------------------------------------------------------

    def _batch_seed(self, scaled: Any) -> Any:
        """A seed that differs from batch to batch: of the Augmenter's and of the pixels."""
        bits = tf.bitcast(tf.reduce_sum(scaled, axis=[1, 2, 3]), tf.int32)
        places = tf.range(1, tf.size(bits) + 1, dtype=tf.int32)
        return tf.random.fold_in(
            tf.constant([self.seed, BATCH_STREAM], tf.int32), tf.reduce_sum(bits * places), alg="philox"
        )

    def _chosen_rows(self, scaled: Any, seed: Any) -> Any:
        count = tf.shape(scaled)[0]
        chosen = tf.cast(tf.round(self.fraction * tf.cast(count, tf.float32)), tf.int32)
        return tf.random.experimental.stateless_shuffle(tf.range(count), tf.random.fold_in(seed, 1, alg="philox"))[
            :chosen
        ]

    def _added_labels(self, numbers: Any, seed: Any) -> Any:
        """Labels of the images that are added to a batch."""
        if self.mode == "append":
            count = tf.cast(tf.round(self.fraction * tf.cast(tf.size(numbers), tf.float32)), tf.int32)
            uniform = tf.random.stateless_uniform([count], tf.random.fold_in(seed, 2, alg="philox"), alg="philox")
            return tf.gather(numbers, tf.cast(uniform * tf.cast(tf.size(numbers), tf.float32), tf.int32))
        known = tf.constant(sorted(self.classes))
        counts = tf.reduce_sum(tf.cast(numbers[:, None] == known[None], tf.int32), axis=0)
        return tf.repeat(known, tf.maximum(0, tf.reduce_max(counts) - counts))

    def _drawn(self, numbers: Any, seed: Any, like: Any) -> Any:
        """Generated images [n, H, W, C] of the labels [n], of the size and channels of `like`."""
        known = tf.constant(sorted(self.classes))
        unknown = tf.reduce_any(tf.reduce_all(numbers[:, None] != known[None], axis=1))
        message = f"a label is none of those that are drawn here: {sorted(self.classes)}."
        numbers = conversion.required(tf.logical_not(unknown), message, numbers)
        places = tf.argmax(numbers[:, None] == known[None], axis=1)
        number_of = tf.gather(tf.constant([self.classes[label][0] for label in sorted(self.classes)]), places)
        own = tf.gather(tf.constant([self.classes[label][1] for label in sorted(self.classes)]), places)
        made = tf.zeros([tf.shape(numbers)[0], *self.decoders[0].image_shape])
        for number, draw in enumerate(self._draws):
            rows = tf.where(number_of == number)
            part = draw(tf.gather_nd(own, rows), tf.random.fold_in(seed, 16 + number, alg="philox"))
            made = tf.tensor_scatter_nd_update(made, rows, part)
        return conversion.fitted(made, like)

    def _moved(self, scaled: Any, numbers: Any, rows: Any, seed: Any) -> Any:
        """The images of those rows, decoded from codes beside their own."""
        height, width, channels = self.encoder.input_shape[1:]
        codes = self.encoder(conversion.fitted(scaled, tf.zeros([1, height, width, channels])), training=False)
        chosen = tf.gather(codes, rows)
        move_seed = tf.random.fold_in(seed, 3, alg="philox")
        if self.mode == "perturb":
            noise = tf.random.stateless_normal(tf.shape(chosen), move_seed, alg="philox")
            chosen = chosen + self.amount * tf.constant(self.decoders[0].prior.standard_deviation()) * noise
        else:
            other = tf.gather(codes, self._partners(numbers, rows, move_seed))
            # Not `move_seed`: the seed of the partners is made from the first numbers of its stream.
            share_seed = tf.random.fold_in(seed, 4, alg="philox")
            share = tf.random.stateless_uniform([tf.size(rows), 1], share_seed, alg="philox")
            chosen = chosen + self.amount * share * (other - chosen)
        return conversion.fitted(self.networks[0](chosen, training=False), scaled)

    @staticmethod
    def _partners(numbers: Any, rows: Any, seed: Any) -> Any:
        """For each row a row of the same label, drawn at random: another one, where there is another."""
        same = tf.gather(numbers, rows)[:, None] == numbers[None]  # [n, B]
        own = rows[:, None] == tf.range(tf.size(numbers))[None]
        draws = tf.random.stateless_uniform(tf.shape(same), tf.random.fold_in(seed, 1, alg="philox"), alg="philox")
        # The row itself comes last among those of its label.
        return tf.argmax(tf.where(same, draws + 1.0, 0.0) - tf.cast(own, tf.float32), axis=1)

    # -- saving --------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "decoders": [each.get_config() for each in self.decoders],
            "classes": {str(label): list(place) for label, place in self.classes.items()},
            "format": FORMAT,
            "mode": self.mode,
            "fraction": self.fraction,
            "amount": self.amount,
            "candidates": self.candidates,
            "select": self.select,
            "value_range": self.value_range,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augmenter:
        config = _upgraded(config)
        config.pop("trainable", None)
        decoders = [TrainedDecoder.from_config(each) for each in config.pop("decoders")]
        classes = {int(label): tuple(place) for label, place in config.pop("classes").items()}
        return cls(decoders, classes=classes, **config)


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Settings as earlier versions saved them, in today's words."""
    config = dict(config)
    if config.pop("format", 1) < 2:
        mode = config.pop("way")
        config["mode"] = {"vary": "perturb", "mix": "interpolate"}.get(mode, mode)
        config["decoders"] = [
            {"scorer" if name == "judge" else name: value for name, value in each.items()}
            for each in config["decoders"]
        ]
    return config


def _opened(run: Any, checkpoint: str | int = "latest") -> runs.Run:
    from genlab import run as runs

    return run if isinstance(run, runs.Run) else runs.open(run, checkpoint=checkpoint)
