"""Keras files that others wrote: inspected first, so that loading them executes nothing, and then loaded.

A .keras file is a zip archive of a network's configuration (JSON) and its weights (HDF5). The configuration names the
classes and functions to call. Keras calls any that it or the process knows, and among Keras' own are layers that execute
what the file holds or read other files (`Lambda`, `TFSMLayer`, `TorchModuleWrapper`, vocabularies). So what may be called
is listed here, by the module that implements it; the name in the file decides nothing.
"""

from __future__ import annotations

import importlib
import io
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from genlab import files
from genlab.backend import keras
from genlab.bounds import shown
from genlab.errors import GenlabError, reason

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
"""What Keras writes into an archive of stock layers, uncompressed. Only layers with vocabularies have more."""
VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
"""Kinds of values in a configuration that name no class."""
PACKAGES = {
    "keras",
    *(f"keras.{name}" for name in ("activations", "constraints", "dtype_policies", "initializers", "layers", "losses")),
    *(f"keras.{name}" for name in ("metrics", "models", "ops", "optimizers", "optimizers.schedules", "random")),
    "keras.regularizers",
}
"""Public packages by which a configuration names Keras' classes and functions."""
IMPLEMENTED_IN = (
    *(f"keras.src.{name}." for name in ("activations", "constraints", "dtype_policies", "initializers", "losses")),
    *(f"keras.src.{name}." for name in ("metrics", "ops", "optimizers", "random", "regularizers")),
    *(f"keras.src.models.{name}." for name in ("functional", "model", "sequential")),
    *(f"keras.src.layers.{name}." for name in ("activations", "attention", "convolutional", "merging")),
    *(f"keras.src.layers.{name}." for name in ("normalization", "pooling", "regularization", "reshaping", "rnn")),
    *(f"keras.src.layers.core.{name}." for name in ("dense", "einsum_dense", "embedding", "identity", "input_layer")),
    *(f"keras.src.layers.core.{name}." for name in ("masking", "wrapper")),
    *(f"keras.src.layers.preprocessing.{name}." for name in ("image_preprocessing", "normalization", "rescaling")),
)
"""Modules, each with a full stop at the end, whose classes and functions compute and do nothing else."""


def load(path: str | os.PathLike[str]) -> Any:
    """Load the Keras model of a .keras file, uncompiled, after `check`. Raises GenlabError with one line for any other file."""
    check(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if not isinstance(model, keras.Model) or not model.inputs or not model.outputs:
            raise ValueError("it holds no network with inputs and outputs")
        if not all(np.isfinite(np.asarray(weight, np.float32)).all() for weight in model.get_weights()):
            raise ValueError("it has weights that are not finite")
    except Exception as error:  # Keras raises errors of all kinds about configurations that do not fit
        raise _unreadable(path, error) from error
    return model


def check(path: str | os.PathLike[str]) -> None:
    """Inspect a .keras file without calling anything that it names.

    Raises GenlabError if it is damaged, or holds anything but stock layers of Keras, layers of genlab, and weights.
    """
    path = pathlib.Path(path)
    try:
        files.check_regular(path)
        if path.suffix != ".keras":
            raise ValueError("its name must end in .keras")
        with zipfile.ZipFile(path) as archive:
            config, weights = _members(archive)
        _check_objects(files.parse_json(config, dict[str, Any]))
        _check_weights(weights)
    except Exception as error:  # damaged archives raise errors of zipfile, struct and h5py
        raise _unreadable(path, error) from error


def _members(archive: zipfile.ZipFile) -> tuple[bytes, bytes]:
    """Return the configuration and the weights. Reading them compares their checksums."""
    found = archive.infolist()
    names = [member.filename for member in found]
    for member in found:
        if member.filename not in MEMBERS or names.count(member.filename) > 1:
            raise ValueError(f"it holds {member.filename!r}, which no network of stock layers has")
        # Keras does not compress. What takes no more space than it has on the disk cannot fill the memory.
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} is compressed, and Keras does not compress")
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise ValueError(f"it lacks {name}")
    return archive.read(CONFIG), archive.read(WEIGHTS)


def _check_objects(config: dict[str, Any]) -> None:
    """Raise ValueError if the configuration names a class or function other than those listed above."""
    # How the network was trained is not loaded: it may name losses of the author's own.
    parts: list[Any] = [{name: value for name, value in config.items() if name != "compile_config"}]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                _check_object(part)
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def _check_object(described: dict[str, Any]) -> None:
    kind, module, registered = (described.get(key) for key in ("class_name", "module", "registered_name"))
    if isinstance(kind, str) and kind in VALUES and module is None:
        return
    name = described.get("config") if kind == "function" else kind
    if isinstance(registered, str) and registered.startswith("genlab>"):
        found = keras.saving.get_registered_object(registered)
        if isinstance(found, type) and found.__module__.startswith("genlab."):
            return
    # Keras prefers what the process registered under `registered_name`, whatever the other names are.
    elif isinstance(module, str) and registered in (None, kind) and any(map(_is_known, _found(module, name))):
        return
    raise ValueError(
        f"it names {shown(module)}.{shown(name)}, and only stock layers of Keras that compute and do nothing else are loaded"
    )


def _found(module: str, name: Any) -> Iterator[Any]:
    """Yield what Keras would find under a name. Only modules listed above are imported."""
    if not isinstance(name, str):
        return
    if module == "builtins":  # of functions of Keras, only the name is stored
        for package in ("activations", "constraints", "initializers", "losses", "metrics", "regularizers"):
            if hasattr(getattr(keras, package), name):
                yield getattr(getattr(keras, package), name)
    elif module in PACKAGES or f"{module}.".startswith(IMPLEMENTED_IN):
        yield getattr(importlib.import_module(module), name, None)


def _is_known(found: Any) -> bool:
    return callable(found) and f"{found.__module__}.".startswith(IMPLEMENTED_IN)


def _check_weights(content: bytes) -> None:
    """Raise ValueError if an HDF5 file holds anything but arrays of numbers, all within the file."""
    import h5py

    arrays: list[Any] = []

    def foreign_link(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else name

    def foreign_part(name: str, part: Any) -> str | None:
        if isinstance(part, h5py.Dataset):
            arrays.append(part)
            return name if part.external or part.is_virtual or part.dtype.hasobject else None
        return None if isinstance(part, h5py.Group) else name

    # A name that is returned ends a visit.
    with h5py.File(io.BytesIO(content), "r") as file:
        if name := file.visititems_links(foreign_link):
            raise ValueError(f"its weights have a link to elsewhere, {name!r}")
        if name := file.visititems(foreign_part):
            raise ValueError(f"its weights {name!r} are no numbers within the file")
        promised = sum(array.nbytes for array in arrays if array.shape is not None)
    if promised > len(content):
        raise ValueError(f"its weights promise {promised:,} bytes and have {len(content):,}")


def _unreadable(path: str | os.PathLike[str], error: Exception) -> GenlabError:
    words = "its configuration is nested too deeply" if isinstance(error, RecursionError) else reason(error)
    return GenlabError(f"cannot read {path} as a Keras model: {words}.")
