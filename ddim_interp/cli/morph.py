"""`ddim-interp morph`: the main job."""

from typing import Any

import click

from ddim_interp.cli import options

__all__ = ["morph"]


@click.command(epilog="Example:  ddim-interp morph a.png b.png seed:7 -o film.gif --loop")
@click.argument(
    "keyframes", nargs=-1, type=options.FILE, metavar="KEYFRAME KEYFRAME…", required=True
)
@options.output_option("The film: .gif .mp4 .webm .webp .apng .png (a filmstrip), or a folder.")
@click.option("--frames", default=60, help="Frames in all.")
@click.option("--fps", default=30.0, help="Frames a second.")
@options.blend_option
@click.option(
    "--ease",
    default="linear",
    help="Speed along it: linear, smoothstep, ease-in-out, cubic-bezier(.3,0,.7,1) …",
)
@click.option("--per-leg", is_flag=True, help="Ease each way from keyframe to keyframe.")
@click.option("--smooth/--straight", default=True, help="Round the corners at keyframes between.")
@click.option(
    "--pace",
    type=click.Choice(options.PACES),
    default="uniform",
    help="perceptual: equal steps to the eye, for about twice the work.",
)
@click.option(
    "--metric",
    type=click.Choice(options.METRICS),
    help="What tells how much changes, to --pace perceptual and in --json: blurred colours, or "
    "LPIPS where it is installed.  [default: lab]",
)
@click.option(
    "--times",
    type=options.Numbers(float),
    metavar="T,T,…",
    help="When to be at each keyframe, in any unit, as in 0,2,3; a loop has one more.",
)
@click.option(
    "--hold",
    type=options.Numbers(int),
    default="0",
    metavar="N[,N…]",
    help="Frames more to rest at every keyframe, or at each.",
)
@click.option("--loop", is_flag=True, help="Return to the first keyframe.")
@click.option("--boomerang", is_flag=True, help="Go back the way it came.")
@options.raw_option
@click.option(
    "--paste",
    is_flag=True,
    help="Put the square back into the full pictures, which must all have one size.",
)
@click.option(
    "--feather",
    type=click.FloatRange(0, 0.5),
    help="How soft an edge --paste gives it; a share of the square, 0 for a hard one.  "
    "[default: 0.125]",
)
@click.option(
    "--upscale",
    type=click.IntRange(0, 64),
    default=0,
    help="Enlarge frames by a whole factor; 0 chooses one that is pleasant to watch.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 16),
    metavar="LEVELS",
    help="By how much, of 255, frames may differ so as to share work; 0 draws each by itself.  "
    "[default: 1; 2 if quick]",
)
@click.option(
    "--quick",
    is_flag=True,
    help="12 steps of adams, unless you say otherwise: pictures come back to some 37 dB instead of "
    "exactly, and the ends are made exact.",
)
@options.repair_option
@click.option(
    "--realism",
    is_flag=True,
    help="Also say how real the middles are, beside the pictures at their ends.",
)
@options.strict_option
@options.plan_options
@options.dither_option()
@options.run_options()
def morph(
    run: options.Run,
    keyframes: tuple[str, ...],
    out: str,
    frames: int,
    fps: float,
    blend: str,
    ease: str,
    smooth: bool,
    pace: str,
    metric: str | None,
    per_leg: bool,
    times: tuple[float, ...] | None,
    hold: tuple[int, ...],
    loop: bool,
    boomerang: bool,
    raw: bool,
    paste: bool,
    feather: float | None,
    upscale: int,
    tolerance: float | None,
    quick: bool,
    repair: str | None,
    realism: bool,
    strict: bool,
    wishes: dict[str, Any],
    dither: bool | None,
) -> int:
    """Glide from keyframe to keyframe through the model's noise space.

    A KEYFRAME is a picture, a latent file (z.safetensors, or z.safetensors#2 for one of its
    latents) or seed:N. Pictures are cropped to the model's shape, never squashed; the film starts
    and ends on them, pixel for pixel (before upscaling).

    With --resume, what is done is kept beside the film until it is whole, and the same command
    goes on from there: the film has the same bytes as if nothing had happened.
    """
    if feather is not None and not paste:
        raise click.UsageError("--feather says how to --paste; give both.")
    if metric is not None and pace != "perceptual" and not run.as_json:
        raise click.UsageError("--metric says how to measure --pace perceptual; give both.")
    from ddim_interp.model import Plan
    from ddim_interp.production.film import FilmOrder
    from ddim_interp.sources import plan_for
    from ddim_interp.style import QUICK_TOLERANCE, Style

    given: dict[str, Any] = {"metric": metric, "feather": feather}
    style = Style(
        frames=frames,
        blend=blend,
        smooth=smooth,
        ease=ease,
        per_leg=per_leg,
        times=times,
        pace=pace,
        hold=hold[0] if len(hold) == 1 else hold,
        loop=loop,
        boomerang=boomerang,
        raw=raw,
        paste=paste,
        tolerance=(QUICK_TOLERANCE if quick else 1.0) if tolerance is None else tolerance,
        **{name: wish for name, wish in given.items() if wish is not None},
    )
    if quick:
        plan = Plan.quick(dither=dither, **wishes)
    else:
        plan = plan_for(keyframes, dither=dither, **wishes)
    film = run.produce(
        FilmOrder(keyframes, out, plan, style, fps, upscale or None, repair, realism)
    )
    run.echo_output(out)
    if realism:
        scores = ", ".join(f"{score:.2f}" for score in film.facts["realism"])
        run.echo(f"realism of the middles (1: as real as their ends): {scores}")
    return 1 if strict and not film.good else 0
