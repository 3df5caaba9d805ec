"""A trained decoder as a Keras layer that augments images. Importing this module imports Keras."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genlab import latents
from genlab.backend import keras, tf
from genlab.errors import UsageError, closest

if TYPE_CHECKING:  # an exported decoder augments without what trained it
    from genlab import run as runs

WAYS = ("replace", "append", "balance", "vary", "mix")
ENCODED = ("vary", "mix")
"""Ways that change the images at hand, through an encoder."""
SELECTIONS = ("none", "discriminator", "classifier")
CODE_IMAGES = 5000
"""Training images that the spread of an encoder's codes is taken from, at most."""


@dataclasses.dataclass
class Source:
    """One decoder, and what its latents are drawn from."""

    decoder: Any
    """Keras model latents [B, latent], or [latents, labels [B]], -> images in [-1, 1]."""
    prior: str = "normal"
    """normal, uniform or fitted: see genlab.latents."""
    mixture: tuple[np.ndarray, ...] | None = None
    """Of a fitted prior."""
    judge: Any = None
    """Discriminator or classifier, for `select`: images, or [images, labels], -> logits [B, 1]; images -> logits [B, K]."""

    @property
    def conditional(self) -> bool:
        return len(self.decoder.inputs) == 2

    @property
    def latent_size(self) -> int:
        return self.decoder.inputs[0].shape[-1]


@keras.saving.register_keras_serializable(package="genlab")
class Augmenter(keras.layers.Layer):
    """Puts generated images among real ones, with their labels, in the caller's own range, size and type.

        augment = genlab.Augmenter.from_run("runs/00003-cgan-mnist", fraction=0.5, seed=0)
        dataset = dataset.map(augment)                                # batches of (images, labels)
        images, labels = augment.generate(1000, labels=[7, 9])        # arrays

    Ways:

    - `replace`: a fraction of each batch by generated images of the same labels.
    - `append`: so many more, of labels that are drawn from the batch's.
    - `balance`: as many more as make the classes of the batch equal.
    - `vary`: a fraction of the batch is encoded, moved by `amount` standard deviations of the codes, and decoded; the label
      stays.
    - `mix`: as `vary`, but moved towards another image of the same class in the batch, by up to `amount` of the way.

    Images are [B, H, W, C] or [B, H, W] of any type; `value_range` is what black and white are in them, by default 0 and 255
    for integers, 0 and 1 for floats. Generated ones are brought to the batch's size and channels. Labels are integers [B]
    or [B, 1], or one-hot [B, K], and come back as they came. All randomness is a function of the seed and the batch: equal
    batches are augmented alike, in whatever order a pipeline maps them. In a model it is active in training only; a model
    hands a layer no labels, so that `vary` alone can stand in `keras.Sequential`.

    With `select` `discriminator` or `classifier`, `candidates` are generated for each image, and the one is taken that the
    discriminator finds the most real, or that the classifier takes for its label with the most certainty.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        classes: Mapping[int, tuple[int, int]],
        encoder: Any = None,
        code_scale: Any = None,
        way: str = "replace",
        fraction: float = 0.5,
        amount: float = 0.3,
        candidates: int = 1,
        select: str = "none",
        value_range: tuple[float, float] | None = None,
        seed: int = 0,
        name: str = "augmenter",
        **keywords: Any,
    ) -> None:
        """Usually made by `from_run` or `from_runs`.

        `classes` says which source draws a label and what the label is there: {label: (source, its label)}. `code_scale`
        [latent] are the standard deviations of the encoder's codes. Raises UsageError for settings that do not fit.
        """
        super().__init__(name=name, **keywords)
        for setting, value, known in (("way", way, WAYS), ("select", select, SELECTIONS)):
            if value not in known:
                raise UsageError(f"{setting} is {value!r}{closest(value, known)} Known: {', '.join(known)}.")
        if not 0 <= fraction <= 1 or amount < 0 or candidates < 1:
            raise UsageError("fraction must be from 0 to 1, amount at least 0, and candidates at least 1.")
        if (candidates > 1) != (select != "none"):
            raise UsageError("candidates above 1 and select (discriminator or classifier) go together; one is missing.")
        if way in ENCODED and encoder is None:
            raise UsageError(f"way {way!r} needs a run with an encoder: an autoencoder or a vae.")
        if way not in ENCODED and not classes:
            raise UsageError(
                f"way {way!r} draws images of given labels, and the run draws without. Take a conditional run (cgan), one run for "
                "each class (from_runs), or way vary with an autoencoder or a vae."
            )
        if select != "none" and any(source.judge is None for source in sources):
            raise UsageError(f"select {select!r}: the run has no {select} to select by.")
        self.sources = list(sources)
        self.decoders = [source.decoder for source in sources]  # tracked by Keras, which knows no Source
        self.judges = [source.judge for source in sources if source.judge is not None]
        self.encoder = encoder
        self.code_scale = None if code_scale is None else np.asarray(code_scale, np.float32)
        self.classes = {int(label): (int(source), int(own)) for label, (source, own) in classes.items()}
        self.way, self.fraction, self.amount = way, float(fraction), float(amount)
        self.candidates, self.select = int(candidates), select
        self.value_range = None if value_range is None else (float(value_range[0]), float(value_range[1]))
        self.seed = int(seed)
        # Drawing hundreds of latents one by one takes seconds in Python.
        self._compiled_drawn_by = [
            tf.function(functools.partial(self._drawn_by, source), reduce_retracing=True, autograph=False)
            for source in self.sources
        ]
        self.trainable = False  # what is inside, too
        self.built = True

    # -- making one ----------------------------------------------------------------------------------------------------

    @classmethod
    def from_run(
        cls, run: str | os.PathLike | runs.Run, *, checkpoint: str | int = "latest", **settings: Any
    ) -> Augmenter:
        """From a trained run: its folder, number or `latest`. `settings` are those of the class.

        A conditional run draws the classes it was trained on, by their numbers there. An autoencoder or a vae can `vary` and
        `mix`. Raises UsageError where the run cannot do what is asked.
        """
        opened = _opened(run, checkpoint)
        model = _image_model(opened)
        source = _source(model, settings.get("select", "none"), opened)
        count = model.spec.num_classes if model.conditional else 0
        return cls._of_one(source, count, model.encoder, settings)

    @classmethod
    def from_export(cls, folder: str | os.PathLike, **settings: Any) -> Augmenter:
        """From a folder that `python -m genlab.export` wrote, with `keras` among its formats; the run is not needed.

        Raises UsageError where the folder is no such export.
        """
        path = pathlib.Path(folder)
        if not (path / "metadata.json").exists() or not (path / "decoder.keras").exists():
            raise UsageError(
                f"{path} has no metadata.json and decoder.keras: python -m genlab.export RUN --formats keras writes them."
            )
        facts = json.loads((path / "metadata.json").read_text())
        if facts["images"]["range"] is None:
            raise UsageError(f"{path} draws points, not images.")
        if settings.get("select", "none") != "none":
            raise UsageError("select needs the run (from_run): an export holds no discriminator and no classifier.")
        mixture = None
        if "mixture" in facts["latents"]:
            with np.load(path / facts["latents"]["mixture"]) as arrays:
                mixture = tuple(arrays[name] for name in ("weights", "means", "scales"))
        decoder = keras.saving.load_model(path / "decoder.keras", compile=False)
        encoder = keras.saving.load_model(path / "encoder.keras", compile=False) if facts["has_encoder"] else None
        source = Source(decoder, facts["latents"]["prior"], mixture)
        return cls._of_one(source, len(facts["classes"] or ()), encoder, settings)

    @classmethod
    def _of_one(cls, source: Source, classes: int, encoder: Any, settings: dict[str, Any]) -> Augmenter:
        """Of one source that knows so many classes."""
        places = {label: (0, label) for label in range(classes)}
        scale = None if encoder is None else _code_scale(source)
        return cls([source], classes=places, encoder=encoder, code_scale=scale, **settings)

    @classmethod
    def from_runs(cls, by_label: Mapping[int, Any], **settings: Any) -> Augmenter:
        """From one run for each class: {7: "runs/00004-dcgan-sevens", 9: ...}; each draws images of its label alone.

        A conditional run draws the class of that number. Raises UsageError where the runs' images differ in shape.
        """
        if not by_label:
            raise UsageError("from_runs needs a run for one label at least.")
        sources, classes, shapes = [], {}, set()
        for number, (label, run) in enumerate(by_label.items()):
            opened = _opened(run)
            model = _image_model(opened)
            shapes.add(model.spec.shape)
            sources.append(_source(model, settings.get("select", "none"), opened))
            classes[int(label)] = (number, int(label))
        if len(shapes) > 1:
            raise UsageError(
                f"the runs draw images of several shapes, {', '.join(map(str, sorted(shapes)))}; one is needed."
            )
        return cls(sources, classes=classes, **settings)

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
        if self.way != "vary":
            raise UsageError(
                f"way {self.way!r} needs labels, and a layer in a model is handed images alone. Use it in the pipeline, "
                "dataset.map(augment), or take way vary."
            )
        return self.augment(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def augment(self, images: Any, labels: Any = None) -> Any:
        """A batch, augmented: (images, labels), or images alone where no labels are handed in (`vary`).

        Works on tensors in a tf.function and on arrays. Raises UsageError for labels of an unknown shape, or of a class that
        nothing here draws where that can be seen at once.
        """
        images = tf.convert_to_tensor(images)
        low, high = self._range_of(images)
        scaled = self._to_model_range(images, low, high)
        numbers = None if labels is None else self._numbers(labels)
        seed = self._batch_seed(scaled)
        if numbers is None and self.way != "vary":
            raise UsageError(
                f"way {self.way!r} needs labels; dataset.map(augment) is handed them with batches of (images, labels)."
            )
        if self.way in ("append", "balance"):
            added = self._added_labels(numbers, seed)
            made = self._from_model_range(self._drawn(added, seed, scaled), images, low, high)
            return tf.concat([images, made], axis=0), tf.concat([labels, self._as_labels(added, labels)], axis=0)
        rows = self._chosen_rows(scaled, seed)
        if self.way == "replace":
            made = self._drawn(tf.gather(numbers, rows), seed, scaled)
        else:
            made = self._moved(scaled, numbers, rows, seed)
        # The others come back as they were, to the last bit.
        images = tf.tensor_scatter_nd_update(images, rows[:, None], self._from_model_range(made, images, low, high))
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
        base = tf.constant([self.seed if seed is None else seed, 0x617567], tf.int32)
        shape = self.decoders[0].output_shape[1:]
        parts = []
        for start in range(0, count, 256):
            part = tf.constant(numbers[start : start + 256], tf.int32)
            parts.append(self._drawn(part, tf.random.fold_in(base, start, alg="philox"), tf.zeros([1, *shape])))
        images = tf.concat(parts, axis=0) if parts else tf.zeros([0, *shape])
        like = tf.zeros([0, *shape], tf.uint8 if self.value_range is None else tf.float32)
        return self._from_model_range(images, like, *self._range_of(like)).numpy(), numbers

    # -- its parts -----------------------------------------------------------------------------------------------------

    def _range_of(self, images: Any) -> tuple[float, float]:
        if self.value_range is not None:
            return self.value_range
        return (0.0, 255.0) if images.dtype.is_integer else (0.0, 1.0)

    def _to_model_range(self, images: Any, low: float, high: float) -> Any:
        """[B, H, W, C] float32 in [-1, 1]."""
        if images.shape.rank not in (3, 4):
            raise UsageError(f"images have the shape {images.shape}; batches [B, H, W, C] or [B, H, W] are needed.")
        images = images[..., tf.newaxis] if images.shape.rank == 3 else images
        values = tf.cast(images, tf.float32)
        inside = tf.logical_and(tf.reduce_min(values) >= low - 1e-3, tf.reduce_max(values) <= high + 1e-3)
        message = f"images are not in the range from {low:g} to {high:g}; tell the Augmenter their value_range."
        if tf.executing_eagerly():
            if not bool(inside):
                raise UsageError(message)
        else:
            with tf.control_dependencies([tf.debugging.Assert(inside, [message])]):
                values = tf.identity(values)
        return (values - low) * (2.0 / (high - low)) - 1.0

    def _from_model_range(self, scaled: Any, like: Any, low: float, high: float) -> Any:
        """In the range, type and rank of `like`."""
        values = (scaled + 1.0) * (0.5 * (high - low)) + low
        if like.dtype.is_integer:
            values = tf.round(values)
        values = tf.cast(tf.clip_by_value(values, low, high), like.dtype)
        return values[..., 0] if like.shape.rank == 3 else values

    def _numbers(self, labels: Any) -> Any:
        """Labels as integers [B]."""
        labels = tf.convert_to_tensor(labels)
        if labels.shape.rank == 1:
            return tf.cast(labels, tf.int32)
        if labels.shape.rank == 2 and labels.shape[1] == 1:
            return tf.cast(labels[:, 0], tf.int32)
        if labels.shape.rank == 2 and labels.shape[1] is not None:
            return tf.argmax(labels, axis=1, output_type=tf.int32)
        raise UsageError(
            f"labels have the shape {labels.shape}; integers [B] or [B, 1], or one-hot [B, K], are needed."
        )

    def _as_labels(self, numbers: Any, like: Any) -> Any:
        """Integers [n] in the form that the caller's labels have."""
        like = tf.convert_to_tensor(like)
        if like.shape.rank == 1:
            return tf.cast(numbers, like.dtype)
        if like.shape[1] == 1:
            return tf.cast(numbers[:, None], like.dtype)
        return tf.one_hot(numbers, like.shape[1], dtype=like.dtype)

    def _batch_seed(self, scaled: Any) -> Any:
        """A seed that differs from batch to batch: of the Augmenter's and of the pixels."""
        bits = tf.bitcast(tf.reduce_sum(scaled, axis=[1, 2, 3]), tf.int32)
        places = tf.range(1, tf.size(bits) + 1, dtype=tf.int32)
        return tf.random.fold_in(
            tf.constant([self.seed, 0x617567], tf.int32), tf.reduce_sum(bits * places), alg="philox"
        )

    def _chosen_rows(self, scaled: Any, seed: Any) -> Any:
        count = tf.shape(scaled)[0]
        chosen = tf.cast(tf.round(self.fraction * tf.cast(count, tf.float32)), tf.int32)
        return tf.random.experimental.stateless_shuffle(tf.range(count), tf.random.fold_in(seed, 1, alg="philox"))[
            :chosen
        ]

    def _added_labels(self, numbers: Any, seed: Any) -> Any:
        """Labels of the images that are added to a batch."""
        if self.way == "append":
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
        if tf.executing_eagerly():
            if bool(unknown):
                raise UsageError(message)
        else:
            with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(unknown), [message])]):
                numbers = tf.identity(numbers)
        places = tf.argmax(numbers[:, None] == known[None], axis=1)
        source_of = tf.gather(tf.constant([self.classes[label][0] for label in sorted(self.classes)]), places)
        own = tf.gather(tf.constant([self.classes[label][1] for label in sorted(self.classes)]), places)
        count = tf.shape(numbers)[0]
        made = tf.zeros([count, *self.decoders[0].output_shape[1:]])
        for index in range(len(self.sources)):
            rows = tf.where(source_of == index)
            drawn_by = self._compiled_drawn_by[index]
            part = drawn_by(tf.gather_nd(own, rows), tf.random.fold_in(seed, 16 + index, alg="philox"))
            made = tf.tensor_scatter_nd_update(made, rows, part)
        return self._fitted(made, like)

    def _drawn_by(self, source: Source, labels: Any, seed: Any) -> Any:
        """Images [n, ...] of one source, the best of the candidates for each."""
        repeated = tf.repeat(labels, self.candidates)
        count = tf.size(repeated)
        seeds = tf.stack([tf.fill([count], seed[0]), seed[1] + tf.range(count)], axis=1)
        codes = tf.map_fn(
            lambda each: latents.draw_one(source.prior, source.latent_size, each, source.mixture),
            seeds,
            fn_output_signature=tf.TensorSpec([source.latent_size], tf.float32),
        )
        images = source.decoder([codes, repeated] if source.conditional else codes, training=False)
        if self.select == "none":
            return images
        asked = [images, repeated] if len(source.judge.inputs) == 2 else images
        scores = source.judge(asked, training=False)
        if self.select == "classifier":
            scores = tf.gather(tf.nn.log_softmax(scores), repeated, axis=1, batch_dims=1)
        best = tf.argmax(tf.reshape(scores, [-1, self.candidates]), axis=1)
        groups = tf.reshape(images, [-1, self.candidates, *images.shape[1:]])
        return tf.gather(groups, best, axis=1, batch_dims=1)

    def _moved(self, scaled: Any, numbers: Any, rows: Any, seed: Any) -> Any:
        """The images of those rows, decoded from codes beside their own."""
        height, width, channels = self.encoder.input_shape[1:]
        codes = self.encoder(self._fitted(scaled, tf.zeros([1, height, width, channels])), training=False)
        chosen = tf.gather(codes, rows)
        move_seed = tf.random.fold_in(seed, 3, alg="philox")
        if self.way == "vary":
            noise = tf.random.stateless_normal(tf.shape(chosen), move_seed, alg="philox")
            chosen = chosen + self.amount * tf.constant(self.code_scale) * noise
        else:
            other = tf.gather(codes, self._partners(numbers, rows, move_seed))
            share = tf.random.stateless_uniform([tf.size(rows), 1], move_seed, alg="philox")
            chosen = chosen + self.amount * share * (other - chosen)
        return self._fitted(self.decoders[0](chosen, training=False), scaled)

    @staticmethod
    def _partners(numbers: Any, rows: Any, seed: Any) -> Any:
        """For each row a row of the same label, drawn at random: another one, where there is another."""
        same = tf.gather(numbers, rows)[:, None] == numbers[None]  # [n, B]
        own = rows[:, None] == tf.range(tf.size(numbers))[None]
        draws = tf.random.stateless_uniform(tf.shape(same), tf.random.fold_in(seed, 1, alg="philox"), alg="philox")
        # The row itself comes last among those of its label.
        return tf.argmax(tf.where(same, draws + 1.0, 0.0) - tf.cast(own, tf.float32), axis=1)

    @staticmethod
    def _fitted(images: Any, like: Any) -> Any:
        """Images of the height, width and channels of `like`."""
        if images.shape[3] != like.shape[3]:
            if (images.shape[3], like.shape[3]) == (1, 3):
                images = tf.image.grayscale_to_rgb(images)
            elif (images.shape[3], like.shape[3]) == (3, 1):
                images = tf.image.rgb_to_grayscale(images)
            else:
                raise UsageError(
                    f"the batch has {like.shape[3]} channels and the run's images {images.shape[3]}; grey and colour alone can be "
                    "turned into each other."
                )
        if images.shape[1:3] != like.shape[1:3]:
            images = tf.image.resize(images, tf.shape(like)[1:3], antialias=True)
            images.set_shape([None, *like.shape[1:]])
        return images

    # -- saving --------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        sources = [
            {
                "decoder": serialize(source.decoder),
                "prior": source.prior,
                "mixture": None if source.mixture is None else [np.asarray(part).tolist() for part in source.mixture],
                "judge": None if source.judge is None else serialize(source.judge),
            }
            for source in self.sources
        ]
        return super().get_config() | {
            "sources": sources,
            "classes": {str(label): list(place) for label, place in self.classes.items()},
            "encoder": None if self.encoder is None else serialize(self.encoder),
            "code_scale": None if self.code_scale is None else self.code_scale.tolist(),
            "way": self.way,
            "fraction": self.fraction,
            "amount": self.amount,
            "candidates": self.candidates,
            "select": self.select,
            "value_range": self.value_range,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augmenter:
        config = dict(config)
        restore = keras.saving.deserialize_keras_object
        config.pop("trainable", None)
        sources = [
            Source(
                restore(source["decoder"]),
                source["prior"],
                None
                if source["mixture"] is None
                else tuple(np.asarray(part, np.float32) for part in source["mixture"]),
                None if source["judge"] is None else restore(source["judge"]),
            )
            for source in config.pop("sources")
        ]
        classes = {int(label): tuple(place) for label, place in config.pop("classes").items()}
        encoder = config.pop("encoder")
        return cls(sources, classes=classes, encoder=None if encoder is None else restore(encoder), **config)


def _opened(run: Any, checkpoint: str | int = "latest") -> runs.Run:
    from genlab import run as runs

    return run if isinstance(run, runs.Run) else runs.open(run, checkpoint=checkpoint)


def _image_model(run: runs.Run) -> Any:
    model = run.model
    if len(model.spec.shape) != 3:
        raise UsageError(f"{run.path} draws points, not images.")
    return model


def _source(model: Any, select: str, run: runs.Run) -> Source:
    mixture = None if model.mixture is None else tuple(np.asarray(part) for part in model.mixture)
    return Source(model.decoder, model.prior, mixture, _judge(model, select, run))


def _judge(model: Any, select: str, run: runs.Run) -> Any:
    """What `select` goes by: the run's discriminator, or a classifier of its data."""
    if select == "discriminator":
        found = getattr(model, "discriminator", None)
        if found is None or found.output_shape[-1] != 1:
            raise UsageError(
                f"select 'discriminator': {run.config.model} has no discriminator that gives images a score."
            )
        return found
    if select == "classifier":
        from genlab.metrics import extractors

        extractor = extractors.load("auto", run.data())
        if extractor.num_classes != model.spec.num_classes:
            raise UsageError(
                "select 'classifier': no classifier of the run's classes is at hand; its data needs labels."
            )
        return keras.Model(extractor.network.inputs[0], extractor.network.outputs[1])
    return None


def _code_scale(source: Source) -> np.ndarray:
    """Standard deviation of each number of the codes: 1 under N(0, I), else of the density that was fitted to them."""
    if source.mixture is None:
        return np.ones(source.latent_size, np.float32)
    weights, means, scales = source.mixture
    within = np.square(scales).sum(axis=2)
    mean = weights @ means
    return np.sqrt(weights @ (within + np.square(means - mean)))
