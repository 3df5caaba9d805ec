"""A trained decoder with its prior, encoder and scorer. Importing this module imports Keras."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from genlab import metadata, npy
from genlab.backend import Network, Tensor, keras, tf
from genlab.errors import GenlabError, UsageError
from genlab.networks import keras_files, priors

if TYPE_CHECKING:  # with an exported decoder, no training code is imported
    from genlab import run as runs

SELECTIONS = ("none", "discriminator", "classifier")
NETWORKS = ("network", "encoder", "scorer", "renoiser")
"""Networks of a `TrainedDecoder`; all but the first may be None."""


@dataclasses.dataclass
class TrainedDecoder:
    """A decoder with the prior of its latents and, optionally, an encoder and a scorer of its images."""

    network: Network
    """Keras model latents [B, latent], or [latents, labels [B]], -> images [B, H, W, C] in [-1, 1]."""
    prior: priors.Prior
    """Distribution of its latents."""
    encoder: Network | None = None
    """Keras model images -> latents, or None."""
    num_classes: int = 0
    """Number of classes that it draws by label; 0: it is unconditional."""
    scorer: Network | None = None
    """Scorer for `select`: a discriminator, images or [images, labels] -> logits [B, 1], or a classifier, images -> logits
    [B, K]."""
    renoiser: Network | None = None
    """Keras model [images, latents, strengths [B]][, labels] -> images (see `GenerativeModel.renoise`), or None."""

    @classmethod
    def of_run(cls, run: runs.Run, select: str = "none", *, renoises: bool = False) -> TrainedDecoder:
        """Create from a run, with the scorer of `select`; if it `renoises`, also with the network for that, if there is one.

        Raises UsageError if the run has no such scorer, or draws points.
        """
        model = run.model
        if not model.spec.is_image:
            raise UsageError(f"{run.path} draws points, not images.")
        # Arrays instead of the run's variables: this decoder is not trained further.
        prior = priors.make(model.prior.name, model.latent_size, model.prior.arrays())
        classes = model.spec.num_classes if model.conditional else 0
        encoder = _apart(model.encoder, model.decoder)
        renoiser = _apart(model.renoiser, model.decoder) if renoises else None
        return cls(model.decoder, prior, encoder, classes, _scorer(run, select), renoiser)

    @classmethod
    def of_export(cls, folder: str | os.PathLike[str]) -> TrainedDecoder:
        """Create from a folder written by `python -m genlab.export`; nothing in it is executed.

        Raises UsageError if it is not such an export, GenlabError if a file of it is damaged or does not fit the others.
        """
        path = pathlib.Path(folder)
        if not (path / "metadata.json").exists() or not (path / "decoder.keras").exists():
            raise UsageError(
                f"{path} has no metadata.json and decoder.keras. Type python -m genlab.export RUN --formats keras to write them."
            )
        facts = metadata.read(path)
        if facts["images"]["range"] is None:
            raise UsageError(f"{path} draws points, not images.")
        described = facts["latents"]
        arrays = npy.read(path / described["mixture"]) if "mixture" in described else None
        try:
            prior = priors.make(described["prior"], described["size"], arrays)
        except ValueError as error:
            raise GenlabError(f"the prior of {path} cannot be read: {error}.") from error
        found = cls(
            keras_files.load(path / "decoder.keras"),
            prior,
            keras_files.load(path / "encoder.keras") if facts["has_encoder"] else None,
            len(facts["classes"] or ()),
        )
        latents, images = [prior.size], facts["images"]["shape"]
        labels: list[list[int]] = [[]] if facts["classes"] else []
        for name, network, shapes in (
            ("decoder", found.network, [latents, *labels, images]),
            ("encoder", found.encoder, [images, latents]),
        ):
            if network is not None and [list(each.shape[1:]) for each in (*network.inputs, *network.outputs)] != shapes:
                raise GenlabError(f"{path / metadata.METADATA} does not fit {name}.keras. Export the run again.")
        return found

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of its images."""
        return tuple(self.network.output_shape[1:])

    def draw(self, labels: Tensor, seed: Tensor, candidates: int = 1, select: str = "none") -> Tensor:
        """Draw images [n, H, W, C] in [-1, 1] for the labels [n], each the candidate with the highest score.

        `seed` is an int32 pair. Any two seeds give independent latents, including neighbours such as [0, 1] and [0, 2].
        """
        repeated = tf.repeat(labels, candidates)
        count = tf.size(repeated)
        # Split, not counted up from the seed: fold_in keeps the folded number as the second half of the new seed, so the
        # seeds of two decoders or calls are neighbours, and counting up from them would overlap.
        codes = self.prior.draw_each(tf.random.split(seed, count, alg="philox"))
        images = self.network([codes, repeated] if len(self.network.inputs) == 2 else codes, training=False)
        if select == "none":
            return images
        assert self.scorer is not None
        scores = self.scorer([images, repeated] if len(self.scorer.inputs) == 2 else images, training=False)
        if select == "classifier":
            scores = tf.gather(tf.nn.log_softmax(scores), repeated, axis=1, batch_dims=1)
        best = tf.argmax(tf.reshape(scores, [-1, candidates]), axis=1)
        groups = tf.reshape(images, [-1, candidates, *images.shape[1:]])
        return tf.gather(groups, best, axis=1, batch_dims=1)

    def get_config(self) -> dict[str, Any]:
        """Return the settings as JSON values, without the weights."""
        networks = {name: getattr(self, name) for name in NETWORKS}
        return {
            "prior": self.prior.name,
            "mixture": [part.tolist() for part in self.prior.arrays().values()] or None,
            "num_classes": self.num_classes,
            **{name: keras.saving.serialize_keras_object(each) for name, each in networks.items()},  # None is None
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TrainedDecoder:
        networks = {name: config[name] for name in NETWORKS}
        loaded = {name: keras.saving.deserialize_keras_object(each) for name, each in networks.items()}
        parts = config["mixture"] and dict(zip(("weights", "means", "scales"), config["mixture"], strict=True))
        prior = priors.make(config["prior"], loaded["network"].inputs[0].shape[-1], parts)
        return cls(prior=prior, num_classes=config["num_classes"], **loaded)


def _apart(network: Network | None, decoder: Network) -> Network | None:
    """Return the network, or a copy of it if it shares weights with the decoder.

    Saved in one file, weights that two networks share would be written once and be missing from the other.
    """
    if network is None or not {id(each) for each in network.weights} & {id(each) for each in decoder.weights}:
        return network
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def _scorer(run: runs.Run, select: str) -> Network | None:
    """Return the scorer of `select`: the run's discriminator, or a classifier of its data (for digits, MNIST's).

    That classifier has seen all labels, so a study with fewer must not use it: study.predictions_by_condition trains its own.
    """
    if select == "discriminator":
        found = run.model.discriminator
        if found is None or found.output_shape[-1] != 1:
            raise UsageError(f"select 'discriminator': {run.config.model} has no discriminator that scores images.")
        return found
    if select == "classifier":
        from genlab.evaluate import extractors

        extractor = extractors.load("auto", run.data())
        if extractor.num_classes != run.model.spec.num_classes:
            raise UsageError(
                "select 'classifier': there is no classifier for the run's classes; its data needs labels."
            )
        return keras.Model(extractor.network.inputs[0], extractor.network.outputs[1])
    return None
