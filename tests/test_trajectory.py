"""Walks over a grid: what they visit, what they cost, and where they stop."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import CountCalls, GaussianDenoiser, Prediction
from ddim_interp.errors import NonFiniteError, ScheduleError
from ddim_interp.grid import SPACINGS, make_grid
from ddim_interp.latents import draw, latent_power
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver import DDIM, ImplicitEquation, State
from ddim_interp.trajectory import about_steps, invert, last, sample

SHAPE = (3, 8, 8)
SCHEDULE = NoiseSchedule.from_config({})
GRID = make_grid(SCHEDULE, 10)
GAUSSIAN = GaussianDenoiser(mean=0.3, variance=0.25)
Z = draw([0, 1, 2], SHAPE)
every_walk = pytest.mark.parametrize("walk", [sample, invert])


@dataclass(frozen=True)
class SpoiltDenoiser:
    """Exact for N(0, 1/4), but for one pixel of each picture above 0, at one level."""

    level: Level
    poison: float

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        x_0, eps = GaussianDenoiser(variance=0.25)(x_t, t)
        if t == self.level:
            spoilt = (x_t > 0).all(dim=(1, 2, 3))
            x_0[spoilt, 0, 3, 3] = eps[spoilt, 0, 3, 3] = self.poison
        return Prediction(x_0, eps)


# Where a walk goes


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [2, 10, 50])
def test_an_inversion_visits_the_levels_of_the_sampling_in_reverse(
    steps: int, spacing: str
) -> None:
    grid = make_grid(SCHEDULE, steps, spacing)
    down = [state.level for state in sample(GAUSSIAN, Z, grid)]
    up = [state.level for state in invert(GAUSSIAN, Z, grid)]
    assert down == [*grid[1:]]
    assert up == [*grid[-2::-1]]
    assert about_steps(grid, DDIM()) == len(up)


def test_a_walk_of_two_halves_is_the_whole_walk() -> None:
    whole = last(sample(GAUSSIAN, Z, GRID)).x
    half_way = last(sample(GAUSSIAN, Z, GRID[:6]))
    assert torch.equal(last(sample(GAUSSIAN, half_way, GRID[5:])).x, whole)


def test_a_walk_starts_from_latents_or_from_a_state() -> None:
    state = State(Z, GRID[0])
    assert torch.equal(last(sample(GAUSSIAN, state, GRID)).x, last(sample(GAUSSIAN, Z, GRID)).x)


def test_a_state_that_is_at_the_grids_level_but_for_rounding_starts_on_it() -> None:
    near = Level(GRID[0].timestep, GRID[0].alpha_bar * (1 + 1e-7))
    whole, rounded = (last(sample(GAUSSIAN, State(Z, t), GRID)).x for t in (GRID[0], near))
    assert torch.equal(rounded, whole)


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_a_picture_comes_back_from_its_latent(dtype: torch.dtype, gap: float) -> None:
    picture = Z.tanh().to(dtype)
    solver = DDIM(equation=ImplicitEquation(passes=30, tolerance=gap / 100))
    z = last(invert(GAUSSIAN, picture, GRID, solver))
    assert_close(last(sample(GAUSSIAN, z, GRID, solver)).x, picture, rtol=0, atol=gap)


def test_latents_of_typical_pictures_are_typical_noise() -> None:
    pictures = 0.3 + 0.5 * draw(range(8), (3, 32, 32))
    latents = last(invert(GAUSSIAN, pictures, make_grid(SCHEDULE, 100))).x
    assert_close(latent_power(latents), torch.ones(8).double(), rtol=0, atol=0.15)


def test_a_sample_does_not_depend_on_its_batch_mates() -> None:
    together = last(sample(GAUSSIAN, Z, GRID)).x
    for i in range(len(Z)):
        assert torch.equal(last(sample(GAUSSIAN, Z[i : i + 1], GRID)).x[0], together[i])


# What a walk costs


def test_a_walk_asks_nothing_before_it_is_stepped() -> None:
    counted = CountCalls(GAUSSIAN)
    walk = sample(counted, Z, GRID)
    assert counted.nfe == 0
    next(walk)
    assert counted.nfe == len(Z)


def test_sampling_costs_an_evaluation_a_step_and_picture() -> None:
    counted = CountCalls(GAUSSIAN)
    last(sample(counted, Z, GRID))
    assert counted.nfe == len(Z) * (len(GRID) - 1)


@pytest.mark.parametrize("passes", [1, 3])
def test_inversion_costs_at_most_its_passes(passes: int) -> None:
    counted = CountCalls(GAUSSIAN)
    last(invert(counted, Z, GRID, DDIM(equation=ImplicitEquation(passes, tolerance=0))))
    assert counted.nfe == passes * len(Z) * (len(GRID) - 1)


@every_walk
def test_the_start_is_left_as_it_was(walk: Any) -> None:
    start = Z.clone()
    last(walk(GAUSSIAN, start, GRID))
    assert torch.equal(start, Z)


def test_a_walk_of_no_step_has_no_last_state() -> None:
    with pytest.raises(ValueError, match="give a grid of two"):
        last(sample(GAUSSIAN, Z, GRID[:1]))


# Where a walk stops


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("picture", [0, 2])
@pytest.mark.parametrize("step", [1, 4, 10])
@pytest.mark.parametrize("passes", [1, 8])
@every_walk
def test_nan_is_found_at_the_step_where_it_appears(
    walk: Any, passes: int, step: int, picture: int, poison: float
) -> None:
    # Sampling asks at the level it leaves, inversion at the level it reaches.
    spoilt = GRID[step - 1] if walk is sample else GRID[-1 - step]
    arrival = GRID[step] if walk is sample else GRID[-1 - step]
    solver = DDIM(equation=ImplicitEquation(passes))
    start = -Z.abs()
    start[picture] *= -1
    states = walk(SpoiltDenoiser(spoilt, poison), start, GRID, solver)
    for _ in range(step - 1):
        assert next(states).x.isfinite().all()
    message = f"Step {step}, at timestep {arrival.timestep:g}, turned picture {picture} of the"
    with pytest.raises(NonFiniteError, match=message):
        next(states)


def test_all_spoilt_pictures_are_named_with_dtype_and_remedy() -> None:
    z = Z.double()
    z[0, 0, 0, 0] = z[2, 0, 0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"picture 0, 2 of the batch .* in float64; use "):
        last(sample(GAUSSIAN, z, GRID))


def test_latents_of_another_level_are_not_taken_for_these() -> None:
    schedule = NoiseSchedule.from_config({})
    half = State(torch.zeros(1, 1, 8, 8), schedule.level(499))
    with pytest.raises(ScheduleError, match=r"of timestep 499, and the grid begins at 999"):
        last(sample(GaussianDenoiser(), half, make_grid(schedule, 4)))
