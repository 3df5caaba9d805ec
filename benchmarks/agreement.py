"""Compare genlab's metrics with those of torch-fidelity and prdc on the same features.

    pip install -e ".[benchmarks]"
    python benchmarks/agreement.py --data mnist

The features come from genlab's classifier of digits, for held-out images and for training images with noise. Results go to
benchmarks/results/agreement.json.
"""

from __future__ import annotations

import argparse

import numpy as np
import prdc
import results
import torch
from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

import genlab
from genlab.evaluate import extractors
from genlab.evaluate.metrics import classes, distances, neighbours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path of digits of 28x28 pixels")
    parser.add_argument("--count", type=int, default=5000, help="images on either side")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    extractor = extractors.load("digits", dataset)
    noise = np.random.default_rng(0).normal(0, 20, (arguments.count, *dataset.spec.shape))
    noisy = np.clip(dataset.images[: arguments.count] + noise, 0, 255).astype(np.uint8)
    real, _ = extractor(dataset.test_images[: arguments.count])
    fake, logits = extractor(noisy)
    ours, theirs = of_genlab(real, fake, logits), of_references(real, fake, logits)
    difference = {name: abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in ours}
    entry = {
        "genlab": ours,
        "references": theirs,
        "relative_difference": difference,
        "largest": max(difference.values()),
    }
    entry |= {"data": dataset.name, "count": arguments.count, "extractor_sha256": extractor.sha256}
    results.add("agreement", entry)


def of_genlab(real: np.ndarray, fake: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    precision, recall = neighbours.precision_and_recall(real, fake)
    density, coverage = neighbours.density_and_coverage(real, fake)
    return {
        "frechet_distance": distances.frechet_distance(fake, real),
        # One subset with all images: the libraries would draw different random subsets.
        "kernel_distance": distances.kernel_distance(fake, real, subsets=1, subset_size=len(real))[0],
        "inception_score": classes.inception_score(logits)[0],
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
    }


def of_references(real: np.ndarray, fake: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    tensors = [torch.from_numpy(part.astype(np.float64)) for part in (fake, real)]
    statistics = [metric_fid.fid_features_to_statistics(part) for part in tensors]
    found = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    found |= metric_kid.kid_features_to_metric(*tensors, kid_subsets=1, kid_subset_size=len(real), verbose=False)
    found |= metric_isc.isc_features_to_metric(torch.from_numpy(logits), shuffle=False)
    found |= metric_prc.prc_features_to_metric(*tensors, verbose=False)
    nearby = prdc.compute_prdc(real.astype(np.float64), fake.astype(np.float64), nearest_k=5)
    return {
        "frechet_distance": float(found["frechet_inception_distance"]),
        "kernel_distance": float(found["kernel_inception_distance_mean"]),
        "inception_score": float(found["inception_score_mean"]),
        "precision": float(found["precision"]),
        "recall": float(found["recall"]),
        "density": float(nearby["density"]),
        "coverage": float(nearby["coverage"]),
    }


if __name__ == "__main__":
    main()
