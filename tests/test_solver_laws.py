"""What every solver promises: its order, its cost, its way back, and what it refuses."""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import (
    CountCalls,
    Denoiser,
    GaussianDenoiser,
    Prediction,
    predict_eps,
    predict_x0,
)
from ddim_interp.errors import ArgumentError, NotInvertibleError, ScheduleError
from ddim_interp.grid import Grid, make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver import (
    BDIA,
    EDICT,
    OBELM,
    RK45,
    SOLVERS,
    Closed,
    ImplicitEquation,
    Leapfrog,
    PairSolver,
    Solver,
    State,
    begin,
    carry,
    make_solver,
    settle,
)
from ddim_interp.trajectory import invert, last, sample

SHAPE = (3, 8, 8)
SCHEDULE = NoiseSchedule.from_config({})
PURE = NoiseSchedule.from_config({"rescale_betas_zero_snr": True}).level(999)
TIGHT = ImplicitEquation(passes=60, tolerance=1e-12)
Z = draw(range(3), SHAPE).double()
PICTURES = draw(range(3, 6), SHAPE).double().tanh()
GAUSSIAN = GaussianDenoiser(
    mean=0.3, variance=torch.linspace(0.01, 1, 192).double().reshape(1, *SHAPE)
)

PAIRS = ("leapfrog", "bdia", "o-belm", "edict")

every_solver = pytest.mark.parametrize("name", SOLVERS)
every_exact_solver = pytest.mark.parametrize("name", [n for n, e in SOLVERS.items() if e.exact])
every_pair = pytest.mark.parametrize(
    "pair", [EDICT(), EDICT(p=0.97), BDIA(), BDIA(0.6), OBELM(), Leapfrog(), Leapfrog(0.7)]
)


@dataclass(frozen=True)
class TwoHills:
    """Exact for pixels drawn from N(−μ, v) or N(μ, v), by the toss of a coin; bends."""

    mean: float = 0.6
    variance: float = 0.1

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        total = t.alpha_bar * self.variance + 1 - t.alpha_bar
        hill = self.mean * torch.tanh(t.signal * self.mean / total * x_t)
        x_0 = hill + t.signal * self.variance / total * (x_t - t.signal * hill)
        return Prediction(x_0, predict_eps(x_t, x_0, t))


@dataclass(frozen=True)
class FrozenDenoiser:
    """Finds the same noise in everything."""

    eps: Tensor

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        return Prediction(predict_x0(x_t, self.eps, t), self.eps)


class Sighted:
    """A denoiser that, like a network, has never seen the clean end."""

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        assert t.timestep >= 0
        return TwoHills()(x_t, t)


def tight(name: str) -> Solver:
    """The solver of this name, its equations solved to float64's satisfaction."""
    solver = make_solver(name, SCHEDULE)
    solvable = SOLVERS[name].exact and hasattr(solver, "equation")
    return replace(solver, equation=TIGHT) if solvable else solver


def round_trip(denoiser: Denoiser, pictures: Tensor, grid: Grid, solver: Solver) -> Tensor:
    z = last(invert(denoiser, pictures, grid, solver))
    return last(sample(denoiser, settle(solver, z), grid, solver)).x


# Truth: the flow of Gaussian data is known


@pytest.mark.parametrize("direction", ["sampling", "inversion"])
@every_solver
def test_the_error_falls_by_the_order(name: str, direction: str) -> None:
    solver = RK45(SCHEDULE, rtol=1e9, atol=1e9) if name == "rk45" else tight(name)
    errors = []
    # On coarser grids what adams predicts wrongly and what it corrects wrongly cancel in part.
    for steps in {"rk45": (20, 40, 80), "adams": (160, 320, 640)}.get(name, (40, 80, 160)):
        grid = make_grid(SCHEDULE, steps)
        if direction == "sampling":
            x = last(sample(GAUSSIAN, Z, grid, solver)).x
            truth = GAUSSIAN.flow(Z, grid[0], grid[-1])
        else:
            x = last(invert(GAUSSIAN, PICTURES, grid, solver)).x
            truth = GAUSSIAN.flow(PICTURES, grid[-1], grid[0])
        errors.append((x - truth).square().mean().sqrt().item())
    slopes = [log2(coarse / fine) for coarse, fine in pairwise(errors)]
    order = SOLVERS[name].order
    assert slopes[-1] == pytest.approx(order, abs=0.3), slopes
    assert errors[-1] < 0.1


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_rk45_is_as_accurate_as_it_is_told(tolerance: float) -> None:
    grid = make_grid(SCHEDULE, 10)
    x = last(sample(GAUSSIAN, Z, grid, RK45(SCHEDULE, tolerance, tolerance))).x
    assert_close(x, GAUSSIAN.flow(Z, grid[0], grid[-1]), rtol=0, atol=30 * tolerance)


# Law: the way back


@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize("denoiser", [GAUSSIAN, TwoHills()], ids=["gaussian", "two hills"])
@every_exact_solver
def test_an_exact_solver_gives_the_picture_back(name: str, denoiser: Denoiser, steps: int) -> None:
    back = round_trip(denoiser, PICTURES, make_grid(SCHEDULE, steps), tight(name))
    assert_close(back, PICTURES, rtol=0, atol=1e-8)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "karras"])
@every_pair
def test_a_pair_gives_the_picture_back_on_any_grid(pair: Solver, spacing: str) -> None:
    back = round_trip(TwoHills(), PICTURES, make_grid(SCHEDULE, 20, spacing), pair)
    assert_close(back, PICTURES, rtol=0, atol=1e-9)


@every_pair
def test_a_pair_gives_the_latent_back(pair: Solver) -> None:
    grid = make_grid(SCHEDULE, 20)
    picture = last(sample(TwoHills(), Z, grid, pair))
    assert_close(last(invert(TwoHills(), picture, grid, pair)).x, Z, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["heun", "dpmpp-2m", "rk45"])
def test_an_explicit_inverse_closes_as_the_steps_shrink(name: str) -> None:
    gaps = []
    for steps in (20, 40, 80):
        solver = RK45(SCHEDULE, rtol=1e9, atol=1e9) if name == "rk45" else tight(name)
        back = round_trip(TwoHills(), PICTURES, make_grid(SCHEDULE, steps), solver)
        gaps.append((back - PICTURES).abs().max().item())
    assert all(gap < sooner / 3.5 for sooner, gap in pairwise(gaps)), gaps


@every_solver
def test_a_step_of_carry_undoes_itself(name: str) -> None:
    """All solvers go along some ε; with that ε the way back is `carry` again."""
    t, s = SCHEDULE.level(500), SCHEDULE.level(300)
    x_s = tight(name).step(TwoHills(), State(Z, t), s).x
    slope = (x_s / s.signal - Z / t.signal) / (s.ratio - t.ratio)
    assert_close(carry(x_s, slope, s, t), Z, rtol=0, atol=1e-12)


@every_solver
def test_a_picture_does_not_depend_on_its_batch_mates(name: str) -> None:
    grid, solver = make_grid(SCHEDULE, 5), tight(name)
    # RK45 takes the substeps that the worst picture needs, so its mates gain accuracy.
    atol = 1e-3 if name == "rk45" else 1e-9
    together = last(invert(TwoHills(), PICTURES, grid, solver)).x
    for i in range(len(PICTURES)):
        alone = last(invert(TwoHills(), PICTURES[i : i + 1], grid, solver)).x
        assert_close(alone[0], together[i], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["ddim", "heun-exact", "trapezoid"])
def test_the_residual_bounds_how_far_the_step_misses(name: str) -> None:
    """In the units of x at the cleaner end, whichever end was solved for."""
    solver = replace(make_solver(name, SCHEDULE), equation=ImplicitEquation(4, tolerance=0))
    for t, s in pairwise(make_grid(SCHEDULE, 8)):
        there = solver.inverse(TwoHills(), State(PICTURES, s), t)
        exact = replace(solver, equation=TIGHT)
        back = exact.step(TwoHills(), State(there.x, t), s).x
        missed = (back - PICTURES).flatten(1).square().mean(1).sqrt()
        assert (missed <= 3 * there.residual + 1e-9).all()
        assert (missed >= there.residual / 3 - 1e-9).all()


# The clean end, which no network has seen


@every_solver
def test_the_clean_end_is_reached_and_left_without_asking_there(name: str) -> None:
    grid, solver = make_grid(SCHEDULE, 20, end=SCHEDULE.clean), tight(name)
    assert grid[-1].noise == 0
    pictures = last(sample(Sighted(), Z, grid, solver)).x
    near = last(sample(Sighted(), Z, make_grid(SCHEDULE, 20), solver)).x
    assert_close(pictures, near, rtol=0, atol=0.2)
    back = round_trip(Sighted(), pictures, grid, solver)
    assert_close(back, pictures, rtol=0, atol=1e-8 if SOLVERS[name].exact else 0.5)


# Budget


@every_solver
def test_a_step_costs_at_most_what_the_registry_says_and_that_where_no_equation_is_met(
    name: str,
) -> None:
    entry, grid = SOLVERS[name], make_grid(SCHEDULE, 10)
    usual = hasty = make_solver(name, SCHEDULE)
    if hasattr(usual, "equation") and not isinstance(usual, Closed):
        hasty = replace(usual, equation=replace(usual.equation, tolerance=0.0))
    for walk, start, limit in (sample, Z, entry.step), (invert, PICTURES, entry.inverse):
        for solver in (usual, hasty):
            counted = CountCalls(TwoHills())
            passed = [0, *(counted.nfe for _ in walk(counted, start, grid, solver))]
            costs = [after - before for before, after in pairwise(passed)]
            assert limit is None or max(costs) <= limit * len(Z)
            assert counted.nfe >= len(Z) * (len(grid) - 1)
        assert limit is None or max(costs) == limit * len(Z)


@pytest.mark.parametrize("walk", [sample, invert])
def test_the_trapezoid_reuses_the_eps_it_arrived_with(walk: object) -> None:
    counted, solver = CountCalls(TwoHills()), tight("trapezoid")
    solver = replace(solver, equation=ImplicitEquation(passes=3, tolerance=0))
    last(walk(counted, Z, make_grid(SCHEDULE, 10), solver))
    assert counted.nfe == len(Z) * (10 * 3 + 1)


def test_an_exact_inverse_begins_where_the_slopes_before_lead() -> None:
    """Without them it finds the same latent for more."""
    loose = ImplicitEquation(passes=30, tolerance=1e-6)
    solver, levels = replace(tight("heun-exact"), equation=loose), make_grid(SCHEDULE, 30)[::-1]
    found, nfe = {}, {}
    for warm in (True, False):
        counted, state = CountCalls(TwoHills()), State(PICTURES[:1], levels[0])
        for t in levels[1:]:
            state = solver.inverse(counted, state if warm else State(state.x, state.level), t)
        found[warm], nfe[warm] = state.x, counted.nfe
    assert_close(found[True], found[False], rtol=0, atol=1e-3)
    assert nfe[True] < 0.9 * nfe[False]


def test_rk45_pays_six_evaluations_a_substep_and_one_to_begin() -> None:
    counted, solver = CountCalls(TwoHills()), RK45(SCHEDULE, rtol=1e9, atol=1e9)
    last(sample(counted, Z, make_grid(SCHEDULE, 10), solver))
    assert counted.nfe == len(Z) * (10 * 6 + 1)


def test_rk45_spends_more_where_more_is_asked() -> None:
    nfe = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        counted = CountCalls(TwoHills())
        last(sample(counted, Z, make_grid(SCHEDULE, 5), RK45(SCHEDULE, tolerance, tolerance)))
        nfe.append(counted.nfe)
    assert nfe == sorted(set(nfe))


def test_turning_round_costs_a_pair_nothing() -> None:
    counted, grid = CountCalls(TwoHills()), make_grid(SCHEDULE, 10)
    z = last(invert(counted.denoiser, PICTURES, grid, BDIA()))
    BDIA().step(counted, z, grid[1])
    assert counted.nfe == 0


# Pairs


@pytest.mark.parametrize("spacing", ["log-snr", "leading"])
@every_pair
def test_the_members_of_a_pair_part_as_growth_says(pair: PairSolver, spacing: str) -> None:
    grid, denoiser = make_grid(SCHEDULE, 12, spacing), FrozenDenoiser(Z)
    clean, next_up = grid[-1], grid[-2]
    begin = State(PICTURES + 0.01, clean, ((clean, PICTURES),))
    if not isinstance(pair, EDICT):  # whose members live at one level
        begin = State(carry(PICTURES, Z, clean, next_up) + 0.01, next_up, ((clean, PICTURES),))

    def parted(state: State) -> Tensor:
        """|x̄ − x̄'|, less what the frozen ε accounts for."""
        ((level, member),) = state.memory
        fitting = carry(member, denoiser.eps, level, state.level)
        return ((state.x - fitting) / state.level.signal).norm()

    end = last(invert(denoiser, begin, grid[: grid.index(begin.level) + 1], pair))
    assert_close(parted(end) / parted(begin), torch.tensor(pair.growth(grid)).double())


@every_pair
def test_a_settled_state_keeps_the_other_member(pair: Solver) -> None:
    z = last(invert(TwoHills(), PICTURES, make_grid(SCHEDULE, 10), pair))
    assert settle(pair, z).memory == z.memory


@pytest.mark.parametrize("name", [n for n in SOLVERS if n not in PAIRS])
def test_a_settled_state_drops_what_only_helped(name: str) -> None:
    solver = make_solver(name, SCHEDULE)
    z = last(invert(TwoHills(), PICTURES, make_grid(SCHEDULE, 4), solver))
    assert settle(solver, z).memory == ()


@every_solver
def test_noise_begins_as_an_inversion_ends_and_is_sampled_the_same(name: str) -> None:
    grid, solver = make_grid(SCHEDULE, 10), tight(name)
    inverted = settle(solver, last(invert(TwoHills(), PICTURES, grid, solver)))
    begun = begin(solver, TwoHills(), Z, grid)
    assert torch.equal(begun.x, Z)
    assert begun.level == inverted.level
    assert [level for level, _ in begun.memory] == [level for level, _ in inverted.memory]
    alone, paired = (last(sample(TwoHills(), z, grid, solver)).x for z in (Z, begun))
    assert_close(paired, alone, rtol=0, atol=1e-9)


# Refusals


@every_solver
def test_nothing_is_inverted_to_pure_noise(name: str) -> None:
    solver, first = tight(name), State(PICTURES, SCHEDULE.level(800))
    for state in (first, solver.inverse(TwoHills(), first, SCHEDULE.level(900))):
        with pytest.raises(NotInvertibleError, match="begin the grid at a lower level"):
            solver.inverse(TwoHills(), state, PURE)


@every_solver
def test_pure_noise_is_left_by_those_who_can_and_refused_by_the_others(name: str) -> None:
    solver, state, s = tight(name), State(Z, PURE), SCHEDULE.level(900)
    if name in ("ddim", "ddim-naive", "dpmpp-2m", "dpmpp-exact", "adams"):
        assert_close(
            solver.step(GAUSSIAN, state, s).x, GAUSSIAN.flow(Z, PURE, s), rtol=0, atol=0.05
        )
    else:
        with pytest.raises(ScheduleError, match="ddim, adams and dpmpp-2m can start from"):
            solver.step(GAUSSIAN, state, s)


@pytest.mark.parametrize("pair", [BDIA(), OBELM(), Leapfrog()])
def test_a_pair_is_not_carried_over_another_grid(pair: Solver) -> None:
    z = last(invert(TwoHills(), PICTURES, make_grid(SCHEDULE, 10), pair))
    with pytest.raises(ScheduleError, match="use the grid it was made on"):
        last(sample(TwoHills(), z, make_grid(SCHEDULE, 12), pair))


@pytest.mark.parametrize("gamma", [-0.5, 0.0, 1.1])
def test_a_gamma_that_forgets_or_explodes_is_refused(gamma: float) -> None:
    with pytest.raises(ArgumentError, match=r"above 0.*at most 1"):
        BDIA(gamma)


@pytest.mark.parametrize("damping", [-0.1, 1.1])
def test_a_damping_that_does_not_damp_is_refused(damping: float) -> None:
    with pytest.raises(ArgumentError, match="from 0, for none, to 1"):
        Leapfrog(damping)


@pytest.mark.parametrize("p", [-0.5, 0.0, 1.1])
def test_a_mixing_that_cannot_be_unmixed_is_refused(p: float) -> None:
    with pytest.raises(ArgumentError, match=r"such as 0\.93"):
        EDICT(p)


def test_an_unknown_solver_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"choose one of ddim, .*trapezoid.*leapfrog"):
        make_solver("euler", SCHEDULE)
