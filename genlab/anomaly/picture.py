"""A picture of the strangest images, each with its score."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genlab import grids
from genlab.anomaly.report import Report

CAPTION = 14
"""Height of a caption, in pixels."""
COLUMNS = 8


def draw(report: Report, count: int, path: pathlib.Path) -> pathlib.Path:
    """Write the strangest images, row by row, with their scores below them; red scores are above the threshold."""
    order = report.order[:count]
    tiles = [
        captioned(image, f"{report.findings.scores[number]:.4g}", bool(report.findings.strange[number]))
        for number, image in zip(order, report.chosen.take(order), strict=True)
    ]
    return grids.save_grid(np.stack(tiles), path, columns=min(COLUMNS, len(tiles)), scale=1)


def captioned(image: np.ndarray, text: str, marked: bool) -> np.ndarray:
    """Return an image [H, W, C], enlarged to 64 pixels or more, with a line of text below it: uint8 [height, width, 3]."""
    pixels = grids.to_grid(image[np.newaxis])[grids.GAP : -grids.GAP, grids.GAP : -grids.GAP]
    colours = pixels[..., :1].repeat(3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]
    height, width = colours.shape[:2]
    tile = Image.new("RGB", (width, height + CAPTION), "white")
    tile.paste(Image.fromarray(colours), (0, 0))
    colour = (190, 0, 0) if marked else (60, 60, 60)
    ImageDraw.Draw(tile).text((2, height + 1), text, colour, ImageFont.load_default())
    return np.asarray(tile)
