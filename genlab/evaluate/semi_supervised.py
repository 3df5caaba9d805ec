"""A classifier that learns from few labels and many unlabelled images, without a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from genlab.backend import LazyModule, Network, Tensor, keras, tf
from genlab.data import Dataset
from genlab.data.options import View
from genlab.data.spec import to_model_range
from genlab.evaluate import classifier
from genlab.networks import augmentation, averaging, losses

optimizers = LazyModule("genlab.networks.optimizers")

LABELLED, UNLABELLED = 64, 128
"""Images of a batch."""
LEARNING_RATE = 2e-3
DECAY, SHARE = 0.999, 0.1
"""Of the teacher's weights: see `averaging.WeightAverage`."""
THRESHOLD = 0.95
"""Probability of a class from which the teacher's prediction is a target."""


def train(
    labelled: Dataset,
    unlabelled: Dataset,
    views: Sequence[View] = classifier.VIEWS,
    *,
    flip: bool = False,
    consistency_weight: float = 1.0,
    align: bool = False,
    threshold: float = THRESHOLD,
    rotation_weight: float = 0.0,
    steps: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda steps: None,
) -> Network:
    """Train the small classifier of `classifier.build`. Return a Keras model, images [B, H, W, C] in [-1, 1] -> logits [B, K].

    It learns from the labelled images and, from all images of `unlabelled`, whose labels it ignores, two more tasks. With a
    `consistency_weight`, to predict for a changed image what its teacher is sure of for the image as it is (Sohn et al. 2020, "FixMatch",
    https://arxiv.org/abs/2001.07685, with probabilities instead of the largest class). The teacher has the average of its weights
    (Tarvainen & Valpola 2017, "Mean teachers are better role models", https://arxiv.org/abs/1703.01780), and is returned. `align`
    corrects its predictions, so that classes are as frequent as among the labelled images (Berthelot et al. 2020, "ReMixMatch",
    https://arxiv.org/abs/1911.09785). `threshold`, from 0 to 1, is the probability from which the teacher is sure. With a
    `rotation_weight`, to tell by which multiple of 90 degrees a square image is turned, from the same features (Zhai et al. 2019, "S4L",
    https://arxiv.org/abs/1905.03670).

    `views` and `flip` change all images at random; `progress` is called with 1 after each step. Raises UsageError if no image
    of `labelled` has a label.
    """
    keras.utils.set_random_seed(seed)
    spec = labelled.spec
    network = classifier.build(spec.shape, spec.num_classes)
    teacher = classifier.untrained(spec.shape, spec.num_classes)
    turns_head = keras.Sequential([keras.Input([classifier.FEATURES]), keras.layers.Dense(augmentation.TURNS)])
    variables = network.trainable_variables + (turns_head.trainable_variables if rotation_weight else [])
    optimizer = optimizers.FusedAdam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    optimizer.build(variables)
    step = tf.Variable(0, dtype=tf.int64)
    average = averaging.WeightAverage([(teacher, network)], DECAY, SHARE, step)
    counts = labelled.images_by_class
    shares = tf.constant(counts / counts.sum(), tf.float32)
    predicted = tf.Variable(shares)

    def targets(images: Tensor) -> Tensor:
        predictions = tf.nn.softmax(teacher(images, training=False))
        if not align:
            return predictions
        predicted.assign(0.99 * predicted + 0.01 * tf.reduce_mean(predictions, axis=0))
        return losses.aligned(predictions, shares, tf.identity(predicted))

    def update(known: Tensor, classes: Tensor, images: Tensor) -> None:
        seeds = tf.unstack(tf.random.split(tf.stack([tf.cast(step, tf.int32), seed]), 2, alg="philox"))
        known, images = to_model_range(known), to_model_range(images)
        known, changed = (
            augmentation.augmented(each, own, views, flip) for each, own in zip((known, images), seeds, strict=True)
        )
        parts = {"known": known}
        if consistency_weight:
            parts["changed"] = changed
            expected = targets(images)
        if rotation_weight:
            parts["turned"], turns = augmentation.turned(changed)
        with tf.GradientTape() as tape:
            # One batch, so that the statistics of batch normalization are those of all images.
            outputs = network(tf.concat(list(parts.values()), axis=0), training=True)
            sizes = [tf.shape(part)[0] for part in parts.values()]
            features, logits = (dict(zip(parts, tf.split(each, sizes), strict=True)) for each in outputs)
            loss = losses.cross_entropy(logits["known"], classes)
            if consistency_weight:
                consistency, _ = losses.confident_cross_entropy(logits["changed"], expected, threshold)
                loss += consistency_weight * consistency
            if rotation_weight:
                loss += rotation_weight * losses.cross_entropy(turns_head(features["turned"]), turns)
        optimizer.apply(tape.gradient(loss, variables), variables)
        average.update()
        step.assign_add(1)

    compiled = tf.function(update, autograph=False)
    streams = labelled.labelled_stream(LABELLED, seed), unlabelled.stream(UNLABELLED, seed)
    for (known, classes), (images, _) in tf.data.Dataset.zip(streams).take(steps):
        compiled(known, classes, images)
        progress(1)
    return teacher
