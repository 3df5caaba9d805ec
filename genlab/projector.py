"""Vectors with their images and classes, as TensorBoard's projector reads them."""

from __future__ import annotations

import pathlib

import numpy as np

from genlab import files, grids
from genlab.console import one_line

LARGEST_SPRITE = 8192
"""Pixels of a side of the largest sprite that the projector accepts."""


def write(
    folder: pathlib.Path,
    name: str,
    vectors: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray | None,
    class_names: tuple[str, ...],
) -> None:
    """Write vectors [N, D], such as `codes`, to a folder, with images [N, H, W, C], uint8, and classes [N] or None."""
    from tensorboard.plugins import projector

    folder.mkdir(parents=True, exist_ok=True)
    files.replace(folder / f"{name}.tsv", lambda path: np.savetxt(path, vectors, delimiter="\t", fmt="%.5g"))
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(tensor_name=name, tensor_path=f"{name}.tsv")
    if labels is not None:
        lines = [one_line(class_names[label]) for label in labels[: len(vectors)]]
        files.write_text(folder / "labels.tsv", "".join(f"{line}\n" for line in lines))
        embedding.metadata_path = "labels.tsv"
    side = int(np.ceil(np.sqrt(len(images))))
    height, width = images.shape[1:3]
    if side * max(height, width) <= LARGEST_SPRITE:
        sheet = np.zeros((side * side, *images.shape[1:]), np.uint8)
        sheet[: len(images)] = images
        rows = sheet.reshape(side, side, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
        grids.save_image(rows.reshape(side * height, side * width, -1), folder / "images.png")
        embedding.sprite.image_path = "images.png"
        embedding.sprite.single_image_dim.extend([width, height])
    files.write_text(folder / "projector_config.pbtxt", str(config))
