"""When is each frame?

A path says where a film goes, its pace when it is there: a u for every frame. A steady u is not a
steady film: along a path through latents pictures stand still for a while and then change within a
few frames. `frame_times` spends the frames evenly, eased, with rests, in a loop or there and back;
`retime` measures how much changes and spends them by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.easing import Easing, linear
from ddim_interp.errors import ArgumentError
from ddim_interp.pchip import pchip

__all__ = ["STEADY", "Odometer", "frame_times"]


@dataclass(frozen=True, eq=False)
class Odometer:
    """How much of the whole way is behind one at each u.

    Args:
        u: Where it was read, rising from 0 to 1, (M,), float64.
        share: What it said, rising from 0 to 1, (M,), float64.
    """

    u: Tensor
    share: Tensor

    def way(self, u: Tensor) -> Tensor:
        """The share of the way made at u."""
        return pchip(self.u, self.share, u)

    def place(self, share: Tensor) -> Tensor:
        """The u at which that share is made."""
        return pchip(self.share, self.u, share)


STEADY = Odometer(torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 1.0]).double())
"""The odometer of a path whose u is its length."""


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
            f"Rests of {', '.join(map(str, rests.tolist()))} frames do not fit {shown} keyframes; "
            "give one number for all, or one for each, 0 or more."
        )
    moving = frames - int(rests.sum())
    if moving < shown:
        raise ArgumentError(
            f"{frames} frames cannot show {shown} keyframes"
            + (f" with {int(rests.sum())} frames of rest" if rests.any() else "")
            + f"; use at least {shown + int(rests.sum())}."
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
    return y[i] + y.diff()[i] * (at - x[i]) / x.diff()[i].clamp(min=1e-12)
