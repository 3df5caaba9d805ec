"""What users type and pass by mistake: one clear message, the documented exit status, no traceback, and nothing is touched.

Every case is a command line, or a call from Python, in one folder with two stored runs, an export and files of all kinds.
Nothing is trained: a case that would begin a training fails.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pathlib
import re
import shutil
import zipfile

import numpy as np
import pytest

import genlab
from genlab import run as runs
from genlab.encode import codec

STORED = pathlib.Path(__file__).parent / "stored"
ARABIC = "٣"
"""A three, in digits that Python's `int` and `\\d` also know."""
HUGE = "9" * 5000
GREY = np.zeros((2, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder, which no case may change."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(STORED / "runs", folder / "runs")
    shutil.copytree(STORED / "exported", folder / "export")
    for name in ("text.keras", "note.txt", "noise.npz", "noise.npy"):
        (folder / name).write_text("no model, no array")
    (folder / "noise.csv").write_bytes(b'file,label\n"\xff')
    (folder / "table.csv").write_text("file,label\nnowhere.png,cat\n")
    (folder / "empty.npz").touch()
    os.mkfifo(folder / "pipe.npz")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "metadata.json").write_text('{"author": "me"}')
    (folder / "mine").mkdir()
    (folder / "mine" / "photo.png").write_bytes(b"mine")
    np.savez(folder / "objects.npz", images=np.array([{}], object))
    write_codes(folder)
    write_exports(folder)
    return folder


def write_codes(folder: pathlib.Path) -> None:
    """Files of codes of the vae, each with one thing wrong."""
    codes = codec.quantize(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), 5)
    codes.save(folder / "codes.npz", run="00001-vae-digits", step=2)
    with np.load(folder / "codes.npz") as arrays:
        right = dict(arrays)
    for name, change in {
        "count": {"count": 4},
        "many": {"count": 10**12},
        "minus": {"count": -3},
        "fraction": {"count": 3.0},
        "several": {"count": np.array([3, 3])},
        "bits": {"bits": 17},
        "size": {"size": 3},
        "packed": {"packed": right["packed"].astype(np.int32)},
        "nan": {"low": np.full(4, np.nan, np.float32)},
        "reversed": {"low": right["high"], "high": right["low"]},
        "words": {"low": np.array(["a"] * 4)},
        "labels": {"labels": np.zeros(2, int)},
        "halves": {"labels": np.full(3, 0.5)},
        "steps": {"step": np.array([2, 2])},
        "run": {"run": 1},
        "other": {"run": "00007-vae-digits"},
    }.items():
        np.savez(folder / f"codes-{name}.npz", **right | change)
    del right["packed"]
    np.savez(folder / "codes-lacking.npz", **right)
    short = codec.quantize(np.zeros((3, 2), np.float32), 5)
    short.save(folder / "codes-short.npz", run="00001-vae-digits", step=2)


def write_exports(folder: pathlib.Path) -> None:
    """Exports, each with one thing wrong."""
    facts = json.loads((folder / "export" / "metadata.json").read_text())
    latents, mixture = facts["latents"], facts["latents"] | {"prior": "fitted", "mixture": "prior.npz"}
    for name, change in {
        "types": {"classes": 10},
        "null": {"latents": None},
        "prior": {"latents": latents | {"prior": "cauchy"}},
        "negative": {"latents": latents | {"size": -4}},
        "larger": {"latents": latents | {"size": 10**12}},
        "shape": {"images": facts["images"] | {"shape": [28, 28, 3]}},
        "unlabelled": {"classes": None},
        "outside": {"latents": latents | {"mixture": "../export/prior.npz"}},
        "absolute": {"files": [facts["files"][0] | {"file": "/etc/passwd"}]},
        "above": {"files": [facts["files"][0] | {"file": ".."}]},
        "mixture": {"latents": mixture},
        "encoder": {"has_encoder": True},
        "points": {"images": facts["images"] | {"range": None}},
    }.items():
        shutil.copytree(folder / "export", folder / f"export-{name}")
        (folder / f"export-{name}" / "metadata.json").write_text(json.dumps(facts | change))
    whole = {"weights": np.ones(1), "means": np.zeros((1, 4)), "scales": np.eye(4)[None]}
    for name, change in {
        "objects": {"weights": np.array([None])},
        "wide": {"means": np.zeros((1, 5))},
        "infinite": {"scales": np.full((1, 4, 4), np.inf)},
        "light": {"weights": np.full(1, 0.5)},
        "words": {"weights": np.array(["one"])},
    }.items():
        shutil.copytree(folder / "export-mixture", folder / f"export-{name}")
        np.savez(folder / f"export-{name}" / "prior.npz", **whole | change)
    for name in ("cut", "emptied"):
        shutil.copytree(folder / "export", folder / f"export-{name}")
        path = folder / f"export-{name}" / "decoder.keras"
        path.write_bytes(path.read_bytes()[: 20_000 if name == "cut" else 0])
    shutil.copytree(folder / "export", folder / "export-brackets")
    (folder / "export-brackets" / "metadata.json").write_text("[" * 100_000)
    shutil.copytree(folder / "export", folder / "export-nothing")
    (folder / "export-nothing" / "metadata.json").write_bytes(b"")
    shutil.copytree(folder / "export", folder / "export-pipe")
    (folder / "export-pipe" / "metadata.json").unlink()
    os.mkfifo(folder / "export-pipe" / "metadata.json")
    (folder / "export-lambda").mkdir()
    shutil.copy(folder / "export" / "metadata.json", folder / "export-lambda")
    with zipfile.ZipFile(folder / "export" / "decoder.keras") as archive:
        config = archive.read("config.json").replace(b'"class_name": "Reshape"', b'"class_name": "Lambda"')
        with zipfile.ZipFile(folder / "export-lambda" / "decoder.keras", "w") as tampered:
            tampered.writestr("config.json", config)
            tampered.writestr("model.weights.h5", archive.read("model.weights.h5"))


@pytest.fixture(autouse=True)
def in_place(place, monkeypatch):
    """Cases run in the folder; a run that was opened stays open; and no training begins."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("GENLAB_CACHE", str(place / "cache"))
    monkeypatch.setattr(runs, "open", opened)

    def began(*_, **__):
        pytest.fail("a training began")

    for name in ("genlab.train.fit.start", "genlab.train.fit.resume", "genlab.evaluate.classifier.fit"):
        monkeypatch.setattr(name, began)


@functools.cache
def opened(*names, **options):
    return _open(*names, **options)


_open = runs.open


def snapshot(folder: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Everything in the folder: a file that is written, even with the same content, is another one at another time."""
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: (facts.st_ino, facts.st_size, facts.st_mtime_ns) for path, facts in found.items()}


# -- commands ----------------------------------------------------------------------------------------------------------

TOP = [
    ("nothing", 2, "there is no command 'nothing'"),
    ("smaple", 2, "did you mean sample?"),
    ("sample --seed x", 2, "--seed"),
    ("--completion", 2, "one of bash, zsh, fish"),
    ("--completion csh", 2, "one of bash, zsh, fish"),
]
TRAIN = [
    ("dcgn", 2, "did you mean dcgan"),
    ("--steps 3", 2, "no model was given"),
    ("dcgan --steps 0", 2, "above 0"),
    ("dcgan --steps -1", 2, "above 0"),
    ("dcgan --steps 1e3", 2, "--steps"),
    (f"dcgan --steps {HUGE}", 2, "5,000 digits"),
    ("dcgan --stps\x1b[2J 1", 2, "\\x1b[2J"),
    ("dcgan --epochs 0", 2, "above 0"),
    ("dcgan --epochs nan", 2, "epochs"),
    ("dcgan --steps 1 --epochs 1", 2, "leave one out"),
    ("dcgan --stps 1", 2, "--steps"),
    ("dcgan --seed -1", 2, "from 0 to"),
    ("dcgan --seed 2147483648", 2, "at most 2,147,483,647"),
    ("dcgan --seed 1e20", 2, "--seed"),
    ("dcgan --preset none", 2, "no preset"),
    ("dcgan --precision int4", 2, "precision"),
    ("dcgan --batch-size 0", 2, "at least 1"),
    ("dcgan --generator-widths 4 4 4", 2, "images of 28x28 have resolutions for 2. Leave out the last 1."),
    (
        "vae --encoder-widths 4 4 4 --coarsest-size 14",
        2,
        "--encoder-widths has 3 widths, and networks for images of 28x28 have",
    ),
    ("began --network conv --discriminator-widths 4 4 4 4", 2, "Leave out the last 2."),
    ("flow --widths 4 4 4", 2, "images of 28x28 have resolutions for 2. Leave out the last 1."),
    ("vae --importance-start 2", 2, "importance_start is 2.0; it must be from 0 to 1"),
    ("vae --importance-samples 0", 2, "importance_samples is 0; it must be at least 1"),
    ("vae --importance-samples 4 --beta 4", 2, "they need beta 1, no warm_up_steps, no free_bits"),
    ("dcgan --coarsest-size 0", 2, "coarsest_size is 0; it must be at least 1"),
    ("dcgan --latent-size -3", 2, "at least 1"),
    ("dcgan --log-every 0", 2, "at least 1"),
    ("dcgan --keep 0", 2, "at least 1"),
    ("dcgan --evaluate-every -1", 2, "at least 0"),
    ("dcgan --profile 9:3", 2, "START:STOP"),
    ("dcgan --profile 5", 2, "START:STOP"),
    ("dcgan --profile 1:²", 2, "START:STOP"),
    ("dcgan --generator-learning-rate 0", 2, "generator_learning_rate is 0.0; it must be above 0"),
    ("dcgan --generator-learning-rate nan", 2, "generator_learning_rate is nan; it must be finite"),
    ("dcgan --r1-penalty inf", 2, "r1_penalty is inf; it must be finite"),
    ("dcgan --r1-penalty -1", 2, "r1_penalty is -1.0; it must be at least 0"),
    ("wgan --generator-learning-rate auto", 2, "FLOAT"),
    ("cgan --auxiliary-classifier -1", 2, "auxiliary_classifier is -1.0; it must be at least 0"),
    ("cgan --conditioning concatenate --auxiliary-classifier 1", 2, "0 unless conditioning is projection"),
    ("dcgan --epochs inf", 2, "epochs is inf; it must be finite"),
    ("dcgan --epochs 1e300", 2, "a run has at most 2,147,483,647"),
    ("dcgan --steps 999999999999", 2, "steps is too large"),
    (f"--resume 0 --keep {HUGE}", 2, "5,000 digits"),
    ("dcgan --keep ²", 2, "--keep"),
    ("dcgan --generator-units -1", 2, "generator_units is -1; it must be at least 0"),
    ("dcgan --average-share 0", 2, "average_share is 0.0; it must be above 0 and at most 0.5"),
    ("vae --average-share 0.6", 2, "average_share is 0.6; it must be above 0 and at most 0.5"),
    ("autoencoder --coarsest-size 0", 2, "coarsest_size is 0; it must be at least 1"),
    ("flow --ode-steps 0", 2, "ode_steps is 0; it must be at least 1"),
    ("flow --time-shift 0", 2, "time_shift is 0.0; it must be above 0"),
    ("flow --guidance 2", 2, "needs --conditioning labels"),
    ("flow --label-dropout 1", 2, "label_dropout is 1.0; it must be at least 0 and below 1"),
    ("dcgan --differentiable-augmentation sepia", 2, "sepia"),
    ("dcgan --from 17", 2, "no run '17'"),
    ("dcgan --freeze-discriminator 1", 2, "add --from RUN"),
    ("dcgan --freeze-discriminator -1", 2, "freeze_discriminator is -1; it must be at least 0"),
    ("dcgan --replicas 2", 2, "replicas"),
    ("dcgan --strategy magic", 2, "strategy"),
    ("dcgan --on-nan panic", 2, "on-nan"),
    ("dcgan --data nowhere", 2, "no such data set"),
    ("dcgan --data noise.npz", 2, "noise.npz"),
    ("dcgan --data empty.npz", 2, "empty.npz"),
    ("dcgan --data objects.npz", 2, "Python objects"),
    ("dcgan --data pipe.npz", 2, "nor a regular file"),
    ("dcgan --data noise.npy", 2, "noise.npy"),
    ("dcgan --size 7", 2, "from 8 to 1024"),
    ("dcgan --size wide", 2, "like 64"),
    ("dcgan --classes 12", 2, "the classes of digits"),
    ("dcgan --limit 0", 2, "above 0"),
    ("semi_gan --labelled 0", 2, "labelled is 0; it must be above 0"),
    ("semi_gan --labelled 9", 2, "it must be from 10, one for each class"),
    ("semi_gan --labelled 1437", 2, "at least one must be left without a label"),
    ("semi_gan --labelled few", 2, "--labelled"),
    ("semi_gan --labelled 50 --labelled-seed -1", 2, "labelled_seed is -1; it must be from 0"),
    ("semi_gan --labelled 50 --balance weight", 2, "--balance weight needs labels, and some images of digits"),
    ("semi_gan --conditioning projection", 2, "semi_gan's discriminator classifies single images"),
    ("semi_gan --consistency-threshold 2", 2, "consistency_threshold is 2.0; it must be from 0 to 1"),
    ("semi_gan --rotation-weight -1", 2, "rotation_weight is -1.0; it must be at least 0"),
    ("semi_gan --unlabelled-weight -1", 2, "unlabelled_weight is -1.0; it must be at least 0"),
    ("cgan --labelled 50", 2, "python -m genlab.data label RUN OUT"),
    ("flow --conditioning labels --labelled 50", 2, "python -m genlab.data label RUN OUT"),
    ("semi_gan --data table.csv", 2, "there is no file nowhere.png"),
    ("semi_gan --data noise.csv", 2, "noise.csv cannot be read as a table"),
    ("dcgan --split 0.5/0.6", 2, "add up to 1"),
    ("dcgan --split nan/nan", 2, "split"),
    ("dcgan --value-range 0", 2, "two numbers"),
    ("dcgan --value-range 1,0", 2, "smaller"),
    ("dcgan --value-range nan,1", 2, "value_range"),
    ("dcgan --memory 0", 2, "above 0"),
    ("dcgan --memory nan", 2, "memory"),
    ("dcgan --memory inf", 2, "memory"),
    ("dcgan --augment spin", 2, "spin"),
    ("dcgan --background nocolour", 2, "colour"),
    ("--resume 9", 2, "no run '9'"),
    ("--resume mine", 2, "no config.json"),
    ("gan --resume 0", 2, "a run of cgan, not of gan"),
    ("--resume 0 --latent-size 9", 2, "different settings"),
    (f"--resume {ARABIC}", 2, "no run"),
    ("--resume ²", 2, "no run"),
    (f"--resume {HUGE}", 2, "no run"),
]
SAMPLE = [
    ("--count 0", 2, "at least 1"),
    ("--count -3", 2, "at least 1"),
    ("--count 2.5", 2, "--count"),
    ("--count 99999999999", 2, "at most 2,147,483,647"),
    ("--count 2147483647", 2, "a grid of 2,147,483,647 images"),
    (f"--count {HUGE}", 2, "5,000 digits"),
    ("--seed -1", 2, "at least 0"),
    ("--seed 9223372036854775808", 2, "at most 9,223,372,036,854,775,807"),
    ("--seed 9223372036854775807 --count 2", 2, "the last seed"),
    ("--seed 1e20", 2, "--seed"),
    ("--seeds 5-2", 2, "increasing ranges"),
    ("--seeds 1,,2", 2, "numbers and increasing ranges"),
    ("--seeds 1-", 2, "numbers and increasing ranges"),
    ("--seeds -1", 2, "--seeds"),
    ("--seeds x", 2, "--seeds x"),
    (f"--seeds {ARABIC}", 2, "numbers and increasing ranges"),
    ("--seeds ²", 2, "numbers and increasing ranges"),
    ("--seeds 100000000000000000000", 2, "of at most 9,223,372,036,854,775,807"),
    (f"--seeds 1,{HUGE}", 2, "5,000 digits"),
    ("--seeds 0-300000000", 2, "a grid of 300,000,001 images"),
    ("--seeds 0-300000000 --array some", 2, "300,000,001 samples were asked for, and at most"),
    ("--seeds 0-300000000 --individual", 2, "at most 1,000,000 are written"),
    ("--seeds 0-9223372036854775807 --array some", 2, "at most"),
    ("--grid 8by8", 2, "COLUMNSxROWS"),
    ("--grid 0x8", 2, "COLUMNSxROWS"),
    ("--grid -1x8", 2, "--grid"),
    (f"--grid {ARABIC}x{ARABIC}", 2, "COLUMNSxROWS"),
    ("--grid 100000x100000", 2, "at most 268,435,456 are drawn"),
    ("--grid 99999999999x1", 2, "COLUMNSxROWS"),
    ("--grid 2x2 --count 5", 2, "holds 4 images, and 5"),
    ("--interpolate 3", 2, "two seeds A:B"),
    ("--interpolate 3:", 2, "two seeds A:B"),
    (f"--interpolate {ARABIC}:4", 2, "two seeds A:B"),
    ("--interpolate 0:100000000000000000000", 2, "two seeds A:B"),
    ("--interpolate 3:4 --frames 1", 2, "at least 2"),
    ("--interpolate 3:4 --frames 1000000000", 2, "at most 74,565 frames of 60x60 pixels"),
    ("--interpolate 3:4 --format avi", 2, "gif or mp4"),
    ("--label 12", 2, "the classes of 00000-cgan-digits are 0, 1"),
    (f"--label {ARABIC}", 2, "the classes of"),
    ("--label ²", 2, "the classes of"),
    ("--run 1 --label 3", 2, "without labels"),
    ("--truncation 3", 2, "from 0 to 2"),
    ("--truncation -0.5", 2, "from 0 to 2"),
    ("--truncation nan", 2, "from 0 to 2"),
    ("--invert nowhere.png", 1, "nowhere.png cannot be read: No such file"),
    ("--invert note.txt", 1, "note.txt cannot be read: it is not an image"),
    ("--invert mine", 1, "mine cannot be read: it is not a regular file"),
    ("--array .", 2, "is a folder; name a file, like arrays.npz"),
    ("--array ..", 2, "is a folder"),
    ("--array mine", 2, "mine is a folder"),
    ("--array note.txt/images", 1, "File exists: note.txt"),
    ("--out note.txt", 1, "File exists: note.txt"),
    ("--run nowhere", 2, "no run 'nowhere'"),
    ("--run mine", 2, "no config.json"),
    (f"--run {ARABIC}", 2, "no run"),
    ("--checkpoint 7", 2, "the steps"),
    ("--checkpoint best", 2, "--evaluate-every"),
    ("--checkpoint ²", 2, "the steps"),
    ("--frmes 3", 2, "--frames"),
    ("--frm\x1b[2J 3", 2, "\\x1b[2J"),
]
EVALUATE = [
    ("--samples 1", 2, "at least 2"),
    ("--samples -5", 2, "at least 2"),
    ("--samples 1e4", 2, "--samples"),
    ("--samples 99999999999", 2, "at most 2,147,483,647"),
    ("--importance-samples 0", 2, "at least 1"),
    ("--importance-samples 1000000000", 2, "at most 100,000"),
    ("--seed -1", 2, "at least 0"),
    ("--seed 4294967296", 2, "at most 2,147,483,647"),
    ("--extractor nowhere.keras", 2, "no such file"),
    ("--extractor text.keras", 2, "cannot read text.keras as a Keras model"),
    ("--extractor note.txt", 2, "must end in .keras"),
    ("--extractor export-lambda/decoder.keras", 2, "it names keras.layers.Lambda"),
    ("--extractor export-cut/decoder.keras", 2, "cannot read"),
    ("--extractor export/decoder.keras", 2, "has 2 inputs"),
    ("--checkpoint 99", 2, "the steps"),
    ("9", 2, "no run '9'"),
    ("0 9", 2, "no run '9'"),
]
AUGMENT = [
    ("0 --per-class x", 2, "must be numbers"),
    ("0 --per-class 0", 2, "at least 1"),
    ("0 --per-class 5,", 2, "must be numbers"),
    ("0 --per-class -5", 2, "--per-class"),
    (f"0 --per-class {ARABIC}", 2, "must be numbers"),
    (f"0 --per-class {HUGE}", 2, "5,000 digits"),
    ("0 --per-class 99999", 2, "a class has only"),
    ("0 --seeds 0", 2, "at least 1"),
    ("0 --steps 0", 2, "at least 1"),
    ("0 --steps -1", 2, "at least 1"),
    ("0 --fraction 0", 2, "above 0"),
    ("0 --fraction 1.5", 2, "at most 1"),
    ("0 --fraction nan", 2, "above 0"),
    ("0 --fraction inf", 2, "at most 1"),
    ("0 --vary perturb", 2, "needs a run with an encoder"),
    ("0 --vary renoise", 2, "whose model can re-noise images"),
    ("0 --vary spin", 2, "spin"),
    ("0 --vary renoise --confidence 2", 2, "from 0 to 1"),
    ("0 --confidence 0.5", 2, "--confidence is for variations"),
    ("0 --vary-classes 9", 2, "--vary-classes is for variations"),
    ("0 --vary renoise --vary-classes ten", 2, "--vary-classes ten: the classes of"),
    ("0 --vary perturb --select classifier --candidates 2", 2, "leave one out"),
    ("0 --candidates 0", 2, "at least 1"),
    ("0 --candidates 2", 2, "go together"),
    ("0 --candidates 100000 --select discriminator", 2, "at most 100"),
    ("0 --select best", 2, "Known: none, discriminator, classifier"),
    ("1", 2, "draws without"),
    ("0 --data nowhere", 2, "no such data set"),
    ("9", 2, "no run '9'"),
]
EXPORT = [
    ("0 --formats onxx", 2, "did you mean onnx"),
    ("0 --formats", 2, "--formats"),
    ("0 --formats KERAS", 2, "Known: keras"),
    ("0 --out note.txt", 2, "note.txt is not a folder"),
    ("0 --out mine", 2, "something other than an export"),
    ("0 --out foreign", 2, "something other than an export"),
    ("0 --out export-absolute", 2, "no name of an exported file"),
    ("0 --out export-above", 2, "no name of an exported file"),
    ("0 --out export-brackets", 2, "something other than an export"),
    ("0 --out export-cut", 2, "has decoder.keras, changed since they were exported"),
    ("0 --out export-pipe", 2, "it is not a regular file"),
    ("0 --out note.txt/export", 2, "is not a folder"),
    ("9", 2, "no run '9'"),
]
REPORT = [
    ("0 --out mine", 2, "must be a file that ends in .html"),
    ("0 --out report.pdf", 2, "must be a file that ends in .html"),
    ("0 0", 2, "was given twice"),
    ("0 1 0 1 0 1 0 1 0", 2, "shows 1 to 8 runs"),
    ("9", 2, "no run '9'"),
]
EXPLORE = [
    ("0 --port 0", 2, "at least 1 and at most 65,535"),
    ("0 --port 99999", 2, "at least 1 and at most 65,535"),
    ("0 --host nowhere.invalid", 1, "of nowhere.invalid cannot be used"),
    ("9", 2, "no run '9'"),
]
TRANSFER = [
    ("1 --augment shft", 2, "invalid choice 'shft'"),
    ("1 --labels few", 2, "must be numbers or all"),
    ("1 --labels 5", 2, "from 10 to"),
    ("1 --labels 0", 2, "at least 1"),
    ("1 --labels -100", 2, "--labels"),
    ("1 --labels 100,", 2, "must be numbers or all"),
    (f"1 --labels {ARABIC}00", 2, "must be numbers or all"),
    ("1 --labels ²", 2, "must be numbers or all"),
    (f"1 --labels {HUGE}", 2, "5,000 digits"),
    ("1 --labels 99999999", 2, "can be drawn"),
    ("1 --seeds 0", 2, "at least 1"),
    ("1 --steps 0", 2, "at least 1"),
    ("1 --layers dwn*", 2, "no layer is named 'dwn*'"),
    ("9", 2, "no run '9'"),
]
ENCODE = [
    ("1 --bits 17", 2, "1 to 16, or 32"),
    ("1 --bits 0", 2, "1 to 16, or 32"),
    ("1 --bits -8", 2, "1 to 16, or 32"),
    ("1 --bits eight", 2, "--bits"),
    (f"1 --bits {HUGE}", 2, "5,000 digits"),
    ("1 --split validation", 2, "no validation images"),
    ("1 --split all", 2, "--split"),
    ("1 --projection umap", 2, "--projection"),
    ("1 --out .", 2, "is a folder"),
    ("1 --out mine", 2, "is a folder"),
    ("1 --data nowhere", 2, "no such data set"),
    ("0", 2, "has no encoder"),
    ("1 --decode nowhere.npz", 1, "No such file"),
    ("1 --decode mine", 1, "not a file of codes"),
    ("1 --decode noise.npz", 1, "not a file of codes"),
    ("1 --decode empty.npz", 1, "not a file of codes"),
    ("1 --decode objects.npz", 1, "not a file of codes"),
    ("1 --decode text.keras", 1, "not a file of codes"),
    ("1 --decode pipe.npz", 1, "it is not a regular file"),
    ("1 --decode codes-lacking.npz", 1, "it lacks 'packed'"),
    ("1 --decode codes-count.npz", 1, "packed must be finite uint8 [10]"),
    ("1 --decode codes-many.npz", 1, "packed must be finite uint8"),
    ("1 --decode codes-minus.npz", 1, "it has -3 codes"),
    ("1 --decode codes-fraction.npz", 1, "count is missing or no integer"),
    ("1 --decode codes-several.npz", 1, "count is missing or no integer"),
    ("1 --decode codes-bits.npz", 1, "17 bits"),
    ("1 --decode codes-size.npz", 1, "not a file of codes"),
    ("1 --decode codes-packed.npz", 1, "packed must be finite uint8"),
    ("1 --decode codes-nan.npz", 1, "low must be finite float32 [4]"),
    ("1 --decode codes-reversed.npz", 1, "low is above high"),
    ("1 --decode codes-words.npz", 1, "low must be finite"),
    ("1 --decode codes-labels.npz", 1, "labels must be 3 integers"),
    ("1 --decode codes-halves.npz", 1, "labels must be 3 integers"),
    ("1 --decode codes-steps.npz", 1, "step is missing or no integer"),
    ("1 --decode codes-run.npz", 1, "run is no text"),
    ("1 --decode codes-other.npz", 2, "encoded by step 2 of 00007-vae-digits"),
    ("1 --decode codes-short.npz", 2, "codes of 2 dimensions; this run's have"),
]
ANOMALY = [
    ("1", 2, "--data"),
    ("1 --data nowhere", 2, "no such data set"),
    ("1 --data noise.npz", 2, "noise.npz"),
    ("1 --data objects.npz", 2, "Python objects"),
    ("1 --data ring", 2, "ring has images of shape"),
    ("1 --data digits --score likelyhood", 2, "did you mean likelihood?"),
    ("1 --data digits --score discriminator", 2, "vae has no score discriminator"),
    ("1 --data digits --score codes --correct complexity", 2, "codes of vae is no likelihood"),
    ("1 --data digits --score likelihood --correct jpeg", 2, "--correct"),
    ("1 --data digits --score likelihood --against 0", 2, "cgan has no likelihood"),
    ("1 --data digits --score likelihood --against 9", 2, "no run '9'"),
    ("1 --data digits --false-alarms 0", 2, "above 0"),
    ("1 --data digits --false-alarms 0.9", 2, "at most 0.5"),
    ("1 --data digits --false-alarms nan", 2, "above 0"),
    ("1 --data digits --score codes --false-alarms 1e-9", 2, "needs at least 999,999,999 held-out images"),
    ("1 --data digits --held-out 0", 2, "at least 1"),
    ("1 --data digits --limit 0", 2, "at least 1"),
    ("1 --data digits --shown 0", 2, "at least 1"),
    ("1 --data digits --importance-samples 0", 2, "at least 1"),
    (f"1 --data digits --limit {HUGE}", 2, "5,000 digits"),
    ("1 --data digits --split validation", 2, "no validation images"),
    ("1 --data digits --split best", 2, "--split"),
    ("1 --data digits --normal 12", 2, "--normal 12: the classes of digits"),
    (f"1 --data digits --strange {ARABIC}", 2, "the classes of digits"),
    ("1 --data digits --strange 1 --normal 1,2", 2, "1 is in both"),
    ("9 --data digits", 2, "no run '9'"),
]
RUNS = [
    ("--runs nowhere", 2, "there is no folder nowhere"),
    ("--runs note.txt", 2, "there is no folder note.txt"),
    ("--filter dcgan", 2, "it must be NAME=VALUE"),
    ("--filter modle=dcgan", 2, "did you mean model?"),
    ("--filter model=dcgan steps=3", 2, "there is no 'steps' to filter by"),
    ("--sort distance", 2, "--sort"),
    ("--prune stale", 2, "there is no such rule"),
    ("--prune faield", 2, "did you mean failed?"),
    ("--prune failed interrupted", 2, "there is no such rule"),
    ("--prune older-than", 2, "older-than TIME"),
    ("--prune older-than 30", 2, "like 30d"),
    ("--prune older-than -3d", 2, "-3d"),
    (f"--prune older-than {ARABIC}d", 2, "like 30d"),
    ("--prune worse-than nan", 2, "like 5 or 2.5"),
    ("--prune all-but-best 0", 2, "at least 1"),
    ("--prune all-but-best 1.5", 2, "at least 1"),
    ("--prune older-than 0min", 2, "nothing was deleted"),
    ("--prune older-than 0min --json", 2, "leave one out"),
    ("--yes", 2, "goes with --prune"),
]
DATA = [
    ("", 2, "inspect"),
    ("inspect", 2, "Data set or path"),
    ("inspect nowhere", 2, "no such data set"),
    ("inspect noise.npz", 2, "noise.npz"),
    ("inspect empty.npz", 2, "empty.npz"),
    ("inspect objects.npz", 2, "Python objects"),
    ("inspect pipe.npz", 2, "nor a regular file"),
    ("inspect digits --prev\x1b[2J x", 2, "\\x1b[2J"),
    (f"inspect digits --limit {HUGE}", 2, "5,000 digits"),
    ("inspect note.txt", 2, "note.txt"),
    ("inspect digits --size 3", 2, "from 8 to 1024"),
    ("inspect digits --classes zero", 2, "the classes of digits"),
    ("inspect digits --preview grid", 2, "the suffix must be one of .png"),
    ("inspect digits --preview grid.xyz", 2, "the suffix must be one of .png"),
    ("shard digits", 2, "Output folder"),
    ("shard digits out --encoding bmp", 2, "png or raw"),
    ("shard digits out --images-per-shard 0", 2, "at least 1"),
    ("shard ring out", 2, "points"),
    ("shard run:9 out", 2, "no run '9'"),
    ("shard run:0 out --label 12", 2, "the classes of"),
    ("shard run:0 out --count 0", 2, "at least 1"),
    ("label 0", 2, "Output folder"),
    ("label 9 out", 2, "no run '9'"),
    ("label 0 out", 2, "has no classifier. Train a model that has one"),
    ("label 0 out --threshold 1.5", 2, "it must be from 0 to 1"),
    ("label 0 out --threshold nan", 2, "it must be from 0 to 1"),
    ("label 0 out --steps -1", 2, "--steps -1: it must be at least 0"),
    ("shard run:0 out --count 2 --seed -1", 2, "seed"),
    ("shard run:0 out --count 100 --part 17/16", 2, "--part 17/16: it must be K/N"),
    ("shard run:0 out --count 100 --part 0/16", 2, "--part 0/16: it must be K/N"),
    ("shard run:0 out --count 100 --part 3", 2, "--part 3: it must be K/N"),
    (f"shard run:0 out --count 100 --part {ARABIC}/4", 2, "it must be K/N"),
    ("shard run:0 out --count 100 --part 2/3", 2, "which is the most parts there can be"),
    ("shard run:0 out --shares 7=0.5", 2, "they must add up to 1"),
    ("shard run:0 out --shares 7=x", 2, "a class and its share"),
    ("shard run:0 out --shares 12=1", 2, "--shares 12: the classes of"),
    ("shard run:0 out --shares 7=1 --label 7", 2, "leave one out"),
    ("shard digits out --shares 7=1", 2, "choose what a run generates"),
]
COMMANDS = {
    "": TOP,
    "train": TRAIN,
    "sample": SAMPLE,
    "evaluate": EVALUATE,
    "augment": AUGMENT,
    "export": EXPORT,
    "report": REPORT,
    "explore": EXPLORE,
    "transfer": TRANSFER,
    "encode": ENCODE,
    "anomaly": ANOMALY,
    "runs": RUNS,
    "data": DATA,
}
CASES = [(name, *case) for name, cases in COMMANDS.items() for case in cases]


@pytest.mark.parametrize(("command", "line", "status", "words"), CASES, ids=lambda value: str(value)[:40])
def test_a_wrong_command_line_is_explained_and_nothing_is_touched(command, line, status, words, place, capsys):
    module = "genlab.sample" if command == "sample" else f"genlab.{command}.__main__".replace("..", ".")
    arguments = line.split(" ") if line else []
    if command == "sample" and "--run" not in arguments:
        arguments += ["--run", "0"]
    before = snapshot(place)
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).main(arguments)
    shown = capsys.readouterr()
    message = " ".join(re.sub("[│|]", " ", shown.err).split())
    assert end.value.code == status, message
    assert words in message, message
    assert "Traceback" not in shown.err + shown.out and "\x1b" not in shown.err + shown.out
    if "For full helptext" not in message:  # the frame in which the parser of arguments shows its errors
        assert shown.err.startswith("python -m genlab") and shown.err.count("\n") == 1 and len(shown.err) < 700
    assert snapshot(place) == before


# -- Python ------------------------------------------------------------------------------------------------------------


def model():
    return genlab.load("0").model


@functools.cache
def augmenter(number: int = 0, **settings):
    return genlab.Augmenter.from_run(str(number), **settings)


def of_run(**settings):
    return lambda: genlab.Augmenter.from_run("0", **settings)


def of_decoders(**settings):
    return lambda: type(augmenter())(augmenter().decoders, **settings)


def batch(labels, images=GREY, **settings):
    return lambda: augmenter(**settings).augment(images, labels)


def generated(*arguments, **settings):
    return lambda: augmenter().generate(*arguments, **settings)


def exported(name):
    return lambda: genlab.Augmenter.from_export(f"export-{name}")


SETTINGS = [
    (of_run(mode="replase"), "did you mean replace"),
    (of_run(mode=None), "mode is None"),
    (of_run(mode=["replace"]), "mode is"),
    (of_run(fraction=1.5), "fraction must be from 0 to 1, and is 1.5"),
    (of_run(fraction=-0.1), "fraction must be from 0 to 1"),
    (of_run(fraction=float("nan")), "fraction must be from 0 to 1"),
    (of_run(fraction=float("inf")), "fraction must be from 0 to 1"),
    (of_run(fraction="half"), "fraction must be a number"),
    (of_run(fraction=None), "fraction must be a number"),
    (of_run(amount=float("nan")), "amount must be from 0 to 100"),
    (of_run(amount=-1), "amount must be from 0 to 100"),
    (of_run(amount=1e300), "amount must be from 0 to 100"),
    (of_run(seed=-1), "seed must be at least 0"),
    (of_run(seed=2**31), "seed must be at least 0 and at most 2,147,483,647"),
    (of_run(seed=0.5), "seed must be an integer"),
    (of_run(seed="0"), "seed must be an integer"),
    (of_run(seed=10**5000), "seed must be"),
    (of_run(candidates=2.5, select="discriminator"), "candidates must be an integer"),
    (of_run(candidates=0), "candidates must be at least 1"),
    (of_run(candidates=10**6, select="discriminator"), "candidates must be at least 1 and at most 100"),
    (of_run(candidates=4), "go together"),
    (of_run(select="best"), "select is best"),
    (of_run(value_range=(1, 0)), "the first number must be smaller"),
    (of_run(value_range=(1, 1)), "the first number must be smaller"),
    (of_run(value_range=(0, float("nan"))), "each of value_range must be from"),
    (of_run(value_range=(0, 1, 2)), "value_range must be two numbers"),
    (of_run(value_range=255), "value_range must be two numbers"),
    (of_run(value_range=("0", "1")), "each of value_range must be a number"),
    (of_run(fractoin=0.5), "no such settings"),
    (of_run(mode="perturb"), "needs a run with an encoder"),
    (of_run(mode="renoise"), "needs a run whose model can re-noise images"),
    (of_run(mode="renoise", amount=2), "amount must be from 0 to 1"),
    (of_decoders(classes=[1, 2]), "classes must be a mapping"),
    (of_decoders(classes={"7": (0, 7)}), "each label in classes must be an integer"),
    (of_decoders(classes={7: 7}), "classes must map each label to"),
    (of_decoders(classes={7: (1, 7)}), "the number of a decoder in classes must be"),
    (of_decoders(classes={7: (0, 10)}), "the label of a decoder in classes must be"),
    (of_decoders(classes={}), "needs images by label"),
    (lambda: type(augmenter())([]), "at least one decoder"),
    (lambda: genlab.Augmenter.from_runs({}), "at least one label"),
    (lambda: genlab.Augmenter.from_runs(["0"]), "at least one label"),
    (lambda: genlab.Augmenter.from_runs({"seven": "0"}), "each label must be an integer"),
    (lambda: genlab.Augmenter.from_runs({12: "0"}), "the label of a decoder in classes must be"),
    (lambda: genlab.Augmenter.from_run("1"), "draws without"),
    (lambda: genlab.Augmenter.from_run("9"), "no run '9'"),
]
BATCHES = [
    (batch([1]), "one label for each image"),
    (batch([1, 2, 3]), "one label for each image"),
    (batch([]), "one label for each image"),
    (batch(["1", "2"]), "labels are string"),
    (batch([[1], [2, 3]]), "labels are no array"),
    (batch([0.5, 1.0]), "labels must be integers"),
    (batch([float("nan"), 1.0]), "labels must be integers"),
    (batch([float("inf"), 1.0]), "labels must be integers"),
    (batch([1, 10]), "a label cannot be drawn"),
    (batch([1, 10], fraction=0.0), "a label cannot be drawn"),
    (batch([1, -1]), "a label cannot be drawn"),
    (batch([1, 2**31]), "labels must be integers of 32 bits"),
    (batch(np.full((2, 10), 0.1, np.float32)), "must be one-hot"),
    (batch(np.zeros((2, 10), int)), "must be one-hot"),
    (batch(np.ones((2, 10), int)), "must be one-hot"),
    (batch(np.eye(2, 8), mode="balance"), "labels have 8 columns; class 9 needs at least 10"),
    (batch(np.zeros((2, 2, 2))), "labels have the shape"),
    (batch(None), "needs labels"),
    (batch([1, 2], GREY[0]), "images have the shape|one label for each image"),
    (batch([1, 2], GREY.astype(str)), "images are string"),
    (batch([1, 2], GREY.astype(complex)), "images are complex128"),
    (batch([1, 2], np.full(GREY.shape, np.nan)), "not in the range"),
    (batch([1, 2], GREY + 0.5, value_range=(-1, 0)), "not in the range"),
    (batch([1, 2], value_range=(-1, 1)), "uint8, which cannot hold values from -1 to 1"),
    (batch([1, 2], np.zeros((2, 28, 28, 2), np.uint8)), "only grey and colour"),
    (generated(-1), "count must be at least 0"),
    (generated(2.5), "count must be an integer"),
    (generated(10**12), "count must be at least 0 and at most"),
    (generated("3"), "count must be an integer"),
    (generated(3, labels=5.5), "labels are 5.5; they must be one or several of"),
    (generated(3, labels=[]), "they must be one or several of"),
    (generated(3, labels="7"), "labels are 7; they must be"),
    (generated(3, labels=[[7], [8]]), "they must be one or several of"),
    (generated(3, labels=[7, [8]]), "they must be one or several of"),
    (generated(3, labels=True), "they must be one or several of"),
    (generated(3, labels=float("nan")), "they must be one or several of"),
    (generated(3, labels=[7, 12]), r"labels \[12\] cannot be drawn"),
    (generated(3, seed=-1), "seed must be at least 0"),
    (generated(3, seed=1.5), "seed must be an integer"),
]
EXPORTS = [
    (lambda: genlab.Augmenter.from_export("nowhere"), "no metadata.json and decoder.keras"),
    (lambda: genlab.Augmenter.from_export("foreign"), "no metadata.json and decoder.keras"),
    (lambda: genlab.Augmenter.from_export("export", select="discriminator"), "select needs the run"),
    (exported("types"), "metadata.json cannot be read: value of key 'classes'"),
    (exported("null"), "metadata.json cannot be read: value of key 'latents'"),
    (exported("prior"), "no prior 'cauchy'"),
    (exported("negative"), "of -4 dimensions"),
    (exported("larger"), "does not fit decoder.keras"),
    (exported("shape"), "does not fit decoder.keras"),
    (exported("unlabelled"), "does not fit decoder.keras"),
    (exported("outside"), "metadata.json cannot be read"),
    (exported("absolute"), "no name of an exported file"),
    (exported("above"), "no name of an exported file"),
    (exported("mixture"), "prior.npz cannot be read as arrays: No such file"),
    (exported("encoder"), "cannot read .*encoder.keras"),
    (exported("points"), "draws points"),
    (exported("objects"), "prior.npz cannot be read as arrays"),
    (exported("wide"), "the arrays of a mixture have the shapes"),
    (exported("infinite"), "not finite"),
    (exported("light"), "do not add up to 1"),
    (exported("words"), "the prior of export-words cannot be read"),
    (exported("cut"), "cannot read .*decoder.keras as a Keras model"),
    (exported("emptied"), "cannot read .*decoder.keras as a Keras model"),
    (exported("brackets"), "nested too deeply"),
    (exported("nothing"), "metadata.json cannot be read"),
    (exported("pipe"), "it is not a regular file"),
    (exported("lambda"), "it names keras.layers.Lambda"),
]
GRIDS = [
    (lambda: genlab.grids.save_grid(GREY, "grid"), "the suffix must be one of .png"),
    (lambda: genlab.grids.save_grid(GREY, "grid.exe"), "the suffix must be one of .png"),
    (lambda: genlab.grids.save_grid(GREY[0], "grid.png"), "images have the shape"),
    (lambda: genlab.grids.save_grid(GREY[:0], "grid.png"), "images have the shape"),
    (lambda: genlab.grids.save_grid(np.zeros((2, 8, 8, 5), np.uint8), "grid.png"), "with C from 1 to 4"),
    (lambda: genlab.grids.save_grid(GREY.astype(int), "grid.png"), "images are int64"),
    (lambda: genlab.grids.save_grid(np.full(GREY.shape, np.nan), "grid.png"), "images hold NaN"),
    (lambda: genlab.grids.save_grid([[1], [2, 3]], "grid.png"), "images are not an array"),
    (lambda: genlab.grids.save_grid("images", "grid.png"), "images are <U6"),
    (lambda: genlab.grids.save_grid(GREY, "grid.png", columns=0), "columns must be at least 1"),
    (lambda: genlab.grids.save_grid(GREY, "grid.png", columns=1.5), "columns must be an integer"),
    (lambda: genlab.grids.save_grid(GREY, "grid.png", scale=-1), "scale must be at least 1"),
    (lambda: genlab.grids.save_grid(GREY, "grid.png", scale=10**6), "are drawn. Use fewer images"),
    (lambda: genlab.grids.save_animation(GREY, "film.avi"), "must be .gif or .mp4"),
    (lambda: genlab.grids.save_animation([], "film.gif"), "needs frames, all of one size"),
    (lambda: genlab.grids.save_animation([GREY[0], GREY[0, :5]], "film.gif"), "needs frames, all of one size"),
    (lambda: genlab.grids.save_animation(GREY, "film.gif", frames_per_second=0), "above 0"),
]
CALLS = [
    (lambda: genlab.load("nowhere"), "no run 'nowhere'"),
    (lambda: genlab.load("mine"), "no config.json"),
    (lambda: genlab.load(99), "no run '99'"),
    (lambda: genlab.load("0", checkpoint="oldest").model, "the steps"),
    (lambda: model().sample_latents([0.5]), "seeds are float64"),
    (lambda: model().sample_latents([2**64]), "must be integers"),
    (lambda: model().sample_latents(["0"]), "must be integers"),
    (lambda: model().sample(np.zeros((2, 9)), [0, 1]), r"latents have the shape \(2, 9\); it must be \[N, 4\]"),
    (lambda: model().sample(np.zeros((2, 4)), [0]), "one integer for each of the 2 latent vectors"),
    (lambda: model().sample(np.zeros((2, 4)), [0, 0.5]), "labels are float64"),
    (lambda: model().sample(np.zeros((2, 4)), [0, 10]), "the model knows 0 to 9"),
    (lambda: model().sample(np.zeros((2, 4))), "needs labels from 0 to 9"),
    (lambda: model().renoise(np.zeros((2, 28, 28, 1)), 0.5, labels=[0, 1]), "CGAN cannot re-noise images"),
    (lambda: model().renoise(np.zeros((2, 28, 28, 1)), -1), "strength must be from 0 to 1"),
    (lambda: genlab.fit("dcgn"), "did you mean dcgan"),
    (lambda: genlab.fit("dcgan", latent_sise=3), "did you mean latent_size"),
    (lambda: genlab.fit("dcgan", steps=0), "above 0"),
    (lambda: genlab.fit("dcgan", batch_size=0), "at least 1"),
    (lambda: genlab.fit("dcgan", prior="cauchy"), "normal, uniform"),
    (lambda: genlab.fit("dcgan", np.zeros((4, 3))), "images have the shape"),
    (lambda: genlab.fit("dcgan", np.zeros((4, 8, 8), int)), "images are int64"),
    (lambda: genlab.fit("dcgan", np.full((4, 8, 8), np.nan)), "images have a range"),
    (lambda: genlab.fit("dcgan", GREY, np.zeros(3, int)), "one for each image"),
    (lambda: genlab.fit("dcgan", GREY, np.zeros(2)), "must be whole numbers from 0 up, or names"),
    (lambda: genlab.transfer.classifier("1", 0), "num_classes must be at least 1"),
    (lambda: genlab.transfer.classifier("1", 2.5), "num_classes must be an integer"),
    (lambda: genlab.transfer.classifier("1", seed=-1), "seed must be at least 0"),
    (lambda: genlab.transfer.classifier("1", layers="dwn*"), "no layer is named"),
]
PYTHON = [*SETTINGS, *BATCHES, *EXPORTS, *GRIDS, *CALLS]


@pytest.mark.parametrize(("call", "words"), PYTHON, ids=[words[:40] for _, words in PYTHON])
def test_a_wrong_call_is_explained_and_nothing_is_touched(call, words, place):
    before = snapshot(place)
    with pytest.raises(genlab.GenlabError, match=words) as refused:
        call()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 700
    assert snapshot(place) == before


def test_the_table_is_long():
    assert len(CASES) >= 150 and len(PYTHON) >= 100
