"""The explorer: directions against singular vectors, what it draws against the model, and its page in a browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import browser
import numpy as np
import pytest
from conftest import PATIENCE, fails
from test_priors import in_bulk

import genlab
from genlab import grids
from genlab.explore import __main__ as command
from genlab.explore import directions
from genlab.explore.studio import Settings, Studio


def png(image, path="image.png") -> bytes:
    return grids.save_image(image, path).read_bytes()


def test_directions_of_a_gan_are_singular_vectors_of_its_first_layer(small_run):
    model = small_run("cgan").model
    kernel = next(layer for layer in model.decoder.layers if hasattr(layer, "kernel")).kernel.numpy()
    assert len(kernel) > model.latent_size  # the embedding of the label follows the latents
    left, values, _ = np.linalg.svd(kernel[: model.latent_size])
    found = directions.find(model)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * left.T, axis=1)), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.vectors @ kernel[: model.latent_size], axis=1), values, rtol=1e-4)
    np.testing.assert_allclose(found.scales, 1)
    assert "SeFa" in found.method


def test_directions_of_fitted_codes_are_their_principal_components(small_run):
    from sklearn.decomposition import PCA

    model = small_run("autoencoder").model
    drawn = in_bulk(model.prior, 20_000)
    found, reference = directions.find(model), PCA().fit(drawn)
    assert "principal components" in found.method
    np.testing.assert_allclose(np.abs(np.sum(found.vectors[0] * reference.components_[0])), 1, atol=0.02)
    np.testing.assert_allclose(found.scales, np.sqrt(reference.explained_variance_), rtol=0.05)


def test_the_studio_draws_what_the_model_draws(small_run):
    run = small_run("cgan")
    studio, model = Studio(run), run.model

    def expected(latents, label):
        return grids.as_pixels(model.sample(np.float32(latents)[np.newaxis], np.array([label])))[0].astype(int)

    first, other = np.asarray(model.sample_latents([3, 4]))
    moved = first + 2 * studio.directions.scales[1] * studio.directions.vectors[1]
    for settings, latents in (
        (Settings(3, 7), first),
        (Settings(3, 7, truncation=0.5), first / 2),
        (Settings(3, 7, other_seed=4, share=1.0), other),
        (Settings(3, 7, amounts=(0.0, 2.0)), moved),
        (Settings(9, 7, start=tuple(map(float, first))), first),
    ):
        np.testing.assert_allclose(studio.latents(settings), latents, atol=1e-5)
        assert np.abs(studio.draw(settings) - expected(latents, 7)).max() <= 1  # decoded alone, not in a batch
    np.testing.assert_array_equal(
        studio.grid(Settings(3, 7), 1), grids.to_grid(model.sample(first[None], np.array([7])))
    )


def test_an_image_is_reconstructed_or_inverted_and_compared_with_training_images(small_run):
    for name in ("vae", "cgan"):
        studio = Studio(small_run(name))
        image = studio.run.data().images[5]
        found = studio.find(png(image))
        np.testing.assert_array_equal(found.image, image)
        np.testing.assert_array_equal(found.nearest[0], image)
        assert len(found.nearest) == 8 and (found.label is None) == (name == "vae")
        settings = Settings(label=found.label or 0, start=found.latents)
        assert np.abs(studio.draw(settings).astype(int) - found.reconstruction).max() <= 1
        difference = (found.image / 255 - found.reconstruction / 255) ** 2
        assert found.error == pytest.approx(difference.mean(), abs=1e-3)
    with pytest.raises(genlab.GenlabError, match="the image cannot be read: it is not an image"):
        studio.find(b"no image")


def test_a_run_without_its_data_has_no_nearest_images(small_images):
    run = genlab.fit("gan", small_images[0], steps=1, batch_size=8, generator_widths=(4,), discriminator_widths=(4,))
    found = Studio(genlab.load(run.path)).find(png(small_images[0][0][..., np.newaxis]))
    assert found.nearest is None


def test_points_are_not_explored(own_run, capsys):
    run = own_run("gan", "ring")
    status, message = fails(lambda: command.main([str(run.path)]), capsys)
    assert status == 2 and "draws points, not images" in message


def test_the_page_in_a_browser(own_run):
    run = own_run("cgan")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    upload = run.data().images[0]
    png(upload, "upload.png")
    call = [sys.executable, "-m", "genlab.explore", str(run.path), "--port", str(port)]
    with browser.started() as chromium:
        # NiceGUI would take the server for a test of its own.
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        server = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        try:
            address = server.stdout.readline().split()[3]
            assert address == f"http://127.0.0.1:{port}"
            page = chromium.open(address)
            source = "document.querySelector('.q-img img').src"
            browser.wait_until(page, "document.querySelector('.q-img img')")
            for slider in ("Truncation", "1"):
                before = page.evaluate(source)
                page.locator(f'.q-slider[aria-label="{slider}"] [tabindex]').press("ArrowRight")
                page.locator(f'.q-slider[aria-label="{slider}"] [tabindex]').press("PageDown")
                browser.wait_until(page, f"{source} != '{before}'")
            page.locator("input[type=file]").set_input_files("upload.png")
            page.get_by_text(re.compile("mean squared error 0\\.[0-9]+")).wait_for()
            page.get_by_text("Nearest training images").wait_for()
            with page.expect_download() as download:
                page.get_by_text("Download grid").click()
            assert download.value.suggested_filename == "seeds0.png"
            assert grids.load_image(download.value.path()).shape == (*grids.picture_size(64, 28, 28), 1)
            # A second one on the same port is refused.
            second = subprocess.run(call, capture_output=True, text=True, timeout=PATIENCE, env=environment)
            assert second.returncode == 1 and "cannot be used" in second.stderr
            assert chromium.complaints == []
            assert {re.match(r"\w+://([^/]+)", each)[1] for each in chromium.requests} == {f"127.0.0.1:{port}"}
        finally:
            server.send_signal(signal.SIGINT)
            output, _ = server.communicate(timeout=PATIENCE)
    assert "Traceback" not in output
