"""Write docs/cli.md from what the commands say of themselves; a test compares.

python docs/write_cli.py
"""

from collections.abc import Iterator
from pathlib import Path

import click

from ddim_interp.cli import COMMANDS, cli

PAGE = Path(__file__).with_name("cli.md")
_HEAD = """# Command line

What `ddim-interp COMMAND -h` says. Data goes to stdout, progress and messages to stderr; `--json`
prints exactly one JSON document. An error is one line: what was given, why it cannot be, what to
do.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | some items failed |
| 2 | wrong usage |
| 65 | an input file cannot be used |
| 66 | an input is missing |
| 69 | the hub cannot be reached |
| 70 | NaN or infinity that no retry cured |
| 73 | an output cannot be created |
| 74 | the disk is full, or failed |
| 75 | locked, or out of memory: try again |
| 78 | the model or its config cannot be used |
| 129, 130, 143 | interrupted |
"""


def commands() -> Iterator[tuple[str, str]]:
    """Each command's name and its help."""
    settings = {**cli.context_settings, "terminal_width": 100, "max_content_width": 100}
    program = click.Context(cli, info_name="ddim-interp", **settings)
    for name in COMMANDS:
        command = cli.get_command(program, name)
        context = click.Context(command, program, name)
        yield name, command.get_help(context)
        for part, member in getattr(command, "commands", {}).items():
            yield f"{name} {part}", member.get_help(click.Context(member, context, part))


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in commands())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
