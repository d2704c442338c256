"""What does a norm have to know of feature maps, and who finds it out?

Mean and variance of each channel. They are found part by part of a picture: whoever writes a part
has its values at hand, learns its moments, and leaves them to the norm (see `remembered`). What
nobody learned is read once more. Parts are then made a whole (Chan, Golub & LeVeque 1983,
Algorithms for computing the sample variance, The American Statistician 37, 242), without loss of
digits where a mean is far from zero.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddim_interp.unet.kernels.tiles import pixels, tile_of
from ddim_interp.unet.remembered import recall, remember

__all__ = ["Moments", "learn", "moments_of", "whole"]

_AHEAD = 3  # tiles that are on their way at a time
_PROGRAMS = 1056  # as many read at a time, over all pictures: eight for each multiprocessor


class Moments(NamedTuple):
    """Mean and spread of each channel of each part of a picture.

    Args:
        table: (N, parts, 2, C), float32: the mean, and the sum of the squares of what is left
            without it.
        size: Pixels of a part; the last may have fewer.
    """

    table: Tensor
    size: int

    @classmethod
    def room(cls, x: Tensor, size: int) -> "Moments":
        """Room for those of x, in parts of so many pixels."""
        shape = len(x), triton.cdiv(pixels(x), size), 2, x.shape[1]
        return cls(torch.empty(shape, dtype=torch.float32, device=x.device), size)

    @property
    def parts(self) -> int:
        return self.table.shape[1]


@triton.jit(do_not_specialize=["rows", "parts", "steps"])
def _sum(
    x, table, rows, parts, steps, channels,
    LANES: tl.constexpr, ROWS: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """The moments of one part of a picture: by Σ(x − p) and Σ(x − p)², p its first pixel's value.

    Around p, and not 0, a mean far from zero costs no digits.
    """
    picture, part = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, LANES)
    inside = lane < channels
    values = x + picture.to(tl.int64) * rows * channels
    first = part * steps * ROWS
    pivot = tl.load(values + first * channels + lane, mask=inside, other=0).to(tl.float32)
    once = tl.zeros((ROWS, LANES), tl.float32)
    twice = tl.zeros((ROWS, LANES), tl.float32)
    for step in tl.range(steps, num_stages=AHEAD):
        row = first + step * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & inside[None, :]
        value = tl.load(values + row[:, None] * channels + lane[None, :], mask=here, other=0)
        off = tl.where(here, value.to(tl.float32) - pivot[None, :], 0)
        once += off
        twice += off * off
    mean = tl.sum(once, 0) / tl.minimum(steps * ROWS, rows - first)
    squares = tl.sum(twice, 0) - tl.sum(once, 0) * mean
    place = table + (picture * parts + part) * 2 * channels + lane
    tl.store(place, pivot + mean, mask=inside)
    tl.store(place + channels, squares, mask=inside)


@triton.jit
def learn(value, here, table, picture, part, lane, rows, channels, ROWS: tl.constexpr):
    """The moments of a tile that is a part: ROWS pixels of a picture's, or what is left of them."""
    mean = tl.sum(tl.where(here, value, 0), 0) / tl.minimum(ROWS, rows - part * ROWS)
    apart = tl.where(here, value - mean[None, :], 0)
    place = table + (picture * tl.num_programs(1) + part) * 2 * channels + lane
    tl.store(place, mean, mask=lane < channels)
    tl.store(place + channels, tl.sum(apart * apart, 0), mask=lane < channels)


@triton.jit
def whole(
    table, picture, channel, inside, rows, parts, size, channels,
    LANES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Mean and variance of some channels of a picture, 0 where they are not inside."""
    begin = table + picture.to(tl.int64) * parts * 2 * channels + channel
    pivot = tl.load(begin, mask=inside, other=0)
    once = tl.zeros((LANES,), tl.float32)
    twice = tl.zeros((LANES,), tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        here = (part < parts)[:, None] & inside[None, :]
        place = begin + part[:, None] * 2 * channels
        count = tl.minimum(size, rows - part * size).to(tl.float32)[:, None]
        off = tl.where(here, tl.load(place, mask=here, other=0) - pivot[None, :], 0)
        once += tl.sum(count * off, 0)
        twice += tl.sum(tl.load(place + channels, mask=here, other=0) + count * off * off, 0)
    once /= rows
    return pivot + once, twice / rows - once * once


def moments_of(x: Tensor, passing: bool = False) -> Moments:
    """Those of x, (N, C, H, W), which whoever wrote it may have learned.

    Args:
        x: Feature maps, channels last.
        passing: Whether x is about to be written over.
    """
    known: Moments | None = None if passing else recall(x)
    if known is not None:
        return known
    count, channels, rows = len(x), x.shape[1], pixels(x)
    lanes, tile = tile_of(channels)
    steps = max(1, triton.cdiv(triton.cdiv(rows, tile) * count, _PROGRAMS))
    found = Moments.room(x, steps * tile)
    _sum[(count, found.parts)](
        x, found.table, rows, found.parts, steps, channels, lanes, tile, _AHEAD
    )
    if not passing:
        remember(x, found)
    return found
