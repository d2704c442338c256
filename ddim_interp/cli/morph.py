"""`ddim-interp morph`: the main job."""

from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.film import film_options, film_order
from ddim_interp.cli.run import Run, run_options

__all__ = ["morph"]


@click.command(epilog="Example:  ddim-interp morph a.png b.png seed:7 -o film.gif --loop")
@click.argument(
    "keyframes", nargs=-1, type=options.FILE, metavar="KEYFRAME KEYFRAME…", required=True
)
@options.output_option("The film: .gif .mp4 .webm .webp .apng .png (a filmstrip), or a folder.")
@film_options
@options.strict_option
@run_options()
def morph(
    run: Run, keyframes: tuple[str, ...], out: str, film: dict[str, Any], strict: bool
) -> int:
    """Glide from keyframe to keyframe through the model's noise space.

    A KEYFRAME is a picture, a latent file (z.safetensors, or z.safetensors#2 for one of its
    latents) or seed:N. Pictures are cropped to the model's shape, never squashed; the film starts
    and ends on them, pixel for pixel (before upscaling).

    With --resume, what is done is kept beside the film until it is whole, and the same command
    goes on from there: the film has the same bytes as if nothing had happened.
    """
    if film["metric"] is not None and film["pace"] != "perceptual" and not run.as_json:
        raise click.UsageError("--metric says how to measure --pace perceptual; give both.")
    made = run.produce(film_order(keyframes, out, film))
    run.echo_output(out)
    if film["realism"]:
        scores = ", ".join(f"{score:.2f}" for score in made.facts["realism"])
        run.echo(f"realism of the middles (1: as real as their ends): {scores}")
    return 1 if strict and not made.good else 0
