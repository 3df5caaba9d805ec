"""TensorFlow, Keras and TensorFlow Probability, imported when first used and without their start-up noise.

TensorFlow takes seconds to import and prints a dozen lines while it does. The command line must answer `--help`
at once, so every module of genlab takes `tf`, `keras` and `tfp` from here: they import the real module at the
first attribute that is asked of them.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
import types
from typing import TYPE_CHECKING, Any

from genlab.errors import GenlabError

_lock = threading.RLock()
_imported: dict[str, types.ModuleType] = {}


class LazyModule(types.ModuleType):
    """Stands for a module until one of its attributes is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        name = self.__dict__["__name__"]
        if name not in _imported:
            with _lock:
                _import_tensorflow()
                _imported[name] = importlib.import_module(name)
        return getattr(_imported[name], attribute)


def _import_tensorflow() -> None:
    """Import TensorFlow once, with standard error set aside; what it printed is replayed where the import fails.

    The noise is written by C++ code to file descriptor 2, some of it before any setting can stop it.
    """
    if "tensorflow" in _imported:
        return
    # What is an error to TensorFlow is raised as an exception too; what it only prints is advice on its own build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all (a windowed program)
        kept = None
    if kept is None or "tensorflow" in sys.modules:
        _imported["tensorflow"] = importlib.import_module("tensorflow")
    else:
        with tempfile.TemporaryFile() as noise:
            os.dup2(noise.fileno(), 2)
            try:
                tensorflow = importlib.import_module("tensorflow")
                for gpu in tensorflow.config.list_physical_devices("GPU"):
                    tensorflow.config.experimental.set_memory_growth(gpu, True)
                # On training graphs the remapper pass fails half way (leaky relu after a bias, in a gradient), says so
                # on every call, and leaves a graph that is a quarter slower than without the pass.
                tensorflow.config.optimizer.set_experimental_options({"remapping": False})
                tensorflow.zeros([])  # the devices report when they are first used: here, not in the training log
                _imported["tensorflow"] = tensorflow
            finally:
                os.dup2(kept, 2)
                os.close(kept)
                if "tensorflow" not in _imported:
                    noise.seek(0)
                    sys.stderr.write(noise.read().decode(errors="replace"))
    keras_module = importlib.import_module("keras")
    if keras_module.backend.backend() != "tensorflow":
        raise GenlabError(
            f"Keras runs on {keras_module.backend.backend()} here, and genlab needs TensorFlow. "
            "Import genlab before keras, or set KERAS_BACKEND=tensorflow."
        )


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import tensorflow_probability as tfp
else:
    tf = LazyModule("tensorflow")
    keras = LazyModule("keras")
    tfp = LazyModule("tensorflow_probability")
