"""A group norm, and what comes before and after it: one pass to know, one to write."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddim_interp.unet.kernels.moments import moments_of, whole
from ddim_interp.unet.kernels.tiles import pixels, tile_of
from ddim_interp.unet.placement import blank_maps

__all__ = ["group_norm"]

_PARTS = 256  # of a picture, which are summed at a time

_WEIGHS = [
    "rows", "parts", "size", "more_parts", "more_size", "own", "channels", "group",
    "add_stride", "scale_stride", "shift_stride",
]  # fmt: skip


@triton.jit(do_not_specialize=_WEIGHS)
def _weigh(
    moments, more, weight, bias, add, scale, shift, table, rows, parts, size, more_parts, more_size,
    own, channels, group, eps, add_stride, scale_stride, shift_stride,
    LANES: tl.constexpr, PARTS: tl.constexpr, BESIDE: tl.constexpr, ADDS: tl.constexpr,
    SCALES: tl.constexpr,
):  # fmt: skip
    """Of each channel of one group of a picture: the a and b of y = a·x + b.

    The first channels are x's own, and those that are more come after them.
    """
    picture = tl.program_id(0)
    lane = tl.arange(0, LANES)
    inside = lane < group
    channel = tl.program_id(1) * group + lane
    means, apart = whole(
        moments, picture, channel, inside & (channel < own), rows, parts, size, own, LANES, PARTS
    )
    if BESIDE:
        other, spread = whole(
            more, picture, channel - own, inside & (channel >= own), rows, more_parts, more_size,
            channels - own, LANES, PARTS,
        )  # fmt: skip
        means += other
        apart += spread
    added = tl.zeros((LANES,), tl.float32)
    if ADDS:
        added = tl.load(add + picture * add_stride + channel, mask=inside, other=0).to(tl.float32)
        means += added
    mean = tl.sum(tl.where(inside, means, 0), 0) / group
    between = tl.where(inside, means - mean, 0)  # a group's variance: within channels, and between
    variance = tl.sum(apart + between * between, 0) / group
    a = tl.load(weight + channel, mask=inside, other=0).to(tl.float32)
    a /= tl.sqrt(tl.maximum(variance, 0) + eps)
    b = tl.load(bias + channel, mask=inside, other=0).to(tl.float32) + (added - mean) * a
    if SCALES:
        factor = tl.load(scale + picture * scale_stride + channel, mask=inside, other=0)
        factor = factor.to(tl.float32)
        a += a * factor
        b += b * factor
        b += tl.load(shift + picture * shift_stride + channel, mask=inside, other=0).to(tl.float32)
    tl.store(table + picture * 2 * channels + channel, a, mask=inside)
    tl.store(table + (picture * 2 + 1) * channels + channel, b, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _apply(
    x, y, table, offset, rows, channels, across, LANES: tl.constexpr, ROWS: tl.constexpr,
    SILU: tl.constexpr,
):  # fmt: skip
    """y = a·x + b, and the activation; x has those of y's channels that begin at `offset`."""
    picture, part = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, LANES)
    inside = lane < channels
    row = part * ROWS + tl.arange(0, ROWS)
    here = (row < rows)[:, None] & inside[None, :]
    begin = picture.to(tl.int64) * rows
    a = tl.load(table + picture * 2 * across + offset + lane, mask=inside, other=0)
    b = tl.load(table + (picture * 2 + 1) * across + offset + lane, mask=inside, other=0)
    place = x + begin * channels + (row[:, None] * channels + lane[None, :])
    value = tl.load(place, mask=here, other=0).to(tl.float32)
    value = value * a[None, :] + b[None, :]
    if SILU:
        value = value / (1 + tl.exp(-value))
    place = y + begin * across + offset + (row[:, None] * across + lane[None, :])
    tl.store(place, value.to(y.dtype.element_ty), mask=here)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    add: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = False,
    beside: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`native.group_norm`, on a GPU, where x and what is beside it stay two."""
    count = len(x)
    sources = (x,) if beside is None else (x, beside)
    channels = sum(source.shape[1] for source in sources)
    rows = pixels(x)
    steers = [weight.expand(1, -1) if part is None else part for part in (add, scale, shift)]
    group = channels // groups
    table = torch.empty((count, 2, channels), dtype=torch.float32, device=x.device)
    y = blank_maps(x, count, channels, *x.shape[2:]) if add is None else x
    with torch.cuda.device_of(x):
        own = moments_of(x, passing=add is not None)
        more = own if beside is None else moments_of(beside)
        _weigh[(count, groups)](
            own.table, more.table, weight, bias, *steers, table, rows, own.parts, own.size,
            more.parts, more.size, x.shape[1], channels, group, eps,
            *(part.stride(0) for part in steers), triton.next_power_of_2(group), _PARTS,
            beside is not None, add is not None, scale is not None,
        )  # fmt: skip
        offset = 0
        for source in sources:
            width = source.shape[1]
            lanes, tile = tile_of(width)
            _apply[(count, triton.cdiv(rows, tile))](
                source, y, table, offset, rows, width, channels, lanes, tile, silu
            )
            offset += width
    return y, sources
