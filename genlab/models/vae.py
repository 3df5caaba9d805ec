"""Variational autoencoder."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from genlab import bounds
from genlab.backend import Network, Tensor, in_parts, keras, tf, tfp
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.models import _encoder_decoder
from genlab.models._scores import Score
from genlab.networks import losses, replicas

CODES_AT_ONCE = 2000
"""Batch size in codes when a likelihood is estimated."""
MOST_SAMPLES_OF_A_SCORE = 1000
"""Maximum number of importance samples for the likelihood of one image."""
IMAGES_AT_ONCE = 100
"""Batch size in images when features are compared."""
ACTIVE = 0.01
"""A latent dimension is active if its posterior mean has a larger variance over images than this (Burda et al. 2016)."""


@dataclasses.dataclass(frozen=True)
class Hparams(_encoder_decoder.Hparams):
    """Hyper-parameters of `vae`."""

    latent_size: int = 40
    likelihood: Literal["auto", "bernoulli", "gaussian", "discretized_logistic", "discriminator"] = "auto"
    """p(x|z). auto: bernoulli (images are binarized at random each step) for grey, discretized_logistic for colour,
    gaussian for vectors. discriminator: a unit Gaussian on a discriminator's features, not a density of images."""
    scale: float = 0.0
    """Standard deviation of the gaussian likelihood, for images in [-1, 1]; 0: learned."""
    beta: float = 1.0
    """Weight of the KL divergence (Higgins et al. 2017); 1: the evidence lower bound."""
    warm_up_steps: int = 0
    """Warm-up: steps over which the weight of the KL divergence rises from 0 to beta."""
    free_bits: float = 0.0
    """Free nats of KL divergence per latent dimension (Kingma et al. 2016)."""
    importance_samples: int = 1
    """Codes per image in training: 1 maximizes the evidence lower bound, more the importance-weighted bound (Burda et al. 2016),
    which is tighter, with doubly reparametrized gradients (Tucker et al. 2019). A step takes that many times the decoder's time."""
    importance_start: float = 0.67
    """When --importance-samples take over from one code per image, as a fraction of --schedule-steps. 0 to 1."""
    # Samples from regions of the prior that no image is encoded to are meaningless. After 20 epochs of MNIST, as multiples of the
    # Frechet distance of real images (one run, seed 0): 3.0 from a mixture of 320 fitted to the means of q(z|x), 3.4 with the
    # noise of q added to it, 6.2 from one fitted to z ~ q(z|x), 77 from N(0, I).
    components: int = 320
    """Maximum number of Gaussians in the mixture fitted to the means of the training codes, for sampling; 0: sample from
    N(0, I)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(0, "scale", "beta", "warm_up_steps", "free_bits")
        self.check_least(1, "importance_samples")
        if not 0 <= self.importance_start <= 1:
            raise ValueError(f"importance_start is {self.importance_start}; it must be from 0 to 1")
        others = (self.beta, self.warm_up_steps, self.free_bits, self.measured_by_discriminator)
        if self.importance_samples > 1 and others != (1, 0, 0, False):
            raise ValueError(
                "importance_samples above 1 maximize a bound of log p(x): they need beta 1, no warm_up_steps, no free_bits, and "
                "a likelihood other than discriminator"
            )

    @property
    def measured_by_discriminator(self) -> bool:
        return self.likelihood == "discriminator"

    @property
    def least_components(self) -> int:
        return 0


class VAE(_encoder_decoder.EncoderDecoder):
    """Variational autoencoder: the encoder outputs a Gaussian over codes, the decoder a likelihood of images.

    Kingma & Welling 2014, "Auto-Encoding Variational Bayes" (https://arxiv.org/abs/1312.6114). The loss is the negative
    evidence lower bound, in nats per image, summed over pixels and over latent dimensions:

        L = -log p(x|z) + beta KL(q(z|x) || N(0, I)),    z = mu + sigma eps,  eps ~ N(0, I)
        KL = 1/2 sum(mu^2 + sigma^2 - log sigma^2 - 1)

    The encoder outputs log sigma^2, never sigma. Differs from the paper: convolutions, Adam instead of Adagrad, averaged
    weights. Samples are drawn from a mixture fitted to mu of training images; `--components 0`, as in both presets,
    samples from N(0, I). The likelihood always uses N(0, I). The textbook averages the reconstruction over pixels and sums
    the KL over the batch, which causes posterior collapse; `--preset book` uses its networks with the loss above.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "book": {
            "latent_size": 20,
            "initializer": "glorot",
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "encoder_widths": (16, 32),
            "decoder_widths": (16, 32),
            "hidden_units": 0,
            "components": 0,
            "normalization": "none",
            "kernel_size": 5,
            "activation": "relu",
            "learning_rate": 1e-3,
            "likelihood": "gaussian",
        },
        # Section 5 of the paper: one hidden layer of 500, minibatches of 100; Adam replaces Adagrad.
        "paper": {
            "batch_size": 100,
            "latent_size": 20,
            "initializer": "glorot",
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "network": "mlp",
            "encoder_widths": (500,),
            "decoder_widths": (500,),
            "hidden_units": 0,
            "components": 0,
            "normalization": "none",
            "activation": "relu",
            "learning_rate": 1e-3,
            "likelihood": "bernoulli",
        },
    }
    default_steps = 3000
    heads = ("mean", "log_variance")

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        image = spec.is_image
        self.likelihood = hparams.likelihood
        if self.likelihood == "auto":
            self.likelihood = "gaussian" if not image else "bernoulli" if spec.shape[2] == 1 else "discretized_logistic"
        if not image and self.likelihood != "gaussian":
            raise UsageError(f"--likelihood {self.likelihood} is for images; vectors take gaussian.")
        # One log scale per channel (per dimension of a vector). Unlike the decoder it is not averaged: it follows the
        # decoder's errors down, and an average lags behind. With an averaged scale the NLL of the digits was 15 nats worse
        # after 300 steps (-324 and -339, gaussian) and 3 nats worse after a whole run of 600.
        self.log_scale = tf.Variable(tf.fill([spec.shape[-1]], math.log(hparams.scale or 0.2)))
        learns_scale = self.likelihood == "discretized_logistic" or (
            self.likelihood == "gaussian" and not hparams.scale
        )
        self.build_networks("tanh" if image else "linear", [self.log_scale] if learns_scale else [])

    @property
    def has_density(self) -> bool:
        """Whether p(x|z) is a distribution of images, so that log p(x) exists."""
        return self.likelihood != "discriminator"

    @property
    def is_discrete(self) -> bool:
        """Whether p(x|z) is a probability mass of pixel values (binarized for `bernoulli`), so that nats are a code length.

        A Gaussian is a density, and pixels are integers. Without dequantization noise (Theis et al. 2016, "A note on the
        evaluation of generative models", https://arxiv.org/abs/1511.01844, section 3.1) its log-likelihood depends on the
        unit of the pixels and is unbounded if some never vary. Its bits per dimension could not be compared with those of
        a discretized logistic.
        """
        return self.likelihood in ("bernoulli", "discretized_logistic")

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, _),) = batches
        noise_seed, pixel_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        images = self.observed(images, pixel_seed)
        if self.hparams.importance_samples > 1:
            return self._importance_weighted_step(images, noise_seed)
        with tf.GradientTape() as tape:
            mean, log_variance = self.trained_encoder(images, training=True)
            noise = replicas.own_rows(
                lambda rows: tf.random.stateless_normal([rows, mean.shape[1]], noise_seed, alg="philox"),
                tf.shape(mean)[0],
            )
            raw = self.trained_decoder(mean + tf.exp(0.5 * log_variance) * noise, training=True)
            reconstruction = -tf.reduce_mean(self.log_likelihood(images, raw))
            kl_by_dimension = tf.reduce_mean(losses.gaussian_kl(mean, log_variance), axis=0)  # [latent]
            kl = tf.reduce_sum(kl_by_dimension)
            paid = tf.reduce_sum(tf.maximum(kl_by_dimension, self.hparams.free_bits))
            scaled = self.scaled(self.optimizer, reconstruction + self.kl_weight() * paid)
        self.update(tape, scaled)
        return self._metrics(reconstruction + kl, reconstruction, kl, mean)

    def _importance_weighted_step(self, images: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """Maximize the importance-weighted bound of observed images, of one code per image before `importance_start`.

        With w_k = p(x, z_k) / q(z_k|x) and shares s_k = w_k / sum_j w_j, the gradient is sum_k s_k d log w_k in the decoder's
        weights and sum_k s_k^2 (d log w_k / dz_k) dz_k in the encoder's: Tucker et al. 2019, "Doubly Reparameterized Gradient
        Estimators for Monte Carlo Objectives" (https://arxiv.org/abs/1810.04152), for this bound. Unlike the bound's own gradient, it
        does not drown in noise as K grows, and it is zero where q is the posterior.
        """
        first = round(self.hparams.importance_start * self.schedule_steps)
        samples = tf.where(self.step < first, 1, self.hparams.importance_samples)
        with tf.GradientTape() as encoder_tape:
            mean, log_variance = self.trained_encoder(images, training=True)
            noise = replicas.own_rows(
                lambda rows: tf.random.stateless_normal([samples, rows, mean.shape[1]], seed, alg="philox"),
                tf.shape(mean)[0],
                axis=1,
            )
            codes = mean + tf.exp(0.5 * log_variance) * noise  # [K, B, latent]
        with tf.GradientTape() as tape:
            tape.watch(codes)
            raw = self.trained_decoder(tf.reshape(codes, [-1, mean.shape[1]]), training=True)
            # Only the codes carry a gradient into q: its own parameters are constants on this tape.
            log_weights, likelihood = self._log_weights(images, codes, raw, mean, log_variance)
            shares = tf.stop_gradient(tf.nn.softmax(log_weights, axis=0))
            surrogate = -tf.reduce_mean(tf.reduce_sum(shares * log_weights, axis=0))
            scaled = self.scaled(self.optimizer, surrogate)
        encoder_variables = self.trained_encoder.trainable_variables
        others = self.trained_variables[len(encoder_variables) :]
        *other_gradients, code_gradients = tape.gradient(scaled, [*others, codes])
        encoder_gradients = encoder_tape.gradient(codes, encoder_variables, shares[..., tf.newaxis] * code_gradients)
        self.apply([*encoder_gradients, *other_gradients])
        bound = tf.reduce_logsumexp(log_weights, axis=0) - tf.math.log(tf.cast(samples, tf.float32))
        kl = tf.reduce_sum(tf.reduce_mean(losses.gaussian_kl(mean, log_variance), axis=0))
        return self._metrics(-tf.reduce_mean(bound), -tf.reduce_mean(likelihood), kl, mean)

    def _metrics(self, nats: Tensor, reconstruction: Tensor, kl: Tensor, mean: Tensor) -> dict[str, Tensor]:
        """Return what a step logs: minus its bound, the parts of the evidence lower bound, and the active units of `mean`."""
        metrics = {"loss": nats}
        if self.has_density:
            metrics["reconstruction"] = reconstruction
        else:
            metrics["feature_distance"] = 2.0 * reconstruction / math.prod(self.spec.shape)
        metrics["kl"] = kl
        if self.is_discrete:
            metrics["bits_per_dimension"] = self._bits_per_dimension(nats)
        # Burda et al. 2016: a unit is active if its mean varies between images.
        active = tf.math.reduce_variance(mean, axis=0) > ACTIVE
        return metrics | {"active_units": tf.reduce_sum(tf.cast(active, tf.float32))}

    def warnings(self, metrics: dict[str, float]) -> dict[str, str]:
        if metrics["active_units"] >= 1:
            return {}
        return {
            "units": "no latent dimension is active: the posterior has collapsed onto the prior. Try a lower --beta, "
            "--warm-up-steps or --free-bits."
        }

    def kl_weight(self) -> Tensor:
        """Return the weight of the KL divergence at this step: beta, after the warm-up."""
        if self.hparams.warm_up_steps == 0:
            return self.hparams.beta
        share = tf.cast(self.step, tf.float32) / self.hparams.warm_up_steps
        return self.hparams.beta * tf.minimum(1.0, share)

    def observed(self, images: Tensor, seed: Tensor, *, alike: bool = False) -> Tensor:
        """Return the images that the likelihood describes: as they are, or for `bernoulli` randomly binarized to -1 and 1.

        If `alike`, all images get the same random numbers.
        """
        if self.likelihood != "bernoulli":
            return images
        if alike:
            thresholds = tf.random.stateless_uniform(images.shape[1:], seed, -1.0, 1.0, alg="philox")
            return tf.where(thresholds < images, 1.0, -1.0)
        uniform = replicas.own_rows(
            lambda rows: tf.random.stateless_uniform([rows, *images.shape[1:]], seed, -1.0, 1.0, alg="philox"),
            tf.shape(images)[0],
        )
        return tf.where(uniform < images, 1.0, -1.0)

    def log_likelihood(self, images: Tensor, raw: Tensor) -> Tensor:
        """Return log p(x|z) in nats, [B], summed over the dimensions of an example; `raw` is the trained decoder's output.

        For `discriminator` it is not a density: minus half the mean squared distance between features, times the number of
        dimensions of an image.
        """
        tfd = tfp.distributions
        image = tf.tanh(raw) if self.output_activation == "tanh" else raw
        match self.likelihood:
            case "bernoulli":  # the mean (1 + tanh(raw)) / 2 is the sigmoid of 2 raw
                log_probability = tfd.Bernoulli(logits=2.0 * raw).log_prob(0.5 * (images + 1.0))
            case "gaussian":
                log_probability = tfd.Normal(image, tf.exp(self.log_scale)).log_prob(images)
            case "discretized_logistic":
                log_probability = self._discretized_logistic(image).log_prob(tf.round((images + 1.0) * 127.5))
            case _:
                return -0.5 * math.prod(self.spec.shape) * self.discriminator_distance(images, image)
        return tf.reduce_sum(log_probability, axis=list(range(1, len(images.shape))))

    def _bits_per_dimension(self, nats: Tensor) -> Tensor:
        return nats / (math.prod(self.spec.shape) * math.log(2))

    def _discretized_logistic(self, image: Tensor) -> tfp.distributions.Distribution:
        """Return p(x|z) over pixel values 0 to 255 (Salimans et al. 2017, https://arxiv.org/abs/1701.05517, equation 2, one
        component)."""
        tfd = tfp.distributions
        # QuantizedDistribution rounds up. Shifted by half, an integer covers the unit interval around it.
        logistic = tfd.Logistic((image + 1.0) * 127.5 - 0.5, 127.5 * tf.exp(self.log_scale))
        return tfd.QuantizedDistribution(logistic, low=0.0, high=255.0)

    def importance_weighted_bound(self, images: Tensor, samples: int, seed: Tensor) -> Tensor:
        """Return log 1/K sum p(x, z_k) / q(z_k|x), z_k ~ q: a lower bound of log p(x) in nats, [B], tight as K grows.

        Burda, Grosse & Salakhutdinov 2016, "Importance Weighted Autoencoders" (https://arxiv.org/abs/1509.00519),
        equation 8. `images` are as observed: binarized for `bernoulli`. Memory is proportional to B times `samples`. One
        sample gives an unbiased estimate of the evidence lower bound. Raises UsageError for `discriminator`, which is not
        a density of images.
        """
        return tf.reduce_logsumexp(self.log_importance_weights(images, samples, seed), axis=0) - math.log(samples)

    def log_importance_weights(self, images: Tensor, samples: int, seed: Tensor, *, alike: bool = False) -> Tensor:
        """Return log p(x, z_k) / q(z_k|x) in nats, [K, B], for K samples z_k ~ q per observed image [B, ...].

        If `alike`, all images get the same random numbers, so that a weight depends on nothing but its image.
        """
        if not self.has_density:
            raise UsageError("--likelihood discriminator is not a density of images: log p(x) is undefined.")
        mean, log_variance = self.averaged_encoder(images, training=False)
        rows = 1 if alike else mean.shape[0]
        noise = tf.random.stateless_normal([samples, rows, mean.shape[1]], seed, alg="philox")
        codes = mean + tf.exp(0.5 * log_variance) * noise  # [K, B, latent]
        raw = self.raw_decoder()(tf.reshape(codes, [-1, mean.shape[1]]), training=False)
        return self._log_weights(images, codes, raw, mean, log_variance)[0]

    def _log_weights(
        self, images: Tensor, codes: Tensor, raw: Tensor, mean: Tensor, log_variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return log p(x, z) / q(z|x) and log p(x|z) in nats, [K, B] each, of codes [K, B, latent] and their `raw` images."""
        tfd = tfp.distributions
        samples = tf.shape(codes)[0]
        repeated = tf.tile(images, [samples, *[1] * (len(images.shape) - 1)])
        likelihood = tf.reshape(self.log_likelihood(repeated, raw), [samples, -1])
        prior = tfd.MultivariateNormalDiag(tf.zeros_like(mean))
        posterior = tfd.MultivariateNormalDiag(mean, tf.exp(0.5 * log_variance))
        return likelihood + prior.log_prob(codes) - posterior.log_prob(codes), likelihood

    def likelihood_protocol(self, importance_samples: int) -> dict[str, Any]:
        return {"importance_samples": importance_samples} if self.has_density else {}

    def likelihood_metrics(
        self, images: Tensor, importance_samples: int, seed: int
    ) -> dict[str, tuple[float, float | None]]:
        """Return (mean, standard error over images) by name for held-out images [N, H, W, C] in [-1, 1], in nats per image.

        `nll` by importance sampling with that many samples, `negative_elbo` with as many, its parts `reconstruction`
        and `kl`, `bits_per_dimension` of the NLL, and `active_units` (Burda et al. 2016, section 5).

        The NLL of a Gaussian is a density of pixels in [-1, 1]: compare it only with that of other Gaussians. It has no
        bits per dimension. For `discriminator`: `feature_distance`, the mean squared distance between the discriminator's
        features of images and of their reconstructions, with `kl` and `active_units`.
        """
        # Independent streams: seeds chosen by hand could give noise and binarization the same random numbers.
        pixel_seed, noise_seed = tf.unstack(tf.random.split(tf.constant([seed, 0]), 2, alg="philox"))
        observed = self.observed(images, pixel_seed)
        mean, log_variance = self.averaged_encoder(observed, training=False)
        by_image = {"kl": tf.reduce_sum(losses.gaussian_kl(mean, log_variance), axis=1).numpy()}
        if not self.has_density:
            by_image["feature_distance"] = self._feature_distances(observed)
        else:
            log_weights = self._all_log_weights(observed, importance_samples, noise_seed)  # [K, N]
            by_image["nll"] = np.log(importance_samples) - np.logaddexp.reduce(log_weights, axis=0)
            by_image["negative_elbo"] = -log_weights.mean(axis=0)
            by_image["reconstruction"] = by_image["negative_elbo"] - by_image["kl"]
            if self.is_discrete:
                by_image["bits_per_dimension"] = self._bits_per_dimension(by_image["nll"])
        metrics: dict[str, tuple[float, float | None]] = {
            name: (float(values.mean()), float(values.std() / math.sqrt(len(values))))
            for name, values in by_image.items()
        }
        return metrics | {"active_units": (float((np.var(mean, axis=0) > ACTIVE).sum()), None)}

    def _all_log_weights(self, observed: Tensor, importance_samples: int, seed: Tensor) -> np.ndarray:
        """Return `log_importance_weights` [K, N] for any number of images and samples, computed in chunks."""
        weights = tf.function(self.log_importance_weights, autograph=False)
        sizes = [min(CODES_AT_ONCE, importance_samples - done) for done in range(0, importance_samples, CODES_AT_ONCE)]
        at_once = max(1, CODES_AT_ONCE // importance_samples)
        numbers = itertools.count()  # every chunk draws its own noise
        columns = []
        for start in range(0, len(observed), at_once):
            batch = observed[start : start + at_once]
            parts = [weights(batch, size, tf.random.fold_in(seed, next(numbers), alg="philox")) for size in sizes]
            columns.append(np.concatenate(parts))
        return np.concatenate(columns, axis=1)

    def anomaly_scores(self, importance_samples: int = 50) -> dict[str, Score]:
        samples = bounds.whole("importance_samples", importance_samples, 1, MOST_SAMPLES_OF_A_SCORE)
        scores = super().anomaly_scores()
        if not self.has_density:
            return scores
        pixel_seed, noise_seed = tf.unstack(tf.random.split(tf.constant([0, 0]), 2, alg="philox"))

        def log_weights(observed: Tensor) -> Tensor:
            return self.log_importance_weights(observed, samples, noise_seed, alike=True)

        compiled = tf.function(log_weights, [tf.TensorSpec([None, *self.spec.shape])], autograph=False)

        def described(images: np.ndarray) -> np.ndarray:
            return np.asarray(self.observed(tf.convert_to_tensor(images), pixel_seed, alike=True))

        def bits(images: np.ndarray) -> np.ndarray:
            def nats(part: np.ndarray) -> np.ndarray:
                log_weights = np.asarray(compiled(tf.convert_to_tensor(part)), np.float64)
                return math.log(samples) - np.logaddexp.reduce(log_weights, axis=0)

            found = in_parts(nats, described(images), size=max(1, CODES_AT_ONCE // samples)) / math.log(2)
            # A Gaussian is a density of pixels in [-1, 1]: of pixel values, it is 127.5 times as wide.
            return found if self.is_discrete else found + math.log2(127.5) * math.prod(self.spec.shape)

        pixels = "randomly binarized pixels" if self.likelihood == "bernoulli" else "pixel values 0 to 255"
        sentence = f"-log2 p of its {pixels}, in bits, by {samples} importance samples"
        return scores | {"likelihood": Score("bits", sentence, bits, described)}

    def _feature_distances(self, images: Tensor) -> np.ndarray:
        parts = (images[start : start + IMAGES_AT_ONCE] for start in range(0, len(images), IMAGES_AT_ONCE))
        return np.concatenate([self.discriminator_distance(part, self.reconstruct(part)) for part in parts])

    def raw_decoder(self) -> Network:
        """Return the averaged decoder without its last activation."""
        return keras.Model(self.decoder.inputs[0], self.decoder.layers[-1].input)
