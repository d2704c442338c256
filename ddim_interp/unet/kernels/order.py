"""Values put elsewhere, or cut in two."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddim_interp.unet.kernels.tiles import TILE, tile_of
from ddim_interp.unet.placement import blank_maps

__all__ = ["interleave", "split"]


@triton.jit(do_not_specialize=["height", "width", "rows"])
def _interleave(
    parts, y, bias, height, width, rows, channels, LANES: tl.constexpr, ROWS: tl.constexpr
):
    """Each pixel of y from its quarter of the channels, and the bias."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    inside = lane < channels
    here = (row < rows)[:, None] & inside[None, :]
    across, up = row % width, row // width
    down, picture = up % height, up // height
    p, q = down % 2, across % 2
    place = (picture * (height // 2 + 1) + down // 2 + p) * (width // 2 + 1) + across // 2 + q
    place = (place.to(tl.int64) * 4 + 2 * p + q)[:, None] * channels + lane[None, :]
    value = tl.load(parts + place, mask=here, other=0).to(tl.float32)
    value += tl.load(bias + lane, mask=inside, other=0).to(tl.float32)[None, :]
    to = row.to(tl.int64)[:, None] * channels + lane[None, :]
    tl.store(y + to, value.to(y.dtype.element_ty), mask=here)


@triton.jit
def _split(x, high, low, count, TILE: tl.constexpr):
    """x rounded to TF32, and what the rounding leaves."""
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    here = place < count
    value = tl.load(x + place, mask=here, other=0)
    bits = value.to(tl.int32, bitcast=True)
    rounded = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    tl.store(high + place, rounded, mask=here)
    tl.store(low + place, value - rounded, mask=here)


def interleave(parts: Tensor, bias: Tensor) -> Tensor:
    """What `doubling.DoublingConv2d` makes of its four convolutions.

    Args:
        parts: (N, 4 C, H + 1, W + 1), channels last.
        bias: (C,).

    Returns:
        (N, C, 2 H, 2 W), channels last.
    """
    count, four, height, width = parts.shape
    channels, height, width = four // 4, 2 * height - 2, 2 * width - 2
    y = blank_maps(parts, count, channels, height, width)
    rows = count * height * width
    lanes, tile = tile_of(channels)
    with torch.cuda.device_of(y):
        _interleave[(triton.cdiv(rows, tile),)](
            parts, y, bias, height, width, rows, channels, lanes, tile
        )
    return y


def split(x: Tensor) -> Tensor:
    """Numbers in two parts: rounded to the ten bits of TF32, and what that leaves.

    Args:
        x: (N, C, H, W), float32, channels last.

    Returns:
        (2 N, C, H, W), channels last: all that is rounded, then all that is left.
    """
    both = blank_maps(x, 2 * len(x), *x.shape[1:])
    count = x.numel()
    with torch.cuda.device_of(x):
        _split[(triton.cdiv(count, TILE),)](x, both, both[len(x) :], count, TILE)
    return both
