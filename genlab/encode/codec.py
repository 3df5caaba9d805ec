"""Encode images as short quantized codes, decode them, and compare with JPEG and PCA."""

from __future__ import annotations

import dataclasses
import io
import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from genlab import files, npy
from genlab.backend import Network, in_parts
from genlab.bounds import shown
from genlab.data.spec import to_model_range, to_pixels
from genlab.errors import GenlabError, UsageError
from genlab.evaluate.metrics.reconstruction import reconstruction_metrics
from genlab.models.base import GenerativeModel

FLOAT_BITS = 32
"""Bits that stand for no quantization: float32 as it is."""
LARGEST = 16
"""Maximum bits per dimension of a quantized code."""
FITTED = 20_000
"""Maximum number of training images to fit principal components to."""
BLOCK = 8
"""Height and width of JPEG's blocks, in pixels."""


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes of images, quantized to a number of bits."""

    packed: np.ndarray
    """uint8: the levels, densely packed; with 32 bits: float32 [N, size]."""
    count: int
    size: int
    """Dimensions of a code."""
    bits: int
    """Bits per dimension: 1 to 16, or 32 for float32 without quantization."""
    low: np.ndarray
    """float32 [size]: value of level 0."""
    high: np.ndarray
    """float32 [size]: value of the highest level."""

    @property
    def bytes_per_image(self) -> float:
        """Bytes per image, including its share of `low` and `high`."""
        bounds = 0 if self.bits == FLOAT_BITS else self.low.nbytes + self.high.nbytes
        return (self.packed.nbytes + bounds) / self.count

    def values(self) -> np.ndarray:
        """Return the dequantized codes, float32 [N, size]."""
        if self.bits == FLOAT_BITS:
            return self.packed
        planes = np.unpackbits(self.packed, count=self.count * self.size * self.bits).reshape(-1, self.bits)
        levels = planes.astype(np.int64) @ (1 << np.arange(self.bits - 1, -1, -1))
        share = levels.reshape(self.count, self.size) / (2**self.bits - 1)
        return (self.low + share * (self.high - self.low)).astype(np.float32)

    def save(self, path: str | os.PathLike[str], **more: npt.ArrayLike) -> None:
        """Write an .npz with these fields and `more`."""
        files.write_arrays(path, dataclasses.asdict(self) | more, compressed=False)


def quantize(values: np.ndarray, bits: int) -> Codes:
    """Quantize codes, float32 [N, size], to evenly spaced levels from the minimum to the maximum of each dimension.

    Raises UsageError for bits other than 1 to 16, or 32.
    """
    check_bits(bits)
    values = np.asarray(values, np.float32)
    count, size = values.shape
    low, high = values.min(axis=0), values.max(axis=0)
    if bits == FLOAT_BITS:
        return Codes(values, count, size, bits, low, high)
    span = np.where(high > low, high - low, 1)
    levels = np.rint((values - low) / span * (2**bits - 1)).astype(np.int64)
    planes = (levels.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return Codes(np.packbits(planes.astype(np.uint8)), count, size, bits, low, high)


def check_bits(bits: int) -> None:
    """Raise UsageError for bits other than 1 to 16, or 32."""
    if bits != FLOAT_BITS and not 1 <= bits <= LARGEST:
        raise UsageError(f"--bits {shown(bits)}: it must be 1 to {LARGEST}, or {FLOAT_BITS} for no quantization.")


def load(path: str | os.PathLike[str]) -> tuple[Codes, dict[str, Any]]:
    """Read a file of `Codes.save`: the codes, and the other arrays by name; those of one value as Python's.

    Raises GenlabError for any other file, and for arrays that do not fit each other.
    """
    try:
        content = npy.read(path)
        count, size, bits = (_integer(content.pop(name, None), name) for name in ("count", "size", "bits"))
        codes = Codes(content.pop("packed"), count, size, bits, content.pop("low"), content.pop("high"))
        _check(codes, content.get("labels"))
        if "step" in content:
            _integer(content["step"], "step")
        if "run" in content and (content["run"].shape != () or content["run"].dtype.kind != "U"):
            raise ValueError("run is no text")
    except KeyError as error:
        raise GenlabError(
            f"{path} is not a file of codes written by python -m genlab.encode: it lacks {error}."
        ) from None
    except (GenlabError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise GenlabError(f"{path} is not a file of codes written by python -m genlab.encode: {reason}.") from None
    return codes, {name: array.item() if array.ndim == 0 else array for name, array in content.items()}


def _integer(array: np.ndarray | None, name: str) -> int:
    if array is None or array.shape != () or array.dtype.kind not in "iu":
        raise ValueError(f"{name} is missing or no integer")
    return int(array)


def _check(codes: Codes, labels: np.ndarray | None) -> None:
    """Raise ValueError if the arrays do not have the types, shapes and ranges that `Codes` describes."""
    count, size, bits = codes.count, codes.size, codes.bits
    if count < 1 or size < 1 or not (bits == FLOAT_BITS or 1 <= bits <= LARGEST):
        raise ValueError(f"it has {shown(count)} codes of {shown(size)} dimensions of {shown(bits)} bits")
    quantized = np.uint8, (-(-count * size * bits // 8),)
    expected = {
        "packed": (np.float32, (count, size)) if bits == FLOAT_BITS else quantized,
        "low": (np.float32, (size,)),
        "high": (np.float32, (size,)),
    }
    for name, (kind, shape) in expected.items():
        array = getattr(codes, name)
        if array.dtype != kind or array.shape != shape or not np.isfinite(array).all():
            raise ValueError(
                f"{name} must be finite {np.dtype(kind)} {list(shape)}, and is {array.dtype} {list(array.shape)}"
            )
    if (codes.low > codes.high).any():
        raise ValueError("low is above high")
    if labels is not None and (labels.shape != (count,) or labels.dtype.kind not in "iu"):
        raise ValueError(f"labels must be {count:,} integers")


def check_fit(codes: Codes, model: GenerativeModel, path: str | os.PathLike[str]) -> None:
    """Raise UsageError if the model cannot decode the codes of a file, or if their images are too many to be in memory."""
    if codes.size != model.latent_size:
        raise UsageError(f"{path} has codes of {codes.size:,} dimensions; this run's have {model.latent_size}.")
    most = files.MOST_BYTES // math.prod(model.spec.shape)
    if codes.count > most:
        raise UsageError(f"{path} has {codes.count:,} codes; at most {most:,} images of this size are decoded at once.")


def encode(encoder: Network, images: np.ndarray) -> np.ndarray:
    """Encode images, uint8 [N, H, W, C], with a network that takes images in [-1, 1] -> float32 [N, ...]."""
    return in_parts(lambda part: encoder(to_model_range(part), training=False), images)


def decode(model: GenerativeModel, codes: np.ndarray) -> np.ndarray:
    """Decode codes [N, latent] to images, uint8 [N, H, W, C]."""
    return in_parts(lambda part: to_pixels(model.decode(part)), codes)


@dataclasses.dataclass(frozen=True)
class Row:
    """Size and reconstruction error of one encoding."""

    name: str
    bytes_per_image: float
    metrics: dict[str, float]
    """mse, psnr in dB, ssim; see genlab.evaluate.metrics.reconstruction."""


def compare(model: GenerativeModel, images: np.ndarray, training: np.ndarray, codes: Codes) -> list[Row]:
    """Compare codes with principal components of the same dimensions and bits, and with JPEG of the same size.

    Images are uint8 [N, H, W, C]. The components are fitted to the training images.
    """
    decoded = decode(model, codes.values())
    rows = [Row("codes", codes.bytes_per_image, _metrics(images, decoded))]
    components = min(codes.size, len(training), images[0].size)
    rows.append(Row(f"PCA of {components}", *_principal_components(images, training, components, codes.bits)))
    quality, size, decoded = jpeg(images, codes.bytes_per_image)
    rows.append(Row(f"JPEG, quality {quality}", size, _metrics(images, decoded)))
    return rows


def _metrics(images: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    return reconstruction_metrics(*(np.asarray(to_model_range(part)) for part in (images, decoded)))


def _principal_components(
    images: np.ndarray, training: np.ndarray, count: int, bits: int
) -> tuple[float, dict[str, float]]:
    from sklearn.decomposition import PCA

    pca = PCA(count, random_state=0).fit(training[:FITTED].reshape(len(training[:FITTED]), -1) / 255.0)
    codes = quantize(pca.transform(images.reshape(len(images), -1) / 255.0), bits)
    rebuilt = np.clip(pca.inverse_transform(codes.values()), 0, 1).reshape(images.shape)
    return codes.bytes_per_image, _metrics(images, np.rint(rebuilt * 255).astype(np.uint8))


def jpeg(images: np.ndarray, bytes_per_image: float) -> tuple[int, float, np.ndarray]:
    """Compress with JPEG at the highest quality (1 to 95) within a number of bytes per image; at least at quality 1.

    All images are tiled into one picture, since single files would consist mostly of headers. Each is padded to whole
    blocks with its last row and column. Return the quality, the bytes per image, and the decoded images.
    """
    from PIL import Image

    count, height, width, channels = images.shape
    pad_rows, pad_columns = -height % BLOCK, -width % BLOCK
    if channels not in (1, 3):
        raise UsageError(f"images have {channels} channels; the comparison with JPEG needs 1 or 3.")
    padded = np.pad(images, ((0, 0), (0, pad_rows), (0, pad_columns), (0, 0)), "edge")
    columns = max(1, min(count, 60_000 // padded.shape[2], int(np.ceil(np.sqrt(count)))))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, *padded.shape[1:]), np.uint8)
    tiles[:count] = padded
    tiles = tiles.reshape(rows, columns, *padded.shape[1:]).transpose(0, 2, 1, 3, 4)
    picture = Image.fromarray(tiles.reshape(rows * padded.shape[1], columns * padded.shape[2], channels).squeeze())

    def stored(quality: int) -> bytes:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        return file.getvalue()

    low, high = 1, 95
    while low < high:  # sizes increase with quality
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(stored(middle)) <= bytes_per_image * count else (low, middle - 1)
    content = stored(low)
    decoded = np.asarray(Image.open(io.BytesIO(content))).reshape(
        rows, padded.shape[1], columns, padded.shape[2], channels
    )
    decoded = decoded.transpose(0, 2, 1, 3, 4).reshape(-1, *padded.shape[1:])[:count, :height, :width]
    return low, len(content) / count, decoded
