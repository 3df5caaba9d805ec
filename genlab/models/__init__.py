"""The models: one file each, known by the file's name. To add a model, add a file; nothing else has to know."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

from genlab.errors import GenlabError, UsageError, closest

if TYPE_CHECKING:
    from genlab.models.base import GenerativeModel


def names() -> list[str]:
    """The names of all models, sorted: the files of this folder but `base` and those that begin with an underscore."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(name: str) -> type[GenerativeModel]:
    """The model class of that name: the GenerativeModel that its file defines. Does not import TensorFlow."""
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
        raise GenlabError(f"genlab/models/{name}.py must define one GenerativeModel; it defines {len(classes)}.")
    return classes[0]


def presets(name: str) -> dict[str, dict[str, Any]]:
    """The model's named settings: each the hyper-parameters that differ from the default. A parent's are not inherited."""
    return {"default": {}} | vars(load(name)).get("presets", {})


def summary(name: str) -> str:
    """The first line of the model's docstring."""
    return (inspect.getdoc(load(name)) or "").partition("\n")[0]
