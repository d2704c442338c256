"""When is each frame?

A path says where a film goes, its pace when it is there: a u for every frame. A steady u is not a
steady film: along a path through latents pictures stand still for a while and then change within a
few frames. `frame_times` spends the frames evenly, eased, with rests, in a loop or there and back;
`retime` measures how much changes and spends them by that.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddim_interp.easing import Easing, linear
from ddim_interp.errors import ArgumentError
from ddim_interp.pchip import pchip

__all__ = [
    "STEADY",
    "UNEVEN",
    "Odometer",
    "Retiming",
    "distances",
    "frame_times",
    "path_length",
    "pdv",
    "retime",
    "unevenness",
]


@dataclass(frozen=True, eq=False)
class Odometer:
    """How much of the whole way is behind one at each u.

    Args:
        u: Where it was read, rising from 0 to 1, (M,), float64.
        share: What it said, rising from 0 to 1, (M,), float64.
    """

    u: Tensor
    share: Tensor

    def place(self, share: Tensor) -> Tensor:
        """The u at which that share is made: a monotone cubic through the readings."""
        return pchip(self.share, self.u, share)

    def way(self, u: Tensor) -> Tensor:
        """The share of the way made at u: the inverse of `place`, by bisection."""
        low, high = torch.zeros_like(u), torch.ones_like(u)
        for _ in range(54):
            middle = (low + high) / 2
            short = self.place(middle) < u
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return high


STEADY = Odometer(torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 1.0]).double())
"""The odometer of a path whose u is its length."""

UNEVEN = 1.5
"""The largest step, in mean steps, beyond which a film is no even one; an even one has 1.1."""


def frame_times(
    frames: int,
    knots: Tensor | None = None,
    *,
    closed: bool = False,
    boomerang: bool = False,
    easing: Easing = linear,
    per_leg: bool = False,
    holds: int | Sequence[int] = 0,
    odometer: Odometer = STEADY,
) -> Tensor:
    """A u for every frame of a film.

    Every keyframe is one of the frames: the frame nearest to it is moved onto it, and those between
    are spread anew.

    Args:
        frames: How many frames one passage has, rests included.
        knots: The u of each keyframe, (K,), as in `KeyframePath.knots`; 0 and 1 when not given.
        closed: Whether u = 1 is u = 0 again. Then the film stops one frame short of 1, so that
            played in a loop no frame comes twice.
        boomerang: Whether to go back the same way. The frames of both ends are shown once only,
            so without rests the film has 2 · frames − 2 frames.
        easing: Shapes the motion.
        per_leg: Whether from each keyframe to the next, rather than from first to last.
        holds: How many frames more to rest at every keyframe, or at each.
        odometer: How the way is measured; in u itself when not given.

    Returns: (F,), float64. Equal entries are the same frame: render it once.

    Raises:
        ArgumentError: Too few frames to show every keyframe; rests that are negative or not one a
            keyframe; a closed boomerang.

    Example:
        >>> frame_times(5)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000], dtype=torch.float64)
        >>> frame_times(4, closed=True)
        tensor([0.0000, 0.2500, 0.5000, 0.7500], dtype=torch.float64)
        >>> frame_times(3, boomerang=True)
        tensor([0.0000, 0.5000, 1.0000, 0.5000], dtype=torch.float64)
    """
    if closed and boomerang:
        raise ArgumentError(
            "A closed path ends where it began, so there is no way back to go; "
            "use either a loop or a boomerang."
        )
    knots = STEADY.u if knots is None else knots.double()
    shown = len(knots) - closed
    rests = torch.tensor([holds] * shown if isinstance(holds, int) else list(holds))
    if len(rests) != shown or bool((rests < 0).any()):
        raise ArgumentError(
            f"hold={','.join(map(str, rests.tolist()))} does not fit {shown} keyframes; "
            "give one number for all, or one for each, 0 or more."
        )
    moving = frames - int(rests.sum())
    if moving < shown:
        given, least = frames, shown + int(rests.sum())
        if boomerang:  # as many as the film has
            given, least = (2 * each - 2 - int(rests[0] + rests[-1]) for each in (given, least))
        raise ArgumentError(
            f"{given} frames cannot show {shown} keyframes"
            + (" there and back" if boomerang else "")
            + (f" with {int(rests.sum())} frames of rest" if rests.any() else "")
            + f"; use at least {least}."
        )
    marks = odometer.way(knots)
    share = _progress(moving + closed, marks, easing, per_leg)
    stations = _stations(share, marks)
    # Stretch each leg so that its ends are frames.
    share = _interpolate(share, share[stations], marks)
    u = odometer.place(share)
    u[stations] = knots
    repeats = torch.ones(len(u), dtype=torch.long)
    repeats[stations[:shown]] += rests
    film = u.repeat_interleave(repeats)
    if closed:
        return film[:-1]
    if boomerang:
        return torch.cat([film, film[(film > film[0]) & (film < film[-1])].flip(0)])
    return film


def _progress(count: int, marks: Tensor, easing: Easing, per_leg: bool) -> Tensor:
    """The share of the way made at each of `count` even times, (count,)."""
    t = torch.linspace(0, 1, count, dtype=torch.float64)
    if not per_leg:
        return easing(t)
    leg = torch.searchsorted(marks, t, right=True).sub(1).clamp(0, len(marks) - 2)
    length = marks.diff()[leg]
    return marks[leg] + length * easing((t - marks[leg]) / length)


def _stations(share: Tensor, marks: Tensor) -> Tensor:
    """The frame nearest to each mark, a different one for each, (K,)."""
    found = [0]
    for number, mark in enumerate(marks[1:-1].tolist(), start=2):
        nearest = int((share - mark).abs().argmin())
        latest = len(share) - 1 - (len(marks) - number)
        found.append(min(max(nearest, found[-1] + 1), latest))
    return torch.tensor([*found, len(share) - 1])


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear interpolation; x may stand still."""
    i = torch.searchsorted(x, at, right=True).sub(1).clamp(0, len(x) - 2)
    fraction = (at - x[i]) / x.diff()[i].clamp(min=1e-12)
    return y[i] + fraction * (y[i + 1] - y[i])


def distances(vectors: Tensor) -> Tensor:
    """Between neighbours, (N − 1,) of (N, D), float64."""
    return vectors.double().diff(dim=0).square().sum(1).sqrt()


def path_length(steps: Tensor) -> float:
    """How much changes in all: the sum of the steps. DiffMorpher's PPL, if they are LPIPS's."""
    return float(steps.sum())


def pdv(steps: Tensor) -> float:
    """Perceptual distance variance, relative: variance of the steps over their mean squared.

    0 is even. DiffMorpher (arXiv:2312.07409, §4) does not divide by the mean, so its figures depend
    on the number of frames.

    Example:
        >>> pdv(torch.tensor([1.0, 3.0]))
        0.25
    """
    mean = steps.mean()
    return float((steps / mean).var(correction=0)) if mean > 0 else 0.0


def unevenness(steps: Tensor) -> float:
    """Largest step over mean step; 1 is even, and so is a film in which nothing changes.

    Example:
        >>> unevenness(torch.tensor([1.0, 3.0]))
        1.5
    """
    mean = steps.mean()
    return float(steps.max() / mean) if mean > 0 else 1.0


@dataclass(frozen=True, eq=False)
class Retiming:
    """The best film `retime` has found so far.

    Args:
        u: A time for every frame of the film, (F,); all of them have been rendered.
        steps: How much changes from each distinct frame to the next, in the order of the path; of a
            loop also from the last to the first.
        excess: Largest step less what was planned for it, in mean steps, plus 1: 1 is as planned.
            Where nothing eases the motion, this is `unevenness(steps)`.
        renders: How many frames have been rendered so far.
    """

    u: Tensor
    steps: Tensor
    excess: float
    renders: int


def retime(
    perceive: Callable[[Tensor], Tensor],
    times: Callable[[Odometer], Tensor],
    *,
    closed: bool = False,
    legs: Tensor | None = None,
    target: float = 1.1,
    passes: int = 6,
    worth: float = 1 / 3,
    slack: float = 0.05,
) -> Iterator[Retiming]:
    """Spend the frames where something changes: equal steps to the eye instead of equal steps in u.

    Render, measure how much changes between neighbours, read u off the odometer this makes, render
    there, and measure again: the odometer gets finer where the way is steep. It is made from all
    frames rendered so far. Easing, rests and loops are those of `times`, along the way as seen.

    Args:
        perceive: Renders the frames at u, (M,), and says what they look like: (M, D), such that
            distances are differences seen (`perceptual.perceive`). It should keep what it renders:
            no u is asked for twice.
        times: The film's times for an odometer: `frame_times` with everything else filled in.
        closed: Whether u = 1 is u = 0.
        legs: Knots whose times are kept, (K,); the pace is then evened out between them only.
        target: Stop once no step exceeds its plan by more than this factor of the mean step.
        passes: Corrections at most, after the first rendering. Each looks closer where pictures
            turn into each other at once, by as many times as a step there is too large; others are
            even after one or two.
        worth: A pass that takes off less than this part of the largest step's excess is the last,
            where that is below a mean step: what is left are differences between frames that no
            time mends, such as rounding. A larger one may be a change at once, to which the first
            passes only come nearer.
        slack: A frame already rendered will do if it is off by no more than this part of a step.

    Yields: The best film so far, after each pass; the last is the result.

    References:
        Zhang et al. (2024), DiffMorpher, arXiv:2312.07409, §3.4 (a single correction, by LPIPS).

    Example:
        >>> bend = lambda u: u[:, None] ** 3
        >>> *_, best = retime(bend, lambda odometer: frame_times(9, odometer=odometer))
        >>> unevenness(distances(bend(torch.linspace(0, 1, 9)))) > 2.5, best.excess < 1.1
        (True, True)
    """
    legs = STEADY.u if legs is None else legs.double()
    one = torch.ones(1, dtype=torch.float64)

    def lap(values: Tensor, end: Tensor) -> Tensor:
        return torch.cat([values, end]) if closed else values

    odometer = STEADY
    seen_u, seen = torch.empty(0, dtype=torch.float64), torch.empty(0)
    best: Retiming | None = None
    for _ in range(passes + 1):
        stops, order = torch.unique(times(odometer), return_inverse=True)
        wanted = odometer.way(lap(stops, one)).diff()
        stops = _reuse(stops, seen_u, odometer, slack * float(wanted.mean()))
        fresh = stops[~torch.isin(stops, seen_u)]
        if len(fresh):
            views = perceive(fresh).cpu()
            seen_u, sorting = torch.cat([seen_u, fresh]).sort()
            seen = torch.cat([seen, views])[sorting] if len(seen) else views[sorting]

        shown = seen[torch.searchsorted(seen_u, stops)]
        steps = distances(lap(shown, shown[:1]))
        share = _shares(lap(stops, one), steps, legs)
        excess = 1 + len(steps) * float((share - wanted).max())
        before = math.inf if best is None else best.excess
        if best is None or excess < best.excess:
            best = Retiming(stops[order], steps, excess, len(seen_u))
        best = replace(best, renders=len(seen_u))
        yield best
        gained = before - best.excess
        if excess <= target or (best.excess < 2 and gained < worth * (before - 1)):
            return
        if not len(fresh):  # without new readings the next film is this one
            return
        shares = _shares(lap(seen_u, one), distances(lap(seen, seen[:1])), legs)
        odometer = Odometer(lap(seen_u, one), torch.cat([0 * one, shares.cumsum(0)]))


def _reuse(stops: Tensor, seen: Tensor, odometer: Odometer, tolerance: float) -> Tensor:
    """Replace each stop by a u already rendered, if one is near enough on the odometer."""
    if len(seen) == 0:
        return stops
    at, marks = odometer.way(stops), odometer.way(seen)
    above = torch.searchsorted(marks, at).clamp(max=len(marks) - 1)
    below = (above - 1).clamp(min=0)
    nearest = torch.where(at - marks[below] <= (marks[above] - at).abs(), below, above)
    return torch.where((at - marks[nearest]).abs() <= tolerance, seen[nearest], stops)


def _shares(u: Tensor, steps: Tensor, legs: Tensor) -> Tensor:
    """Scale steps so that those of each leg add up to its length.

    A thousandth is given to u itself, so that the way never stands still; all, where nothing
    changes on the whole leg.
    """
    middle = (u[1:] + u[:-1]) / 2
    leg = torch.searchsorted(legs, middle, right=True).sub(1).clamp(0, len(legs) - 2)
    length = legs.diff()
    total = torch.zeros_like(length).index_add(0, leg, steps)
    floor = torch.where(total > 0, 1e-3 * total, 1)
    steps = steps + (floor / length)[leg] * u.diff()
    return steps * (length / (total + floor))[leg]
