"""Tab in the shell: commands, options, choices, files."""

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ddim_interp.cli import COMMANDS, cli


def complete(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    environment = {
        "_DDIM_INTERP_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("ddim-interp", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ddim_interp"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("mo",), "plain,morph"),
        (("morph", "--fra"), "plain,--frames"),
        (("morph", "a.png", "--blend", "sl"), "plain,slerp"),
        (("morph", "a.p"), "file,a.p"),
        (("sample", "--latents", "z"), "file,z"),
        (("invert", "a.png", "-o", "z"), "file,z"),
        (("completion", "f"), "plain,fish"),
    ],
)
def test_tab_offers_what_could_come_next(words, offered):
    assert offered in complete(*words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_the_shell_can_read(shell, tmp_path):
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_DDIM_INTERP_COMPLETE" in result.output
    if path := shutil.which(shell):
        script = tmp_path / "completion"
        script.write_text(result.output)
        subprocess.run([path, "-n", script], check=True, capture_output=True)


def test_another_shell_is_a_usage_error():
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_of_itself(name):
    command = cli.get_command(None, name)
    commands = [command, *getattr(command, "commands", {}).values()]
    for each in commands:
        assert each.epilog and f"ddim-interp {name}" in each.epilog
        assert len(each.epilog) < 78  # a line of its own on any terminal, to be copied whole
