"""Threads that wait do not hold the cores that working ones wait for."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
sys.argv = ["ddim-interp", "--version"]
from ddim_interp.cli import main
try:
    main()
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "turns"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=str,
)
def test_the_command_says_so_before_torch_is_there_unless_its_user_did(given, turns):
    others = {name: word for name, word in os.environ.items() if "OMP_" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=others | given, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-2:] == [turns, "False"]
