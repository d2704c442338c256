"""y = f(y): solved where it can be, made no worse where it cannot."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.errors import ArgumentError
from ddim_interp.latents import draw
from ddim_interp.solver import ImplicitEquation

Map = Callable[[Tensor, Tensor], Tensor]

SHAPE = (1, 4, 4)
START = draw(range(8), SHAPE).double()
EVERYONE = torch.arange(len(START))


def linear(eigenvalues: Tensor, count: int = len(START)) -> tuple[Map, Tensor]:
    """A map y ↦ A y + c for each picture, A symmetric with these eigenvalues; and its fixed points.

    Any straight iteration multiplies the error by each eigenvalue: it diverges if one exceeds 1.
    """
    generator = torch.Generator().manual_seed(0)
    d = START[0].numel()
    basis, _ = torch.linalg.qr(torch.randn(count, d, d, generator=generator).double())
    a = basis @ torch.diag_embed(eigenvalues.double().expand(d)) @ basis.mT
    solution = torch.randn(count, d, generator=generator).double()

    def f(y: Tensor, rows: Tensor) -> Tensor:
        error = y.flatten(1) - solution[rows].to(y.dtype)
        moved = solution[rows].to(y.dtype) + torch.einsum("nij,nj->ni", a[rows].to(y.dtype), error)
        return moved.reshape(y.shape)

    return f, solution.reshape(count, *SHAPE)


def spread(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, START[0].numel())


def nasty(y: Tensor, rows: Tensor) -> Tensor:
    """Bends everywhere, contracts nowhere."""
    return 3 * torch.sin(7 * y) - y.roll(1, -1) ** 2


def rms(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1).sqrt()


class Counted:
    """A map that counts, for each picture, how often it was evaluated."""

    def __init__(self, f: Map, count: int = len(START)) -> None:
        self.f, self.passes = f, torch.zeros(count, dtype=torch.int64)

    def __call__(self, y: Tensor, rows: Tensor) -> Tensor:
        self.passes[rows] += 1
        return self.f(y, rows)


# Truth


@pytest.mark.parametrize("window", [1, 2, 4])
def test_a_contraction_is_solved(window: int) -> None:
    f, truth = linear(spread(-0.5, 0.5))
    solution = ImplicitEquation(passes=60, tolerance=1e-12, window=window).solve(f, START)
    assert_close(solution.y, truth, rtol=0, atol=1e-10)


def test_mixing_solves_where_plain_iteration_diverges() -> None:
    f, truth = linear(spread(-3, 0.5))
    plain = START
    for _ in range(30):
        plain = f(plain, EVERYONE)
    assert (rms(plain - truth) > 1e6 * rms(START - truth)).all()
    solution = ImplicitEquation(passes=30, tolerance=1e-8).solve(f, START)
    assert_close(solution.y, truth, rtol=0, atol=1e-4)


@pytest.mark.parametrize("eigenvalue", [-50, -6, -1, 0.5, 3])
def test_one_direction_is_learnt_in_two_passes_however_steep(eigenvalue: float) -> None:
    f, truth = linear(torch.tensor([eigenvalue]))
    solution = ImplicitEquation(passes=4, tolerance=0).solve(f, START)
    assert_close(solution.y, truth, rtol=0, atol=1e-6)


def test_mixing_takes_fewer_passes_than_plain_iteration() -> None:
    f, _ = linear(spread(0, 0.9))
    spent = {}
    for window in (1, 4):
        counted = Counted(f)
        ImplicitEquation(passes=200, tolerance=1e-6, window=window).solve(counted, START)
        spent[window] = counted.passes
    assert (2 * spent[4] < spent[1]).all()


# The residual


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_the_residual_of_an_unfinished_picture_is_that_of_its_iterate(
    passes: int, scale: float
) -> None:
    f, _ = linear(spread(-0.9, 0.9))
    solution = ImplicitEquation(passes, tolerance=0).solve(f, START, scale)
    assert_close(solution.residual, rms(f(solution.y, EVERYONE) - solution.y) / scale)


def test_a_finished_picture_is_better_than_its_residual() -> None:
    f, _ = linear(spread(-0.9, 0.9))
    solution = ImplicitEquation(passes=60, tolerance=1e-4).solve(f, START)
    assert (solution.residual <= 1e-4).all()
    assert (rms(f(solution.y, EVERYONE) - solution.y) < solution.residual).all(), "one mixing more"


@pytest.mark.parametrize("window", [1, 4])
@given(passes=st.integers(1, 20), seed=st.integers(0, 2**32), size=st.floats(0.01, 100))
def test_nothing_gets_worse_than_the_start(
    window: int, passes: int, seed: int, size: float
) -> None:
    start = size * draw([seed, seed + 1], SHAPE)
    solution = ImplicitEquation(passes, tolerance=0, window=window).solve(nasty, start)
    assert (solution.residual <= rms(nasty(start, EVERYONE) - start)).all()
    assert solution.y.isfinite().all()


def test_an_iteration_that_runs_away_is_damped_until_it_comes_closer() -> None:
    f, _ = linear(spread(-6, -5))
    solution = ImplicitEquation(passes=30, tolerance=0, window=1).solve(f, START)
    assert (solution.residual < 0.2 * rms(f(START, EVERYONE) - START)).all()


def test_the_second_pass_astray_leads_back_to_the_best_iterate_and_every_next_by_half_as_far():
    f, _ = linear(spread(-60, -50))
    asked: list[Tensor] = []

    def overheard(y: Tensor, rows: Tensor) -> Tensor:
        asked.append(y)
        return f(y, rows)

    ImplicitEquation(passes=6, tolerance=0, window=1).solve(overheard, START)
    away = f(START, EVERYONE) - START
    expected = [START + away, f(START + away, EVERYONE), *(START + away / n for n in (4, 8, 16))]
    assert_close(asked[1:], expected)


# NaN


def test_nan_now_and_then_is_stepped_around() -> None:
    f, truth = linear(spread(-0.5, 0.5))
    counted = Counted(f)

    def moody(y: Tensor, rows: Tensor) -> Tensor:
        f_y = counted(y, rows)
        return torch.where((counted.passes[rows] % 3 == 2)[:, None, None, None], torch.nan, f_y)

    solution = ImplicitEquation(passes=60, tolerance=1e-8).solve(moody, START)
    assert_close(solution.y, truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_a_picture_of_nan_alone_returns_its_start_and_spoils_no_other(poison: float) -> None:
    f, truth = linear(spread(-0.5, 0.5))

    def poisoned(y: Tensor, rows: Tensor) -> Tensor:
        return torch.where((rows == 3)[:, None, None, None], poison, f(y, rows))

    solution = ImplicitEquation(passes=40, tolerance=1e-8).solve(poisoned, START)
    others = EVERYONE != 3
    assert_close(solution.y[others], truth[others], rtol=0, atol=1e-6)
    assert torch.equal(solution.y[3], START[3])
    assert solution.residual[3] == torch.inf


# Each picture for itself


def test_every_picture_stops_by_itself() -> None:
    rates = torch.linspace(0, 0.9, len(START))[:, None, None, None].double()
    counted = Counted(lambda y, rows: rates[rows] * y + 1)
    ImplicitEquation(passes=100, tolerance=1e-9, window=1).solve(counted, START)
    assert (counted.passes.diff() > 0).all()
    assert counted.passes[0] == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_solution_does_not_depend_on_its_batch_mates(dtype: torch.dtype) -> None:
    f, _ = linear(spread(-2, 0.5))
    start, equation = START.to(dtype), ImplicitEquation(passes=8, tolerance=1e-3)
    together = equation.solve(f, start)
    for i in range(len(start)):
        alone = equation.solve(lambda y, rows, i=i: f(y, rows + i), start[i : i + 1])
        assert_close(alone.y[0], together.y[i], rtol=0, atol=1e-6)
        assert_close(alone.residual[0], together.residual[i], rtol=0, atol=1e-6)


@pytest.mark.parametrize("passes", [1, 3, 8])
def test_without_a_tolerance_every_pass_is_spent_and_not_one_more(passes: int) -> None:
    counted = Counted(linear(spread(-2, 0.9))[0])
    ImplicitEquation(passes, tolerance=0).solve(counted, START)
    assert (counted.passes == passes).all()


def test_the_start_is_left_as_it_was() -> None:
    start = START.clone()
    ImplicitEquation().solve(linear(spread(-0.5, 0.5))[0], start)
    assert torch.equal(start, START)


@pytest.mark.parametrize("counts", [{"passes": 0}, {"passes": -3}, {"window": 0}])
def test_counts_below_one_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="both count from 1"):
        ImplicitEquation(**counts)
