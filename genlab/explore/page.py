"""The explorer's web page, made with NiceGUI: controls on the left, what they draw on the right."""

from __future__ import annotations

import base64
import dataclasses
import functools
import socket
from collections.abc import Callable

import numpy as np
from nicegui import events, run, ui

from genlab import bounds, grids
from genlab.errors import GenlabError, reason
from genlab.explore.studio import Settings, Studio

REACH = 4.0
"""How far a slider moves along its direction, in standard deviations of the prior."""
LARGEST_UPLOAD = 50_000_000
"""Bytes of an uploaded image."""
SHOWN = "width: 100%; max-width: 420px; image-rendering: pixelated"


def serve(studio: Studio, host: str, port: int, *, show: bool = False) -> None:
    """Serve the page until the program is interrupted. Raises GenlabError if the port cannot be used."""

    @ui.page("/", title=studio.run.name)
    def page() -> None:
        Page(studio)

    studio.draw(Settings())  # compiles, so that the first slider moves at once
    try:
        socket.create_server((host, port)).close()  # the server itself would end the program, with a message of its own
    except (OSError, OverflowError) as error:
        raise GenlabError(
            f"port {port} of {host} cannot be used: {reason(error)}. Choose another with --port."
        ) from error
    # The server logs a traceback for each visitor whose connection breaks, as it does when the program is interrupted. Errors
    # of the page itself are logged by NiceGUI.
    ui.run(
        host=host,
        port=port,
        reload=False,
        show=show,
        show_welcome_message=False,
        dark=None,
        uvicorn_logging_level="critical",
    )


def encoded(image: np.ndarray) -> str:
    """Return an image uint8 [H, W, C] as the source of an image element."""
    return f"data:image/png;base64,{base64.b64encode(grids.png_of(image)).decode()}"


class Page:
    """The controls and pictures of one visitor."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.settings = Settings(amounts=(0.0,) * len(studio.directions.vectors))
        self._busy = self._stale = False
        ui.label(studio.run.name).classes("text-xl")
        with ui.row().classes("w-full items-start gap-8"):
            with ui.column().classes("w-full max-w-md"):
                self._sample_controls()
                self._direction_controls()
            with ui.column().classes("w-full max-w-md max-md:order-first"):
                self.image = (
                    ui.image(encoded(studio.draw(self.settings))).style(SHOWN).props("no-transition no-spinner")
                )
                self.image.mark("sample")
                with ui.row():
                    ui.button("Download image", on_click=self._download).props("flat")
                    ui.button("Download grid", on_click=self._download_grid).props("flat")
                self._upload_controls()

    # -- controls ------------------------------------------------------------------------------------------------------

    def _sample_controls(self) -> None:
        ui.label("Sample").classes("text-lg")
        self.seed = ui.number("Seed", value=0, min=0, step=1, precision=0, on_change=self._choose_seed).props("dense")
        if self.studio.class_names:
            names = dict(enumerate(self.studio.class_names))
            self.label = ui.select(names, value=0, label="Class", on_change=lambda event: self._set(label=event.value))
            self.label.classes("w-40")
        self._slider("Truncation", 0, 2, 1.0, lambda value: self._set(truncation=value))
        ui.number("Seed of another sample", value=1, min=0, step=1, precision=0, on_change=self._choose_other).props(
            "dense"
        )
        self.share = self._slider("Towards the other sample", 0, 1, 0.0, lambda value: self._set(share=value))

    def _direction_controls(self) -> None:
        ui.label("Directions").classes("text-lg")
        ui.label(self.studio.directions.method).classes("text-sm opacity-70")
        self.sliders = [
            self._slider(f"{number + 1}", -REACH, REACH, 0.0, functools.partial(self._move, number))
            for number in range(len(self.settings.amounts))
        ]
        ui.button("Reset", on_click=self._reset).props("flat")

    def _upload_controls(self) -> None:
        ui.label("Your image").classes("text-lg")
        how = (
            "encodes and decodes it" if self.studio.model.encoder is not None else "searches latents for it (inversion)"
        )
        ui.label(f"The model {how}. The sliders then start from there.").classes("text-sm opacity-70")
        ui.upload(label="Image file", auto_upload=True, max_file_size=LARGEST_UPLOAD, on_upload=self._upload).props(
            "accept=image/* flat bordered"
        ).classes("w-full")
        self.found = ui.column().classes("w-full")

    def _slider(self, label: str, low: float, high: float, value: float, act: Callable[[float], None]) -> ui.slider:
        with ui.row().classes("w-full items-center no-wrap"):
            ui.label(label).classes("w-48 text-sm" if len(label) > 2 else "w-6 text-sm")
            slider = ui.slider(
                min=low, max=high, step=(high - low) / 200, value=value, on_change=lambda event: act(event.value)
            )
            slider.props(f'label aria-label="{label}"').classes("grow")
        return slider

    # -- what they do --------------------------------------------------------------------------------------------------

    def _set(self, **changes: object) -> None:
        self.settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]
        self._stale = True
        if not self._busy:
            ui.timer(0, self._draw, once=True)

    async def _draw(self) -> None:
        """Draw the newest settings; those that come meanwhile are drawn next, and older ones are not."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._stale:
                self._stale = False
                image = await run.io_bound(self.studio.draw, self.settings)
                if image is not None:  # the server is shutting down
                    self.image.set_source(encoded(image))
        finally:
            self._busy = False

    def _choose_seed(self, event: events.ValueChangeEventArguments[float | None]) -> None:
        if (seed := _seed(event.value)) is not None:
            self._set(seed=seed, start=())

    def _choose_other(self, event: events.ValueChangeEventArguments[float | None]) -> None:
        if (seed := _seed(event.value)) is not None:
            self._set(other_seed=seed)

    def _move(self, number: int, value: float) -> None:
        amounts = list(self.settings.amounts)
        amounts[number] = value
        self._set(amounts=tuple(amounts))

    def _reset(self) -> None:
        for slider in [*self.sliders, self.share]:
            slider.set_value(0.0)

    def _download(self) -> None:
        ui.download.content(grids.png_of(self.studio.draw(self.settings)), f"seed{self.settings.seed}.png")

    async def _download_grid(self) -> None:
        picture = await run.io_bound(self.studio.grid, self.settings)
        if picture is not None:
            ui.download.content(grids.png_of(picture), f"seeds{self.settings.seed}.png")

    async def _upload(self, event: events.UploadEventArguments) -> None:
        content = await event.file.read()
        try:
            found = await run.io_bound(self.studio.find, content)
        except GenlabError as error:
            ui.notify(str(error), type="negative")
            return
        if found is None:
            return
        pictures = np.stack([found.image, found.reconstruction])
        self.found.clear()
        with self.found:
            ui.label(f"Yours and the model's: mean squared error {found.error:.4f}").classes("text-sm")
            ui.image(encoded(grids.to_grid(pictures, 2))).style(SHOWN).mark("reconstruction")
            if found.nearest is None:
                ui.label("The training images are not here, so none are shown.").classes("text-sm")
            else:
                ui.label("Nearest training images").classes("text-sm")
                ui.image(encoded(grids.to_grid(found.nearest, 4))).style(SHOWN).mark("nearest")
        self._reset()
        changes = {} if found.label is None else {"label": found.label}
        if found.label is not None:
            self.label.set_value(found.label)
        self._set(start=found.latents, **changes)


def _seed(value: float | None) -> int | None:
    """Return what was typed as a seed; None while it is none."""
    return int(value) if value is not None and 0 <= value <= bounds.LARGEST else None
