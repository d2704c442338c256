"""Put the morph's square back into the full pictures it was cut from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ddim_interp.ends import fade
from ddim_interp.errors import ArgumentError
from ddim_interp.images import Box, from_frames, to_frames
from ddim_interp.shapes import Frame, Images

__all__ = ["Paste", "check_feather", "soft_edge"]


def check_feather(feather: float) -> None:
    """Refuse an edge that cannot be.

    Raises:
        ArgumentError: It is not in [0, 1/2].
    """
    if not 0 <= feather <= 0.5:
        raise ArgumentError(
            f"feather={feather:g} is no edge; use 0 for a hard one, and at most 0.5, which "
            "reaches the middle of the square."
        )


def soft_edge(box: Box, height: int, width: int, feather: float) -> Tensor:
    """How much of a square shows in the picture it is put back into, (box height, box width).

        m = s(left) s(right) s(top) s(bottom),    s(x) = 3x² − 2x³ of x = distance / width of edge

    1 inside, down to nothing at the square's border. A side on which the square ends where the
    picture does has no edge.

    Args:
        box: Left, top, right, bottom of the square.
        height: Of the picture.
        width: Of the picture.
        feather: Width of the edge, as a share of the square's shorter side; 0 is a hard edge.

    Example:
        >>> soft_edge((2, 0, 6, 4), 4, 8, feather=0.5)[0]
        tensor([0.1562, 0.8438, 0.8438, 0.1562])
        >>> soft_edge((0, 0, 4, 4), 4, 4, feather=0.5).min()
        tensor(1.)
    """
    left, top, right, bottom = box
    edge = feather * min(right - left, bottom - top)

    def ramp(length: int, starts: bool, ends: bool) -> Tensor:
        at = torch.arange(length) + 0.5
        profile = torch.ones(length)
        for free, distance in ((starts, at), (ends, length - at)):
            if free and edge > 0:
                x = (distance / edge).clamp(max=1)
                profile = profile * x.square() * (3 - 2 * x)
        return profile

    down = ramp(bottom - top, top > 0, bottom < height)
    across = ramp(right - left, left > 0, right < width)
    return down[:, None] * across


@dataclass(frozen=True, eq=False)
class Paste:
    """Frames of the cropped square become frames of the full picture.

        f(u) = D(u) + m · (U(u) + c(u) − D(u))

    D dissolves from each full picture to the next. U is the square, enlarged to the crop it came
    from. c gives back what it lacks of the user's own pixels at a keyframe, and fades away from
    there as other residuals do (`ends.fade`). m is the mask: with a soft edge the square melts into
    the dissolve, so that no seam can show whatever it holds. At a keyframe f is the user's full
    picture, to the bit.

    Args:
        wholes: The full pictures, all (H, W, 3), one a keyframe.
        squares: The same as they were cropped and scaled for the model, (h, w, 3).
        box: The crop: left, top, right, bottom.
        knots: The u of each keyframe, rising; of a closed path also that of the return, 1.
        closed: Whether the last keyframe leads back to the first.
        feather: Width of the edge, as a share of the crop's shorter side; 0 is a hard one.
        raw: Whether the square is left as the model drew it, at keyframes too.

    Raises:
        ArgumentError: The feather is out of range.
    """

    wholes: Sequence[Frame]
    squares: Sequence[Frame]
    box: Box
    knots: Tensor
    closed: bool = False
    feather: float = 0.125
    raw: bool = False

    def __post_init__(self) -> None:
        check_feather(self.feather)

    def __call__(self, square: Frame, u: float) -> Frame:
        """The full picture, (H, W, 3), of the frame `square`, (h, w, 3), at u."""
        left, top, right, bottom = self.box
        picture = self._dissolve(u)
        inside = self._enlarged(square)
        if not self.raw:
            inside = inside + self._missing(u)
        around = picture[..., top:bottom, left:right]
        around += self._mask * (inside - around)
        frame: Frame = to_frames(picture)[0]
        return frame

    @cached_property
    def _mask(self) -> Tensor:
        height, width, _ = self.wholes[0].shape
        return soft_edge(self.box, height, width, self.feather)

    def _dissolve(self, u: float) -> Images:
        """The full pictures, neighbours taking turns evenly in u, (1, 3, H, W)."""
        leg = int(torch.searchsorted(self.knots, u, right=True)) - 1
        leg = min(max(leg, 0), len(self.knots) - 2)
        start, end = self.knots[leg : leg + 2].tolist()
        share = min(max((u - start) / (end - start), 0.0), 1.0)
        before, after = (self.wholes[k % len(self.wholes)] for k in (leg, leg + 1))
        return torch.lerp(from_frames(before[None]), from_frames(after[None]), share)

    def _enlarged(self, square: Frame) -> Images:
        """A square scaled to the crop's size, (1, 3, h, w)."""
        left, top, right, bottom = self.box
        return F.interpolate(
            from_frames(square[None]),
            size=(bottom - top, right - left),
            mode="bicubic",
            antialias=True,
        )

    def _missing(self, u: float) -> Images:
        """What enlarged squares lack of the user's pixels, faded, (1, 3, h, w)."""
        left, top, right, bottom = self.box
        total = torch.zeros(1, 3, bottom - top, right - left)
        knots = self.knots[: len(self.wholes)]
        (weights,) = fade(torch.tensor([u], dtype=torch.float64), knots, self.closed).tolist()
        for weight, whole, square in zip(weights, self.wholes, self.squares, strict=True):
            if weight > 0:
                own = from_frames(whole[None, top:bottom, left:right])
                total += weight * (own - self._enlarged(square))
        return total
