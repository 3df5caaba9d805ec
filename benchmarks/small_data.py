"""Train a dcgan on few images, with and without differentiable augmentation: Fréchet distance to held-out images.

    python benchmarks/small_data.py --data mnist [--images 1000] [--steps 5000] [--seeds 3] [--policies none translation]

Augmentations are always applied, not as strongly as overfitting asks for. Results go to benchmarks/results/small_data.json, one
entry per run. Existing entries are not run again, and interrupted runs are resumed.
"""

from __future__ import annotations

import argparse

import numpy as np
import results

import genlab
from genlab import run as runs
from genlab.evaluate import evaluation, extractors
from genlab.evaluate.metrics import distances
from genlab.train import __main__ as train

KEPT = "small_data"
POLICIES = ("none", "translation", "translation+cutout", "color+translation+cutout")
SAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--policies", nargs="*", default=POLICIES, choices=POLICIES)
    arguments = parser.parse_args()
    whole = genlab.data.load(arguments.data)
    extractor = extractors.load("auto", whole)
    rows = np.random.default_rng(0).permutation(len(whole.images))[:SAMPLES]
    real = extractor(whole.test_images[:SAMPLES])[0]
    floor = distances.frechet_distance(extractor(whole.images[rows])[0], real)
    for seed in range(arguments.seeds):
        for name in arguments.policies:
            policy = () if name == "none" else tuple(name.split("+"))
            entry = {
                "data": whole.name,
                "images": arguments.images,
                "steps": arguments.steps,
                "seed": seed,
                "policy": list(policy),
            }
            if results.is_known(KEPT, entry):
                continue
            run = trained(arguments, policy, seed)
            drawn = evaluation.draw(run.model, np.arange(SAMPLES))
            distance = distances.frechet_distance(extractor(drawn.images)[0], real)
            entry |= {
                "frechet_distance": distance,
                "floor": floor,
                "multiple": distance / floor,
                "samples": SAMPLES,
                "extractor": extractor.name,
                "extractor_sha256": extractor.sha256,
                "seconds": run.metrics()[-1]["seconds"],
                "command": command(whole.name, arguments, policy, seed),
            }
            results.add(KEPT, entry)


def trained(arguments: argparse.Namespace, policy: tuple[str, ...], seed: int) -> runs.Run:
    """Return the run with those settings, started or resumed."""
    out = results.CACHE / KEPT
    description = f"{arguments.images}-{'-'.join(policy) or 'plain'}-seed{seed}"
    for path in runs.all_runs(out):
        if path.name.endswith(description):
            run = runs.open(path)
            if run.step < arguments.steps:
                train.main(["--resume", str(path)])
            return runs.open(path)
    return genlab.fit(
        "dcgan",
        arguments.data,
        limit=arguments.images,
        steps=arguments.steps,
        seed=seed,
        differentiable_augmentation=policy,
        augmentation_target=0.0,
        out=out,
        description=description,
    )


def command(data: str, arguments: argparse.Namespace, policy: tuple[str, ...], seed: int) -> str:
    augmentation = f" --differentiable-augmentation {' '.join(policy)} --augmentation-target 0" if policy else ""
    chosen = f"--data {data} --limit {arguments.images}"
    return f"python -m genlab.train dcgan {chosen} --steps {arguments.steps} --seed {seed}{augmentation}"


if __name__ == "__main__":
    main()
