"""`ddim-interp invert`: pictures to latents."""

import time

import click

from ddim_interp.cli import options

__all__ = ["invert"]


@click.command(epilog="Example:  ddim-interp invert a.png b.png -o z.safetensors")
@click.argument("images", nargs=-1, type=options.FILE, metavar="IMAGE…", required=True)
@options.output_option("The latent file: something.safetensors.")
@options.plan_options
@options.repair_option
@click.option("--strict", is_flag=True, help="Exit with 1 if a verdict is bad.")
@options.batch_size_option
@options.model_options
@options.overwrite_option
@options.talk_options
def invert(
    images: tuple[str, ...],
    out: str,
    steps: int,
    spacing: str,
    solver: str,
    depth: float,
    repair: str | None,
    strict: bool,
    batch_size: int | None,
    model: str | None,
    device: str,
    dtype: str,
    offline: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Find the latents of pictures, decode them again, and say how well that went.

    The latent file holds one latent for each picture, in order, with its certificate; morph and
    sample take it.
    """
    started = time.monotonic()
    quiet = quiet or as_json
    from ddim_interp.files import check_output, claim
    from ddim_interp.keyframes import Keyframe, check_sources, find_keyframes, join_states
    from ddim_interp.latent_file import check_latents_name, source_note, write_latents
    from ddim_interp.memory import halve_until_it_fits
    from ddim_interp.model import Plan
    from ddim_interp.morph import default_batch_size
    from ddim_interp.repair import check_repair

    check_latents_name(out)
    check_sources(images)
    if repair is not None:
        check_repair(repair)
    check_output(out, overwrite=overwrite)
    plan = Plan(steps, spacing, solver, depth)
    with claim(out):
        pipe = options.load_pipeline(model, device, dtype, offline, quiet)

        first = batch_size or default_batch_size(pipe.model.shape)

        def find(size: int) -> tuple[tuple[Keyframe, ...], int, int]:
            if size < first:
                options.say(f"Memory ran out; once more, {size} at a time.", quiet)
            return *find_keyframes(
                pipe.model, images, plan, size, pipe.progress_bar, repair=repair
            ), size

        keyframes, nfe, size = halve_until_it_fits(find, first)
        notes = [
            source_note(keyframe.source, picture.sha256, picture.box, keyframe.certificate)
            | {"repair": repair}
            if (picture := keyframe.picture)
            else source_note(keyframe.source, "", (), keyframe.certificate)
            for keyframe in keyframes
        ]
        state = join_states([keyframe.state for keyframe in keyframes])
        write_latents(out, state, pipe.model, plan, notes, overwrite=overwrite)
    if as_json:
        options.print_json(
            {
                "outputs": [out],
                "nfe": nfe,
                "seconds": round(time.monotonic() - started, 3),
                "model": pipe.name,
                "batch_size": size,
                "images": [keyframe.report() for keyframe in keyframes],
            }
        )
    else:
        for keyframe in keyframes:
            if keyframe.certificate:
                click.echo(f"{keyframe.source}: {keyframe.certificate.verdict}")
        options.say(out, quiet)
    return 1 if strict and not all(keyframe.good for keyframe in keyframes) else 0
