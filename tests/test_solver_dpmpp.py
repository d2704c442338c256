"""DPM-Solver++ 2M is the published one."""

import math

import pytest
from torch.testing import assert_close

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.latents import draw
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver import DDIM, DPMpp2M, State
from ddim_interp.trajectory import last, sample

SCHEDULE = NoiseSchedule.from_config({})
GAUSSIAN = GaussianDenoiser(mean=0.3, variance=0.25)
R, T, S = (SCHEDULE.level(timestep) for timestep in (700, 500, 200))
X, PAST = draw([0, 1], (3, 8, 8)).double().split(1)


def snr(t: Level) -> float:
    return math.log(t.signal / t.noise)


def test_the_first_step_is_ddims() -> None:
    x_s = DPMpp2M().step(GAUSSIAN, State(X, T), S).x
    assert_close(x_s, DDIM().step(GAUSSIAN, State(X, T), S).x)


def test_a_later_step_is_the_papers() -> None:
    h, r = snr(S) - snr(T), (snr(T) - snr(R)) / (snr(S) - snr(T))
    d = (1 + 1 / (2 * r)) * GAUSSIAN(X, T).x_0 - 1 / (2 * r) * PAST
    x_s = S.noise / T.noise * X - S.signal * math.expm1(-h) * d
    assert_close(DPMpp2M().step(GAUSSIAN, State(X, T, ((R, PAST),)), S).x, x_s)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers under NumPy 2
@pytest.mark.parametrize("steps", [5, 20])
def test_a_walk_is_that_of_diffusers(steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, lower_order_final=False, final_sigmas_type="sigma_min"
    )
    theirs.set_timesteps(steps)
    timesteps, ratios = [*theirs.timesteps.tolist(), 0.0], theirs.sigmas.tolist()
    grid = tuple(Level(t, 1 / (1 + r**2)) for t, r in zip(timesteps, ratios, strict=True))
    x = z = draw([0], (3, 8, 8))
    for level, t in zip(grid, theirs.timesteps, strict=False):
        x = theirs.step(GAUSSIAN(x, level).eps, t, x).prev_sample
    assert_close(last(sample(GAUSSIAN, z, grid, DPMpp2M())).x, x, rtol=0, atol=1e-4)
