"""Starting from another run: which weights are taken over, and which are new."""

import shutil

import numpy as np
import pytest
from conftest import build, fails, small_settings

import genlab
from genlab import config
from genlab.export import model_card
from genlab.train import inheritance
from genlab.train.__main__ import main as train


def started(run, name="dcgan", classes=None, **changes):
    """A new model that starts from a run, and the run's own model."""
    spec = run.model.spec
    model = build(name, spec.shape, spec.num_classes if classes is None else len(classes), seed=7, **changes)
    facts = dict(run.config.dataset)
    if classes is not None:
        facts |= {"class_names": classes, "num_classes": len(classes)}
    settings = config.Config(name, "default", model.hparams, run.config.options, facts, {})
    inheritance.start_from(model, run, settings)
    return model, run.model


def same(network, other, layer):
    return all(map(np.array_equal, network.get_layer(layer).get_weights(), other.get_layer(layer).get_weights()))


def test_every_weight_that_fits_is_taken_over_and_the_average_begins_there(small_run):
    model, other = started(small_run("dcgan"))
    for network, old in ((model.generator, other.generator), (model.discriminator, other.discriminator)):
        for weight, expected in zip(network.weights, old.weights, strict=True):
            np.testing.assert_array_equal(weight, expected)
    for weight, expected in zip(model.decoder.weights, other.generator.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert int(model.generator_optimizer.iterations.numpy()) == 0
    assert not any(np.any(slot) for slot in model.generator_optimizer.variables[2:])  # after its step and its rate


def test_layers_of_other_shapes_are_new_and_named(small_run, caplog):
    genlab.run.log.propagate = True
    try:
        model, other = started(small_run("dcgan"), generator_widths=(5,))
    finally:
        genlab.run.log.propagate = False
    assert same(model.generator, other.generator, "hidden")
    assert not same(model.generator, other.generator, "image_conv")
    assert "generator/project" in caplog.text and "discriminator" not in caplog.text.partition("new:")[2]


def test_a_conditional_model_with_other_classes_keeps_what_latents_do(small_run):
    run = small_run("cgan")
    model, other = started(run, "cgan", classes=["cat", "dog", "owl"])
    kernel, old = (np.asarray(each.generator.get_layer("hidden").kernel) for each in (model, other))
    latents = model.latent_size
    assert kernel.shape[0] == latents + 3 and old.shape[0] == latents + 10
    np.testing.assert_array_equal(kernel[:latents], old[:latents])
    assert same(model.discriminator, other.discriminator, "down1_conv")


def test_classes_of_other_names_get_new_embeddings(small_run):
    run = small_run("cgan")
    renamed, other = started(run, "cgan", classes=list("abcdefghij"))
    assert not same(renamed.discriminator, other.discriminator, "label_embedding")
    kept, _ = started(run, "cgan")
    assert same(kept.discriminator, other.discriminator, "label_embedding")


def test_an_unconditional_run_starts_a_conditional_one(small_run):
    model, other = started(small_run("dcgan"), "cgan")
    kernel, old = (np.asarray(each.generator.get_layer("hidden").kernel) for each in (model, other))
    np.testing.assert_array_equal(kernel[: len(old)], old)
    assert same(model.generator, other.generator, "image_conv")


@pytest.mark.parametrize("name", ["vae", "autoencoder"])
def test_autoencoders_start_from_each_other(name, small_run):
    model, other = started(small_run("vae"), name)
    assert same(model.trained_decoder, other.trained_decoder, "image_conv")
    np.testing.assert_array_equal(model.decoder.weights[0], other.trained_decoder.weights[0])


def test_frozen_layers_do_not_change_and_others_do(small_run):
    ancestor = small_run("dcgan")
    run = genlab.fit("dcgan", from_run=str(ancestor.path), steps=3, freeze_discriminator=1, limit=40)
    assert same(run.model.discriminator, ancestor.model.discriminator, "down1_conv")
    assert not same(run.model.discriminator, ancestor.model.discriminator, "down2_conv")


def test_hyper_parameters_and_lineage_come_from_the_run(small_run):
    ancestor = small_run("dcgan")
    child = genlab.fit("dcgan", from_run=str(ancestor.path), steps=1, limit=40, batch_size=4)
    assert child.config.hparams.latent_size == ancestor.config.hparams.latent_size == 4
    assert child.config.hparams.batch_size == 4
    grandchild = genlab.fit("dcgan", from_run=child.name, steps=1, limit=40)
    assert [each["run"] for each in grandchild.config.lineage] == [child.name, ancestor.name]
    assert grandchild.config.lineage[1]["step"] == 2
    assert genlab.load(grandchild.path).config.lineage == grandchild.config.lineage
    card = model_card.text(grandchild)
    assert (
        f"Started from the weights of `{child.name}` (`dcgan`, digits, step 1); before that from `{ancestor.name}`"
        in card
    )


def test_a_preset_that_was_asked_for_comes_first(small_run):
    settings = small_settings("dcgan") | {"preset": "default", "steps": 1, "batch_size": 9}
    del settings["differentiable_augmentation"]
    run = genlab.fit("dcgan", from_run=str(small_run("dcgan").path), **settings)
    assert run.config.hparams.differentiable_augmentation == ("translation",)  # the other run has none


def test_a_run_resumes_bit_for_bit_when_the_other_is_gone(own_run):
    ancestor = own_run("dcgan")
    whole = genlab.fit("dcgan", from_run=ancestor.name, steps=4, checkpoint_every=2, limit=40)
    part = shutil.copytree(whole.path, whole.path.parent / "00009-dcgan-digits")
    for file in (part / "checkpoints").glob("step-4.*"):
        file.unlink()
    shutil.rmtree(ancestor.path)
    train(["dcgan", "--resume", str(part), "--quiet"])
    for weight, expected in zip(whole.model.generator.weights, genlab.load(part).model.generator.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"from_run": "nothing"}, "no run 'nothing'"),
        ({"freeze_discriminator": 1}, "--freeze-discriminator is for a run that starts from another: add --from RUN"),
        ({"from_run": "ANCESTOR", "freeze_discriminator": 9}, "the discriminator has 2 such layers"),
        ({"from_run": "ANCESTOR", "model": "vae"}, "no weight of this dcgan fits a vae"),
    ],
)
def test_wrong_input_leaves_no_run(settings, words, own_run):
    ancestor = own_run("dcgan")
    settings = {name: ancestor.name if value == "ANCESTOR" else value for name, value in settings.items()}
    with pytest.raises(genlab.UsageError, match=words):
        genlab.fit(settings.pop("model", "dcgan"), steps=1, **settings)
    assert [path.name for path in ancestor.path.parent.glob("0*")] == [ancestor.name]


def test_a_run_cannot_resume_from_another(own_run, capsys):
    run = own_run("dcgan")
    status, message = fails(lambda: train(["--resume", run.name, "--from", "7"]), capsys)
    assert status == 2 and "--from: the run has" in message and "asked for 7" in message
