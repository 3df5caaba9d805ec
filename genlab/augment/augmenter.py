"""Keras layer that augments images with a trained decoder. Importing this module imports Keras."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genlab import files
from genlab.augment import conversion
from genlab.augment.decoders import SELECTIONS, TrainedDecoder
from genlab.backend import Network, Shape, Tensor, keras, tf
from genlab.bounds import LARGEST, real, shown, whole
from genlab.errors import UsageError, closest, reason

if TYPE_CHECKING:  # with an exported decoder, no training code is imported
    from genlab import run as runs

MODES = ("replace", "append", "balance", "perturb", "interpolate", "renoise")
FORMAT = 3
"""Version of saved settings; see `_upgraded`."""
LARGEST_AMOUNT = 100
"""Largest `amount`: far beyond, codes are no longer finite."""
MOST_CANDIDATES = 100
"""Maximum number of candidates: those of a batch are in memory at once."""
ADDING = ("append", "balance")
"""Modes that add images and change none."""
ENCODED = ("perturb", "interpolate")
"""Modes that need an encoder, because they change codes of the batch's images."""
BATCH_STREAM, ARRAY_STREAM = 0x617567, 0x67656E
"""Second halves of seeds. Without them, a batch whose pixels sum to 0 would draw the same images as `generate`."""


@keras.saving.register_keras_serializable(package="genlab")
class Augmenter(keras.layers.Layer):
    """Layer that adds generated images to batches of real ones, in your value range, image size and label format.

        augment = genlab.Augmenter.from_run("runs/00003-cgan-mnist", fraction=0.5, seed=0)
        dataset = dataset.map(augment)                                # batches of (images, labels)
        images, labels = augment.generate(1000, labels=[7, 9])        # arrays

    Modes:

    - `replace`: replaces a fraction of each batch by generated images with the same labels.
    - `append`: adds `fraction` x batch images; their labels are sampled from the batch.
    - `balance`: adds images until all classes are equally frequent in the batch.
    - `perturb`: encodes a fraction of the batch, adds noise of `amount` standard deviations of the codes, and decodes; labels
      stay the same.
    - `interpolate`: like `perturb`, but moves each code towards another image of the same class in the batch, by up to
      `amount` of the distance.
    - `renoise`: replaces a part `amount` of each image, from 0 to 1, by noise, which the model removes again: at 0 it stays the
      same, at 1 it is a fresh sample. Needs a run that can do this, such as a flow; a conditional one keeps the label.

    With `only_labels`, one or several integers, images of other labels stay as they are, and `fraction` is that of the images of these,
    rounded up or down at random: variations of a rare class alone help where variations of all classes do not (docs/quality.md).
    It needs labels, and a mode other than `append` and `balance`.

    Images are [B, H, W, C] or [B, H, W] of any dtype. `value_range` gives the values of black and white, by default 0 and
    255 for integers, 0 and 1 for floats. Generated images get the batch's size and channels. Labels are integers [B] or
    [B, 1], or one-hot [B, K], and keep their format. All randomness depends only on the seed and the batch, so equal batches
    get equal results, in any order. Inside a model the layer is active only in training. A model passes no labels to a
    layer, so only `perturb`, and `renoise` by a run without labels, work in `keras.Sequential`.

    With `select` (`discriminator` or `classifier`), `candidates` images are generated for each one used: the one with the
    highest discriminator score, or with the highest probability of its label. The classifier has seen all labels of the
    run's data (for digits, MNIST's). To measure the value of generated images with fewer labels, use
    `python -m genlab.augment`, which trains the selecting classifier on those few.
    """

    def __init__(
        self,
        decoders: Sequence[TrainedDecoder],
        *,
        classes: Mapping[int, tuple[int, int]] | None = None,
        mode: str = "replace",
        fraction: float = 0.5,
        amount: float = 0.3,
        only_labels: npt.ArrayLike | None = None,
        candidates: int = 1,
        select: str = "none",
        value_range: tuple[float, float] | None = None,
        seed: int = 0,
        name: str = "augmenter",
        **keywords: Any,
    ) -> None:
        """Create from decoders; usually `from_run`, `from_runs` or `from_export` do this.

        `classes` maps each label to a decoder and to that decoder's own label: {label: (decoder, its label)}. By default the
        first decoder draws all its labels. Raises UsageError for settings that do not fit.
        """
        try:
            super().__init__(name=name, **keywords)
        except (ValueError, TypeError) as error:
            raise UsageError(f"the Augmenter has no such settings: {reason(error)}.") from None
        for setting, value, known in (("mode", mode, MODES), ("select", select, SELECTIONS)):
            if not isinstance(value, str) or value not in known:
                raise UsageError(f"{setting} is {shown(value)}{closest(str(value), known)} Known: {', '.join(known)}.")
        self.mode, self.select = mode, select
        self.fraction = real("fraction", fraction, 0, 1)
        self.amount = real("amount", amount, 0, LARGEST_AMOUNT)
        self.candidates = whole("candidates", candidates, 1, MOST_CANDIDATES)
        self.seed = whole("seed", seed)
        self.value_range = None if value_range is None else _value_range(value_range)
        if not decoders:
            raise UsageError("the Augmenter needs at least one decoder.")
        if (candidates > 1) != (select != "none"):
            raise UsageError("candidates above 1 and select (discriminator or classifier) go together; one is missing.")
        if classes is None:
            classes = {label: (0, label) for label in range(decoders[0].num_classes)}
        self.classes = _classes(classes, decoders)
        encoder: Network | None = decoders[0].encoder if len(decoders) == 1 else None
        if mode in ENCODED and encoder is None:
            raise UsageError(
                f"mode {mode!r} needs a run with an encoder: an autoencoder, a vae, or a flow without labels."
            )
        renoiser: Network | None = decoders[0].renoiser if len(decoders) == 1 else None
        if mode == "renoise":
            real("amount", self.amount, 0, 1)
            if renoiser is None:
                raise UsageError(
                    "mode 'renoise' needs a run whose model can re-noise images, such as a flow (from_run)."
                )
        # Codes, and a run without labels, change any image.
        self.by_class = mode not in ENCODED and not (mode == "renoise" and not decoders[0].num_classes)
        if self.by_class and not self.classes:
            raise UsageError(
                f"mode {mode!r} needs images by label, and the run draws without labels. Use a conditional run (cgan), one run "
                "per class (from_runs), mode perturb with an autoencoder or a vae, or mode renoise with a flow."
            )
        self.only_labels: tuple[int, ...] | None = None
        if only_labels is not None:
            drawable = sorted(self.classes) if self.by_class else None
            self.only_labels = tuple(_labels("only_labels", only_labels, drawable).tolist())
        if self.only_labels is not None and mode in ADDING:
            raise UsageError(f"only_labels is for modes that change images; mode {mode!r} adds some.")
        self.needs_labels = self.by_class or mode == "interpolate" or self.only_labels is not None
        if select != "none" and any(each.scorer is None for each in decoders):
            raise UsageError(f"select {select!r}: the run has no {select} to select by.")
        self.decoders = list(decoders)
        self.networks = [each.network for each in decoders]  # tracked by Keras, which does not track a TrainedDecoder
        self.scorers = [each.scorer for each in decoders if each.scorer is not None]
        self.encoder, self.renoiser = encoder, renoiser
        # In Python, hundreds of single draws take seconds.
        self._draws = [
            tf.function(
                functools.partial(each.draw, candidates=self.candidates, select=select),
                reduce_retracing=True,
                autograph=False,
            )
            for each in self.decoders
        ]
        self.trainable = False  # including the networks inside
        self.built = True

    # -- constructors --------------------------------------------------------------------------------------------------

    @classmethod
    def from_run(
        cls, run: str | os.PathLike[str] | runs.Run, *, checkpoint: str | int = "latest", **settings: Any
    ) -> Augmenter:
        """Create from a trained run: folder, number or `latest`. `settings` are those of the class.

        A conditional run draws the classes that it was trained on, with the same numbers. An autoencoder or a vae can
        `perturb` and `interpolate`, a flow can `renoise`. Raises UsageError if the run does not support the mode.
        """
        select, renoises = settings.get("select", "none"), settings.get("mode") == "renoise"
        return cls([TrainedDecoder.of_run(_opened(run, checkpoint), select, renoises=renoises)], **settings)

    @classmethod
    def from_export(cls, folder: str | os.PathLike[str], **settings: Any) -> Augmenter:
        """Create from a folder written by `python -m genlab.export` with the format `keras`; the run is not needed.

        Raises UsageError if the folder is not such an export.
        """
        if settings.get("select", "none") != "none":
            raise UsageError("select needs the run (from_run): an export has no discriminator and no classifier.")
        return cls([TrainedDecoder.of_export(folder)], **settings)

    @classmethod
    def from_runs(cls, by_label: Mapping[int, str | os.PathLike[str] | runs.Run], **settings: Any) -> Augmenter:
        """Create from one run per class: {7: "runs/00004-dcgan-sevens", 9: ...}. Each draws only images of its label.

        A conditional run draws the class of that number. Raises UsageError if the runs' images differ in shape.
        """
        if not isinstance(by_label, Mapping) or not by_label:
            raise UsageError("from_runs got no runs; it needs at least one label and run, like {7: RUN}.")
        for label in by_label:
            whole("each label", label)
        select = settings.get("select", "none")
        decoders = [TrainedDecoder.of_run(_opened(run), select) for run in by_label.values()]
        shapes = {each.image_shape for each in decoders}
        if len(shapes) > 1:
            raise UsageError(
                f"the runs draw images of different shapes, {', '.join(map(str, sorted(shapes)))}; they must be equal."
            )
        classes = {int(label): (number, int(label)) for number, label in enumerate(by_label)}
        return cls(decoders, classes=classes, **settings)

    # -- use -----------------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Tensor, **keywords: Any) -> Tensor | tuple[Tensor, Tensor]:
        # Dataset.map passes (images, labels) as two arguments, and a pipeline is always for training.
        if len(inputs) == 2 and not isinstance(inputs[1], bool | type(None)):
            return self.augment(*inputs)
        return super().__call__(*inputs, **keywords)

    def call(
        self, inputs: Tensor | tuple[Tensor, Tensor], training: bool | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return images, or (images, labels): augmented in training, else unchanged."""
        if not training:
            return inputs
        if isinstance(inputs, tuple | list):
            return self.augment(*inputs)
        if self.needs_labels:
            raise UsageError(
                f"{self._asking_for_labels} needs labels, and a layer in a model receives only images. Use it in the pipeline, "
                f"dataset.map(augment){', or use mode perturb' * (self.only_labels is None)}."
            )
        return self.augment(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def augment(self, images: Tensor, labels: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Augment a batch. Return (images, labels), or only images if there are no labels (`perturb`, `renoise`).

        Works on arrays, and on tensors in a tf.function. Raises UsageError for labels of an unknown shape or type, and for
        labels of another number than images, or that cannot be drawn (in a graph: tf.errors.InvalidArgumentError).
        """
        images = conversion.tensor(images, "images")
        labels = None if labels is None else conversion.tensor(labels, "labels")
        low, high = self.value_range or conversion.usual_range(images)
        scaled = conversion.to_model_range(images, low, high)
        numbers = None if labels is None else self._label_numbers(labels, images)
        seed = self._batch_seed(scaled)
        if labels is None and self.needs_labels:
            raise UsageError(
                f"{self._asking_for_labels} needs labels; use dataset.map(augment) on batches of (images, labels)."
            )
        if self.mode in ADDING:
            assert labels is not None  # these modes need them
            largest = max(self.classes)
            if self.mode == "balance" and conversion.is_one_hot(labels) and largest >= labels.shape[1]:
                raise UsageError(
                    f"labels have {labels.shape[1]} columns; class {largest} needs at least {largest + 1}."
                )
            added = self._added_labels(numbers, seed)
            made = conversion.from_model_range(self._drawn(added, seed, scaled), images, low, high)
            more = conversion.labels_like(added, labels)
            return tf.concat([images, made], axis=0), tf.concat([labels, more], axis=0)
        rows = self._chosen_rows(scaled, numbers, seed)

        def changed() -> Tensor:
            made = conversion.from_model_range(self._changed(scaled, numbers, rows, seed), images, low, high)
            # All other images stay unchanged to the last bit.
            return tf.tensor_scatter_nd_update(images, rows[:, None], made)

        # Not every batch has an image to change, and not every layer takes an empty batch.
        augmented = tf.cond(tf.size(rows) > 0, changed, lambda: images)
        return augmented if labels is None else (augmented, labels)

    def generate(
        self, count: int, labels: npt.ArrayLike | None = None, *, seed: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return generated images, uint8 [count, H, W, C] (floats with a `value_range`), and their labels, int64 [count].

        `labels`, one or several, are repeated in turn; the default is all labels. Another `seed` gives other images. Raises
        UsageError for labels that cannot be drawn, and for more images than fit into 2 GiB.
        """
        if not self.classes:
            raise UsageError(
                "this run draws without labels. Type python -m genlab.sample --array for images without labels."
            )
        wanted = self._wanted(labels)
        shape = self.decoders[0].image_shape
        like = tf.zeros([0, *shape], tf.uint8 if self.value_range is None else tf.float32)
        whole("count", count, 0, files.MOST_BYTES // (math.prod(shape) * like.dtype.size))
        numbers = np.resize(wanted, count)
        base = tf.constant([self.seed if seed is None else whole("seed", seed), ARRAY_STREAM], tf.int32)
        low, high = self.value_range or conversion.usual_range(like)
        parts = [like.numpy()]
        for start in range(0, count, 256):
            part = tf.constant(numbers[start : start + 256], tf.int32)
            images = self._drawn(part, tf.random.fold_in(base, start, alg="philox"), tf.zeros([1, *shape]))
            parts.append(conversion.from_model_range(images, like, low, high).numpy())
        return np.concatenate(parts), numbers

    @property
    def _asking_for_labels(self) -> str:
        """The setting that needs labels, for messages."""
        return f"mode {self.mode!r}" if self.only_labels is None else "only_labels"

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _wanted(self, labels: npt.ArrayLike | None) -> np.ndarray:
        """Return the labels that `generate` repeats, int64 [K]. Raises UsageError for labels that cannot be drawn."""
        known = sorted(self.classes)
        return np.asarray(known, np.int64) if labels is None else _labels("labels", labels, known)

    def _label_numbers(self, labels: Tensor, images: Tensor) -> Tensor:
        """Return the labels of a batch as integers [B]; see `augment` for the errors."""
        numbers = conversion.label_numbers(labels)
        same = tf.shape(numbers)[0] == tf.shape(images)[0]
        message = "a batch needs one label for each image, and has another number of them."
        numbers = conversion.required(same, message, numbers)
        if not self.by_class or self.only_labels is not None:  # which can be drawn: others need not be
            return numbers
        known = sorted(self.classes)
        unknown = tf.reduce_any(tf.reduce_all(numbers[:, None] != tf.constant(known)[None], axis=1))
        message = f"a label cannot be drawn; it must be one of {known}."
        return conversion.required(tf.logical_not(unknown), message, numbers)

    def _batch_seed(self, scaled: Tensor) -> Tensor:
        """Return a seed for the batch, derived from the Augmenter's seed and the pixels."""
        bits = tf.bitcast(tf.reduce_sum(scaled, axis=[1, 2, 3]), tf.int32)
        places = tf.range(1, tf.size(bits) + 1, dtype=tf.int32)
        return tf.random.fold_in(
            tf.constant([self.seed, BATCH_STREAM], tf.int32), tf.reduce_sum(bits * places), alg="philox"
        )

    def _chosen_rows(self, scaled: Tensor, numbers: Tensor | None, seed: Tensor) -> Tensor:
        """Return the rows of the images to change, [n]."""
        row_seed = tf.random.fold_in(seed, 1, alg="philox")
        if self.only_labels is None or numbers is None:
            rows = tf.range(tf.shape(scaled)[0])
            chosen = tf.round(self.fraction * tf.cast(tf.size(rows), tf.float32))
        else:
            of_these = tf.reduce_any(numbers[:, None] == tf.constant(self.only_labels)[None], axis=1)
            rows = tf.cast(tf.where(of_these)[:, 0], tf.int32)
            # A batch has few of them: rounded to the nearest, half of one image would always be none.
            uniform = tf.random.stateless_uniform([], tf.random.fold_in(seed, 6, alg="philox"), alg="philox")
            chosen = tf.floor(self.fraction * tf.cast(tf.size(rows), tf.float32) + uniform)
        return tf.random.experimental.stateless_shuffle(rows, row_seed)[: tf.cast(chosen, tf.int32)]

    def _added_labels(self, numbers: Tensor, seed: Tensor) -> Tensor:
        """Return the labels of the images to add to a batch."""
        if self.mode == "append":
            count = tf.cast(tf.round(self.fraction * tf.cast(tf.size(numbers), tf.float32)), tf.int32)
            uniform = tf.random.stateless_uniform([count], tf.random.fold_in(seed, 2, alg="philox"), alg="philox")
            return tf.gather(numbers, tf.cast(uniform * tf.cast(tf.size(numbers), tf.float32), tf.int32))
        known = tf.constant(sorted(self.classes))
        counts = tf.reduce_sum(tf.cast(numbers[:, None] == known[None], tf.int32), axis=0)
        return tf.repeat(known, tf.maximum(0, tf.reduce_max(counts) - counts))

    def _drawn(self, numbers: Tensor, seed: Tensor, like: Tensor) -> Tensor:
        """Generate images [n, H, W, C] for the labels [n], with the size and channels of `like`."""
        number_of, own = self._places(numbers)
        made = tf.zeros([tf.shape(numbers)[0], *self.decoders[0].image_shape])
        for number, draw in enumerate(self._draws):
            rows = tf.where(number_of == number)
            part = draw(tf.gather_nd(own, rows), tf.random.fold_in(seed, 16 + number, alg="philox"))
            made = tf.tensor_scatter_nd_update(made, rows, part)
        return conversion.fitted(made, like)

    def _places(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder of each label [n], and the label's number there, [n] each."""
        known = sorted(self.classes)
        places = tf.argmax(numbers[:, None] == tf.constant(known)[None], axis=1)
        decoders, own = (tf.constant([self.classes[label][part] for label in known]) for part in (0, 1))
        return tf.gather(decoders, places), tf.gather(own, places)

    def _changed(self, scaled: Tensor, numbers: Tensor | None, rows: Tensor, seed: Tensor) -> Tensor:
        """Return the images in `rows` as the mode changes them, [n, H, W, C] in the model's range."""
        if self.mode == "replace":
            return self._drawn(tf.gather(numbers, rows), seed, scaled)
        if self.mode == "renoise":
            return self._renoised(scaled, numbers, rows, seed)
        return self._moved(scaled, numbers, rows, seed)

    def _renoised(self, scaled: Tensor, numbers: Tensor | None, rows: Tensor, seed: Tensor) -> Tensor:
        """Return variations of the images in `rows`, [n, H, W, C]; see `GenerativeModel.renoise`."""
        assert self.renoiser is not None
        source, count = self.decoders[0], tf.size(rows)
        images = conversion.fitted(tf.gather(scaled, rows), tf.zeros([1, *source.image_shape]))
        seeds = tf.random.split(tf.random.fold_in(seed, 5, alg="philox"), count, alg="philox")
        inputs = [images, source.prior.draw_each(seeds), tf.fill([count], self.amount)]
        if source.num_classes:
            inputs.append(self._places(tf.gather(numbers, rows))[1])
        return conversion.fitted(self.renoiser(inputs, training=False), scaled)

    def _moved(self, scaled: Tensor, numbers: Tensor, rows: Tensor, seed: Tensor) -> Tensor:
        """Return new versions of the images in `rows`, decoded from perturbed or interpolated codes."""
        assert self.encoder is not None
        height, width, channels = self.encoder.input_shape[1:]
        codes = self.encoder(conversion.fitted(scaled, tf.zeros([1, height, width, channels])), training=False)
        chosen = tf.gather(codes, rows)
        move_seed = tf.random.fold_in(seed, 3, alg="philox")
        if self.mode == "perturb":
            noise = tf.random.stateless_normal(tf.shape(chosen), move_seed, alg="philox")
            chosen = chosen + self.amount * tf.constant(self.decoders[0].prior.standard_deviation()) * noise
        else:
            other = tf.gather(codes, self.partners(numbers, rows, move_seed))
            # Not `move_seed`, whose stream the seed of the partners comes from.
            share_seed = tf.random.fold_in(seed, 4, alg="philox")
            share = tf.random.stateless_uniform([tf.size(rows), 1], share_seed, alg="philox")
            chosen = chosen + self.amount * share * (other - chosen)
        return conversion.fitted(self.networks[0](chosen, training=False), scaled)

    @staticmethod
    def partners(numbers: Tensor, rows: Tensor, seed: Tensor) -> Tensor:
        """Draw a partner of the same label for each row: another row if there is one, else itself."""
        same = tf.gather(numbers, rows)[:, None] == numbers[None]  # [n, B]
        own = rows[:, None] == tf.range(tf.size(numbers))[None]
        draws = tf.random.stateless_uniform(tf.shape(same), tf.random.fold_in(seed, 1, alg="philox"), alg="philox")
        # The row itself ranks last among those of its label.
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
            "only_labels": self.only_labels,
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
    """Return settings saved by any version as this version saves them, without `format`."""
    config = dict(config)
    if config.pop("format", 1) < 2:
        mode = config.pop("way")
        config["mode"] = {"vary": "perturb", "mix": "interpolate"}.get(mode, mode)
        config["decoders"] = [
            {"scorer" if name == "judge" else name: value for name, value in each.items()}
            for each in config["decoders"]
        ]
    # Format 3 adds renoisers, which earlier decoders lack.
    config["decoders"] = [{"renoiser": None} | each for each in config["decoders"]]
    return config


def _value_range(values: object) -> tuple[float, float]:
    """Return the values of black and white. Raises UsageError for anything but two increasing numbers."""
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str) or len(values) != 2:
        raise UsageError(f"value_range must be two numbers, black and white, and is {shown(values)}.")
    low, high = (real("each of value_range", value, -1e9, 1e9) for value in values)
    if not low < high:
        raise UsageError(f"value_range is {low:g} to {high:g}; the first number must be smaller than the second.")
    return low, high


def _labels(name: str, labels: npt.ArrayLike, known: Sequence[int] | None) -> np.ndarray:
    """Return one or several labels, int64 [K]. Raises UsageError unless they are among `known`, or integers from 0 up if that is None."""
    try:
        found = np.atleast_1d(np.asarray(labels))
    except ValueError:
        found = np.zeros(0)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iu" or (known is None and found.min() < 0):
        wanted = "integers from 0 up" if known is None else f"of {known}"
        raise UsageError(f"{name} are {shown(labels)}; they must be one or several {wanted}.")
    if known is not None and (unknown := sorted(set(found.tolist()) - set(known))):
        raise UsageError(f"{name} {shown(unknown)} cannot be drawn; they must be among {known}.")
    return found.astype(np.int64)


def _classes(classes: object, decoders: Sequence[TrainedDecoder]) -> dict[int, tuple[int, int]]:
    """Return the decoder and its own label of each label. Raises UsageError for anything but such a mapping."""
    if not isinstance(classes, Mapping):
        raise UsageError(f"classes must be a mapping {{label: (decoder, its label)}}, and is {shown(classes)}.")
    found = {}
    for label, place in classes.items():
        if not isinstance(place, tuple | list) or len(place) != 2:
            raise UsageError(f"classes must map each label to (decoder, its label), and has {shown(place)}.")
        number = whole("the number of a decoder in classes", place[0], 0, len(decoders) - 1)
        most = (decoders[number].num_classes or LARGEST) - 1  # a decoder without labels ignores its own
        own = whole("the label of a decoder in classes", place[1], 0, most)
        found[whole("each label in classes", label)] = number, own
    return found


def _opened(run: str | os.PathLike[str] | runs.Run, checkpoint: str | int = "latest") -> runs.Run:
    from genlab import run as runs

    return run if isinstance(run, runs.Run) else runs.open(run, checkpoint=checkpoint)
