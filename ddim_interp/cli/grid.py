"""`ddim-interp grid`: the DDIM paper's four-corner interpolation."""

import time

import click

from ddim_interp.cli import options

__all__ = ["grid"]


@click.command(
    epilog="Example:  ddim-interp grid a.png b.png c.png seed:7 -o grid.png --rows 7 --columns 7"
)
@click.argument("keyframes", nargs=-1, type=options.FILE, metavar="A B C D", required=True)
@options.output_option("The grid, a .png.")
@click.option("--rows", default=5, help="Pictures down.")
@click.option("--columns", default=5, help="Pictures across.")
@click.option("--across", default=2, help="Keyframes in a row of the table; 2 for four corners.")
@click.option(
    "--blend", type=click.Choice(options.BLENDS), default="slerp", help="What lies between."
)
@click.option("--raw", is_flag=True, help="Decode the corners too, instead of showing them.")
@options.plan_options
@options.batch_size_option
@options.model_options
@options.overwrite_option
@options.talk_options
def grid(
    keyframes: tuple[str, ...],
    out: str,
    rows: int,
    columns: int,
    across: int,
    blend: str,
    raw: bool,
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
    """Fill a grid between four corners, given in reading order: A B above, C D below.

    Keyframes are pictures, latent files or seed:N, as in morph. No axis comes first: swapping rows
    and columns mirrors the grid and changes nothing else.
    """
    started = time.monotonic()
    quiet = quiet or as_json
    from ddim_interp.denoiser import CountCalls
    from ddim_interp.errors import ArgumentError
    from ddim_interp.files import check_output, shown
    from ddim_interp.keyframes import check_sources, find_keyframes
    from ddim_interp.model import Plan
    from ddim_interp.morph import default_batch_size
    from ddim_interp.sheet import PictureGrid
    from ddim_interp.sinks import contact_sheet, write_picture

    if not out.lower().endswith(".png"):
        raise ArgumentError(f"A grid is one picture, and {shown(out)} is no .png; name it so.")
    check_sources(keyframes)
    check_output(out, overwrite=overwrite)
    plan = Plan(steps, spacing, solver, depth)
    pipe = options.load_pipeline(model, device, dtype, offline, quiet)
    size = batch_size or default_batch_size(pipe.model.shape)
    found, nfe = find_keyframes(pipe.model, keyframes, plan, size, pipe.progress_bar)
    picture = PictureGrid(pipe.model, found, plan, rows, columns, across, blend, raw, size, nfe)
    counted = CountCalls(pipe.model.for_frames)
    frames = list(picture.draw(counted, pipe.progress_bar))
    sheet = contact_sheet(frames, columns=columns)
    write_picture(out, sheet, recipe=picture.recipe(), overwrite=overwrite)
    if as_json:
        options.print_json(
            {
                "outputs": [out],
                "nfe": nfe + counted.nfe,
                "seconds": round(time.monotonic() - started, 3),
                "model": pipe.name,
                "keyframes": [keyframe.report() for keyframe in found],
            }
        )
    else:
        click.echo(out)
