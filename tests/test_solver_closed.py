"""Walks that are corrected as a whole: they close, say how nearly, and show their work."""

import pytest
import torch
from test_solver_laws import PICTURES, SCHEDULE, TwoHills

from ddim_interp.denoiser import CountCalls
from ddim_interp.grid import make_grid
from ddim_interp.solver import Closed, DPMpp2M, Heun, ImplicitEquation
from ddim_interp.trajectory import invert, last, sample

GRID = make_grid(SCHEDULE, 10, "log-snr")
MODEL = TwoHills()


@pytest.mark.parametrize("sampler", [DPMpp2M(), Heun()], ids=lambda s: type(s).__name__)
def test_every_pixel_comes_back_within_the_tolerance(sampler: object) -> None:
    solver = Closed(sampler, ImplicitEquation(passes=12, tolerance=1e-6))
    found = last(invert(MODEL, PICTURES, GRID, solver))
    back = last(sample(MODEL, found.x, GRID, solver)).x
    assert (back - PICTURES).abs().max() <= 1e-6
    assert torch.equal(found.decoded, back), "decoding once more would tell nothing new"
    rms = (back - PICTURES).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found.residual, rms)


def test_what_did_not_close_is_not_passed_off_as_decoded() -> None:
    hasty = Closed(DPMpp2M(), ImplicitEquation(passes=1, tolerance=1e-9))
    found = last(invert(MODEL, PICTURES, GRID, hasty))
    assert found.decoded is None and bool((found.residual > 1e-9).all())


def test_no_picture_is_walked_once_it_is_closed() -> None:
    solver = Closed(DPMpp2M(), ImplicitEquation(passes=12, tolerance=1e-6))
    easy = torch.zeros_like(PICTURES[:1])
    batch, alone = CountCalls(MODEL), CountCalls(MODEL)
    last(invert(batch, torch.cat([PICTURES[:1], easy]), GRID, solver))
    last(invert(alone, easy, GRID, solver))
    hard, spared = batch.spent(2).tolist()
    assert spared == alone.nfe < hard


def test_whoever_watches_sees_every_look_at_the_network() -> None:
    counted = CountCalls(MODEL)
    spent = [counted.nfe for _ in invert(counted, PICTURES[:1], GRID, Closed(DPMpp2M()))]
    assert spent == [*range(1, counted.nfe + 1), counted.nfe]
