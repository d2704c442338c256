"""DDIM's step is Euler's on the probability-flow equation, and its inverse undoes it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import (
    CountCalls,
    Denoiser,
    GaussianDenoiser,
    NetworkDenoiser,
    Prediction,
    predict_eps,
    predict_x0,
)
from ddim_interp.errors import NotInvertibleError
from ddim_interp.grid import SPACINGS, Grid, make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.scheduler import DDIMInverseScheduler
from ddim_interp.solver import DDIM, ImplicitEquation, State, clip_to, threshold_at
from ddim_interp.trajectory import invert, last, sample

SHAPE = (3, 8, 8)
SCHEDULE = NoiseSchedule.from_config({})
GAUSSIAN = GaussianDenoiser(mean=0.3, variance=0.25)
TIGHT = ImplicitEquation(passes=40, tolerance=1e-13)
NAIVE = DDIM(equation=ImplicitEquation(passes=1, tolerance=0), warm=False)

every_spacing = pytest.mark.parametrize("spacing", SPACINGS)


@dataclass(frozen=True)
class TwoHills:
    """Exact for pixels drawn from N(−μ, v) or N(μ, v), by the toss of a coin."""

    mean: float = 0.6
    variance: float = 0.1

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        total = t.alpha_bar * self.variance + 1 - t.alpha_bar
        hill = self.mean * torch.tanh(t.signal * self.mean / total * x_t)  # the likelier one
        x_0 = hill + t.signal * self.variance / total * (x_t - t.signal * hill)
        return Prediction(x_0, predict_eps(x_t, x_0, t))


@dataclass(frozen=True)
class FixedDenoiser:
    """Finds the same noise in everything."""

    eps: Tensor

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        return Prediction(predict_x0(x_t, self.eps, t), self.eps)


def rms(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1).sqrt()


def round_trip(denoiser: Denoiser, x: Tensor, t: Level, s: Level, solver: DDIM) -> Tensor:
    there = solver.inverse(denoiser, State(x, s), t)
    return solver.step(denoiser, State(there.x, t), s).x


# Truth: the flow of Gaussian data is known

Walk = Callable[[Grid], Tensor]
Z = torch.linspace(-3, 3, 64).double().reshape(1, 1, 8, 8)


def sampling_error(grid: Grid) -> Tensor:
    return last(sample(GAUSSIAN, Z, grid)).x - GAUSSIAN.flow(Z, grid[0], grid[-1])


def inversion_error(solver: DDIM) -> Walk:
    def error(grid: Grid) -> Tensor:
        return last(invert(GAUSSIAN, GAUSSIAN.flow(Z, grid[0], grid[-1]), grid, solver)).x - Z

    return error


@pytest.mark.parametrize(
    "error_of",
    [sampling_error, inversion_error(NAIVE), inversion_error(DDIM(equation=TIGHT))],
    ids=["sampling", "naive inversion", "exact inversion"],
)
@pytest.mark.parametrize("spacing", ["log-snr", "leading", "trailing", "karras"])
def test_twice_the_steps_halve_the_distance_to_the_true_flow(spacing: str, error_of: Walk) -> None:
    grids = [make_grid(SCHEDULE, steps, spacing) for steps in (125, 250, 500)]
    coarse, fine, finest = (error_of(grid).abs().max().item() for grid in grids)
    assert coarse / fine == pytest.approx(2, rel=0.05)
    assert fine / finest == pytest.approx(2, rel=0.05)
    assert finest < 0.02


def test_one_step_is_enough_where_the_picture_is_certain() -> None:
    denoiser = GaussianDenoiser(mean=0.3, variance=0.0)
    t, s = SCHEDULE.highest, SCHEDULE.level(100)
    x_s = DDIM().step(denoiser, State(Z, t), s).x
    assert_close(x_s, denoiser.flow(Z, t, s), rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_fresh_noise_leaves_the_distribution_as_it_should_be(eta: float) -> None:
    z = draw([0], (1, 160, 160)).double()
    generator = torch.Generator().manual_seed(1)
    solver = DDIM(eta, noise=lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype))
    x_0 = last(sample(GAUSSIAN, z, make_grid(SCHEDULE, 200), solver)).x
    assert x_0.mean().item() == pytest.approx(0.3, abs=0.01)
    assert x_0.std().item() == pytest.approx(0.5, abs=0.02)


def test_full_noise_is_ddpms_posterior() -> None:
    """q(x_s | x_t, x_0) of Ho et al. (2020), eq. 7, between neighbouring timesteps."""
    t, s = SCHEDULE.level(500), SCHEDULE.level(499)
    x_t, z = draw([0, 1], SHAPE).double().split(1)
    beta = 1 - t.alpha_bar / s.alpha_bar
    x_0 = GAUSSIAN(x_t, t).x_0
    mean = (s.signal * beta * x_0 + (1 - beta) ** 0.5 * s.noise**2 * x_t) / t.noise**2
    expected = mean + (s.noise / t.noise) * beta**0.5 * z
    x_s = DDIM(eta=1, noise=lambda x: z).step(GAUSSIAN, State(x_t, t), s).x
    assert_close(x_s, expected, rtol=0, atol=1e-12)


def test_a_zero_snr_grid_is_sampled_from_pure_noise() -> None:
    schedule = NoiseSchedule.from_config({"rescale_betas_zero_snr": True})

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        t = schedule.level(timestep[0].item())
        x_0, eps = GAUSSIAN(x, t)
        return t.signal * eps - t.noise * x_0

    grid = make_grid(schedule, 500, "trailing")
    assert grid[0].alpha_bar == 0
    x_0 = last(sample(NetworkDenoiser(network, "v_prediction"), Z, grid)).x
    assert_close(x_0, GAUSSIAN.flow(Z, grid[0], grid[-1]), rtol=0, atol=0.02)


# Law: the inverse undoes the step

cases = given(
    steps=st.integers(10, 1000), where=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 999)
)


def neighbours(steps: int, spacing: str, where: float) -> tuple[Level, Level]:
    """A level of the grid and the next one."""
    steps = 1000 // max(2, 1000 // steps) if spacing == "leading" else steps  # nearly divides it
    grid = make_grid(SCHEDULE, steps, spacing)
    index = int(where * (len(grid) - 1))
    return grid[index], grid[index + 1]


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@every_spacing
@settings(max_examples=80)
@cases
def test_a_step_undoes_its_inverse_with_fixed_noise(
    spacing: str, dtype: torch.dtype, gap: float, steps: int, where: float, seed: int
) -> None:
    t, s = neighbours(steps, spacing, where)
    x, eps = draw([seed, seed + 1], SHAPE).to(dtype).split(1)
    assert_close(round_trip(FixedDenoiser(eps), x, t, s, DDIM()), x, rtol=0, atol=gap)


@pytest.mark.parametrize("denoiser", [GAUSSIAN, TwoHills()], ids=["gaussian", "two hills"])
@every_spacing
@settings(max_examples=20)
@cases
def test_a_step_undoes_its_inverse_to_the_tolerance(
    spacing: str, denoiser: Denoiser, steps: int, where: float, seed: int
) -> None:
    t, s = neighbours(steps, spacing, where)
    x = draw([seed], SHAPE).double()
    assert_close(round_trip(denoiser, x, t, s, DDIM(equation=TIGHT)), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("spacing", ["log-snr", "leading"])
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_a_whole_round_trip_gives_the_picture_back(steps: int, spacing: str) -> None:
    grid, picture = make_grid(SCHEDULE, steps, spacing), draw([0, 1], SHAPE).double().tanh()
    solver = DDIM(equation=TIGHT)
    z = last(invert(TwoHills(), picture, grid, solver))
    assert_close(last(sample(TwoHills(), z, grid, solver)).x, picture, rtol=0, atol=1e-8)


@pytest.mark.parametrize("steps", [10, 20])
def test_more_passes_narrow_the_round_trip(steps: int) -> None:
    grid, picture = make_grid(SCHEDULE, steps), draw([0], SHAPE).double().tanh()
    gaps = []
    for passes in (1, 2, 4, 8):
        solver = DDIM(equation=ImplicitEquation(passes, tolerance=0))
        z = last(invert(GAUSSIAN, picture, grid, solver))
        gaps.append(rms(last(sample(GAUSSIAN, z, grid, solver)).x - picture).item())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3 * gaps[0]


def test_an_equally_noisy_level_is_reached_without_asking() -> None:
    counted, t = CountCalls(GAUSSIAN), SCHEDULE.lowest
    end = Level(-1.0, t.alpha_bar)  # the clean end of a checkpoint with set_alpha_to_one: false
    assert torch.equal(DDIM().step(counted, State(Z, t), end).x, Z)
    assert torch.equal(DDIM().inverse(counted, State(Z, end), t).x, Z)
    assert counted.nfe == 0


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_naive_inversion_is_the_inverse_schedulers(steps: int) -> None:
    def network(x: Tensor, timestep: Tensor) -> Tensor:
        return torch.sin(2 * x + timestep.flatten()[0] / 300)

    scheduler = DDIMInverseScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    x = picture = draw([0, 1], SHAPE).tanh()
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x).prev_sample
    grid = make_grid(SCHEDULE, steps, "leading", end=SCHEDULE.clean)
    z = last(invert(NetworkDenoiser(network), picture, grid, NAIVE)).x
    assert_close(z, x, rtol=0, atol=1e-5)


# The residual, and what it costs


@pytest.mark.parametrize("passes", [2, 3, 5])
def test_the_residual_is_how_far_the_step_misses_the_picture(passes: int) -> None:
    grid, x = make_grid(SCHEDULE, 10), draw([0, 1, 2], SHAPE).double()
    solver = DDIM(equation=ImplicitEquation(passes, tolerance=0))
    for t, s in pairwise(grid):
        there = solver.inverse(TwoHills(), State(x, s), t)
        back = solver.step(TwoHills(), State(there.x, t), s).x
        assert_close(there.residual, rms(back - x), rtol=1e-6, atol=1e-12)


def test_naive_inversion_claims_no_residual() -> None:
    state = State(Z, SCHEDULE.level(100))
    assert NAIVE.inverse(GAUSSIAN, state, SCHEDULE.level(200)).residual is None


def test_easy_pictures_cost_fewer_evaluations_than_hard_ones() -> None:
    grid = make_grid(SCHEDULE, 10)
    pictures = {"flat": torch.full((1, *SHAPE), 0.6), "rough": draw([0], SHAPE)}
    nfe = {}
    for name, picture in (pictures | {"both": torch.cat([*pictures.values()])}).items():
        counted = CountCalls(TwoHills())
        last(invert(counted, picture.double(), grid, DDIM(equation=ImplicitEquation(20, 1e-6))))
        nfe[name] = counted.nfe
    assert nfe["flat"] < 0.8 * nfe["rough"]
    assert nfe["both"] == nfe["flat"] + nfe["rough"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_inversion_does_not_depend_on_its_batch_mates(dtype: torch.dtype) -> None:
    grid, pictures = make_grid(SCHEDULE, 10), draw(range(4), SHAPE).to(dtype).tanh()
    together = last(invert(TwoHills(), pictures, grid)).x
    for i in range(len(pictures)):
        alone = last(invert(TwoHills(), pictures[i : i + 1], grid)).x
        assert_close(alone[0], together[i], rtol=0, atol=1e-6)


def test_a_warm_start_finds_the_same_latent_for_less() -> None:
    grid, picture = make_grid(SCHEDULE, 30), draw([0, 1], SHAPE).double().tanh()
    found, nfe = {}, {}
    for warm in (True, False):
        counted = CountCalls(TwoHills())
        equation = ImplicitEquation(passes=30, tolerance=1e-9)
        found[warm] = last(invert(counted, picture, grid, DDIM(equation=equation, warm=warm))).x
        nfe[warm] = counted.nfe
    assert_close(found[True], found[False], rtol=0, atol=1e-5)
    assert nfe[True] < nfe[False]


def test_a_step_costs_one_evaluation_a_picture() -> None:
    counted = CountCalls(GAUSSIAN)
    DDIM().step(counted, State(draw(range(3), SHAPE), SCHEDULE.level(500)), SCHEDULE.level(400))
    assert counted.nfe == 3


# Bounds


@pytest.mark.parametrize("rederive", [True, False])
@pytest.mark.parametrize("bound", [clip_to(0.5), threshold_at(0.9, 2.0)], ids=["clip", "threshold"])
def test_a_bound_keeps_x_0_in_range_and_eps_as_it_was_or_made_to_match(
    bound: Callable[[Tensor], Tensor], rederive: bool
) -> None:
    t, s, x_t = SCHEDULE.level(300), SCHEDULE.level(200), 3 * draw([0, 1], SHAPE).double()
    x_0, eps = GAUSSIAN(x_t, t)
    bounded = bound(x_0)
    assert x_0.abs().max() > 1.5 and bounded.abs().max() <= 1
    matching = predict_eps(x_t, bounded, t) if rederive else eps
    x_s = DDIM(bound=bound, rederive_eps=rederive).step(GAUSSIAN, State(x_t, t), s).x
    assert_close(x_s, s.signal * bounded + s.noise * matching)


def test_a_threshold_is_each_pictures_own_quantile() -> None:
    quiet, loud = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8), torch.linspace(-4, 4, 64)
    pictures = torch.cat([quiet, loud.reshape(1, 1, 8, 8)])
    bounded = threshold_at(ratio=0.5, maximum=10.0)(pictures)
    assert_close(bounded[0], pictures[0])
    middle = pictures[1].abs().median().item()
    assert_close(bounded[1], (pictures[1] / middle).clamp(-1, 1), rtol=0, atol=0.05)


# Refusals


@pytest.mark.parametrize(
    ("solver", "remedy"),
    [
        (DDIM(eta=0.3), "invert with eta=0"),
        (DDIM(bound=clip_to(1.0)), "invert, and sample again, with bound=None"),
        (DDIM(bound=threshold_at(0.995, 1.0)), "invert, and sample again, with bound=None"),
    ],
    ids=["eta", "clip", "threshold"],
)
def test_a_step_that_loses_information_is_not_undone(solver: DDIM, remedy: str) -> None:
    with pytest.raises(NotInvertibleError, match=remedy):
        solver.inverse(GAUSSIAN, State(Z, SCHEDULE.level(100)), SCHEDULE.level(200))


def test_pure_noise_is_not_inverted_to() -> None:
    pure = NoiseSchedule.from_config({"rescale_betas_zero_snr": True}).level(999)
    with pytest.raises(NotInvertibleError, match="begin the grid at a lower level"):
        DDIM().inverse(GAUSSIAN, State(Z, SCHEDULE.level(900)), pure)


def test_a_threshold_is_found_in_half_precision_as_well() -> None:
    x = torch.linspace(-3, 3, 64, dtype=torch.float16).view(1, 1, 8, 8)
    bounded = threshold_at(0.9, 2.0)(x)
    assert bounded.dtype == torch.float16
    assert_close(bounded.float(), threshold_at(0.9, 2.0)(x.float()), rtol=0, atol=1e-3)
