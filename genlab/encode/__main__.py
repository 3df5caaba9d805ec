"""Command line: `python -m genlab.encode RUN` encodes and decodes images, and plots the latent space."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro

from genlab import command_line, files, plots, projector
from genlab.console import aligned, one_line, reported, say
from genlab.errors import UsageError
from genlab.run import Run, RunOptions

if TYPE_CHECKING:
    from genlab.encode.codec import Row

PROGRAM = "python -m genlab.encode"
PLOTTED = 5000
"""Maximum number of codes in a plot or in the projector."""


@dataclasses.dataclass(frozen=True)
class Arguments(RunOptions):
    """Encode images with an autoencoder or a vae, and measure size and reconstruction error against PCA and JPEG.

    Writes codes.npz and encode.json to the run's folder. --decode converts such a file back to images.
    """

    data: str = ""
    """Images to encode; by default the run's data."""
    split: Literal["test", "validation", "train"] = "test"
    """Split of the data to encode."""
    bits: int = 8
    """Bits per dimension of the code: 1 to 16, or 32 for float32 without quantization."""
    out: str = ""
    """Output file instead of codes.npz (with --decode: images.npz) in the run's folder."""
    decode: str = ""
    """File of codes from this run to decode."""
    plot: tyro.conf.FlagCreatePairsOff[bool] = False
    """Plot the codes in two dimensions, coloured by label, as codes.png."""
    projection: Literal["pca", "tsne"] = "pca"
    """How to project codes with more than two dimensions."""
    projector: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the codes for TensorBoard's projector to projector/."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        from genlab.encode import codec

        codec.check_bits(arguments.bits)
        if arguments.out:
            files.arrays_path(arguments.out)
        run = arguments.open()
        if not run.model.spec.is_image:
            raise UsageError(f"{run.path} was trained on points, not images.")
        if arguments.decode:
            say(_decode(run, arguments))
        else:
            _encode(run, arguments)


def _decode(run: Run, arguments: Arguments) -> pathlib.Path:
    from genlab.encode import codec

    codes, more = codec.load(arguments.decode)
    written_by = (str(more.get("run")), more.get("step"))
    if written_by != (run.name, run.step):
        raise UsageError(
            f"{arguments.decode} was encoded by step {written_by[1]} of {written_by[0]}; {run.name} at step {run.step} cannot "
            "decode it. Name that run (and --checkpoint)."
        )
    codec.check_fit(codes, run.model, arguments.decode)
    out = pathlib.Path(arguments.out or run.path / "images.npz")
    arrays = {"images": codec.decode(run.model, codes.values())}
    arrays |= {"labels": more["labels"]} if "labels" in more else {}
    return files.write_arrays(out, arrays)


def _encode(run: Run, arguments: Arguments) -> None:
    from genlab.data.dataset import FIELDS
    from genlab.encode import codec

    if run.model.encoder is None:
        raise UsageError(f"{run.config.model} has no encoder: train an autoencoder, a vae, or a flow without labels.")
    dataset = run.data(arguments.data)
    chosen, labels = (getattr(dataset, field) for field in FIELDS[arguments.split])
    if chosen is None or not len(chosen):
        raise UsageError(f"{dataset.name} has no {arguments.split} images. Use another split, like --split train.")
    images = chosen[:]
    values = codec.encode(run.model.encoder, images)
    codes = codec.quantize(values, arguments.bits)
    out = pathlib.Path(arguments.out or run.path / "codes.npz")
    codes.save(out, run=run.name, step=run.step, **({} if labels is None else {"labels": labels}))
    rows = codec.compare(run.model, images, dataset.images[: codec.FITTED], codes)
    say(table(rows, images[0].size, images.shape[1] * images.shape[2]))
    kept = {
        "run": run.name,
        "step": run.step,
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "split": arguments.split,
        "images": len(images),
        "bits": arguments.bits,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    files.write_json(run.path / "encode.json", kept)
    say(f"{out} has the codes of {len(images):,} {arguments.split} images of {dataset.name}")
    if arguments.plot:
        path = run.path / "codes.png"
        names = dataset.class_names
        plot(values[:PLOTTED], None if labels is None else labels[:PLOTTED], names, arguments.projection, path)
        say(path)
    if arguments.projector:
        folder = run.path / "projector"
        projector.write(folder, "codes", values[:PLOTTED], images[:PLOTTED], labels, dataset.class_names)
        say(f"tensorboard --logdir {folder}")


def table(rows: Sequence[Row], raw_bytes: int, pixels: int) -> str:
    """Return a table of size and reconstruction error by encoding; errors are on the scale 0 to 1."""
    cells = [["", "bytes per image", "ratio", "bits per pixel", "mse", "psnr, dB", "ssim"]]
    for row in rows:
        size = row.bytes_per_image
        metrics = [f"{row.metrics['mse']:.5f}", f"{row.metrics['psnr']:.2f}", f"{row.metrics['ssim']:.4f}"]
        cells.append([row.name, f"{size:.1f}", f"{raw_bytes / size:.1f}", f"{8 * size / pixels:.3f}", *metrics])
    return aligned(cells)


def plot(
    codes: np.ndarray, labels: np.ndarray | None, names: tuple[str, ...], projection: str, path: pathlib.Path
) -> None:
    """Plot codes [N, latent] as points in two dimensions, one colour per class."""
    axes_names = ("dimension 1", "dimension 2")
    if codes.shape[1] > 2 and projection == "pca":
        from sklearn.decomposition import PCA

        fitted = PCA(2, random_state=0).fit(codes)
        codes = fitted.transform(codes)
        first, second = fitted.explained_variance_ratio_
        axes_names = (f"component 1 ({first:.0%} of the variance)", f"component 2 ({second:.0%} of the variance)")
    elif codes.shape[1] > 2:
        from sklearn.manifold import TSNE

        codes = TSNE(2, random_state=0).fit_transform(codes)
        axes_names = ("t-SNE 1", "t-SNE 2")
    codes = codes if codes.shape[1] > 1 else np.column_stack([codes, np.zeros(len(codes))])
    with plots.axes(path, 7, 6) as axes:
        if labels is None:
            axes.scatter(codes[:, 0], codes[:, 1], s=4)
        else:
            for label in np.unique(labels):
                axes.scatter(codes[labels == label, 0], codes[labels == label, 1], s=4, label=one_line(names[label]))
            if len(names) <= 20:
                axes.legend(markerscale=3)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1])


if __name__ == "__main__":
    main()
