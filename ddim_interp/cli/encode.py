"""`ddim-interp encode`: frames that are drawn, as another film."""

import sys
import time

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import echo_path, print_json

__all__ = ["encode"]


@click.command(epilog="Example:  ddim-interp encode frames -o film.webm --fps 24")
@click.argument("film", type=options.FILE, metavar="FILM")
@options.output_option("The film: .gif .mp4 .webm .webp .apng .png (a filmstrip), or a folder.")
@click.option("--fps", type=float, help="Frames a second.  [default: as FILM says; else 30]")
@click.option(
    "--upscale", type=click.IntRange(1, 64), default=1, help="Enlarge frames by a whole factor."
)
@click.option("--once", is_flag=True, help="Let a .gif, .webp or .apng play once, not for ever.")
@options.overwrite_option
@options.talk_options
def encode(
    film: str,
    out: str,
    fps: float | None,
    upscale: int,
    once: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a film once more, in another format or at another speed; nothing is drawn.

    FILM is a folder of frames, as morph makes, or of any pictures of one size, an .apng or a .webp.
    What it says of its making goes with it.
    """
    from ddim_interp.files import check_not_input, claim
    from ddim_interp.footage import open_footage
    from ddim_interp.progress import bar
    from ddim_interp.sinks import check_sink, open_sink

    started = time.monotonic()
    footage = open_footage(film)
    speed = footage.fps if fps is None else fps
    check_sink(out, fps=speed, frame_count=footage.frames, upscale=upscale, overwrite=overwrite)
    check_not_input(out, [footage.path, *footage.pictures])
    unwatched = quiet or as_json or not sys.stderr.isatty()
    with (
        claim(out),
        open_sink(
            out,
            fps=speed,
            frame_count=footage.frames,
            recipe=footage.told(speed, upscale),
            upscale=upscale,
            loop=not once,
            overwrite=overwrite,
        ) as sink,
    ):
        for frame in bar(footage.draw(), footage.frames, "encoding", disable=unwatched):
            sink.write(frame)
    if as_json:
        seconds = round(time.monotonic() - started, 3)
        print_json({"outputs": [out], "frames": footage.frames, "fps": speed, "seconds": seconds})
    else:
        echo_path(out)
