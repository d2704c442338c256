"""`ddim-interp completion`: Tab in the shell."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command(epilog='Example:  eval "$(ddim-interp completion bash)"')
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that teaches a shell this program's commands, options and files.

    To keep it, put the example's line into ~/.bashrc or ~/.zshrc; for fish, write the script to
    ~/.config/fish/completions/ddim-interp.fish.
    """
    program = ctx.find_root()
    name = "ddim-interp"
    shells = get_completion_class(shell)
    assert shells is not None
    variable = "_DDIM_INTERP_COMPLETE"  # click's own, made of the program's name
    click.echo(shells(program.command, {}, name, variable).source())
