"""The pace of a film: easings, frame times, and equal steps to the eye."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from ddim_interp.easing import EASINGS, Easing, cubic_bezier, parse_easing
from ddim_interp.errors import ArgumentError
from ddim_interp.pace import (
    STEADY,
    Odometer,
    Retiming,
    _reuse,
    distances,
    frame_times,
    path_length,
    pdv,
    retime,
    unevenness,
)
from ddim_interp.path import lay_knots
from ddim_interp.pchip import pchip

BEZIERS = ["cubic-bezier(0,0,1,1)", "cubic-bezier(1,0,0,1)", "cubic-bezier(0.333, 0, 0.667, 1)"]
every_easing = pytest.mark.parametrize("name", [*EASINGS, *BEZIERS])
THIRDS = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)


def even(start: float, end: float, count: int) -> Tensor:
    return torch.linspace(start, end, count, dtype=torch.float64)


# --- easings ---------------------------------------------------------------------------------


@every_easing
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_easings_rise_from_nothing_to_all(name: str, dtype: torch.dtype) -> None:
    eased = parse_easing(name)(torch.linspace(0, 1, 1001, dtype=dtype))
    assert eased.dtype == dtype
    assert eased[0] == 0 and eased[-1] == 1
    assert bool((eased.diff() >= -1e-6).all())


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "smoothstep",
        "smootherstep",
        "cosine",
        "ease-in-out",
        "ease-in-out-cubic",
        *BEZIERS,
    ],
)
def test_symmetric_easings_stop_as_they_start(name: str) -> None:
    easing, t = parse_easing(name), even(0, 1, 101)
    # A Bézier curve may be vertical in the middle, where it is known to the cube root of ε only.
    torch.testing.assert_close(easing(t), 1 - easing(1 - t), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["smoothstep", "smootherstep", "cosine", "ease-in-out", "ease-in"])
def test_eased_motion_starts_from_rest(name: str) -> None:
    assert float(parse_easing(name)(torch.tensor(1e-4))) < 1e-6


@pytest.mark.parametrize("power", ["", "-cubic"])
def test_easing_out_is_easing_in_backwards(power: str) -> None:
    t = even(0, 1, 11)
    torch.testing.assert_close(
        EASINGS["ease-out" + power](t), 1 - EASINGS["ease-in" + power](1 - t)
    )


@pytest.mark.parametrize(("name", "power"), [("ease-in", 2), ("ease-in-cubic", 3)])
def test_easing_in_is_a_power_and_easing_in_and_out_is_half_of_it_twice(name, power) -> None:
    t = even(0, 0.5, 11)
    torch.testing.assert_close(EASINGS[name](t), t**power)
    in_out = EASINGS[name.replace("in", "in-out")]
    torch.testing.assert_close(in_out(t), EASINGS[name](2 * t) / 2)


@pytest.mark.parametrize("s", [0.1, 0.5, 0.8])
def test_cubic_bezier_passes_through_its_curve(s: float) -> None:
    x1, y1, x2, y2 = 0.25, 0.1, 0.6, 0.9

    def cubic(first: float, second: float) -> float:
        return 3 * s * (1 - s) ** 2 * first + 3 * s**2 * (1 - s) * second + s**3

    at = torch.tensor([cubic(x1, x2)], dtype=torch.float64)
    assert float(cubic_bezier(x1, y1, x2, y2)(at)) == pytest.approx(cubic(y1, y2))


@pytest.mark.parametrize("text", ["bounce", "", "cubic-bezier(1,2,3)", "cubic-bezier(a,0,0,1)"])
def test_an_unknown_easing_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"choose one of linear.*cubic-bezier\(x1"):
        parse_easing(text)


@pytest.mark.parametrize("text", ["(0,-1,1,1)", "(0,0,1.5,1)", "(0,0,nan,1)"])
def test_a_bezier_that_leaves_the_path_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="must lie in 0 to 1"):
        parse_easing("cubic-bezier" + text)


# --- monotone interpolation ------------------------------------------------------------------


def test_pchip_meets_its_data_and_holds_its_ends() -> None:
    x, y = torch.tensor([0.0, 1.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, -1.0, 0.0])
    assert torch.equal(pchip(x, y, x), y)
    assert torch.equal(pchip(x, y, torch.tensor([-9.0, 9.0])), y[[0, -1]])


def test_pchip_never_overshoots() -> None:
    x, y = torch.rand(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, y = x.cumsum(0), (y - 0.5).clamp(min=0).cumsum(0)  # with level stretches
    fine = pchip(x, y, even(float(x[0]), float(x[-1]), 5001))
    assert bool((fine.diff() >= -1e-12).all())


def test_pchip_converges_with_the_third_power_of_the_spacing() -> None:
    def error(count: int) -> float:
        x, fine = even(0, 1, count), even(0.3, 0.7, 1001)
        return float((pchip(x, torch.exp(x), fine) - torch.exp(fine)).abs().max())

    assert error(40) / error(80) > 6


def test_pchip_has_no_corners() -> None:
    x, y = even(0, 4, 5), torch.tensor([0.0, 1.0, 5.0, 6.0, 6.5], dtype=torch.float64)
    h = 1e-6
    left, right = (y[1:-1] - pchip(x, y, x[1:-1] - h)) / h, (pchip(x, y, x[1:-1] + h) - y[1:-1]) / h
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_pchip_interpolates_tables_column_by_column() -> None:
    x, y, at = even(0, 1, 6), torch.rand(6, 3, dtype=torch.float64), even(0, 1, 17)
    for i in range(3):
        torch.testing.assert_close(pchip(x, y, at)[:, i], pchip(x, y[:, i], at))


# --- frame times -----------------------------------------------------------------------------


def test_an_open_film_shows_both_ends() -> None:
    torch.testing.assert_close(frame_times(7), even(0, 1, 7))


@pytest.mark.parametrize("frames", [3, 12, 61])
def test_a_loop_shows_no_frame_twice_and_keeps_its_speed_at_the_seam(frames: int) -> None:
    u = frame_times(frames, even(0, 1, 4), closed=True)
    assert len(u) == frames and u[0] == 0 and u[-1] < 1
    lap = torch.cat([u, torch.ones(1, dtype=torch.float64)])
    assert bool((lap.diff() > 0).all())
    if frames % 3 == 0:
        torch.testing.assert_close(lap.diff(), torch.full((frames,), 1 / frames).double())


@pytest.mark.parametrize("frames", [2, 3, 10])
def test_a_boomerang_comes_back_and_shows_both_ends_once(frames: int) -> None:
    u = frame_times(frames, boomerang=True)
    assert len(u) == 2 * frames - 2
    assert int((u == 0).sum()) == 1 and int((u == 1).sum()) == 1
    torch.testing.assert_close(u[1:].flip(0), u[1:])


@every_easing
@pytest.mark.parametrize("per_leg", [False, True])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("frames", [4, 7, 50])
def test_every_keyframe_is_a_frame(name: str, per_leg: bool, closed: bool, frames: int) -> None:
    knots = torch.tensor([0.0, 0.3, 0.41, 1.0], dtype=torch.float64)
    u = frame_times(frames, knots, closed=closed, easing=parse_easing(name), per_leg=per_leg)
    assert len(u) == frames
    assert bool(torch.isin(knots[: 4 - closed], u).all())
    assert bool((u.diff() >= 0).all())


def test_legs_get_frames_by_their_length() -> None:
    u = frame_times(101, THIRDS)
    torch.testing.assert_close(u.diff(), torch.full((100,), 0.01, dtype=torch.float64))


@pytest.mark.parametrize("frames", [5, 8, 11])
def test_between_two_keyframes_steps_are_even(frames: int) -> None:
    knots = torch.tensor([0.0, 0.31, 1.0], dtype=torch.float64)
    u = frame_times(frames, knots)
    for start, end in pairwise(knots.tolist()):
        leg = u[(u >= start) & (u <= end)]
        torch.testing.assert_close(leg, even(start, end, len(leg)))


def test_easing_shapes_the_whole_film_or_every_leg() -> None:
    smooth = EASINGS["smoothstep"]
    for knots in even(0, 1, 2), even(0, 1, 3):  # smooth(1/2) is 1/2: nothing has to be moved there
        whole = frame_times(11, knots, easing=smooth)
        torch.testing.assert_close(whole, smooth(even(0, 1, 11)))
    legs = frame_times(21, even(0, 1, 3), easing=smooth, per_leg=True)
    expected = torch.cat([smooth(even(0, 1, 11)) / 2, 0.5 + smooth(even(0, 1, 11))[1:] / 2])
    torch.testing.assert_close(legs, expected)


@pytest.mark.parametrize("holds", [2, (0, 3, 1)])
def test_rests_stand_at_keyframes_and_count_as_frames(holds: int | tuple[int, ...]) -> None:
    u = frame_times(30, THIRDS, holds=holds)
    assert len(u) == 30
    for knot, rest in zip(THIRDS, (2, 2, 2) if holds == 2 else (0, 3, 1), strict=True):
        assert int((u == knot).sum()) == 1 + rest


def test_a_resting_loop_rests_once_at_its_seam() -> None:
    u = frame_times(20, even(0, 1, 4), closed=True, holds=2)
    assert len(u) == 20
    assert all(int((u == knot).sum()) == 3 for knot in even(0, 1, 4)[:3])
    assert not bool((u == 1).any())


def test_a_resting_boomerang_rests_once_at_its_turn() -> None:
    u = frame_times(20, holds=3, boomerang=True)
    assert int((u == 0).sum()) == 4 and int((u == 1).sum()) == 4


@pytest.mark.parametrize("frames", [-1, 0, 2, 4])
def test_too_few_frames_for_the_keyframes_are_refused(frames: int) -> None:
    with pytest.raises(ArgumentError, match="use at least 5"):
        frame_times(frames, THIRDS, holds=(1, 0, 1))


@pytest.mark.parametrize("holds", [-1, (1, 2), (0, 0, 0, 0), (0, -1, 0)])
def test_rests_that_do_not_fit_are_refused(holds: int | tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="one number for all, or one for each"):
        frame_times(30, THIRDS, holds=holds)


def test_a_closed_boomerang_is_refused() -> None:
    with pytest.raises(ArgumentError, match="either a loop or a boomerang"):
        frame_times(30, closed=True, boomerang=True)


# --- how even a film is ----------------------------------------------------------------------


def test_measures_of_an_even_film() -> None:
    steps = distances(torch.arange(5.0)[:, None] * torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(steps, torch.full((4,), 5.0, dtype=torch.float64))
    assert (path_length(steps), pdv(steps), unevenness(steps)) == (20, 0, 1)


def test_measures_of_an_uneven_film() -> None:
    steps = torch.tensor([1.0, 1.0, 1.0, 5.0])
    assert (path_length(steps), pdv(steps), unevenness(steps)) == (8, 0.75, 2.5)


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_measures_of_evenness_have_no_unit(scale: float) -> None:
    steps = torch.rand(50, dtype=torch.float64)
    assert pdv(scale * steps) == pytest.approx(pdv(steps))
    assert unevenness(scale * steps) == pytest.approx(unevenness(steps))


def test_a_film_in_which_nothing_changes_is_even() -> None:
    assert (pdv(torch.zeros(4)), unevenness(torch.zeros(4))) == (0, 1)


# --- equal steps to the eye ------------------------------------------------------------------

WARPS: dict[str, Callable[[Tensor], Tensor]] = {
    "late": lambda u: u**3,
    "early": lambda u: u**0.6,
    "switch": lambda u: torch.sigmoid(30 * (u - 0.5)),
    "two switches": lambda u: torch.sigmoid(40 * (u - 0.2)) + 0.5 * torch.sigmoid(60 * (u - 0.7)),
    "sudden switch": lambda u: torch.sigmoid(400 * (u - 0.4)),
    "stand still, then go": lambda u: (u - 0.6).clamp(min=0),
    "there and back": lambda u: torch.sin(math.pi * u) ** 3,
}


class Film:
    """A curve on a cylinder, run through at uneven speed; notes what it is asked for."""

    def __init__(self, warp: Callable[[Tensor], Tensor]) -> None:
        self.warp = warp
        self.asked: list[float] = []

    def look(self, u: Tensor) -> Tensor:
        way = self.warp(u)
        return torch.stack([torch.cos(2 * way), torch.sin(2 * way), way / 2], dim=1)

    def __call__(self, u: Tensor) -> Tensor:
        self.asked += u.tolist()
        return self.look(u)


def final(film: Film, frames: int, passes: int = 3, **settings: object) -> Retiming:
    *_, best = retime(
        film,
        lambda odometer: frame_times(frames, odometer=odometer, **settings),  # type: ignore[arg-type]
        passes=passes,
    )
    return best


@pytest.mark.parametrize("warp", WARPS.values(), ids=WARPS.keys())
@pytest.mark.parametrize("frames", [17, 60])
def test_retiming_makes_steps_even(warp: Callable[[Tensor], Tensor], frames: int) -> None:
    film = Film(warp)
    before = distances(film.look(frame_times(frames)))
    best = final(film, frames)
    after = distances(film.look(best.u))
    torch.testing.assert_close(after, best.steps)
    assert unevenness(after) <= 1.3
    assert pdv(after) <= pdv(before) / 5
    assert best.u[0] == 0 and best.u[-1] == 1 and len(best.u) == frames


@pytest.mark.parametrize("warp", WARPS.values(), ids=WARPS.keys())
def test_no_frame_is_rendered_twice_and_all_of_the_film_is_rendered(
    warp: Callable[[Tensor], Tensor],
) -> None:
    film = Film(warp)
    best = final(film, 30)
    assert len(film.asked) == len(set(film.asked)) == best.renders <= 30 + 3 * 28
    assert set(best.u.tolist()) <= set(film.asked)


def test_an_even_film_is_left_alone() -> None:
    film = Film(lambda u: u)
    assert torch.equal(final(film, 30).u, frame_times(30))
    assert len(film.asked) == 30


def test_a_film_in_which_nothing_changes_is_left_alone() -> None:
    best = final(Film(torch.zeros_like), 12)
    torch.testing.assert_close(best.u, frame_times(12))
    assert best.excess == pytest.approx(1) and best.renders == 12


def test_passes_never_make_it_worse_and_are_bounded() -> None:
    film = Film(WARPS["sudden switch"])
    found = list(
        retime(
            film, lambda odometer: frame_times(40, odometer=odometer), target=0, passes=4, slack=0
        )
    )
    assert len(found) == 5
    assert all(later.excess <= sooner.excess for sooner, later in pairwise(found))


def test_the_best_is_kept_of_a_film_that_cannot_be_made_even() -> None:
    """It looks another way at every place, however near to the last."""

    def look(u: Tensor) -> Tensor:
        return torch.sin(1e7 * u**2)[:, None]

    found = list(retime(look, lambda odometer: frame_times(12, odometer=odometer), target=0))
    assert all(later.excess <= sooner.excess for sooner, later in pairwise(found))
    for each in found:
        torch.testing.assert_close(distances(look(each.u)), each.steps)


@pytest.mark.parametrize("name", ["smoothstep", "ease-in", "ease-in-out-cubic"])
def test_easing_rides_on_top(name: str) -> None:
    best = final(Film(WARPS["switch"]), 60, easing=EASINGS[name])
    wanted = EASINGS[name](even(0, 1, 60)).diff()
    torch.testing.assert_close(
        best.steps / best.steps.sum(), wanted, rtol=0, atol=0.25 * float(wanted.mean())
    )


def test_keyframes_and_rests_survive() -> None:
    best = final(Film(WARPS["late"]), 40, knots=THIRDS, holds=2)
    assert len(best.u) == 40
    assert all(int((best.u == knot).sum()) == 3 for knot in THIRDS)


def test_a_boomerang_is_measured_one_way() -> None:
    film = Film(WARPS["late"])
    best = final(film, 20, boomerang=True)
    assert len(best.u) == 38 and len(best.steps) == 19
    assert unevenness(best.steps) <= 1.3


def test_a_loop_is_even_across_its_seam() -> None:
    def ring(u: Tensor) -> Tensor:
        angle = 2 * math.pi * (u + 0.15 * torch.sin(2 * math.pi * u + 1))
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def times(odometer: Odometer) -> Tensor:
        return frame_times(30, closed=True, odometer=odometer)

    *_, best = retime(ring, times, closed=True)
    assert len(best.u) == len(best.steps) == 30
    lap = ring(torch.cat([best.u, best.u[:1]]))
    torch.testing.assert_close(distances(lap), best.steps)
    assert (
        unevenness(distances(ring(torch.cat([frame_times(30, closed=True), torch.ones(1)])))) > 1.8
    )
    assert unevenness(best.steps) <= 1.2


def test_key_times_can_be_kept() -> None:
    """Without `legs`, frames follow the change from leg to leg; with it, only within a leg."""
    knots = even(0, 1, 3)

    def film(u: Tensor) -> Tensor:  # hardly anything happens before u = ½
        return torch.where(u < 0.5, 0.2 * u**2, 0.05 + 4 * (u - 0.5) ** 2)[:, None]

    def times(odometer: Odometer) -> Tensor:
        return frame_times(41, knots, odometer=odometer)

    *_, free = retime(film, times)
    *_, kept = retime(film, times, legs=knots)
    assert int((free.u == 0.5).nonzero()) < 4
    assert int((kept.u == 0.5).nonzero()) == 20
    assert unevenness(kept.steps[:20]) <= 1.2 and unevenness(kept.steps[20:]) <= 1.2


def test_custom_easing_is_any_function() -> None:
    square: Easing = torch.square
    torch.testing.assert_close(frame_times(5, easing=square), even(0, 1, 5) ** 2)


def test_nothing_is_rendered_where_all_that_is_wanted_was_seen():
    asked = []

    def look(u):
        asked.append(len(u))
        return u[:, None] ** 3

    wanted = lambda odometer: frame_times(4, odometer=odometer)  # noqa: E731
    films = list(retime(look, wanted, slack=10.0))
    assert asked == [4] and len(films) == 2, "the same readings, so the same film"


def test_what_no_time_mends_is_not_looked_at_again_and_again():
    """Frames differ by chance, as rounding and shared work make them: some steps stay too large."""

    def look(u):  # noise of a step, each frame's own
        own = torch.frac(1e6 * u.sin()).double()
        return torch.stack([u**2, own / 60], 1)

    times = lambda odometer: frame_times(60, odometer=odometer)  # noqa: E731
    passes = list(retime(look, times))
    thorough = list(retime(look, times, worth=0.0))
    assert passes[0].excess > 1.8 and 1.1 < passes[-1].excess < 1.5
    assert len(passes) <= 3 < len(thorough) and passes[-1].renders < 0.7 * thorough[-1].renders
    assert thorough[-1].excess > passes[-1].excess - 0.05


def test_a_picture_that_turns_into_another_at_once_is_gone_through_evenly():
    def look(u):  # nine tenths of the way within a two-thousandth of u
        return torch.stack([u, 9 * torch.sigmoid(2e4 * (u - 0.4321))], 1)

    times = lambda odometer: frame_times(17, odometer=odometer)  # noqa: E731
    *_, best = retime(look, times)
    assert best.excess < 1.1 and best.renders < 6 * 17


@given(
    readings=st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True),
    wanted=st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True),
    tolerance=st.floats(0, 0.1),
)
def test_a_reading_is_used_again_if_none_is_nearer(
    readings: list[float], wanted: list[float], tolerance: float
) -> None:
    seen, stops = (torch.tensor(sorted(each), dtype=torch.float64) for each in (readings, wanted))
    reused = _reuse(stops, seen, STEADY, tolerance)
    off = (stops[:, None] - seen).abs().amin(1)
    near = torch.isin(reused, seen)
    assert torch.equal(reused[~near], stops[~near])
    assert (off[~near] > tolerance - 1e-12).all()
    assert ((reused - stops).abs()[near] < off[near] + 1e-12).all()


@pytest.mark.parametrize("rest", [0, 2])
def test_too_few_frames_there_and_back_are_counted_as_the_film_has_them(rest: int) -> None:
    with pytest.raises(ArgumentError, match=r"keyframes there and back") as refusal:
        frame_times(3, lay_knots(4), boomerang=True, holds=rest)
    least = int(str(refusal.value).split("at least ")[1].rstrip("."))
    passage = (least + 2 * rest) // 2 + 1
    assert len(frame_times(passage, lay_knots(4), boomerang=True, holds=rest)) == least
