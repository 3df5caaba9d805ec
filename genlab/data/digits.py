"""The embedded data set: scikit-learn's 1,797 handwritten digits."""

from __future__ import annotations

import numpy as np

from genlab.data.dataset import Dataset

CONTRAST = 1.8


def load() -> Dataset:
    """Load grey digits at 28x28 with labels: 1,437 for training and 360 held out, a fixed stratified split.

    Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits" (the UCI test set, 8x8 pixels of 17 grey
    levels). They are enlarged to 20x20, sharpened by raising the contrast, and centred in a 28x28 frame, like MNIST.
    """
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.zeros((len(bunch.images), 28, 28, 1), np.uint8)
    for index, small in enumerate(bunch.images):
        picture = Image.fromarray(small.astype(np.float32) * (255 / 16))
        enlarged = np.asarray(picture.resize((20, 20), Image.Resampling.BICUBIC))
        images[index, 4:24, 4:24, 0] = np.clip(CONTRAST * (enlarged - 115) + 128, 0, 255)
    labels = bunch.target.astype(np.int32)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, random_state=0, stratify=labels)
    return Dataset(
        name="digits",
        source="digits",
        images=images[train],
        labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
    )
