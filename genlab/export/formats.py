"""Write a run's decoder, encoder and classifier as files for other programs, and check each file's output against the run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pathlib
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from genlab import __version__, files, grids, metadata, pictures
from genlab import run as runs
from genlab.backend import Layer, Network, Tensor, keras, quiet, tf
from genlab.errors import GenlabError, UsageError, closest
from genlab.export import model_card
from genlab.metadata import METADATA, MIXTURE, Exported
from genlab.networks import keras_files

Format = Literal["keras", "savedmodel", "litert", "litert-float16", "litert-int8", "onnx"]
FORMATS: tuple[str, ...] = get_args(Format)
TOLERANCE = 1e-5
"""Largest difference from the run's output allowed for float32 files; outputs are first divided by their maximum, if above 1."""
COMPARED = 16
"""Number of samples to compare."""
CALIBRATION = 256
"""Number of samples to calibrate an int8 file on."""
SIGNATURES = {"decoder": "sample", "encoder": "encode", "classifier": "classify"}
"""Signature of a SavedModel for each network."""
SCRATCH = ".genlab-export-"
"""Start of the name of the folder in which an export is made."""


def is_exact(format_: str) -> bool:
    """Whether files of a format compute in float32 and must match the run."""
    return format_ not in ("litert-float16", "litert-int8")


def export(
    run: runs.Run, formats: Sequence[str] = ("keras", "savedmodel"), out: str | os.PathLike[str] | None = None
) -> tuple[pathlib.Path, list[Exported]]:
    """Write the formats to `out`, by default `export` in the run's folder, with `metadata.json` and `MODEL_CARD.md`.

    An earlier export there is replaced once the new one is complete: of the folder, only files that it wrote, and that are
    still what it wrote, are removed. Raises GenlabError if the output of a float32 file differs from the run's. Raises
    UsageError for an unknown format, a missing library, or a folder in which other files have the names of exported ones.
    """
    for each in formats:
        if each not in FORMATS:
            raise UsageError(f"--formats {each}{closest(each, FORMATS)} Known: {', '.join(FORMATS)}.")
    if not formats:
        raise UsageError(f"--formats is empty. Known: {', '.join(FORMATS)}.")
    folder = pathlib.Path(out) if out is not None else run.path / "export"
    _check_names(folder, _names(run, formats))
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Within the folder, so that files can be renamed into their places on any file system.
        with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH, ignore_cleanup_errors=True) as scratch:
            new, before = (pathlib.Path(scratch) / name for name in ("new", "before"))
            new.mkdir()
            before.mkdir()
            written = [each for format_ in dict.fromkeys(formats) for each in _write(run, format_, new)]
            grids.save_image(_grid(run), new / "grid.png")
            files.write_text(new / "MODEL_CARD.md", model_card.text(run, written))
            _write_metadata(run, written, new)
            _exchange(folder, new, before)
    except BaseException:
        if created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return folder, written


# -- the folder --------------------------------------------------------------------------------------------------------


def _names(run: runs.Run, formats: Sequence[str]) -> set[str]:
    """Return the names of all files and folders that an export writes."""
    networks = ["decoder", *(name for name in ("encoder", "classifier") if getattr(run.model, name) is not None)]
    prior = {MIXTURE} if run.model.prior.arrays() else set()
    return (
        {METADATA, "MODEL_CARD.md", "grid.png"} | prior | {_file(each, name) for each in formats for name in networks}
    )


def _file(format_: str, network: str) -> str:
    """Return the name of a network's file."""
    if format_ == "savedmodel":
        return "saved_model"
    return f"{network}{format_.removeprefix('litert')}.tflite" if "litert" in format_ else f"{network}.{format_}"


def _earlier(folder: pathlib.Path) -> dict[str, str | None]:
    """Return the files that an earlier export left in a folder, by name, with their SHA-256 (None: unknown).

    Raises UsageError if the folder has other content and no export.
    """
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise UsageError(f"{path} is not a folder. Choose another one with --out.")
    try:
        found = metadata.read(folder)
    except FileNotFoundError:
        if folder.is_dir() and any(not path.name.startswith(SCRATCH) for path in folder.iterdir()):
            raise UsageError(
                f"{folder} holds something other than an export. Choose another folder with --out."
            ) from None
        return {}
    except GenlabError as error:
        raise UsageError(f"{folder} holds something other than an export: {error} Choose another with --out.") from None
    mixture = {MIXTURE: None} if "mixture" in found["latents"] else {}
    others: dict[str, str | None] = {"MODEL_CARD.md": None, "grid.png": None, **mixture, **found.get("others", {})}
    return {METADATA: None} | others | {each["file"]: each["sha256"] for each in found["files"]}


def _check_names(folder: pathlib.Path, names: set[str]) -> None:
    """Raise UsageError if an export would remove or replace anything that an earlier one did not write."""
    earlier = _earlier(folder)
    foreign = sorted(name for name in names - set(earlier) if os.path.lexists(folder / name))
    changed = sorted(
        name
        for name, digest in earlier.items()
        if digest is not None and os.path.lexists(folder / name) and _sha256(folder / name) != digest
    )
    for found, words in ((foreign, "which no earlier export wrote"), (changed, "changed since they were exported")):
        if found:
            raise UsageError(
                f"{folder} has {', '.join(found)}, {words}. Move them away, or choose another folder with --out."
            )


def _exchange(folder: pathlib.Path, new: pathlib.Path, before: pathlib.Path) -> None:
    """Move the files of an earlier export to `before`, and those in `new` to the folder. All of them, or none."""
    names = sorted((path.name for path in new.iterdir()), key=lambda name: (name == METADATA, name))
    _check_names(folder, set(names))
    moved = [(folder / name, before / name) for name in _earlier(folder) if os.path.lexists(folder / name)]
    moved += [(new / name, folder / name) for name in names]
    done = []
    try:
        for source, target in moved:
            source.rename(target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _sha256(path: pathlib.Path) -> str | None:
    """Return the hash of a file, or of all files in a folder one after the other; None if it is neither."""
    parts = sorted(path.rglob("*")) if path.is_dir() else [path]
    parts = [part for part in parts if not part.is_dir()]
    # An empty file does not change the hash, and a SavedModel has none.
    if any(not part.is_file() or part.stat().st_size == 0 for part in parts):
        return None
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


# -- the formats -------------------------------------------------------------------------------------------------------


def _write(run: runs.Run, format_: str, folder: pathlib.Path) -> Iterator[Exported]:
    """Write one format: the decoder, and the encoder and classifier that the run has. A SavedModel holds all."""
    if format_ == "savedmodel":
        path = folder / _file(format_, "decoder")
        write_saved_model(run, path)
        loaded = tf.saved_model.load(str(path))  # must stay alive while its signatures are used
        pairs = []
        for name, feed, expected in _examples(run):
            signature = loaded.signatures[SIGNATURES[name]]
            got = signature(**{key: tf.constant(value) for key, value in feed.items()})
            pairs.append((next(iter(got.values())), expected))
        yield _compared(run, path, format_, f"tensorflow {tf.__version__}", pairs)
        return
    for name, feed, expected in _examples(run):
        network, path = getattr(run.model, name), folder / _file(format_, name)
        if format_ == "keras":
            got, runtime = _keras(network, feed, path)
        elif format_ == "onnx":
            got, runtime = _onnx(network, feed, path)
        else:
            got, runtime = _litert(run, name, format_, feed, path)
        yield _compared(run, path, format_, runtime, [(got, expected)])


def _keras(network: Network, feed: dict[str, np.ndarray], path: pathlib.Path) -> tuple[Tensor, str]:
    own = sorted({type(each).__name__ for each in _layers(network) if type(each).__module__.startswith("genlab")})
    if own:
        raise UsageError(
            f"a .keras file must load without genlab, and this network has genlab's layers {', '.join(own)}. "
            "Use --formats savedmodel."
        )
    network.save(path)
    keras_files.check(path)  # as the Augmenter does
    loaded = keras.saving.load_model(path, compile=False)
    inputs = list(feed.values())
    return loaded(inputs if len(inputs) > 1 else inputs[0], training=False), f"keras {keras.__version__}"


def _layers(network: Network) -> Iterator[Layer]:
    """Yield the layers of a network and of the models within it."""
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def write_saved_model(run: runs.Run, path: pathlib.Path) -> None:
    """Write a SavedModel with the signatures `sample`, `sample_seeds` and, with an encoder, `encode` and `reconstruct`, with a
    classifier, `classify`.

    sample(latents [N, latent][, labels [N]]) and sample_seeds(seeds [N] int64[, labels [N]]) return images [N, H, W, C] in
    [-1, 1]; the seeds are those of `python -m genlab.sample`. encode(images) returns codes [N, latent], reconstruct(images)
    images, classify(images) logits [N, K]. `sample` is the default.
    """
    model = run.model
    latents = tf.TensorSpec([None, model.latent_size], tf.float32, name="latents")
    seeds = tf.TensorSpec([None], tf.int64, name="seeds")
    labels = [tf.TensorSpec([None], tf.int32, name="labels")] if model.conditional else []
    images = tf.TensorSpec([None, *model.spec.shape], tf.float32, name="images")

    def decode(codes: Tensor, *labels: Tensor) -> dict[str, Tensor]:
        return {"images": model.decode(codes, *labels)}

    def signature(
        function: Callable[..., dict[str, Tensor]], *specs: tf.TensorSpec
    ) -> Callable[..., dict[str, Tensor]]:
        return tf.function(function, input_signature=specs, autograph=False)

    module = tf.Module()
    # The tf.Variables inside Keras' variables: converters find no values for the wrappers.
    networks = [network for network in (model.decoder, model.encoder, model.classifier) if network is not None]
    module.weights = [weight.value for network in networks for weight in network.weights]
    module.prior = model.prior.variables()
    module.sample = signature(decode, latents, *labels)
    module.sample_seeds = signature(lambda seeds, *labels: decode(model.sample_latents(seeds), *labels), seeds, *labels)
    signatures = {"sample": module.sample, "sample_seeds": module.sample_seeds, "serving_default": module.sample}
    if (encoder := model.encoder) is not None:
        module.encode = signature(lambda images: {"codes": encoder(images, training=False)}, images)
        module.reconstruct = signature(lambda images: {"images": model.reconstruct(images)}, images)
        signatures |= {"encode": module.encode, "reconstruct": module.reconstruct}
    if (classifier := model.classifier) is not None:
        module.classify = signature(lambda images: {"logits": classifier(images, training=False)}, images)
        signatures["classify"] = module.classify
    with quiet():
        tf.saved_model.save(module, str(path), signatures=signatures)


def _litert(
    run: runs.Run, name: str, format_: str, feed: dict[str, np.ndarray], path: pathlib.Path
) -> tuple[np.ndarray, str]:
    interpreter = _library("ai_edge_litert.interpreter", "ai-edge-litert", "litert")
    key = SIGNATURES[name]
    with tempfile.TemporaryDirectory() as folder, quiet():
        write_saved_model(run, pathlib.Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[key])
        if format_ != "litert":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if format_ == "litert-float16":
            converter.target_spec.supported_types = [tf.float16]
        if format_ == "litert-int8":
            converter.representative_dataset = _calibration(run, name, key)
        path.write_bytes(converter.convert())
        runner = interpreter.Interpreter(model_path=str(path)).get_signature_runner(key)
        got = next(iter(runner(**feed).values()))
    return got, f"ai-edge-litert {_version('ai-edge-litert')}"


def _calibration(run: runs.Run, name: str, key: str) -> Callable[[], Iterator[tuple[str, dict[str, np.ndarray]]]]:
    """Return representative inputs: latents from the prior, or samples for other networks; never those of the comparison."""
    feed, images = _sampled(run, range(COMPARED, COMPARED + CALIBRATION))
    fed = feed if name == "decoder" else {"images": images}

    def examples() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for row in range(CALIBRATION):
            yield key, {name: values[row : row + 1] for name, values in fed.items()}

    return examples


def _onnx(network: Network, feed: dict[str, np.ndarray], path: pathlib.Path) -> tuple[np.ndarray, str]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would write to the home folder
    onnxruntime = _library("onnxruntime", "onnxruntime", "onnx")
    tf2onnx = _library("tf2onnx", "tf2onnx", "onnx")
    specs = [tf.TensorSpec([None, *values.shape[1:]], values.dtype, name=key) for key, values in feed.items()]
    function = tf.function(
        lambda *inputs: network(list(inputs) if len(inputs) > 1 else inputs[0], training=False),
        input_signature=specs,
        autograph=False,
    )
    with quiet():
        tf2onnx.convert.from_function(
            function, specs, opset=17, output_path=str(path), custom_op_handlers={"Erfc": (_erfc_to_onnx, [])}
        )
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        got = session.run(None, feed)[0]
    return got, f"onnxruntime {onnxruntime.__version__}"


def _erfc_to_onnx(context: Any, node: Any, name: str, _: Any) -> None:
    """Convert erfc(x), used by TensorFlow's GELU, to 1 - erf(x): ONNX has only erf."""
    node.type, node.domain = "Erf", ""
    one = context.make_const(f"{name}_one", np.ones((), np.float32))
    difference = context.insert_new_node_on_output("Sub", node.output[0], name=f"{name}_difference")
    context.replace_inputs(difference, [one.output[0], node.output[0]])


def _library(module: str, package: str, extra: str) -> types.ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f'--formats {extra} needs {package}, which is not installed: pip install "genlab[{extra}]".'
        ) from None


def _version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


# -- the comparison ----------------------------------------------------------------------------------------------------


def _sampled(run: runs.Run, seeds: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the decoder's inputs by name for some seeds, and the run's images for them."""
    latents, labels = np.asarray(run.model.sample_latents(list(seeds))), run.model.default_labels(list(seeds))
    feed = {"latents": latents} | ({} if labels is None else {"labels": np.asarray(labels, np.int32)})
    return feed, run.model.sample(latents, labels).numpy()


def _examples(run: runs.Run) -> Iterator[tuple[str, dict[str, np.ndarray], np.ndarray]]:
    """Yield name, inputs by name and the run's output for each exported network."""
    feed, images = _sampled(run, range(COMPARED))
    yield "decoder", feed, images
    if run.model.encoder is not None:
        yield "encoder", {"images": images}, run.model.encoder(images, training=False).numpy()
    if run.model.classifier is not None:
        yield "classifier", {"images": images}, run.model.classifier(images, training=False).numpy()


def _compared(
    run: runs.Run, path: pathlib.Path, format_: str, runtime: str, pairs: Sequence[tuple[Tensor, np.ndarray]]
) -> Exported:
    """Compare pairs of outputs, of the file and of the run. Raises GenlabError if a float32 file differs."""
    scaled = [np.abs(np.asarray(got) - expected) / max(1.0, float(np.abs(expected).max())) for got, expected in pairs]
    differences = np.concatenate([each.ravel() for each in scaled])
    parts = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    digest = _sha256(path)
    assert digest is not None, path
    largest = float(differences.max())
    if not largest <= (TOLERANCE if is_exact(format_) else np.inf):
        raise GenlabError(
            f"the outputs of {path.name} in {runtime} and of {run.name} differ by "
            f"{largest:.1e}, and at most {TOLERANCE:.0e} was expected. Nothing was exported."
        )
    return {
        "file": path.name,
        "format": format_,
        "bytes": sum(each.stat().st_size for each in parts),
        "sha256": digest,
        "largest_difference": largest,
        "mean_difference": float(differences.mean()),
        "runtime": runtime,
    }


# -- metadata and grid -------------------------------------------------------------------------------------------------


def _write_metadata(run: runs.Run, written: list[Exported], folder: pathlib.Path) -> None:
    """Write what programs need to use the files: value range, layout, prior of the latents, classes."""
    model, facts = run.model, run.config.dataset
    image = model.spec.is_image
    latents: metadata.Latents = {"size": model.latent_size, "prior": model.prior.name}
    if arrays := model.prior.arrays():
        files.write_arrays(folder / MIXTURE, arrays, compressed=False)
        latents["mixture"] = "prior.npz"
    others = {
        path.name: _sha256(path) or ""
        for path in folder.iterdir()
        if path.name not in {each["file"] for each in written}
    }
    content: metadata.Metadata = {
        "genlab": __version__,
        "model": run.config.model,
        "run": run.name,
        "step": run.step,
        "latents": latents,
        "images": {
            "shape": list(model.spec.shape),
            "layout": "NHWC" if image else "ND",
            "dtype": "float32",
            "range": [-1, 1] if image else None,
        },
        "classes": facts["class_names"] if model.conditional else None,
        "has_encoder": model.encoder is not None,
        "classifier": None if model.classifier is None else facts["class_names"],
        "files": written,
        "others": others,
    }
    files.write_json(folder / METADATA, content)


def _grid(run: runs.Run) -> np.ndarray:
    """Draw the default grid of `python -m genlab.sample`."""
    count, columns = pictures.layout(run.model)
    _, drawn = _sampled(run, range(count))
    real = None
    if not run.model.spec.is_image:
        with contextlib.suppress(GenlabError):  # real points are drawn in the background, if the data can be loaded
            real = run.data().images
    return pictures.samples(drawn, columns, real)
