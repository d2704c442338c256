"""The table of frames and what they cost: the limit is the limit, and more steps come nearer."""

import importlib.util
import sys
from pathlib import Path

from ddim_interp import Plan

SCRIPT = Path(__file__).parents[1] / "examples" / "measure_frames.py"


def test_more_steps_come_nearer_to_the_limit(tiny_folder, pictures, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("measure_frames", SCRIPT)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    limit = Plan(40, "log-snr", "heun")
    plans = (Plan(4, "log-snr", "ddim"), Plan(32, "log-snr", "ddim"), limit)
    monkeypatch.setattr(program, "PLANS", plans)
    monkeypatch.setattr(program, "LIMIT", limit)
    arguments = [*map(str, pictures), "--seeds", "2", "--model", str(tiny_folder)]
    monkeypatch.setattr(sys, "argv", ["measure_frames.py", *arguments])
    program.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2] for row in rows] == ["4", "32", "80"]
    for column in (3, 4):
        median, worst = zip(*(map(float, row[column].split(", ")) for row in rows), strict=True)
        assert median[0] < median[1] < median[2] == float("inf")
        assert worst[2] == float("inf")
