"""`ddim-interp info`: what an output says of itself."""

from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import print_json

__all__ = ["info"]


@click.command(epilog="Example:  ddim-interp info morph.mp4")
@click.argument("file", type=options.FILE, metavar="FILE")
@options.json_option
def info(file: str, as_json: bool) -> None:
    """Show the recipe inside a film, a picture, a folder of frames or a latent file.

    z.safetensors#1 tells of that latent alone.
    """
    from ddim_interp.latent_file import read_latents_recipe
    from ddim_interp.recipe import printable
    from ddim_interp.sinks import read_recipe
    from ddim_interp.sources import FiledLatents, parse_source

    named = None if file.startswith("seed:") else parse_source(file)
    if isinstance(named, FiledLatents):
        recipe = read_latents_recipe(named.path, named.index)
    else:
        recipe = read_recipe(file)
    if as_json:
        print_json(recipe)
        return
    for line in _lines(recipe):
        click.echo(printable(line))


def _lines(recipe: dict[str, Any], indent: str = "") -> list[str]:
    """One line a fact; lists of facts are indented under a dash."""
    lines: list[str] = []
    for key, value in recipe.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(x, dict) for x in value):
            lines.append(f"{indent}{key}:")
            for entry in value:
                first, *rest = _lines(entry, indent + "    ") or [f"{indent}    (nothing)"]
                lines += [f"{indent}  - {first.strip()}", *rest]
        else:
            text = value if isinstance(value, str) else _short(value)
            lines.append(f"{indent}{key}: {text}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "none"
    return "none" if value is None else str(value)
