"""Train genlab's embedded classifier of digits on MNIST and measure its accuracy.

    python benchmarks/digits_extractor.py --data PATH

Writes genlab/evaluate/digits.keras, and benchmarks/results/digits_extractor.json with its accuracy on the test images. It is
trained on MNIST's 60,000 training images, in batches of 128, each shifted as a whole by up to 2 pixels along each axis.
Training it again in another way would change its hash, and stored metrics could no longer be compared with new ones.
"""

from __future__ import annotations

import argparse
import pathlib
import time

import results

import genlab
from genlab.evaluate import classifier, extractors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of MNIST's idx files")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--out", default=str(extractors.DIGITS))
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    started = time.perf_counter()
    network = classifier.train(dataset.images, dataset.labels, 10, epochs=arguments.epochs, shift=2)
    network.save(arguments.out)
    extractor = extractors.Extractor("digits", network, dataset.spec.shape)
    entry = {
        "test_accuracy": extractor.accuracy_on(dataset.test_images, dataset.test_labels),
        "sha256": extractor.sha256,
        "bytes": pathlib.Path(arguments.out).stat().st_size,
        "parameters": network.count_params(),
        "epochs": arguments.epochs,
        "shift": "2 pixels, one for a batch",
        "seconds": round(time.perf_counter() - started),
        "command": "python benchmarks/digits_extractor.py --data mnist",
    }
    results.add("digits_extractor", entry)


if __name__ == "__main__":
    main()
