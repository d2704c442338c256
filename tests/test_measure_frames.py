"""The table of frames and what they cost: the limit is the limit, and more steps come nearer."""

import sys

import measure_frames as program
import pytest
import torch

from ddim_interp import Plan


def test_what_is_used_twice_costs_less_and_is_the_old_answer(tiny):
    x, early, late = torch.randn(1, 3, 16, 16), torch.tensor([900.0]), torch.tensor([100.0])
    with torch.no_grad():
        plain = [tiny.unet(x, t).sample for t in (early, late)]
        with program.reused(tiny.unet, 1) as cost:
            first, second, third = (tiny.unet(x, t).sample for t in (early, late, late))
    assert 0.5 < cost < 1
    assert torch.equal(first, plain[0]) and torch.equal(third, plain[1])
    assert not torch.equal(second, plain[1]), "the deep half did not look again"
    assert program.deep_share(tiny.unet, 1) == pytest.approx(2 - 2 * cost)


def test_frames_that_share_work_are_those_drawn_alone(tiny_folder, pictures, monkeypatch, capsys):
    monkeypatch.setattr(program, "FRAMES", 24)
    monkeypatch.setattr(program, "TOLERANCES", (0.0, 0.5))
    arguments = [*map(str, pictures), "--together", "--model", str(tiny_folder)]
    monkeypatch.setattr(sys, "argv", ["measure_frames.py", *arguments])
    program.main()
    alone, shared = (
        line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]
    )
    assert alone[2] == "exact"
    assert float(shared[2].split(", ")[1]) > 40, "off by little more than rounding"
    assert float(shared[1]) < float(alone[1])
    assert float(alone[3]) == 0 and float(shared[3]) < 2


def test_more_steps_come_nearer_to_the_limit(tiny_folder, pictures, monkeypatch, capsys):
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
