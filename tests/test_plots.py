"""Plots show what they say: their lines are the numbers."""

import numpy as np
import pytest
import torch

from ddim_interp import (
    GaussianDenoiser,
    KeyframePath,
    NoiseSchedule,
    Plan,
    draw,
    make_grid,
    plots,
    sample,
)
from ddim_interp.checks import Certificate
from ddim_interp.interpolate import lerp
from ddim_interp.inversion import Inversion
from ddim_interp.pace import unevenness
from ddim_interp.solver import State

SHAPE = (3, 32, 32)
GRID = make_grid(NoiseSchedule.from_config({}), steps=8)


def lines(plot):
    return [line.get_xydata() for line in plot.axes.lines]


def test_plots_show_themselves_and_are_saved(tmp_path):
    plot = plots.norms({"slerp": draw([0, 1], SHAPE)})
    assert plot._repr_png_().startswith(b"\x89PNG")
    for suffix in (".png", ".pdf", ".svg"):
        plot.save(tmp_path / f"plot{suffix}")
        assert (tmp_path / f"plot{suffix}").stat().st_size > 1000


def test_the_middle_of_a_chord_is_short_by_the_square_root_of_two():
    path = KeyframePath(draw([0, 1], (3, 64, 64)), lerp)
    ((_, length),) = [lines(plots.norms({"lerp": path(torch.tensor([0.5]))}))[0][0]]
    assert length == pytest.approx(0.5**0.5, abs=0.02)


def test_white_noise_has_a_flat_spectrum_and_blurred_noise_has_not():
    white = draw(range(16), SHAPE)
    blurred = torch.nn.functional.avg_pool2d(white, 3, stride=1, padding=1)
    flat, falling, _ = lines(plots.spectrum({"white": white, "blurred": blurred}))
    assert flat[1:, 1] == pytest.approx(1, abs=0.15)
    assert falling[-1, 1] < 0.1 < falling[1, 1]


def test_residuals_are_those_of_the_certificates():
    certificates = (Certificate(0.0, 0, 1.0, (0.1, 0.2)), Certificate(0.0, 0, 1.0, (0.3,)))
    x = torch.zeros(2, *SHAPE)
    plot = plots.residuals(Inversion(State(x, GRID[0]), x, certificates, 0, x, Plan()))
    assert [line[:, 1].tolist() for line in lines(plot)] == [[0.1, 0.2], [0.3]]


def test_residuals_of_whole_walks_stand_side_by_side():
    certificates = (Certificate(0.0, 0, 1.0, (0.1,)), Certificate(0.0, 0, 1.0, (0.3,)))
    x = torch.zeros(2, *SHAPE)
    plot = plots.residuals(Inversion(State(x, GRID[0]), x, certificates, 0, x, Plan()))
    assert lines(plot)[0].tolist() == [[0, 0.1], [1, 0.3]]


def test_a_walk_undone_by_algebra_has_nothing_to_miss():
    certificates = (Certificate(0.0, 0, 1.0, ()), Certificate(0.0, 0, 1.0, (0.0,)))
    x = torch.zeros(2, *SHAPE)
    plot = plots.residuals(Inversion(State(x, GRID[0]), x, certificates, 0, x, Plan()))
    assert not lines(plot) and "algebra" in plot.axes.texts[0].get_text()


def test_the_pace_of_a_film_is_the_change_between_its_frames():
    frames = [np.full((32, 32, 3), level, np.uint8) for level in (0, 0, 255)]
    plot = plots.pace({"jump": frames})
    assert lines(plot)[0][:, 1] == pytest.approx([0, 100], abs=0.5)
    label = plot.axes.get_legend_handles_labels()[1][0]
    assert f"{unevenness(torch.tensor([0.0, 100.0])):.2f}" in label


def test_trajectories_of_equal_walks_lie_on_each_other_and_end_in_a_ring():
    walk = list(sample(GaussianDenoiser(variance=0.25), draw([0], SHAPE), GRID))
    first, ring, second, _ = lines(plots.trajectory({"a": walk, "b": walk}))
    assert first == pytest.approx(second)
    assert len(first) == 8 and ring[0] == pytest.approx(first[-1])
