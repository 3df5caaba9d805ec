"""A trained decoder with all that drawing images of given labels takes. Importing this module imports Keras."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from genlab.backend import keras, tf
from genlab.errors import UsageError
from genlab.networks import priors

if TYPE_CHECKING:  # an exported decoder draws without what trained it
    from genlab import run as runs

SELECTIONS = ("none", "discriminator", "classifier")


@dataclasses.dataclass
class TrainedDecoder:
    """A decoder, what its latents are drawn from, and what its images are judged by."""

    network: Any
    """Keras model latents [B, latent], or [latents, labels [B]], -> images [B, H, W, C] in [-1, 1]."""
    prior: priors.Prior
    """What its latents are drawn from."""
    encoder: Any = None
    """Keras model images -> latents, where there is one."""
    num_classes: int = 0
    """How many classes it draws by label; 0: it draws without."""
    scorer: Any = None
    """Discriminator or classifier, for `select`: images, or [images, labels], -> logits [B, 1]; images -> logits [B, K]."""

    @classmethod
    def of_run(cls, run: runs.Run, select: str = "none") -> TrainedDecoder:
        """Of a run, with the scorer that `select` names. Raises UsageError where it has none, or draws points."""
        model = run.model
        if not model.spec.is_image:
            raise UsageError(f"{run.path} draws points, not images.")
        # Arrays, where the run has variables: this decoder is not trained on.
        prior = priors.make(model.prior.name, model.latent_size, model.prior.arrays())
        classes = model.spec.num_classes if model.conditional else 0
        return cls(model.decoder, prior, model.encoder, classes, _scorer(run, select))

    @classmethod
    def of_export(cls, folder: str | os.PathLike) -> TrainedDecoder:
        """Of a folder that `python -m genlab.export` wrote. Raises UsageError where it is no such export."""
        path = pathlib.Path(folder)
        if not (path / "metadata.json").exists() or not (path / "decoder.keras").exists():
            raise UsageError(
                f"{path} has no metadata.json and decoder.keras: python -m genlab.export RUN --formats keras writes them."
            )
        facts = json.loads((path / "metadata.json").read_text())
        if facts["images"]["range"] is None:
            raise UsageError(f"{path} draws points, not images.")
        described, mixture = facts["latents"], None
        if "mixture" in described:
            with np.load(path / described["mixture"]) as arrays:
                mixture = dict(arrays)
        load = functools.partial(keras.saving.load_model, compile=False)
        encoder = load(path / "encoder.keras") if facts["has_encoder"] else None
        prior = priors.make(described["prior"], described["size"], mixture)
        return cls(load(path / "decoder.keras"), prior, encoder, len(facts["classes"] or ()))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return tuple(self.network.output_shape[1:])

    def draw(self, labels: Any, seed: Any, candidates: int = 1, select: str = "none") -> Any:
        """Images [n, H, W, C] in [-1, 1] of the labels [n], each the one of its candidates that the scorer likes best.

        `seed` is an int32 pair. Any two seeds draw independent latents, neighbours such as [0, 1] and [0, 2] too.
        """
        repeated = tf.repeat(labels, candidates)
        count = tf.size(repeated)
        # Hashed, not counted from the seed on: fold_in keeps the number that it folds in as the second half of the new seed,
        # so the seeds of two decoders or two calls are neighbours, and their counts would overlap.
        codes = self.prior.draw_each(tf.random.split(seed, count, alg="philox"))
        images = self.network([codes, repeated] if self.num_classes else codes, training=False)
        if select == "none":
            return images
        scores = self.scorer([images, repeated] if len(self.scorer.inputs) == 2 else images, training=False)
        if select == "classifier":
            scores = tf.gather(tf.nn.log_softmax(scores), repeated, axis=1, batch_dims=1)
        best = tf.argmax(tf.reshape(scores, [-1, candidates]), axis=1)
        groups = tf.reshape(images, [-1, candidates, *images.shape[1:]])
        return tf.gather(groups, best, axis=1, batch_dims=1)

    def get_config(self) -> dict[str, Any]:
        """Everything as what JSON holds, but the weights."""
        networks = {name: getattr(self, name) for name in ("network", "encoder", "scorer")}
        return {
            "prior": self.prior.name,
            "mixture": [part.tolist() for part in self.prior.arrays().values()] or None,
            "num_classes": self.num_classes,
            **{name: keras.saving.serialize_keras_object(each) for name, each in networks.items()},  # None is None
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TrainedDecoder:
        networks = {name: config[name] for name in ("network", "encoder", "scorer")}
        loaded = {name: keras.saving.deserialize_keras_object(each) for name, each in networks.items()}
        parts = config["mixture"] and dict(zip(("weights", "means", "scales"), config["mixture"], strict=True))
        prior = priors.make(config["prior"], loaded["network"].inputs[0].shape[-1], parts)
        return cls(prior=prior, num_classes=config["num_classes"], **loaded)


def _scorer(run: runs.Run, select: str) -> Any:
    """What `select` goes by: the run's discriminator, or a classifier of all labels of its data (of digits, MNIST's).

    A study with fewer labels must not select by it: study.predictions_by_condition trains its own.
    """
    if select == "discriminator":
        found = run.model.discriminator
        if found is None or found.output_shape[-1] != 1:
            raise UsageError(
                f"select 'discriminator': {run.config.model} has no discriminator that gives images a score."
            )
        return found
    if select == "classifier":
        from genlab.evaluate import extractors

        extractor = extractors.load("auto", run.data())
        if extractor.num_classes != run.model.spec.num_classes:
            raise UsageError(
                "select 'classifier': no classifier of the run's classes is at hand; its data needs labels."
            )
        return keras.Model(extractor.network.inputs[0], extractor.network.outputs[1])
    return None
