"""Data-parallel training: two replicas with half the batch each do what one does with all of it.

TensorFlow must be told of two devices before it begins, so each of these runs in a process of its own.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from conftest import TINY_FLAGS, fails

from genlab.train import __main__ as train

BEGIN = f"""
import json, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import conftest
import numpy as np
import genlab
from genlab import backend
backend.show_cpus(2)
images = np.random.default_rng(0).integers(0, 256, (48, 12, 10, 1), np.uint8)
labels = np.arange(48) % 3
# In float32 one device and two differ in the last bits alone.
SMALL = {{"precision": "float32", "batch_size": 16, "log_every": 1, "seed": 3, "checkpoint_every": 2}}
TWO = {{"strategy": "mirrored", "replicas": 2}}

def fit(name, out, **settings):
    return genlab.fit(name, images, labels, out=out, **conftest.small_settings(name) | SMALL | settings)

def distance(first, second):
    # The mean: a last bit can turn the sign of a gradient near 0, and Adam's step with it.
    pairs = zip(first.model.decoder.get_weights(), second.model.decoder.get_weights())
    return float(np.concatenate([np.abs(a - b).ravel() for a, b in pairs]).mean())
"""
SETTINGS = {
    # One model of each kind of step; their siblings share it.
    # Between the images of a batch alone: each replica's own.
    "began": {"pull_away": 0.0},
    "wgan": {"differentiable_augmentation": ("translation", "cutout")},
    "dcgan": {"discriminator_normalization": "batch", "r1_penalty": 0.0},
    "cgan": {
        "spectral_normalization": True,
        "r1_interval": 2,
        "differentiable_augmentation": ("translation",),
        "augmentation_target": 0.01,
    },
    "vae": {"likelihood": "bernoulli"},
    # Dropout draws its masks for each replica.
    "semi_gan": {
        "discriminator_dropout": 0.0,
        "discriminator_noise": 0.1,
        "consistency_alignment": True,
        "consistency_threshold": 0.3,
    },
}


def process(code: str) -> dict:
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("names", [["began", "vae"], ["cgan", "dcgan", "wgan"], ["semi_gan"]], ids=" ".join)
def test_two_replicas_train_as_one_device_does(names):
    chosen = {name: SETTINGS[name] for name in names}
    code = f"""
found = {{}}
for name, settings in {chosen!r}.items():
    two = fit(name, "two", steps=4, **TWO, **settings)
    one = fit(name, "one", steps=4, **settings)
    timing = ("seconds", "images_per_second", "data_waiting", "code_similarity")  # the last is of each replica
    lines = [{{k: v for k, v in line.items() if k not in timing}} for run in (two, one) for line in run.metrics()]
    metrics = max(abs(a[k] - b[k]) / max(1, abs(b[k])) for a, b in zip(lines[:4], lines[4:]) for k in b)
    found[name] = (distance(two, one), metrics)
print(json.dumps(found))
"""
    for name, (weights, metrics) in process(code).items():
        assert weights < 2e-5 and metrics < 2e-3, (name, weights, metrics)


def test_checkpoints_pass_from_one_device_to_two_and_back():
    code = """
import dataclasses
from genlab.train import fit as training
whole = fit("gan", "whole", steps=6)
run = fit("gan", "parts", steps=2, schedule_steps=6, **TWO)
for steps, strategy, replicas in ((4, "none", 0), (6, "mirrored", 2)):
    again = genlab.load(str(run.path))
    again.use_data(genlab.data.load(images, labels))
    options = dataclasses.replace(again.config.options, steps=steps, strategy=strategy, replicas=replicas)
    training.resume(again, options)
print(json.dumps({"distance": distance(genlab.load(str(run.path)), whole)}))
"""
    assert process(code)["distance"] < 2e-5


def test_replicas_drop_other_places_than_each_other():
    code = """
from genlab import blocks
from genlab.backend import tf
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    network = blocks.discriminator((12, 10, 1), (4, 8), blocks.Style(dropout=0.5))
    layer = network.get_layer("down1_dropout")
ones = tf.ones([1, 400])
drawn = [np.concatenate(strategy.experimental_local_results(strategy.run(lambda: layer(ones, training=True)))) for _ in "ab"]
print(json.dumps({"kept": [float((part > 0).mean()) for part in drawn], "values": sorted(set(drawn[0].ravel().tolist())),
                  "alike": [float((a[0] == a[1]).mean()) for a in drawn] + [float((drawn[0] == drawn[1]).mean())]}))
"""
    found = process(code)
    assert found["values"] == [0, 2]
    assert all(0.4 < share < 0.6 for share in [*found["kept"], *found["alike"]])


def test_an_augmenter_works_in_distributed_pipelines_and_models():
    code = """
from genlab.backend import tf
drawing = fit("cgan", "runs", steps=1)
coding = fit("vae", "runs", steps=1)
augment = genlab.Augmenter.from_run(drawing, fraction=0.5, seed=0)
dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16, drop_remainder=True)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
parts = []
for both in strategy.experimental_distribute_dataset(dataset.map(augment)):
    parts.append([np.concatenate(strategy.experimental_local_results(part)) for part in both])
alone = [[part.numpy() for part in batch] for batch in dataset.map(augment)]
# Keras' fit on two parts of a CPU never ends, with or without an augmenter: the layer is run as fit would run it.
with strategy.scope():
    vary = genlab.Augmenter.from_run(coding, mode="perturb", amount=0.5, seed=0, value_range=(0, 255))
pixels = dataset.map(lambda images, labels: tf.cast(images, tf.float32))
step = tf.function(lambda images: strategy.run(lambda part: vary(part, training=True), args=(images,)))
both = next(iter(strategy.experimental_distribute_dataset(pixels)))
moved = np.concatenate(strategy.experimental_local_results(step(both)))
print(json.dumps({"batches": len(parts), "changed": float((parts[0][0] != images[:16]).mean()),
                  "moved": float(np.abs(moved - images[:16]).mean()), "shape": moved.shape,
                  "alike": all(np.array_equal(a, b) for x, y in zip(parts, alone) for a, b in zip(x, y))}))
"""
    found = process(code)
    assert found["batches"] == 3 and found["alike"]
    assert 0.4 < found["changed"] <= 0.5 and found["shape"] == [16, 12, 10, 1] and found["moved"] > 1


def test_wrong_input(capsys):
    command = ["gan", "--steps", "1", *TINY_FLAGS, "--replicas", "2"]
    status, message = fails(lambda: train.main(command), capsys)
    assert status == 2 and "goes with" in message
    code = """
import pathlib
messages = []
for settings in ({"batch_size": 15, "replicas": 2}, {"replicas": 3}):
    try:
        fit("gan", "runs", steps=1, **{"strategy": "mirrored"} | settings)
    except genlab.UsageError as error:
        messages.append(str(error))
print(json.dumps({"messages": messages, "left": pathlib.Path("runs").exists()}))
"""
    found = process(code)
    assert "--batch-size 15 cannot be split over 2 replicas" in found["messages"][0] and not found["left"]
    assert "--replicas 3: TensorFlow has 2 CPU here. The CPU can only be split" in found["messages"][1]
