"""`ddim-interp models`: what can be used, and from where."""

from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import fetch, print_json, say

__all__ = ["models"]


@click.group(epilog="Example:  ddim-interp models list")
def models() -> None:
    """List, fetch, show and convert models."""


@models.command("list", epilog="Example:  ddim-interp models list --json")
@options.json_option
def list_models(as_json: bool) -> None:
    """List the model in the package and those in the hub's cache."""
    from ddim_interp.hub import cached_models, locate

    found = [locate(), *cached_models()]
    if as_json:
        rows = [
            {"name": m.name, "revision": m.revision, "embedded": i == 0}
            for i, m in enumerate(found)
        ]
        print_json({"models": rows})
        return
    for index, model in enumerate(found):
        note = "in the package" if index == 0 else (model.revision or "")
        click.echo(f"{model.name}\t{note}")


@models.command("pull", epilog="Example:  ddim-interp models pull google/ddpm-cat-256")
@click.argument("source", type=options.FILE)
@options.talk_options
def pull(source: str, as_json: bool, quiet: bool) -> None:
    """Fetch a model of the hub into the cache, for use offline.

    SOURCE is org/name or org/name@revision. Weights are checked against the hash the hub gives.
    """
    located = fetch(source, offline=False, quiet=quiet or as_json)
    if located.warning:
        say(located.warning, quiet)
    if as_json:
        print_json({"name": located.name, "revision": located.revision})
    else:
        click.echo(f"{located.name}\t{located.revision or 'a folder'}")


@models.command("show", epilog="Example:  ddim-interp models show google/ddpm-cat-256")
@click.argument("source", type=options.FILE, required=False)
@options.offline_option
@options.json_option
def show(source: str | None, offline: bool, as_json: bool) -> None:
    """Show a model's architecture, schedule, traps and cost.

    The embedded one, if none is named.
    """
    from ddim_interp.convert import as_folder
    from ddim_interp.hub import locate
    from ddim_interp.portrait import portray

    with as_folder(locate(source, offline=offline)) as ready:
        facts: dict[str, Any] = portray(ready)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines or ["none"]):
            click.echo(f"{key + ':' if number == 0 else '':<16} {line}")


@models.command("convert", epilog="Example:  ddim-interp models convert ckpt.pth -o church/")
@click.argument("source", type=options.FILE)
@click.option(
    "--config",
    metavar="CONFIG",
    help="What a bare checkpoint does not say: a published name (church, lsun_bedroom …), a .yml, "
    "or image_size=64,num_heads=4.",
)
@click.option("--file", metavar="NAME", help="Which checkpoint of the hub's, if it holds several.")
@options.output_option("The folder to make.")
@options.offline_option
@options.overwrite_option
@options.json_option
def convert(
    source: str,
    config: str | None,
    file: str | None,
    out: str,
    offline: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn weights of other kinds into a diffusers folder.

    SOURCE is a diffusers folder with pickles, a bare checkpoint of ermongroup/ddim,
    improved-diffusion, guided-diffusion or denoising-diffusion-pytorch, or org/name on the hub with
    either.

    Pickles can run code when read; here they are read for their tensors alone, in a confined
    process.
    """
    from pathlib import Path

    from ddim_interp.convert import convert_folder
    from ddim_interp.files import is_there
    from ddim_interp.hub import locate

    if is_there(source):
        folder = Path(source)
    else:
        folder = locate(source, offline=offline, pickles=True, file=file).folder
    checkpoint = convert_folder(folder, out, config=config, overwrite=overwrite)
    if checkpoint.warning:
        say(checkpoint.warning)
    if as_json:
        print_json({"outputs": [out], "weights_sha256": checkpoint.weights_sha256})
    else:
        click.echo(out)
