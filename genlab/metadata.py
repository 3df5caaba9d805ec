"""metadata.json of an exported model: what programs need to use the files beside it."""

from __future__ import annotations

import pathlib
from typing import Literal, NotRequired, TypedDict

from genlab import files
from genlab.errors import GenlabError

METADATA = "metadata.json"
MIXTURE = "prior.npz"


class Latents(TypedDict):
    """Latent vectors, and the prior that they are drawn from."""

    size: int
    prior: str
    """Name of the prior; see genlab.networks.priors."""
    mixture: NotRequired[Literal["prior.npz"]]
    """File of the arrays of a fitted prior."""


class Images(TypedDict):
    """What the decoder draws."""

    shape: list[int]
    layout: str
    dtype: str
    range: list[float] | None
    """Values of black and white; None for vectors."""


class Exported(TypedDict):
    """One exported file, or folder of a SavedModel, compared with the run."""

    file: str
    format: str
    bytes: int
    sha256: str
    largest_difference: float
    """From the run's outputs; see genlab.export.formats.TOLERANCE."""
    mean_difference: float
    runtime: str
    """Package that executed it, with its version."""


class Metadata(TypedDict):
    """Content of metadata.json."""

    genlab: str
    model: str
    run: str
    step: int
    latents: Latents
    images: Images
    classes: list[str] | None
    """Names of the classes that samples are drawn of; None if they have none."""
    has_encoder: bool
    classifier: NotRequired[list[str] | None]
    """Names of the classes of the classifier's logits; None without one, as in early versions."""
    files: list[Exported]
    others: NotRequired[dict[str, str]]
    """SHA-256 of the other files of the export, by name; early versions have none."""


def read(folder: pathlib.Path) -> Metadata:
    """Read metadata.json of a folder. Raises FileNotFoundError if there is none, GenlabError if it is not genlab's."""
    found: Metadata = files.read_json(folder / METADATA, Metadata)
    for name in (*(each["file"] for each in found["files"]), *found.get("others", {})):
        if name != files.file_name(name) or name == METADATA:
            raise GenlabError(f"{folder / METADATA} names the file {name!r}, which is no name of an exported file.")
    return found
