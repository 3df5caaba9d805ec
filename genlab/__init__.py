"""genlab: generative models in TensorFlow 2, to train on your own images, to evaluate, and to use.

    run = genlab.fit("dcgan", data="digits", steps=500)
    images = run.model.sample(run.model.sample_latents([0, 1, 2]))
    run = genlab.load("runs/00000-dcgan-digits")

Importing genlab does not import TensorFlow; its first use does.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Augmenter": ("genlab.augment.augmenter", "Augmenter"),
    "fit": ("genlab.train.fit", "fit"),
    "load": ("genlab.run", "open"),
    "GenlabError": ("genlab.errors", "GenlabError"),
    "UsageError": ("genlab.errors", "UsageError"),
}
_MODULES = {
    "anomaly": "genlab.anomaly",
    "blocks": "genlab.networks.blocks",
    "data": "genlab.data",
    "grids": "genlab.grids",
    "losses": "genlab.networks.losses",
    "models": "genlab.models",
    "report": "genlab.report",
    "sample": "genlab.sample",
    "transfer": "genlab.transfer",
}

__all__ = [*_PUBLIC, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, attribute = _PUBLIC[name]
        return getattr(importlib.import_module(module), attribute)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'genlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
