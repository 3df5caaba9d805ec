"""Train every model on MNIST under one budget of images seen and measure what comes out.

    python benchmarks/models_on_mnist.py --data PATH [--only vae dcgan] [--seeds 3]

Results go to benchmarks/results/models_on_mnist.json, an entry a run. What is there already is not run again, and a run
that was cut off is resumed: stop the script at will and call it again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform

import classifier as judges
import numpy as np

import genlab
from genlab import grids, train
from genlab import run as runs
from genlab.backend import tf

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "models_on_mnist.json"
BUDGETS = {
    "autoencoder": ["--epochs", "20", "--latent-size", "30"],
    "vae": ["--epochs", "60"],
    "gan": ["--epochs", "40"],
    "dcgan": ["--epochs", "20"],
    "cgan": ["--epochs", "20"],
    "minibatch_gan": ["--epochs", "20"],
    "wgan": ["--epochs", "20"],
    "began": ["--epochs", "40"],
}
SAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of MNIST's idx files")
    parser.add_argument("--only", nargs="*", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=1, help="runs of each model, of seeds 0, 1, ...")
    parser.add_argument("--out", default=str(HERE / "cache" / "runs"))
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    dataset = genlab.data.load(arguments.data)
    classifier = judges.load(dataset)
    for seed in range(arguments.seeds):
        for name in arguments.only:
            entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
            if any(entry["model"] == name and entry["seed"] == seed for entry in entries):
                continue
            run = trained(name, seed, arguments.data, arguments.out)
            entry = {
                "model": name,
                "seed": seed,
                "date": datetime.date.today().isoformat(),
                "machine": machine(),
                "command": f"python -m genlab.train {name} --data mnist {' '.join(BUDGETS[name])} --seed {seed}",
                "precision": run.config.options.precision,
                "images_seen": run.metrics()[-1]["images"],
                "seconds": run.metrics()[-1]["seconds"],
            } | figures(run, dataset, classifier)
            print(json.dumps(entry), flush=True)
            runs.write_text(RESULTS, json.dumps([*entries, entry], indent=1) + "\n")


def trained(name: str, seed: int, data: str, out: str) -> runs.Run:
    """The finished run; one that was cut off is resumed."""
    description = f"seed{seed}"
    found = [path for path in runs.all_runs(pathlib.Path(out), name) if path.name.endswith(description)]
    if found:
        train.main(["--resume", str(found[-1])])
        return runs.open(found[-1])
    flags = ["--data", data, "--out", out, "--seed", str(seed), "--description", description]
    train.main([name, *flags, *BUDGETS[name], "--sample-every", "5000", "--log-every", "500"])
    return runs.open("latest", out, name)


def figures(run: runs.Run, dataset, classifier) -> dict[str, float | list[float]]:
    """Figures of samples against the held-out images; for models with an encoder, of reconstructions too."""
    seeds = np.arange(SAMPLES)
    labels = run.model.default_labels(seeds)
    samples = grids.as_pixels(run.model.sample(run.model.sample_latents(seeds), labels))
    features, classes = judges.judge(classifier, samples)
    real, real_classes = judges.judge(classifier, dataset.test_images)
    train_features, _ = judges.judge(classifier, dataset.images[:SAMPLES])
    shares = np.bincount(classes, minlength=10) / SAMPLES
    real_shares = np.bincount(dataset.test_labels, minlength=10) / len(real)
    result = {
        "frechet_distance": judges.frechet_distance(features, real),
        "frechet_distance_real": judges.frechet_distance(train_features, real),
        "smallest_class_of_its_share": float((shares / real_shares).min()),
        "class_shares": [round(float(share), 4) for share in shares],
        "judge_accuracy": float((real_classes == dataset.test_labels).mean()),
    }
    if labels is not None:
        result["label_accuracy"] = float((classes == labels).mean())
    if run.config.model in ("autoencoder", "vae"):
        result |= reconstruction_figures(run, dataset)
    return result


def reconstruction_figures(run: runs.Run, dataset) -> dict[str, float]:
    images = judges.scaled(dataset.test_images)
    rebuilt = np.concatenate(
        [run.model.reconstruct(images[start : start + 500]) for start in range(0, len(images), 500)]
    )
    result = {"test_mse": float(0.25 * np.square(images - rebuilt).mean())}
    if run.config.model == "vae":
        # 1,000 test images drawn at random, binarized once, 5,000 importance samples each.
        chosen = np.random.default_rng(0).choice(len(images), 1000, replace=False)
        binary = run.model.observed(tf.constant(images[chosen]), tf.constant([0, 1]))
        bound = tf.function(lambda image, seed: run.model.importance_weighted_bound(image, 1000, seed), autograph=False)
        values = []
        for index in range(len(chosen)):
            parts = [bound(binary[index : index + 1], tf.constant([index, part])).numpy()[0] for part in range(5)]
            values.append(np.logaddexp.reduce(parts) - np.log(5))
        result["test_nll"] = -float(np.mean(values))
        result["test_nll_standard_error"] = float(np.std(values) / np.sqrt(len(values)))
    else:
        from sklearn.decomposition import PCA

        flat, test = (
            dataset.images.reshape(len(dataset.images), -1) / 255,
            dataset.test_images.reshape(len(images), -1) / 255,
        )
        pca = PCA(run.config.hparams.latent_size, random_state=0).fit(flat)
        result["test_mse_pca"] = float(np.square(test - pca.inverse_transform(pca.transform(test))).mean())
    return result


def machine() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{cpu}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
