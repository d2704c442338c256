"""Frames that share work are those that would have been drawn one by one."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st

from ddim_interp.denoiser import (
    CountCalls,
    GaussianDenoiser,
    InBatches,
    Prediction,
    among,
    predict_eps,
)
from ddim_interp.errors import NonFiniteError
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.notebook import Notebook
from ddim_interp.notes import TakesNotes
from ddim_interp.refinement import FAMILY, Together, _Mesh, _stencil
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import State, begin, make_solver
from ddim_interp.spool import Spool
from ddim_interp.trajectory import last, sample

SCHEDULE = NoiseSchedule.from_config({})
LEVEL = 2 / 255


@dataclass(frozen=True)
class TwoPictures:
    """The exact denoiser for data that is one of two pictures, a or its negative, blurred a little:
    on the way between them one turns into the other at once."""

    a: torch.Tensor
    variance: float = 0.01

    def __call__(self, x_t, t):
        total = t.alpha_bar * self.variance + 1 - t.alpha_bar
        lean = torch.tanh(t.signal * (x_t * self.a).flatten(1).sum(1) / total).view(-1, 1, 1, 1)
        mean = lean * self.a
        x_0 = mean + t.signal * self.variance * (x_t - t.signal * mean) / total
        return Prediction(x_0, predict_eps(x_t, x_0, t))


PICTURE = 0.5 * draw([5], (3, 8, 8))[0].sign()
TURNING = TwoPictures(PICTURE)


def path(count, shape=(3, 8, 8)):
    """Latents on a quarter of a circle, from one picture's half of space to the other's."""
    a, b = (
        side * z * (z * PICTURE).sum().sign()
        for side, z in zip((1, -1), draw([1, 2], shape), strict=True)
    )
    u = torch.linspace(0, 1, count, dtype=torch.float64)
    angle = (torch.pi / 2 * u).view(-1, 1, 1, 1)
    return u, (angle.cos() * a + angle.sin() * b).float()


def draw_both(denoiser, count=FAMILY, steps=20, solver="leapfrog", tolerance=0.5, **options):
    """Pictures that share work, pictures drawn one by one, evaluations of either."""
    grid, rule = make_grid(SCHEDULE, steps=steps, spacing="log-snr"), make_solver(solver, SCHEDULE)
    u, z = path(count)
    starts = begin(rule, denoiser, z, grid)
    together, alone = CountCalls(denoiser), CountCalls(denoiser)
    shared = Together(together, u, tolerance=tolerance * LEVEL, **options)
    drawn = [last(sample(model, starts, grid, rule)).x for model in (shared, alone)]
    return *drawn, together.nfe, alone.nfe


def miss(a, b):
    """Per picture, in 8-bit levels, root mean square."""
    return (a - b).flatten(1).square().mean(1).sqrt() / LEVEL


@pytest.mark.parametrize(
    "solver",
    ["ddim-naive", "heun", "dpmpp-2m", "adams", "dpmpp-exact", "leapfrog", "bdia", "edict"],
)
def test_where_pictures_change_smoothly_a_few_tell_all(solver):
    shared, alone, few, all_of_them = draw_both(GaussianDenoiser(0.2, 0.1), solver=solver)
    assert miss(shared, alone).max() < (0.3 if solver == "edict" else 0.1)
    assert few <= 0.1 * all_of_them


def test_a_solver_that_iterates_on_some_pictures_is_answered_for_those():
    shared, alone, few, all_of_them = draw_both(GaussianDenoiser(0.2, 0.1), solver="trapezoid")
    assert miss(shared, alone).max() < 0.1
    assert few < all_of_them


def test_the_truth_is_met_as_well_as_by_drawing_all():
    model = GaussianDenoiser(0.2, 0.1)
    grid = make_grid(SCHEDULE, steps=20, spacing="log-snr")
    _, z = path(FAMILY)
    truth = model.flow(z, grid[0], grid[-1])
    shared, alone, *_ = draw_both(model, solver="dpmpp-2m")
    assert miss(shared, truth).max() < miss(alone, truth).max() + 0.05


@pytest.mark.parametrize(
    ("solver", "count"),
    [*(("leapfrog", n) for n in (9, 16, FAMILY, 100)), *(("adams", n) for n in (9, 16, FAMILY))],
)
def test_where_one_picture_turns_into_another_frames_are_drawn(count, solver):
    shared, alone, few, all_of_them = draw_both(TURNING, count, solver=solver)
    turn = (alone.diff(dim=0).flatten(1).square().mean(1).sqrt() / LEVEL).max()
    assert turn > 20, "there is a turn to be met"
    assert miss(shared, alone).max() < 1
    assert few < all_of_them


def test_a_smaller_tolerance_costs_more_and_misses_less():
    found = [draw_both(TURNING, 64, tolerance=tolerance) for tolerance in (4.0, 0.5, 0.02)]
    costs = [few for _, _, few, _ in found]
    misses = [float(miss(shared, alone).max()) for shared, alone, *_ in found]
    assert costs == sorted(costs) and costs[0] < costs[-1]
    assert misses[-1] < misses[0] and misses[-1] < 0.1


def test_with_next_to_no_tolerance_every_frame_is_drawn():
    shared, alone, *_ = draw_both(TURNING, 20, tolerance=1e-6)
    assert miss(shared, alone).max() < 0.01


def draw_knowing(frames, denoiser=TURNING, count=24, solver="leapfrog", steps=10):
    """The film; the same when of some frames it is known what will be said; what that cost; and
    what the frames come to by themselves."""
    grid, rule = make_grid(SCHEDULE, steps=steps), make_solver(solver, SCHEDULE)
    u, z = path(count)
    starts = begin(rule, denoiser, z, grid)
    scribe = TakesNotes(denoiser)
    own = last(sample(scribe, starts.moved(lambda kept: kept[frames]), grid, rule)).x
    notes = {frame: scribe.notes.of(i) for i, frame in enumerate(frames)}
    films, costs = [], []
    for known in ({}, notes):
        counted = CountCalls(denoiser)
        together = Together(counted, u, tolerance=0.5 * LEVEL, known=known)
        films.append(last(sample(together, starts, grid, rule)).x)
        costs.append(counted.nfe)
    return *films, costs, own


@pytest.mark.parametrize("solver", ["leapfrog", "adams", "dpmpp-2m", "heun"])
def test_what_is_known_of_the_ends_is_not_asked(solver):
    asked, known, costs, own = draw_knowing([0, 23], solver=solver)
    assert miss(asked, known).max() < 0.1
    assert costs[1] <= costs[0] - 0.8 * 2 * (20 if solver == "heun" else 10)
    torch.testing.assert_close(known[[0, 23]], own, atol=1e-5, rtol=0)


def test_what_is_known_between_the_ends_saves_as_much():
    _, known, costs, own = draw_knowing([0, 9, 23])
    _, alone, *_ = draw_both(TURNING, 24, steps=10)
    assert miss(known, alone).max() < 1
    assert costs[1] <= costs[0] - 20
    torch.testing.assert_close(known[[0, 9, 23]], own, atol=1e-5, rtol=0)


def test_a_film_of_which_all_is_known_asks_nothing():
    _, known, costs, own = draw_knowing(list(range(6)), count=6)
    assert costs[0] > 0 and costs[1] == 0
    torch.testing.assert_close(known, own, atol=1e-5, rtol=0)


def test_notes_of_another_walk_are_left_aside():
    grid = make_grid(SCHEDULE, steps=8)
    u, z = path(12)
    scribe = TakesNotes(TURNING)
    last(sample(scribe, z[:1], make_grid(SCHEDULE, steps=4)))
    costs = []
    for notes in ({}, {0: scribe.notes}):
        counted = CountCalls(TURNING)
        together = Together(counted, u, tolerance=1e-6, known=notes)
        drawn = last(sample(together, z, grid)).x
        costs.append(counted.nfe)
    assert scribe.notes.levels[0] == grid[0] and scribe.notes.levels[1] != grid[1]
    assert costs[0] - costs[1] == 1  # the first level is that of any walk; then they part
    assert bool(torch.isfinite(drawn).all())


def test_a_solver_that_iterates_leaves_no_notes_beyond():
    grid, rule = make_grid(SCHEDULE, steps=8), make_solver("trapezoid", SCHEDULE)
    _, z = path(4)
    scribe, counted = TakesNotes(TURNING), CountCalls(TURNING)
    last(sample(scribe, z, grid, rule))
    last(sample(counted, z, grid, rule))
    noted = len(scribe.notes.levels)
    assert 0 < 4 * noted < counted.nfe
    asked, known, costs, _ = draw_knowing([0, 23], solver="trapezoid")
    assert miss(asked, known).max() < 0.1 and costs[1] < costs[0]


def test_once_some_pictures_are_asked_about_alone_nothing_more_is_noted():
    grid, (_, z) = make_grid(SCHEDULE, steps=3), path(4)
    scribe, some = TakesNotes(TURNING), torch.tensor([0, 2])
    scribe(z, grid[0])
    among(scribe, some)(z[some], grid[1])
    scribe(z, grid[1])
    assert scribe.notes.levels == grid[:1]


@settings(max_examples=30)
@given(count=st.integers(2, FAMILY), known=st.sets(st.integers(0, FAMILY - 1)))
def test_no_more_than_fifteen_frames_in_a_row_go_unasked(count, known):
    known = {frame for frame in known if frame < count}
    first = _Mesh([frame / count for frame in range(count)], known).first
    assert {0, count - 1, *known} <= {*first}
    assert all(0 < right - left <= 16 for left, right in pairwise(first))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_frames_are_all_drawn(count):
    shared, alone, few, all_of_them = draw_both(TURNING, count)
    assert few == all_of_them
    torch.testing.assert_close(shared, alone)


@pytest.mark.parametrize("solver", ["leapfrog", "adams"])
def test_the_order_of_frames_does_not_matter(solver):
    grid, rule = make_grid(SCHEDULE, steps=10), make_solver(solver, SCHEDULE)
    u, z = path(24)
    starts = begin(rule, TURNING, z, grid)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    mixed = State(z[order], grid[0], tuple((level, x[order]) for level, x in starts.memory))
    one, other = (
        last(sample(Together(TURNING, at, tolerance=LEVEL), start, grid, rule)).x
        for start, at in ((starts, u), (mixed, u[order]))
    )
    torch.testing.assert_close(one[order], other)


def test_frames_that_crowd_are_no_slope():
    grid, rule = make_grid(SCHEDULE, steps=20, spacing="log-snr"), make_solver("dpmpp-2m", SCHEDULE)
    u = torch.cat([torch.linspace(0, 1, 20), torch.tensor([0.5 + 1e-9, 0.5001])]).double()
    a, b = draw([1, 2], (3, 8, 8)).split(1)
    angle = (torch.pi / 2 * u).view(-1, 1, 1, 1)
    start = State((angle.cos() * a + angle.sin() * b).float(), grid[0])
    model = Together(TURNING, u, tolerance=0.5 * LEVEL)
    shared = last(sample(model, start, grid, rule)).x
    assert miss(shared, last(sample(TURNING, start, grid, rule)).x).max() < 1
    assert _stencil([0.0, 0.1, 0.1001, 0.5, 0.9], 0.3, None) == [0, 2, 3, 4]
    assert _stencil([0.0, 0.1, 0.2, 0.3, 0.4], 0.2, 2) == [0, 1, 3, 4]
    assert _stencil([0.0, 0.1, 0.2, 0.3, 0.4], 0.05, None) == [0, 1, 2, 3]


def test_rounding_is_not_refined():
    """A network in few bits answers neighbours as differently as they are far apart."""

    def rough(x_t, t):
        exact = GaussianDenoiser(0.2, 0.1)(x_t, t)
        eps = exact.eps.to(torch.bfloat16).to(torch.float32)
        return Prediction((x_t - t.noise * eps) / t.signal, eps)

    eager = draw_both(rough)[2]
    calm = draw_both(rough, grain=lambda t: torch.finfo(torch.bfloat16).eps * t.ratio)[2]
    assert calm < 0.2 * eager


def test_the_last_changes_are_told_by_few():
    """Frames that have parted for good do not have to be asked at every step."""

    class Listening(CountCalls):
        def __call__(self, x_t, t):
            counts[t.timestep] = counts.get(t.timestep, 0) + len(x_t)
            return super().__call__(x_t, t)

    counts: dict[float, int] = {}
    grid, rule = make_grid(SCHEDULE, steps=20, spacing="log-snr"), make_solver("adams", SCHEDULE)
    u, z = path(FAMILY)
    last(sample(Together(Listening(TURNING), u, tolerance=LEVEL), z, grid, rule))
    by_level = list(counts.values())
    assert max(by_level) > 2 * by_level[-1]


@pytest.mark.parametrize(("first", "again"), [(0.0, 0), (5.0, 0), (12.0, 2)])
def test_a_frame_that_was_only_just_foretold_is_asked_again_sooner(first, again):
    """All nine are asked about a change of some size, and all four between spared; then little
    changes, and doubt is what it is from both."""
    t, u = SCHEDULE.level_at(1.0), torch.linspace(0, 1, 9)
    asked: dict[float, int] = {}

    def changing(x_t, t):
        asked[changed := max(asked)] += len(x_t)
        x_0 = changed * torch.cos(2 * torch.pi * x_t)
        return Prediction(x_0, predict_eps(x_t, x_0, t))

    together = Together(changing, u, tolerance=1.0)
    for changed in (first, first + 0.5):
        asked[changed] = 0
        together(u.view(-1, 1, 1, 1), t)
    assert list(asked.values()) == [9 if first else 5, 5 + again]


def test_batches_change_nothing_but_last_bits():
    model = GaussianDenoiser(0.2, 0.1)
    one, other = (draw_both(InBatches(model, size))[0] for size in (3, 32))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_nan_is_found_in_the_step_that_made_it():
    def broken(x_t, t):
        exact = GaussianDenoiser()(x_t, t)
        return exact if t.timestep > 500 else Prediction(exact.x_0, exact.eps * float("nan"))

    with pytest.raises(NonFiniteError, match="Step 9"):
        draw_both(broken, solver="ddim", steps=20)


def test_every_answer_is_noted_once():
    grid, (u, z) = make_grid(SCHEDULE, steps=8), path(20)
    counted = CountCalls(TURNING)
    together = Together(counted, u.flip(0), tolerance=0.5 * LEVEL, take_notes=True)
    last(sample(together, z.flip(0), grid))
    said = together.said
    answers = {*zip(said.u.tolist(), said.number.tolist(), strict=True)}
    assert len(answers) == len(said.u) == counted.nfe
    assert said.levels == tuple(grid[:-1]) and {*said.u.tolist()} <= {*u.tolist()}
    first = said.number == 0
    order = said.u[first].argsort()
    chosen = torch.isin(u, said.u[first])
    told = TURNING(z[chosen], grid[0]).x_0
    torch.testing.assert_close(said.x_0[first][order], told, atol=1e-6, rtol=0)


def test_no_notes_are_taken_unasked():
    grid, (u, z) = make_grid(SCHEDULE, steps=4), path(20)
    together = Together(TURNING, u, tolerance=LEVEL)
    last(sample(together, z, grid))
    assert together.said is None


def test_what_is_known_at_times_saves_those_times():
    grid, (u, z) = make_grid(SCHEDULE, steps=10), path(48)
    first = Together(TURNING, u[::2], tolerance=0.5 * LEVEL, take_notes=True)
    last(sample(first, z[::2], grid))
    films, costs = [], []
    with Spool() as spool:
        notebook = Notebook(spool)
        for notes in (None, first.said):
            if notes:
                notebook.add(notes)
            known = notebook.about(0, 1, most=99)
            beside = [place for place in known if place not in u[1::2].tolist()]
            places = torch.cat([u[1::2], torch.tensor(beside, dtype=u.dtype)])
            known = {24 + i: known[place] for i, place in enumerate(beside)}
            starts = torch.cat([z[1::2], z[[u.tolist().index(place) for place in beside]]])
            counted = CountCalls(TURNING)
            together = Together(counted, places, tolerance=0.5 * LEVEL, known=known)
            films.append(last(sample(together, starts, grid)).x[:24])
            costs.append(counted.nfe)
    alone = last(sample(TURNING, z[1::2], grid)).x
    assert costs[1] < 0.6 * costs[0]
    assert miss(films[1], alone).max() < 1
