"""`ddim-interp grid`: the DDIM paper's four-corner interpolation, and its kin."""

from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import Run, run_options

__all__ = ["grid"]


@click.command(epilog="Example:  ddim-interp grid a.png b.png c.png seed:7 -o grid.png")
@click.argument("keyframes", nargs=-1, type=options.FILE, metavar="A B C [D]", required=True)
@options.output_option("The grid, a .png.")
@click.option("--rows", default=5, help="Pictures down.")
@click.option("--columns", type=int, help="Pictures across; 5 if not given.")
@click.option("--across", type=int, help="Keyframes in a row of a larger table; 2 if not given.")
@options.blend_option
@options.raw_option
@options.inverting_options()
@run_options()
def grid(
    run: Run,
    keyframes: tuple[str, ...],
    out: str,
    rows: int,
    columns: int | None,
    across: int | None,
    blend: str,
    raw: bool,
    wishes: dict[str, Any],
) -> None:
    """Fill a grid between four corners, given in reading order: A B above, C D below.

    Three keyframes make a triangle: A above, B and C below, the mean of all in the middle.

    Keyframes are pictures, latent files or seed:N, as in morph. No axis comes first: swapping rows
    and columns mirrors the grid and changes nothing else.
    """
    from ddim_interp.production.grid import GridOrder
    from ddim_interp.sources import plan_for

    plan = plan_for(keyframes, **wishes)
    run.produce(GridOrder(keyframes, out, plan, rows, columns, across, blend, raw))
    run.echo_output(out)
