"""`ddim-interp morph`: the main job."""

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import click

from ddim_interp.cli import options

__all__ = ["morph"]


@click.command(
    epilog="Example:  ddim-interp morph a.png b.png seed:7 -o film.gif --frames 90 --loop"
)
@click.argument(
    "keyframes", nargs=-1, type=options.FILE, metavar="KEYFRAME KEYFRAME…", required=True
)
@options.output_option("The film: .gif .mp4 .webm .webp .apng .png (a filmstrip), or a folder.")
@click.option("--frames", default=60, help="Frames in all.")
@click.option("--fps", default=30.0, help="Frames a second.")
@click.option(
    "--blend", type=click.Choice(options.BLENDS), default="slerp", help="Curve between keyframes."
)
@click.option(
    "--ease",
    default="linear",
    help="Speed along it: linear, smoothstep, ease-in-out, cubic-bezier(.3,0,.7,1) …",
)
@click.option("--smooth/--straight", default=True, help="Round the corners at keyframes between.")
@click.option(
    "--pace",
    type=click.Choice(options.PACES),
    default="uniform",
    help="perceptual: equal steps to the eye, for about twice the work.",
)
@click.option("--hold", default=0, help="Frames more to rest at every keyframe.")
@click.option("--loop", is_flag=True, help="Return to the first keyframe.")
@click.option("--boomerang", is_flag=True, help="Go back the way it came.")
@click.option("--raw", is_flag=True, help="Leave decoded frames as they are, at the ends too.")
@click.option(
    "--upscale",
    type=click.IntRange(0, 64),
    default=0,
    help="Enlarge frames by a whole factor; 0 chooses one that is pleasant to watch.",
)
@options.repair_option
@click.option("--strict", is_flag=True, help="Exit with 1 if an inversion's verdict is bad.")
@options.plan_options
@options.batch_size_option
@options.model_options
@options.overwrite_option
@options.resume_options
@options.talk_options
def morph(
    keyframes: tuple[str, ...],
    out: str,
    frames: int,
    fps: float,
    blend: str,
    ease: str,
    smooth: bool,
    pace: str,
    hold: int,
    loop: bool,
    boomerang: bool,
    raw: bool,
    upscale: int,
    repair: str | None,
    strict: bool,
    steps: int,
    spacing: str,
    solver: str,
    depth: float,
    batch_size: int | None,
    model: str | None,
    device: str,
    dtype: str,
    offline: bool,
    overwrite: bool,
    resume: bool,
    allow_drift: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Glide from keyframe to keyframe through the model's noise space.

    A KEYFRAME is a picture, a latent file (z.safetensors, or z.safetensors#2 for one of its
    latents) or seed:N. Pictures are cropped to the model's shape, never squashed; the film starts
    and ends on them, pixel for pixel (before upscaling).

    With --resume, what is done is kept beside the film until it is whole, and the same command
    goes on from there: the film has the same bytes as if nothing had happened.
    """
    started = time.monotonic()
    quiet = quiet or as_json
    if allow_drift and not resume:
        raise click.UsageError("--allow-drift says how to --resume; give both.")
    from ddim_interp.denoiser import CountCalls
    from ddim_interp.files import claim
    from ddim_interp.keep import forget
    from ddim_interp.keyframes import check_sources, fingerprint
    from ddim_interp.memory import halve_until_it_fits
    from ddim_interp.model import Plan
    from ddim_interp.morph import Morph, Style, default_batch_size
    from ddim_interp.repair import check_repair
    from ddim_interp.resume import circumstances, is_finished, open_work
    from ddim_interp.sinks import check_sink, default_upscale, open_sink

    style = Style(frames, blend, smooth, ease, pace, hold, loop, boomerang, raw)
    style.check()
    check_sources(keyframes)
    if repair is not None:
        check_repair(repair)
    again = overwrite or resume
    check_sink(out, fps=fps, frame_count=frames, upscale=upscale or 1, overwrite=again)
    plan = Plan(steps, spacing, solver, depth)
    with claim(out), ExitStack() as stack:
        pipe = options.load_pipeline(model, device, dtype, offline, quiet)
        upscale = upscale or default_upscale(*pipe.model.shape[1:])
        size = batch_size or default_batch_size(pipe.model.shape)
        work = None
        if resume:
            identity = {
                "model": pipe.name,
                "weights_sha256": pipe.weights_sha256,
                "plan": plan.describe(),
                "style": asdict(style),
                "keyframes": [fingerprint(source) for source in keyframes],
                "repair": repair,
                "fps": fps,
                "upscale": upscale,
            }
            around = circumstances(pipe.device, dtype, size)
            work = stack.enter_context(open_work(out, identity, around, allow_drift=allow_drift))

        def make(fewer: int) -> tuple[Morph, CountCalls]:
            if fewer < size:
                options.say(f"Memory ran out; once more, {fewer} at a time.", quiet)
            film = pipe.morph(
                keyframes,
                plan=plan,
                batch_size=fewer,
                style=style,
                keep=work or forget,
                repair=repair,
            )
            for keyframe in film.keyframes:
                if keyframe.certificate:
                    options.say(f"{keyframe.source}: {keyframe.certificate.verdict}", quiet)
            counted = CountCalls(film.model.for_frames)
            recipe = {**film.recipe(), "fps": fps, "upscale": upscale}
            if resume and not overwrite and is_finished(out, recipe):
                return film, counted
            with open_sink(
                out,
                fps=fps,
                frame_count=frames,
                recipe=recipe,
                upscale=upscale,
                overwrite=overwrite,
            ) as sink:
                for frame in film.draw(counted, pipe.progress_bar):
                    sink.write(frame)
            return film, counted

        film, counted = halve_until_it_fits(make, size)

    report: dict[str, Any] = {
        "outputs": [out],
        "frames": frames,
        "nfe": film.nfe + counted.nfe,
        "retries": film.model.retries,
        "seconds": round(time.monotonic() - started, 3),
        "model": film.model.name,
        "batch_size": film.batch_size,
        "keyframes": film.report(),
    }
    if as_json:
        options.print_json(report)
    else:
        click.echo(out)
    return 1 if strict and not all(keyframe.good for keyframe in film.keyframes) else 0
