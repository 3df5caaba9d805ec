"""Starting from another run: its weights wherever shapes fit, with fresh optimizers and averages."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Iterator

import numpy as np

from genlab.backend import Variable
from genlab.config import Ancestor, Config
from genlab.errors import UsageError
from genlab.models.base import GenerativeModel
from genlab.run import Run

log = logging.getLogger("genlab")

EMBEDDING = "label_embedding/"
"""Beginning of the path of the learned vectors of classes, in every network that has them."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """What another run's networks have for a weight of a new model."""

    weight: Variable
    name: str
    """Network and layer, for the log."""
    value: np.ndarray | None
    """The values to start from, [...] as the weight; None if nothing fits."""


def lineage(ancestor: Run) -> list[Ancestor]:
    """Return what config.json of a run that starts from `ancestor` tells of it, and of those before it."""
    facts = ancestor.config.dataset
    parent = Ancestor(
        run=ancestor.name,
        model=ancestor.config.model,
        step=ancestor.step,
        data=facts["name"],
        sha256=facts["sha256"],
    )
    return [parent, *ancestor.config.lineage]


def check(settings: Config, ancestor: Run) -> None:
    """Raise UsageError if no weight of a run fits one of these settings, before the new run has a folder."""
    _fits(Run(pathlib.Path(settings.options.out), settings).build(), ancestor, settings)


def start_from(model: GenerativeModel, ancestor: Run, settings: Config) -> None:
    """Give a new model the weights of a run wherever their shapes fit, and name the layers where they do not in the log."""
    fits = _fits(model, ancestor, settings)
    for fit in fits:
        if fit.value is not None:
            fit.weight.assign(fit.value)
    for average in model.averages:
        average.reset()
    kept = sum(fit.value.size for fit in fits if fit.value is not None)
    total = sum(int(np.prod(fit.weight.shape)) for fit in fits)
    log.info(f"from    {ancestor.path}, step {ancestor.step:,}: {kept / total:.1%} of the weights")
    if fresh := dict.fromkeys(fit.name for fit in fits if fit.value is None):
        log.info(f"        new: {', '.join(fresh)}")


def _fits(model: GenerativeModel, ancestor: Run, settings: Config) -> list[Fit]:
    same_classes = settings.dataset["class_names"] == ancestor.config.dataset["class_names"]
    fits = list(_pairs(model, ancestor.model, same_classes))
    if not any(fit.value is not None and fit.value.ndim > 1 for fit in fits):  # a bias alone is worth nothing
        raise UsageError(
            f"--from {ancestor.path}: no weight of this {ancestor.config.model} fits a {settings.model} of these settings and "
            "images. Give both the same image size, latent size and widths."
        )
    return fits


def _pairs(model: GenerativeModel, other: GenerativeModel, same_classes: bool) -> Iterator[Fit]:
    """Yield every trained weight of a model with the value that another model has for it."""
    averaged = {id(weight) for average in model.averages for weight, _ in average.variables}
    sizes = _first_sizes(model), _first_sizes(other)
    for name, network in model.networks.items():
        donor = other.networks.get(name)
        values = {} if donor is None else {weight.path: weight for weight in donor.weights}
        for weight in network.weights:
            if id(weight) in averaged:
                continue
            found = values.get(weight.path)
            known = found is not None and (same_classes or not weight.path.startswith(EMBEDDING))
            value = _fitting(weight, np.asarray(found), sizes) if known else None
            yield Fit(weight, f"{name}/{weight.path.rpartition('/')[0]}", value)


def _first_sizes(model: GenerativeModel) -> tuple[int, int]:
    """Return how many latents and how many numbers of the label's embedding a generator's first layer takes."""
    return model.latent_size, model.spec.num_classes if model.conditional else 0


def _fitting(weight: Variable, old: np.ndarray, sizes: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray | None:
    """Return the old values of a weight, or None if the shapes differ in more than the label's part of the first layer."""
    if weight.shape == old.shape:
        return old
    (latents, labels), (old_latents, old_labels) = sizes
    first = latents == old_latents and weight.shape[:1] == (latents + labels,) and len(old) == latents + old_labels
    if not first or weight.shape[1:] != old.shape[1:]:
        return None
    return np.concatenate([old[:latents], np.asarray(weight)[latents:]])
