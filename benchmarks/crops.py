"""Write a folder of photographs, 64x64, in two classes: random crops of the pictures that scikit-learn brings along.

    python benchmarks/crops.py crops
    python -m genlab.train dcgan --data crops

Crops are squares of 96 to 199 pixels, resized. Nobody needs to download anything to train on colour images of this size.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

CLASSES = ("temple", "dahlia")
SIZE = 64
SIDES = (96, 200)
"""Smallest side of a crop and the first that is too large, in pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where the images go; it must not exist yet")
    parser.add_argument("--count", type=int, default=2000, help="crops of each photograph")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    for name, pixels in zip(CLASSES, load_sample_images().images, strict=True):
        folder, photograph = arguments.folder / name, Image.fromarray(pixels)
        folder.mkdir(parents=True)
        for number in range(arguments.count):
            side = int(random.integers(*SIDES))
            left, top = (int(random.integers(length - side + 1)) for length in photograph.size)
            box = (left, top, left + side, top + side)
            photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box).save(folder / f"{number:05d}.png")


if __name__ == "__main__":
    main()
