"""TensorFlow, Keras and TensorFlow Probability, imported on first use and without their start-up messages.

TensorFlow takes seconds to import and prints a dozen lines. `--help` must answer at once, so every module of genlab
imports `tf`, `keras` and `tfp` from here. They import the real module on the first attribute access.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from genlab.errors import GenlabError

__all__ = [
    "Layer",
    "LazyModule",
    "Network",
    "Optimizer",
    "Shape",
    "Stream",
    "Tensor",
    "Variable",
    "forget_kernels",
    "in_parts",
    "keras",
    "leave_devices",
    "quiet",
    "show_cpus",
    "tf",
    "tfp",
]

# TensorFlow and Keras ship no types. These names say in a signature what mypy cannot check.
Tensor: TypeAlias = Any
"""A tensor of TensorFlow, a symbolic one of Keras, or what converts to a tensor: an array, a variable, a number."""
Variable: TypeAlias = Any
"""A variable of TensorFlow or of Keras."""
Network: TypeAlias = Any
"""A Keras model."""
Layer: TypeAlias = Any
"""A Keras layer."""
Optimizer: TypeAlias = Any
"""A Keras optimizer."""
Stream: TypeAlias = Any
"""A tf.data.Dataset."""
Shape: TypeAlias = tuple[Any, ...]
"""Sizes of a tensor's axes, as Keras gives them: integers, or None where a size is not fixed."""
Parts = TypeVar("Parts")
"""What a function returns that is called in parts: arrays, or a list of them."""

_lock = threading.RLock()
_cpus = 1
"""Number of logical devices that the CPU is split into."""
_begin = True
"""Whether TensorFlow's devices are initialized on import."""
_imported: dict[str, types.ModuleType] = {}


class LazyModule(types.ModuleType):
    """Module that is imported on the first attribute access."""

    def __getattr__(self, attribute: str) -> Any:
        name = self.__dict__["__name__"]
        if name not in _imported:
            with _lock:
                _import_tensorflow()
                _imported[name] = importlib.import_module(name)
        return getattr(_imported[name], attribute)


def show_cpus(count: int) -> None:
    """Split the CPU into `count` logical devices. Call it before TensorFlow is imported."""
    global _cpus
    _cpus = count


def leave_devices() -> None:
    """Do not initialize TensorFlow's devices on import: several machines must be connected first."""
    global _begin
    _begin = False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress stderr; print what was suppressed if the body fails.

    For libraries whose C++ code writes to file descriptor 2, some of it before any setting can stop it.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all (a windowed program)
        yield
        return
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                noise.seek(0)
                sys.stderr.write(noise.read().decode(errors="replace"))


def _import_tensorflow() -> None:
    """Import TensorFlow once, quietly."""
    if "tensorflow" in _imported:
        return
    # TensorFlow also raises its errors as exceptions; what it only prints is advice on its build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" in sys.modules:
        _imported["tensorflow"] = importlib.import_module("tensorflow")
    else:
        with quiet():
            tensorflow = importlib.import_module("tensorflow")
            for gpu in tensorflow.config.list_physical_devices("GPU"):
                tensorflow.config.experimental.set_memory_growth(gpu, True)
            if _cpus > 1:
                cpu = tensorflow.config.list_physical_devices("CPU")[0]
                parts = [tensorflow.config.LogicalDeviceConfiguration() for _ in range(_cpus)]
                tensorflow.config.set_logical_device_configuration(cpu, parts)
            # On training graphs the remapper pass fails half way (leaky ReLU after a bias, in a gradient), logs that on
            # every call, and leaves a graph that is a quarter slower than without the pass.
            tensorflow.config.optimizer.set_experimental_options({"remapping": False})
            if _begin:
                tensorflow.zeros([])  # devices print on first use: here, not in the training log
            _imported["tensorflow"] = tensorflow
    keras_module = importlib.import_module("keras")
    if keras_module.backend.backend() != "tensorflow":
        raise GenlabError(
            f"Keras runs on {keras_module.backend.backend()} here, and genlab needs TensorFlow. "
            "Import genlab before keras, or set KERAS_BACKEND=tensorflow."
        )


def forget_kernels() -> None:
    """Drop the kernels that TensorFlow keeps of every operation and function that was called eagerly.

    It keeps those of functions that are gone, too: about a megabyte for each training in a program that trains many. What is
    called again is prepared again, in microseconds.
    """
    from tensorflow.python.eager import context  # there is no public name for it

    context.context().clear_kernel_cache()


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import tensorflow_probability as tfp
else:
    tf = LazyModule("tensorflow")
    keras = LazyModule("keras")
    tfp = LazyModule("tensorflow_probability")


def in_parts(function: Callable[..., Parts], *arrays: Tensor, size: int = 1000) -> Parts:
    """Apply `function` to `size` rows of the arrays at a time; return what it returns, arrays or a list of them, concatenated."""
    starts = range(0, len(arrays[0]), size)
    parts = [function(*(array[start : start + size] for array in arrays)) for start in starts]
    return tf.nest.map_structure(lambda *each: np.concatenate([np.asarray(part) for part in each]), *parts)
