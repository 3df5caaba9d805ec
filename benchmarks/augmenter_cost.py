"""Cost per image of the augmenter in an input pipeline, compared with the bare pipeline and Keras' augmentation layers.

    python benchmarks/augmenter_cost.py [--run RUN]

By default a cgan of the embedded digits is trained for a few steps: the cost does not depend on its quality. Medians over
rounds, with the pipelines in turn. Results go to benchmarks/results/augmenter_cost.json.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import results

import genlab
from genlab.backend import keras, tf

KEPT = "augmenter_cost"
IMAGES = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="", help="a conditional run of 28x28 grey images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    run = arguments.run or genlab.fit("cgan", steps=20, out=str(results.CACHE / KEPT))
    changes = keras.Sequential([keras.layers.RandomTranslation(0.1, 0.1), keras.layers.RandomRotation(0.05)])
    augment = genlab.Augmenter.from_run(run, fraction=0.5)
    best_of_four = genlab.Augmenter.from_run(run, fraction=0.5, candidates=4, select="discriminator")
    functions = {
        "pipeline alone": lambda images, labels: (images, labels),
        "Keras' translation and rotation": lambda images, labels: (changes(images, training=True), labels),
        "half generated": augment,
        "half generated, the best of four": best_of_four,
    }
    random = np.random.default_rng(0)
    images, labels = random.uniform(size=(IMAGES, 28, 28, 1)).astype("float32"), random.integers(0, 10, IMAGES)
    source = tf.data.Dataset.from_tensor_slices((images, labels)).batch(arguments.batch)
    pipelines = {name: source.map(function, num_parallel_calls=2).prefetch(2) for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(arguments.rounds + 1):
        for name, pipeline in pipelines.items():
            started = time.perf_counter()
            for _ in pipeline:
                pass
            if round_:  # the first round traces
                seconds[name].append(time.perf_counter() - started)
    microseconds = {name: 1e6 * statistics.median(values) / IMAGES for name, values in seconds.items()}
    results.add(KEPT, {"batch": arguments.batch, "rounds": arguments.rounds, "microseconds_an_image": microseconds})


if __name__ == "__main__":
    main()
