"""`ddim-interp doctor`: the state of this machine."""

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import print_json

__all__ = ["doctor"]


@click.command(epilog="Example:  ddim-interp doctor --json > state.json")
@options.json_option
def doctor(as_json: bool) -> None:
    """Report versions, devices, encoders, cache and disk: what to paste into a bug report."""
    from ddim_interp.diagnosis import diagnose

    facts = diagnose()
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        click.echo(f"{key + ':':<16} {value}")
