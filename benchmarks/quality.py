"""Train every model on one data set with the same budget of images, evaluate them, and write one table.

    python benchmarks/quality.py --data mnist [--epochs 20] [--seeds 3] [--models vae dcgan]
    python benchmarks/quality.py --data mnist --epochs 4 --models vae dcgan --flags "precision bfloat16"  # and float32, to compare
    python benchmarks/quality.py --data mnist --epochs 4 --models dcgan --flags "precision float32, updates simultaneous"

Results go to benchmarks/results/quality.json, one entry per run, and the table to benchmarks/results/quality-DATA-EPOCHS.md
(with -FLAGS, if there are any). Existing entries are not measured again and interrupted runs are resumed, so the script can
be stopped at any time and run again.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import results
from sklearn.decomposition import PCA

import genlab
from genlab import models
from genlab import run as runs
from genlab.evaluate import evaluation
from genlab.train import __main__ as train

KEPT = "quality"
AVERAGED = (
    "encoder",
    "averaged_encoder",
    "averaged_discriminator",
    "decoder",
    "averaged_velocity",
    "renoiser",
    "features",
    "classifier",
)
"""Networks that are copies of trained ones."""
ROWS = {
    "parameters": "parameters",
    "images_seen": "images seen",
    "minutes": "minutes of training",
    "frechet_multiple": "Fréchet distance as a multiple of the real floor",
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "inception_score": "classifier score",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "classes": "classes",
    "smallest_class": "smallest class, relative to its real proportion",
    "class_entropy": "class entropy, relative to its maximum",
    "class_kl": "KL divergence of class proportions, nats",
    "label_accuracy": "label accuracy",
    "train_on_fake": "train on generated, test on real",
    "memorization": "closer to training images than 99% of real ones",
    "mse": "reconstruction error per pixel, test images",
    "pca_mse": "the same for PCA with as many dimensions",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "negative_elbo": "-ELBO, nats",
    "reconstruction": "reconstruction, nats",
    "kl": "KL, nats",
    "bits_per_dimension": "bits per dimension",
    "nll": "negative log-likelihood, nats",
    "active_units": "active units",
}
PUBLISHED = {
    "gan": "Inception FID 6.8 (10k against 10k, tuned)¹; 2.8 floors, train on generated 96.9%²",
    "dcgan": "MNIST score 7.6, real 8.4³",
    "wgan": "Inception FID 6.7 clipped, 20.3 with gradient penalty (10k against 10k, tuned)¹; 2.7 floors, train on generated 97.0%²",
    "began": "Inception FID 13.1 (10k against 10k, tuned)¹; 5.5 floors, train on generated 95.5%²",
    "cgan": "7.0 floors, train on generated 95.6%²; train on generated 81.1%, real 97.9%⁴",
    "vae": "Inception FID 16.6⁵; 33 floors, train on generated 96.4%²; negative log-likelihood 86.8 (50 importance samples), "
    "84.6 to 85.1 (5,000, dynamic binarization), deep or convolutional 79 to 82⁶",
    "autoencoder": "test error 0.0038 (30 dimensions, Hinton & Salakhutdinov 2006); 0.0065 (32 dimensions, Keras' dense example)",
}
"""Published results on MNIST, with what is known of their protocols."""
SOURCES = """¹ Lucic et al. 2018, "Are GANs Created Equal?" ² Lesort et al., classifier-feature Fréchet distance as a
multiple of its real floor and train-on-generated accuracy, one generator per class except cgan, median of 8 seeds, real 97.8%.
³ TF-GAN's tutorial, 5,000 WGAN steps at batch 32. ⁴ A conditional DCGAN's GAN-train. ⁵ Dai & Wipf 2019, cross-entropy,
untuned. ⁶ IWAE, MIWAE, CIWAE and PIWAE papers; the last is a range over papers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--models", nargs="*", default=models.names(), choices=models.names())
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each model, of seeds 0, 1, ...")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--flags", default="", help="more flags of genlab.train: names without dashes, and values")
    parser.add_argument("--importance-samples", type=int, default=1000)
    parser.add_argument("--out", default=str(results.CACHE / "quality"), help="where the runs are kept")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    for seed in range(arguments.seeds):
        for name in arguments.models:
            measure(name, seed, dataset, arguments)
            write_table(dataset.name, arguments.epochs, arguments.flags)


def measure(name: str, seed: int, dataset: Any, arguments: argparse.Namespace) -> None:
    """Train and evaluate one run, unless its entry exists."""
    command = f"python -m genlab.train {name} --data {dataset.name} --epochs {arguments.epochs} --seed {seed}"
    command += "".join(f" {flag}" for flag in as_typed(in_float32(arguments.flags)))
    measured = f"python -m genlab.evaluate --samples {arguments.samples}"
    if models.load(name).Hparams().__dict__.get("likelihood"):
        measured += f" --importance-samples {arguments.importance_samples}"
    asked = {"data": dataset.name, "model": name, "epochs": arguments.epochs, "seed": seed, "flags": arguments.flags}
    asked["evaluated"] = measured
    if results.is_known(KEPT, asked):
        return
    run = trained(name, seed, arguments.data, arguments.epochs, arguments.out, arguments.flags)
    found = evaluation.evaluate(run, samples=arguments.samples, importance_samples=arguments.importance_samples)
    metrics = {key: (metric.value, metric.floor) for key, metric in found.metrics.items()}
    if "mse" in metrics:
        metrics["pca_mse"] = (pca_error(dataset, run.model.latent_size), None)
    value, floor = metrics["frechet_distance"]
    metrics["frechet_multiple"] = (value / floor, 1.0)
    last = run.metrics()[-1]
    entry = asked | {
        "command": command,
        "precision": run.config.options.precision,
        "costs": {
            "parameters": sum(net.count_params() for key, net in run.model.networks.items() if key not in AVERAGED),
            "images_seen": last["images"],
            "minutes": last["seconds"] / 60,
        },
        "figures": {key: value for key, (value, _) in metrics.items()},
        "floors": {key: floor for key, (_, floor) in metrics.items() if floor is not None},
        "protocol": found.protocol,
    }
    results.add(KEPT, entry)


def in_float32(flags: str) -> str:
    """Return the flags with a precision that does not depend on the machine, if they name none."""
    return flags if "precision" in flags else f"precision float32, {flags}"


def as_typed(flags: str) -> list[str]:
    """Convert `precision bfloat16, updates simultaneous` to [--precision, bfloat16, --updates, simultaneous]."""
    return [word for flag in flags.split(",") if flag.strip() for word in f"--{flag.strip()}".split()]


def slug(flags: str) -> str:
    """Convert flags to a suffix for file names."""
    return "".join(f"-{word}" for word in flags.replace(",", " ").split())


def trained(name: str, seed: int, data: str, epochs: int, out: str, flags: str = "") -> runs.Run:
    """Return the finished run; an interrupted one is resumed."""
    description = f"epochs{epochs}-seed{seed}{slug(flags)}"

    def stored() -> list[pathlib.Path]:
        return [path for path in runs.all_runs(pathlib.Path(out), name) if path.name.endswith(description)]

    if found := stored():
        train.main(["--resume", str(found[-1])])
    else:
        own = ["--data", data, "--out", out, "--description", description, "--seed", str(seed), "--epochs", str(epochs)]
        train.main([name, *own, "--sample-every", "2000", "--log-every", "500", *as_typed(in_float32(flags))])
    return runs.open(stored()[-1])  # not "latest": another process may have started a run since


def pca_error(dataset: Any, components: int) -> float:
    """Return the mean squared error per pixel, in [0, 1], of test images reconstructed from principal components."""
    flat, test = (images.reshape(len(images), -1) / 255 for images in (dataset.images, dataset.test_images))
    pca = PCA(components, random_state=0).fit(flat)
    return float(np.square(test - pca.inverse_transform(pca.transform(test))).mean())


def write_table(data: str, epochs: int, flags: str) -> None:
    """Write a Markdown table of metrics by row and models by column, mean ± standard deviation over seeds."""
    chosen = [
        entry
        for entry in results.entries(KEPT)
        if (entry["data"], entry["epochs"], entry["flags"]) == (data, epochs, flags)
    ]
    names = [name for name in models.names() if any(entry["model"] == name for entry in chosen)]
    lines = [
        f"# {data} after {epochs} epochs{' with ' * bool(flags)}{' '.join(as_typed(flags))}",
        "",
        f"Mean ± standard deviation over seeds; {', '.join(sorted({entry['precision'] for entry in chosen}))}; {results.machines(chosen)}.",
        f"{protocol(chosen)}",
        *where(chosen),
        "",
        "| | " + " | ".join(f"`{name}`" for name in names) + " | real images |",
        "|---" * (len(names) + 2) + "|",
        "| seeds | " + " | ".join(str(sum(entry["model"] == name for entry in chosen)) for name in names) + " | |",
    ]
    for key, title in ROWS.items():
        columns = [column(key, [entry for entry in chosen if entry["model"] == name]) for name in names]
        if any(columns):
            floors = [cell([entry["floors"][key]]) for entry in chosen if key in entry["floors"]]
            lines.append(f"| {title} | " + " | ".join([*columns, ", ".join(dict.fromkeys(floors))]) + " |")
    if data == "mnist":
        lines += ["", "Published results, with other extractors and protocols, so not directly comparable:", ""]
        lines += [f"- `{name}`: {PUBLISHED[name]}" for name in names if name in PUBLISHED]
        lines += ["", SOURCES]
    (results.FOLDER / f"{KEPT}-{data}-{epochs}{slug(flags)}.md").write_text("\n".join(lines) + "\n")


def where(chosen: list[dict[str, Any]]) -> list[str]:
    """Return sentences that say what was measured on which machine and features, if there are several: such values do not compare."""
    machines = models_by(chosen, lambda entry: entry["machine"])
    extractors = models_by(chosen, extractor)
    lines = []
    if len(machines) > 1:
        lines.append(f"Times compare on the same machine only: {'; '.join(machines)}.")
    if len(extractors) > 1:
        lines.append(f"Absolute distances compare on the same features only: {'; '.join(extractors)}.")
    return lines


def models_by(chosen: list[dict[str, Any]], fact: Callable[[dict[str, Any]], str]) -> list[str]:
    """Return which models share a fact of their entries, as "`dcgan`, `wgan` on FACT", sorted by the fact."""
    found: dict[str, set[str]] = {}
    for entry in chosen:
        found.setdefault(fact(entry), set()).add(f"`{entry['model']}`")
    return [f"{', '.join(sorted(names))} on {value}" for value, names in sorted(found.items())]


def extractor(entry: dict[str, Any]) -> str:
    """Return the name of the features that an entry was measured on, and the start of their digest."""
    return f"{entry['protocol']['extractor']} {entry['protocol']['extractor_sha256'][:8]}"


def values(key: str, chosen: list[dict[str, Any]]) -> list[float]:
    """Return a metric of every run that has it."""
    found = [entry["figures"].get(key, entry["costs"].get(key)) for entry in chosen]
    return [value for value in found if value is not None]


def column(key: str, chosen: list[dict[str, Any]]) -> str:
    """Return a metric of a model's runs as text; minutes for each machine, in the order in which `where` names them."""
    if key != "minutes":
        return cell(values(key, chosen))
    machines = sorted({entry["machine"] for entry in chosen})
    return ", ".join(cell(values(key, [entry for entry in chosen if entry["machine"] == name])) for name in machines)


def cell(numbers: list[float]) -> str:
    if not numbers:
        return ""
    mean = float(np.mean(numbers))
    text = f"{mean:,.0f}" if mean >= 1000 else f"{mean:.3g}"
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
    return text + (f" ± {spread:.2g}" if spread else "")


def protocol(chosen: list[dict[str, Any]]) -> str:
    facts = chosen[0]["protocol"]
    text = f"{facts['generated']:,} samples against {facts['real']:,} real images ({facts['split']}), features of "
    text += f"{' or '.join(dict.fromkeys(map(extractor, chosen)))}."
    likelihoods = [entry["protocol"] for entry in chosen if "importance_samples" in entry["protocol"]]
    if likelihoods:
        facts = likelihoods[-1]
        text += f" Likelihoods of {facts['likelihood_images']:,} images, {facts['importance_samples']:,} samples each."
    return text


if __name__ == "__main__":
    main()
