"""Smooth curves through numbers that never overshoot them."""

import torch
from torch import Tensor

__all__ = ["pchip"]


def pchip(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Piecewise cubic Hermite interpolation, monotone wherever the data are.

    The slope at a knot is the harmonic mean of the slopes on either side, weighted by their
    lengths, and 0 where those differ in sign. Outside the knots the end values are held.

    Args:
        x: Knots, rising, (n,), n ≥ 2.
        y: Values, (n, ...).
        at: Where to interpolate, (F,).

    Returns: (F, ...).

    References:
        Fritsch & Butland (1984), A method for constructing local monotone piecewise cubic
        interpolants, SIAM J. Sci. Stat. Comp. 5.

    Example:
        >>> pchip(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.5]))
        tensor([1.])
    """

    def column(part: Tensor) -> Tensor:
        return part.view(-1, *[1] * (y.ndim - 1))

    h = column(x.diff())
    secant = y.diff(dim=0) / h
    before, after = secant[:-1], secant[1:]
    w_before, w_after = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    product = before * after
    inner = torch.where(
        product > 0, (w_before + w_after) * product / (w_before * after + w_after * before), 0
    )
    slope = torch.cat([secant[:1], inner, secant[-1:]])

    at = at.clamp(x[0], x[-1])
    i = torch.searchsorted(x, at, right=True).sub(1).clamp(0, len(x) - 2)
    s = column((at - x[i]) / x.diff()[i])
    rise = y[i + 1] - y[i]
    return (
        y[i]
        + rise * s**2 * (3 - 2 * s)
        + h[i] * s * (1 - s) * (slope[i] * (1 - s) - slope[i + 1] * s)
    )
