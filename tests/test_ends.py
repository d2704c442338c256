"""A film passes exactly through its pictures, and nothing jumps on the way."""

import pytest
import torch

from ddim_interp.ends import EndCorrection

RESIDUALS = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("closed", "knots"),
    [(False, (0.0, 0.3, 1.0)), (True, (0.0, 0.3, 0.7)), (True, (0.0, 0.45, 0.9))],
    ids=["open", "closed", "closest across the seam"],
)
def test_at_a_keyframe_the_correction_is_its_residual(closed, knots):
    knots = torch.tensor(knots, dtype=torch.float64)
    assert torch.equal(EndCorrection(RESIDUALS, knots, closed)(knots), RESIDUALS)


def test_between_keyframes_there_is_none():
    knots = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert EndCorrection(RESIDUALS, knots)(torch.tensor([0.25, 0.75])).abs().max() == 0


def test_a_closed_film_fades_across_its_seam():
    knots = torch.tensor([0.0, 1 / 3, 2 / 3], dtype=torch.float64)
    correction = EndCorrection(RESIDUALS, knots, closed=True)
    before, after = correction(torch.tensor([0.99, 0.01], dtype=torch.float64))
    torch.testing.assert_close(before, after)
    assert before.abs().max() > 0


def test_the_fade_falls_steadily_and_is_flat_where_it_starts_and_ends():
    correction = EndCorrection(torch.ones(2, 1, 1, 1), torch.tensor([0.0, 1.0]).double())
    fade = correction(torch.linspace(0, 0.5, 501).double()).flatten()
    assert (fade.diff() <= 0).all()
    assert fade[0] - fade[1] < 1e-4 and fade[399] - fade[401] < 1e-4
