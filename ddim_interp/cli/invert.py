"""`ddim-interp invert`: pictures to latents."""

from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import Run, run_options

__all__ = ["invert"]


@click.command(epilog="Example:  ddim-interp invert a.png b.png -o z.safetensors")
@click.argument("images", nargs=-1, type=options.FILE, metavar="IMAGE…", required=True)
@options.output_option("The latent file: something.safetensors.")
@options.inverting_options(latents=False)
@options.repair_option
@options.strict_option
@run_options()
def invert(
    run: Run,
    images: tuple[str, ...],
    out: str,
    wishes: dict[str, Any],
    repair: str | None,
    strict: bool,
) -> int:
    """Find the latents of pictures, decode them again, and say how well that went.

    The latent file holds one latent for each picture, in order, with its certificate; morph and
    sample take it.
    """
    from ddim_interp.production.latents import LatentsOrder
    from ddim_interp.sources import plan_for

    plan = plan_for(images, **wishes)
    found = run.produce(LatentsOrder(images, out, plan, repair))
    for image in found.facts["images"]:
        if image["verdict"]:
            run.echo(f"{image['source']}: {image['verdict']}")
    run.say(out)
    return 1 if strict and not found.good else 0
