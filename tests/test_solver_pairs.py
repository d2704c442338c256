"""EDICT, BDIA and O-BELM are the formulas of their papers."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver import BDIA, EDICT, OBELM, Leapfrog, PairSolver, Solver, State
from ddim_interp.trajectory import invert, last, sample

SCHEDULE = NoiseSchedule.from_config({})
GAUSSIAN = GaussianDenoiser(mean=0.3, variance=0.25)
R, T, S = (SCHEDULE.level(timestep) for timestep in (700, 500, 200))
X, Y = draw([0, 1], (3, 8, 8)).double().split(1)


def eps(x: Tensor, t: Level) -> Tensor:
    return GAUSSIAN(x, t).eps


def ddim(x: Tensor, t: Level, s: Level) -> Tensor:
    """Song et al. (2021), eq. 12 with σ = 0."""
    x_0 = (x - (1 - t.alpha_bar) ** 0.5 * eps(x, t)) / t.alpha_bar**0.5
    return s.alpha_bar**0.5 * x_0 + (1 - s.alpha_bar) ** 0.5 * eps(x, t)


def test_edict_couples_and_mixes_and_changes_places() -> None:
    a = (S.alpha_bar / T.alpha_bar) ** 0.5
    b = (1 - S.alpha_bar) ** 0.5 - a * (1 - T.alpha_bar) ** 0.5
    x = a * X + b * eps(Y, T)
    y = a * Y + b * eps(x, T)
    x = 0.9 * x + 0.1 * y
    y = 0.9 * y + 0.1 * x
    state = EDICT(p=0.9).step(GAUSSIAN, State(X, T, ((T, Y),)), S)
    assert_close(state.x, y)
    assert_close(state.memory[0][1], x)


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_bdia_corrects_by_what_the_step_back_misses(gamma: float) -> None:
    z_s = gamma * X - gamma * ddim(Y, T, R) + ddim(Y, T, S)
    assert_close(BDIA(gamma).step(GAUSSIAN, State(Y, T, ((R, X),)), S).x, z_s)


def test_o_belm_weighs_by_its_steps() -> None:
    h_before, h = R.ratio - T.ratio, T.ratio - S.ratio
    x_s = (h**2 / h_before**2) * (S.signal / R.signal) * X
    x_s += ((h_before**2 - h**2) / h_before**2) * (S.signal / T.signal) * Y
    x_s -= (h * (h + h_before) / h_before) * S.signal * eps(Y, T)
    assert_close(OBELM().step(GAUSSIAN, State(Y, T, ((R, X),)), S).x, x_s)


@pytest.mark.parametrize(("damping", "like"), [(0.0, BDIA(1.0)), (1.0, OBELM())])
def test_the_leapfrog_lies_between_bdia_and_o_belm(damping: float, like: Solver) -> None:
    """On a grid even in log σ̄."""
    grid = make_grid(SCHEDULE, 30)
    for r, t, s in zip(grid, grid[1:], grid[2:], strict=False):
        assert Leapfrog(damping).weight(r, t, s) == pytest.approx(like.weight(r, t, s), rel=1e-9)


def test_o_belm_is_exact_where_x_bar_is_a_parabola() -> None:
    """Local error O(h³): x̄ = σ̄² is stepped without error, whatever the steps."""

    class Parabola:
        def __call__(self, x_t: Tensor, t: Level) -> object:
            return GAUSSIAN(x_t, t)._replace(eps=torch.full_like(x_t, 2 * t.ratio))

    def x(t: Level) -> Tensor:
        return torch.full_like(X, t.signal * t.ratio**2)

    assert_close(OBELM().step(Parabola(), State(x(T), T, ((R, x(R)),)), S).x, x(S))


@pytest.mark.parametrize("pair", [EDICT(), BDIA(), OBELM(), Leapfrog()])
def test_a_pair_in_float32_is_exact_to_rounding(pair: Solver) -> None:
    grid, picture = make_grid(SCHEDULE, 20, "leading"), draw([2], (3, 8, 8)).tanh()
    z = last(invert(GAUSSIAN, picture, grid, pair))
    assert_close(last(sample(GAUSSIAN, z, grid, pair)).x, picture, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("pair", "steps"), [(EDICT(), 320), (BDIA(0.5), 60)], ids=["edict", "bdia"]
)
def test_past_the_growth_of_float64_the_latent_is_lost(pair: PairSolver, steps: int) -> None:
    grid = make_grid(SCHEDULE, steps)
    assert pair.growth(grid) > 1e15
    z = last(invert(GAUSSIAN, draw([2], (3, 8, 8)).double().tanh(), grid, pair))
    assert z.x.square().mean() > 100
