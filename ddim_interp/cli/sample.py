"""`ddim-interp sample`: pictures from noise."""

from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import Run, run_options

__all__ = ["sample"]


@click.command(epilog="Example:  ddim-interp sample --seeds 0-15 -o sheet.png")
@click.option(
    "--seeds", "--seed", type=options.Seeds(), help="One picture a seed: 7, 0-8, 1,2,5-10."
)
@click.option(
    "--latents",
    type=options.FILE,
    metavar="FILE",
    help="Instead of seeds: z.safetensors, z.safetensors#2.",
)
@options.output_option(
    "A .png (several pictures make a sheet), a folder of PNGs, or a film: .gif .mp4 .webm .webp "
    ".apng."
)
@click.option("--columns", type=click.IntRange(1, 1000), help="Columns of the sheet.")
@options.plan_options()
@run_options()
def sample(
    run: Run,
    seeds: list[int] | None,
    latents: str | None,
    out: str,
    columns: int | None,
    wishes: dict[str, Any],
) -> None:
    """Draw pictures from seeds, or decode latents.

    A seed means one picture, on any device and in any batch.
    """
    if (seeds is None) == (latents is None):
        raise click.UsageError("Give --seeds or --latents, one of them.")
    from ddim_interp.production.pictures import PicturesOrder
    from ddim_interp.sources import plan_for

    sources = [f"seed:{seed}" for seed in seeds] if seeds is not None else [str(latents)]
    run.produce(PicturesOrder(sources, out, plan_for(sources, **wishes), columns))
    run.echo_output(out)
