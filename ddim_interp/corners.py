"""What lies between four corners, or on a sheet hung on a table of keyframes, or in a triangle?

Interpolating along one axis and then along the other, as the DDIM paper does (Song et al. 2021,
arXiv:2010.02502, §D.5), gives another sheet when the axes are swapped: great circles do not
commute. Here every point is the mean of all its corners at once (`Blend.mean`), so no axis comes
first, and each edge of the sheet is still the plain interpolation between its two ends.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError, PathError
from ddim_interp.interpolate import Blend, slerp
from ddim_interp.shapes import Latents

__all__ = ["Sheet", "barycentric", "raster", "shares", "simplex"]


@dataclass(frozen=True, eq=False)
class Sheet:
    """A surface through R × S keyframes: `sheet(down, across)` is the latent at each pair.

    Args:
        keyframes: A table of latents, (R, S, C, H, W), R and S at least 2; the four corners of the
            paper's figure are a table of 2 × 2.
        blend: What lies between them.

    Raises:
        PathError: The table has fewer than two rows or columns.

    Example:
        >>> sheet = Sheet(2 * torch.eye(4).view(2, 2, 1, 2, 2))
        >>> sheet(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.5])).flatten(1)
        tensor([[0., 2., 0., 0.],
                [1., 1., 1., 1.]])
    """

    keyframes: Tensor
    blend: Blend = slerp

    def __post_init__(self) -> None:
        """Refuse what no sheet can be hung on."""
        _check_table(*self.keyframes.shape[:2])

    def __call__(self, down: Tensor, across: Tensor) -> Latents:
        """The latents at positions down and across the sheet.

        Args:
            down: 0 is the first row of keyframes, 1 the last, (F,).
            across: 0 is the first column, 1 the last, (F,).

        Returns: (F, C, H, W); at a keyframe it is that keyframe, bit for bit.
        """
        return self.carry(self.keyframes, down, across)

    def carry(self, members: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """Send other tensors along, one for each keyframe, (R, S, C, H, W); see `Blend.carry`."""
        rows, columns = self.keyframes.shape[:2]
        corners, others = self.keyframes.flatten(0, 1), members.flatten(0, 1)
        return self.blend.carry(corners, others, shares(rows, columns, down, across))


def shares(rows: int, columns: int, down: Tensor, across: Tensor) -> Tensor:
    """Weights of the keyframes of a table at positions on its sheet.

    Each place takes from the up to four keyframes around it, by its distance from them along both
    axes.

    Args:
        rows: Keyframes down, R.
        columns: Keyframes across, S.
        down: 0 is the first row, 1 the last, (F,).
        across: 0 is the first column, 1 the last, (F,).

    Returns: (F, R · S), float64, rows adding up to 1.

    Raises:
        PathError: The table has fewer than two rows or columns.

    Example:
        >>> shares(2, 2, torch.tensor([0.0]), torch.tensor([0.25]))
        tensor([[0.7500, 0.2500, 0.0000, 0.0000]], dtype=torch.float64)
    """
    _check_table(rows, columns)
    weights = _hats(down, rows)[:, :, None] * _hats(across, columns)[:, None, :]
    return weights.flatten(1)


def _check_table(rows: int, columns: int) -> None:
    if rows < 2 or columns < 2:
        raise PathError(
            f"A table of {rows} × {columns} keyframes holds no sheet; give at least 2 × 2, "
            "or make a path of them."
        )


def _hats(position: Tensor, count: int) -> Tensor:
    """Share of each of `count` even knots at positions in [0, 1], (F, count)."""
    knots = torch.arange(count, dtype=torch.float64)
    at = position.to(knots).clamp(0, 1) * (count - 1)
    # A place that is a knot's but for rounding is the knot's: its cell is to be the keyframe.
    at = torch.where((at - at.round()).abs() < 1e-9, at.round(), at)
    return (1 - (at[:, None] - knots).abs()).clamp(min=0)


def raster(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Even positions down and across a sheet, in reading order, (rows · columns,) each.

    Raises:
        ArgumentError: Fewer than two rows or columns.

    Example:
        >>> raster(2, 3)[1]
        tensor([0.0000, 0.5000, 1.0000, 0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    if rows < 2 or columns < 2:
        raise ArgumentError(
            f"A grid of {rows} × {columns} pictures cannot show four corners; use at least 2 × 2."
        )
    down, across = (torch.linspace(0, 1, count, dtype=torch.float64) for count in (rows, columns))
    return down.repeat_interleave(columns), across.repeat(rows)


def simplex(corners: int, steps: int) -> Tensor:
    """Weights of all points that lie whole steps from the corners of a triangle, a tetrahedron, …

    For `Blend.mean`: every way of dealing `steps` shares to the corners, first corner first.

    Args:
        corners: How many, at least 2.
        steps: Steps along an edge, at least 1.

    Returns: (F, corners), float64, rows adding up to 1.

    Raises:
        ArgumentError: Too few corners or steps.

    Example:
        >>> simplex(3, 2)
        tensor([[1.0000, 0.0000, 0.0000],
                [0.5000, 0.5000, 0.0000],
                [0.5000, 0.0000, 0.5000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.5000, 0.5000],
                [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    if corners < 2 or steps < 1:
        raise ArgumentError(
            f"{corners} corners and {steps} steps span nothing; use at least 2 corners and 1 step."
        )
    # Dealing shares is setting corners − 1 bars among steps + corners − 1 places.
    places = steps + corners - 1
    bars = torch.tensor(list(combinations(range(places), corners - 1))[::-1])
    ends = torch.tensor([[-1], [places]]).expand(2, len(bars))
    edges = torch.cat([ends[0][:, None], bars, ends[1][:, None]], dim=1)
    return (edges.diff(dim=1) - 1).double() / steps


def barycentric(down: Tensor, across: Tensor) -> Tensor:
    """Weights of the corners of a triangle at positions in the square around it.

    The first corner is in the middle of the upper edge, the second and third are the ends of the
    lower one, left and right. A position outside the triangle stands for the nearest one of its
    height.

    Args:
        down: 0 is the upper edge, 1 the lower, (F,).
        across: 0 is the left edge, 1 the right, (F,).

    Returns: (F, 3), float64, rows adding up to 1.

    Example:
        >>> barycentric(torch.tensor([0.5]), torch.tensor([0.5]))
        tensor([[0.5000, 0.2500, 0.2500]], dtype=torch.float64)
    """
    height = down.double().clamp(0, 1)
    right = (across.double() - 0.5 + height / 2).clamp(min=0)
    right = torch.minimum(right, height)
    return torch.stack([1 - height, height - right, right], dim=1)
