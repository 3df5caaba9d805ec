"""The models, one file each, named after the file. To add a model, add a file; no other code needs to change."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

from genlab.errors import GenlabError, UsageError, closest

if TYPE_CHECKING:
    from genlab.models.base import GenerativeModel


def names() -> list[str]:
    """Return the sorted names of all models: the files here, except `base` and those with a leading underscore."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(name: str) -> type[GenerativeModel]:
    """Return the model class of that name: the GenerativeModel that its file defines. Does not import TensorFlow.

    Raises UsageError for an unknown name.
    """
    from genlab.models.base import GenerativeModel

    if name not in names():
        raise UsageError(f"there is no model {name!r}{closest(name, names())} Models: {', '.join(names())}.")
    module = importlib.import_module(f"{__name__}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, GenerativeModel) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise GenlabError(f"genlab/models/{name}.py defines {len(classes)} GenerativeModels; it must define one.")
    return classes[0]


def presets(name: str) -> dict[str, dict[str, Any]]:
    """Return the model's presets: for each name, the hyper-parameters that differ from the default. Not inherited."""
    return {"default": {}} | vars(load(name)).get("presets", {})


def steps(name: str, preset: str) -> int:
    """Return the number of training steps of a preset, where none is given. Those of presets are not inherited either."""
    kind = load(name)
    return vars(kind).get("preset_steps", {}).get(preset, kind.default_steps)


def summary(name: str) -> str:
    """Return the first line of the model's docstring."""
    return (inspect.getdoc(load(name)) or "").partition("\n")[0]
