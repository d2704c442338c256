"""How does a motion start and stop?

An easing maps the share of time gone by to the share of the way made, [0, 1] to [0, 1], from 0 to 1
and never back.
"""

import math
import re
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError

__all__ = ["EASINGS", "Easing", "cubic_bezier", "parse_easing"]

Easing: TypeAlias = Callable[[Tensor], Tensor]
"""Time gone by, any shape, in [0, 1], to way made, in [0, 1]."""


def linear(t: Tensor) -> Tensor:
    """Constant speed."""
    return t


def smoothstep(t: Tensor) -> Tensor:
    """3t² − 2t³: rest at both ends."""
    return t**2 * (3 - 2 * t)


def smootherstep(t: Tensor) -> Tensor:
    """6t⁵ − 15t⁴ + 10t³: no jolt at the ends either (Perlin 2002, Improving noise)."""
    return t**3 * (t * (6 * t - 15) + 10)


def cosine(t: Tensor) -> Tensor:
    """(1 − cos πt) / 2: a pendulum's swing."""
    return (1 - torch.cos(math.pi * t)) / 2


def ease_in(power: int) -> Easing:
    """tᵖ: from rest."""
    return lambda t: t**power


def ease_out(power: int) -> Easing:
    """1 − (1 − t)ᵖ: to rest."""
    return lambda t: 1 - (1 - t) ** power


def ease_in_out(power: int) -> Easing:
    """From rest to rest: `ease_in` up to half-way, its mirror image from there."""
    half = 2 ** (power - 1)
    return lambda t: torch.where(t < 0.5, half * t**power, 1 - half * (1 - t) ** power)


def cubic_bezier(x1: float, y1: float, x2: float, y2: float) -> Easing:
    """The curve of CSS and of animation programs: a cubic from (0, 0) to (1, 1).

        (t, e) = 3 s (1−s)² (x1, y1) + 3 s² (1−s) (x2, y2) + s³ (1, 1)

    After Effects' "easy ease" is (1/3, 0, 2/3, 1).

    Raises:
        ArgumentError: A coordinate lies outside [0, 1], where the motion would leave its path or
            turn back in time.

    References: W3C, CSS Easing Functions Level 1, §2.3.

    Example:
        >>> cubic_bezier(0.25, 0.1, 0.25, 1.0)(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.0000, 0.8024, 1.0000])
    """
    if not all(0 <= coordinate <= 1 for coordinate in (x1, y1, x2, y2)):
        raise ArgumentError(
            f"cubic-bezier({x1:g},{y1:g},{x2:g},{y2:g}) would leave the path or turn back; "
            "all four numbers must lie in 0 to 1."
        )

    def cubic(s: Tensor, first: float, second: float) -> Tensor:
        return 3 * s * (1 - s) ** 2 * first + 3 * s**2 * (1 - s) * second + s**3

    def ease(t: Tensor) -> Tensor:
        low, high = torch.zeros_like(t, dtype=torch.float64), torch.ones_like(t).double()
        # Bisection: t rises with s, but its slope may vanish, which Newton's method would not bear.
        for _ in range(54):
            middle = (low + high) / 2
            below = cubic(middle, x1, x2) < t
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        eased = cubic(high, y1, y2).to(t)
        return torch.where(t <= 0, 0, torch.where(t >= 1, 1, eased))

    return ease


EASINGS: dict[str, Easing] = {
    "linear": linear,
    "smoothstep": smoothstep,
    "smootherstep": smootherstep,
    "cosine": cosine,
    "ease-in": ease_in(2),
    "ease-out": ease_out(2),
    "ease-in-out": ease_in_out(2),
    "ease-in-cubic": ease_in(3),
    "ease-out-cubic": ease_out(3),
    "ease-in-out-cubic": ease_in_out(3),
}
"""Easings by name; `parse_easing` knows cubic-bezier(x1,y1,x2,y2) besides."""


def parse_easing(text: str) -> Easing:
    """The easing a text names.

    Raises:
        ArgumentError: It names none.

    Example:
        >>> parse_easing("ease-in")(torch.tensor(0.5))
        tensor(0.2500)
        >>> parse_easing("cubic-bezier(0.333, 0, 0.667, 1)")(torch.tensor(0.5))
        tensor(0.5000)
    """
    if text in EASINGS:
        return EASINGS[text]
    bezier = re.fullmatch(r"cubic-bezier\(([^,]+),([^,]+),([^,]+),([^,]+)\)", text)
    if bezier:
        try:
            x1, y1, x2, y2 = map(float, bezier.groups())
        except ValueError:
            pass
        else:
            return cubic_bezier(x1, y1, x2, y2)
    raise ArgumentError(
        f"No easing is called {text!r}; choose one of {', '.join(EASINGS)} or "
        "cubic-bezier(x1,y1,x2,y2)."
    )
