"""Command line: `python -m genlab.explore [RUN]` opens a local web page to play with a model."""

from __future__ import annotations

import dataclasses

import tyro

from genlab import bounds, command_line
from genlab.console import reported, say
from genlab.errors import UsageError
from genlab.run import RunOptions

PROGRAM = "python -m genlab.explore"


@dataclasses.dataclass(frozen=True)
class Arguments(RunOptions):
    """Play with a trained model in a browser: move along directions in latent space, interpolate, upload images of your own.

    The page is served to this machine alone. Ctrl-C ends it.
    """

    port: int = 8080
    """Port of the page."""
    host: str = "127.0.0.1"
    """Address to serve at. Everybody who reaches another one, such as 0.0.0.0, can use the model; there is no password."""
    show: tyro.conf.FlagCreatePairsOff[bool] = False
    """Open the page in the browser."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        bounds.whole("--port", arguments.port, 1, 65535)
        try:
            import nicegui  # noqa: F401
        except ImportError:
            raise UsageError('the explorer needs NiceGUI: pip install "genlab[explore]"') from None
        from genlab.explore import page
        from genlab.explore.studio import Studio

        studio = Studio(arguments.open())
        say(f"{studio.run.name} is at http://{arguments.host}:{arguments.port} (Ctrl-C to stop)")
        page.serve(studio, arguments.host, arguments.port, show=arguments.show)


if __name__ == "__main__":
    main()
