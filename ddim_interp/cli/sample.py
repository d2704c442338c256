"""`ddim-interp sample`: pictures from noise."""

import math
import time

import click

from ddim_interp.cli import options

__all__ = ["sample"]


@click.command(epilog="Example:  ddim-interp sample --seeds 0-15 -o sheet.png")
@click.option("--seeds", type=options.Seeds(), help="One picture a seed: 7, 0-8, 1,2,5-10.")
@click.option(
    "--latents",
    type=options.FILE,
    metavar="FILE",
    help="Instead of seeds: z.safetensors, z.safetensors#2.",
)
@options.output_option("A .png (several pictures make a sheet), or a folder of PNGs.")
@click.option("--columns", type=click.IntRange(1, 1000), help="Columns of the sheet.")
@options.plan_options
@options.batch_size_option
@options.model_options
@options.overwrite_option
@options.talk_options
def sample(
    seeds: list[int] | None,
    latents: str | None,
    out: str,
    columns: int | None,
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
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw pictures from seeds, or decode latents.

    A seed means one picture, on any device and in any batch.
    """
    started = time.monotonic()
    quiet = quiet or as_json
    if (seeds is None) == (latents is None):
        raise click.UsageError("Give --seeds or --latents, one of them.")
    from ddim_interp.denoiser import CountCalls
    from ddim_interp.files import check_output
    from ddim_interp.keyframes import check_sources, decode_keyframes, find_keyframes
    from ddim_interp.model import Plan
    from ddim_interp.morph import default_batch_size
    from ddim_interp.sinks import check_sink, contact_sheet, open_sink, write_picture

    sources = [f"seed:{seed}" for seed in seeds] if seeds is not None else [str(latents)]
    check_sources(sources)
    is_sheet = out.lower().endswith(".png")
    if is_sheet:
        check_output(out, overwrite=overwrite)
    else:
        check_sink(out, overwrite=overwrite)
    plan = Plan(steps, spacing, solver, depth)
    pipe = options.load_pipeline(model, device, dtype, offline, quiet)
    size = batch_size or default_batch_size(pipe.model.shape)
    keyframes, _ = find_keyframes(pipe.model, sources, plan, size)
    counted = CountCalls(pipe.model.denoiser)
    frames = decode_keyframes(pipe.model, keyframes, plan, size, pipe.progress_bar, counted)
    recipe = {
        "tool": "ddim_interp",
        "kind": "sample",
        "model": pipe.name,
        "weights_sha256": pipe.weights_sha256,
        "plan": plan.describe(),
        "batch_size": size,
        "sources": [keyframe.source for keyframe in keyframes],
    }
    if is_sheet:
        across = columns or math.ceil(math.sqrt(len(keyframes)))
        sheet = contact_sheet(list(frames), columns=across)
        write_picture(out, sheet, recipe=recipe, overwrite=overwrite)
    else:
        with open_sink(out, recipe=recipe, overwrite=overwrite) as sink:
            for frame in frames:
                sink.write(frame)
    if as_json:
        options.print_json(
            {
                "outputs": [out],
                "nfe": counted.nfe,
                "seconds": round(time.monotonic() - started, 3),
                "model": pipe.name,
                "images": [keyframe.report() for keyframe in keyframes],
            }
        )
    else:
        click.echo(out)
