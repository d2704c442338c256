"""`ddim-interp explore`: a page on this machine, to explore noise space by hand."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import Run, print_json, run_options

if TYPE_CHECKING:
    from ddim_interp.model import Model

__all__ = ["explore"]


@click.command(epilog="Example:  ddim-interp explore a.png b.png seed:7")
@click.argument("keyframes", nargs=-1, type=options.FILE, metavar="[KEYFRAME…]")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Where to listen, on 127.0.0.1 only.  [default: 8346, or a free one]",
)
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.")
@options.inverting_options()
@run_options(writes=False, resume=False)
def explore(
    run: Run,
    keyframes: tuple[str, ...],
    port: int | None,
    browser: bool,
    wishes: dict[str, Any],
) -> None:
    """Explore noise space on a page: films under a slider, a map, sheets of seeds.

    The page begins with the keyframes given, which are pictures, latent files or seed:N as in
    morph. It takes others, shows the film between them while it is drawn, and gives it away in
    every format, with the command that makes it again.

    It is served to this machine only, and to whoever has its address, in which there is a token.
    Ctrl-C ends it.
    """
    from ddim_interp.web import check_installed, serve

    check_installed()
    from ddim_interp.sources import check_sources
    from ddim_interp.web.studio import Setting

    check_sources(keyframes)
    setting = Setting(wishes, run.batch_size, _spelled(run, wishes))

    def load() -> "Model":
        pipe = run.load()
        return pipe.model

    def ready(address: str, once: str) -> None:
        if run.as_json:
            print_json({"url": address})
        else:
            click.echo(address)
        sys.stdout.flush()
        run.say("Listening on 127.0.0.1 only; Ctrl-C ends it.")
        if browser:
            _open(once)

    serve(load, keyframes, setting, port=port, ready=ready)


def _spelled(run: Run, plan: dict[str, Any]) -> dict[str, Any]:
    """The options given here, as `morph` takes them; None for those that were not."""
    precision = None if run.dtype == "auto" else run.dtype
    said: dict[str, Any] = {
        "--model": run.model,
        "--class-label": run.class_label,
        "--device": None if run.device == "auto" else run.device,
        "--dtype": precision,
        "--compile": run.compiled or None,
        "--batch-size": run.batch_size,
    }
    said |= {f"--{name}": value for name, value in plan.items() if name != "dither"}
    if plan["dither"] is not None:
        said["--dither" if plan["dither"] else "--no-dither"] = True
    return said


def _open(address: str) -> None:
    """Show the page, where there is a screen; a browser in the terminal is not meant."""
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
