"""The exponential Adams method integrates straight lines exactly, once it has seen two points."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import CountCalls, GaussianDenoiser, Prediction, predict_eps
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver import DDIM, Adams, DPMpp2M, Solver, State, carry
from ddim_interp.trajectory import invert, last, sample

SCHEDULE = NoiseSchedule.from_config({})
GRID = make_grid(SCHEDULE, 7)
Z = draw([0, 1], (3, 4, 4)).double()
GAUSSIAN = GaussianDenoiser(0.3, torch.linspace(0.01, 1, 48).double().reshape(1, 3, 4, 4))


class Line:
    """Sees a picture that changes evenly in λ, whatever it is shown."""

    def __init__(self, rise: float = 0.2) -> None:
        self.rise = rise

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        x_0 = torch.full_like(x_t, 0.5 + self.rise * t.log_snr)
        return Prediction(x_0, predict_eps(x_t, x_0, t))

    def flow(self, x_t: Tensor, t: Level, s: Level) -> Tensor:
        """x_s, by ∫ e^λ (a + bλ) dλ = e^λ (a + b (λ − 1))."""
        ends = [math.exp(at.log_snr) * (0.5 + self.rise * (at.log_snr - 1)) for at in (t, s)]
        return s.noise * (x_t / t.noise + ends[1] - ends[0])


def test_the_first_step_is_ddims() -> None:
    x_s = Adams().step(GAUSSIAN, State(Z, GRID[0]), GRID[1]).x
    assert_close(x_s, DDIM().step(GAUSSIAN, State(Z, GRID[0]), GRID[1]).x)


def test_lines_are_integrated_exactly_and_the_first_step_is_mended() -> None:
    model, state = Line(), State(Z, GRID[0])
    first, *rest = [state := Adams().step(model, state, s) for s in GRID[1:]]
    assert (first.x - model.flow(Z, GRID[0], first.level)).abs().max() > 1e-3
    for state in rest:
        assert_close(state.x, model.flow(Z, GRID[0], state.level))


def test_upwards_lines_are_exact_but_for_the_first_step() -> None:
    model, state = Line(), State(Z, GRID[-1])
    states = [state := Adams().inverse(model, state, t) for t in reversed(GRID[:-1])]
    for below, above in pairwise(states):
        assert_close(above.x, model.flow(below.x, below.level, above.level))


def test_a_correction_asks_nothing() -> None:
    model = CountCalls(GAUSSIAN)
    last(sample(model, Z, GRID, Adams()))
    assert model.nfe == len(Z) * (len(GRID) - 1)


@pytest.mark.parametrize("steps", [20, 40, 80])
def test_it_is_nearer_than_without_correction(steps: int) -> None:
    grid = make_grid(SCHEDULE, steps)
    truth = GAUSSIAN.flow(Z, grid[0], grid[-1])

    def missed(solver: Solver) -> float:
        return (last(sample(GAUSSIAN, Z, grid, solver)).x - truth).square().mean().sqrt().item()

    assert missed(Adams()) < 0.8 * missed(DPMpp2M())


def test_pure_noise_can_be_sampled_and_the_clean_end_reached() -> None:
    pure = NoiseSchedule.from_config({"rescale_betas_zero_snr": True}).level(999)
    grid = (pure, *GRID[1:], SCHEDULE.clean)
    assert bool(torch.isfinite(last(sample(GAUSSIAN, Z, grid, Adams())).x).all())


def test_from_the_clean_end_the_first_step_up_is_the_naive_one() -> None:
    up = last(invert(GAUSSIAN, Z, (GRID[-2], SCHEDULE.clean), Adams())).x
    assert_close(up, carry(Z, GAUSSIAN(Z, GRID[-2]).eps, SCHEDULE.clean, GRID[-2]))
