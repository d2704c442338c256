"""On a GPU, all that stands between two convolutions, in as few passes over memory as it takes.

A convolution of half precision keeps a GPU's matrix units busy; what lies between two of them is a
few operations a value, and takes as long as reading and writing the values does. Done one by one,
bias, timestep, norm, activation and sum are ten such passes; here they are four or five. What a
norm has to know, who wrote the values learns in passing (see `remembered`); what comes up the U
beside a skip is never written side by side. Each kernel takes channels last, as the convolutions
have them, and computes in float32.

This is the door to Triton, which comes with torch where torch knows CUDA. `GroupNorm` and
`ResnetBlock2D` come here by way of `fused`; the formulas are theirs. With TRITON_INTERPRET=1 in the
environment the kernels run on a processor, slowly, which is how they are tested.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddim_interp.unet.remembered import is_remembering, recall, remember
from ddim_interp.unet.tf32 import product_precision

__all__ = ["add_past", "add_up", "group_norm", "interleave", "split", "try_out"]

_TILE = 4096  # values that a program holds at once: 32 for each of its 128 threads
_SUMMED = 4096  # the same where it only reads; so many tiles are on their way at a time:
_AHEAD = 3
_PROGRAMS = 1056  # as many read at a time, over all pictures: eight for each multiprocessor
_PARTS = 256  # of a picture, which are summed at a time
_PRODUCTS = {160_000: (128, 128, 3), 0: (64, 64, 2)}
"""Rows, columns and parts on their way of the product that a program makes, by the bytes that a
multiprocessor gives it for them: those of a data centre have 160 kB and more, others 64 to 100."""


class _Moments(NamedTuple):
    """What a norm has to know of feature maps.

    Args:
        table: (N, parts, 2, C), float32. Of each channel of each part of a picture, the mean, and
            the sum of the squares of what is left without it.
        size: Pixels of a part; the last may have fewer.
    """

    table: Tensor
    size: int

    @classmethod
    def room(cls, x: Tensor, size: int) -> "_Moments":
        """Room for those of x, in parts of so many pixels."""
        shape = len(x), triton.cdiv(x[0, 0].numel(), size), 2, x.shape[1]
        return cls(torch.empty(shape, dtype=torch.float32, device=x.device), size)

    @property
    def parts(self) -> int:
        return self.table.shape[1]


# Sizes are no constants of the kernels, lest each be compiled for every batch and every level.
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
def _learn(value, here, table, part, lane, count, channels):
    """The moments of a tile, whose `count` rows are a part."""
    mean = tl.sum(tl.where(here, value, 0), 0) / count
    apart = tl.where(here, value - mean[None, :], 0)
    place = table + part * 2 * channels + lane
    tl.store(place, mean, mask=lane < channels)
    tl.store(place + channels, tl.sum(apart * apart, 0), mask=lane < channels)


@triton.jit
def _whole(
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
    means, apart = _whole(
        moments, picture, channel, inside & (channel < own), rows, parts, size, own, LANES, PARTS
    )
    if BESIDE:
        other, spread = _whole(
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


@triton.jit(do_not_specialize=["offset", "rows"])
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


@triton.jit(do_not_specialize=["rows", "factor"])
def _join(
    h, x, bias, table, factor, rows, channels, LANES: tl.constexpr, ROWS: tl.constexpr,
    ADDS: tl.constexpr, LEARNS: tl.constexpr,
):  # fmt: skip
    """h = (h + x + bias) · factor."""
    picture, part = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, LANES)
    inside = lane < channels
    row = part * ROWS + tl.arange(0, ROWS)
    here = (row < rows)[:, None] & inside[None, :]
    place = picture.to(tl.int64) * rows * channels + (row[:, None] * channels + lane[None, :])
    most = tl.load(bias + lane, mask=inside, other=0).to(tl.float32)
    value = tl.load(h + place, mask=here, other=0).to(tl.float32) + most[None, :]
    if ADDS:
        value += tl.load(x + place, mask=here, other=0).to(tl.float32)
    stored = (value * factor).to(h.dtype.element_ty)
    tl.store(h + place, stored, mask=here)
    if LEARNS:
        count = tl.minimum(ROWS, rows - part * ROWS)
        part += picture * tl.num_programs(1)
        _learn(stored.to(tl.float32), here, table, part, lane, count, channels)


@triton.jit
def _multiply(
    total, x, weight, row, lane, rows, channels, own, across, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """total + x wᵀ, for some rows of x and some of w."""
    for start in range(0, own, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        deep = depth < own
        here = (row < rows)[:, None] & deep[None, :]
        a = tl.load(x + (row[:, None] * own + depth[None, :]), mask=here, other=0)
        here = deep[:, None] & (lane < channels)[None, :]
        b = tl.load(weight + (lane[None, :] * across + depth[:, None]), mask=here, other=0)
        total = tl.dot(a.to(b.dtype), b, total, input_precision=PRECISION)
    return total


@triton.jit(do_not_specialize=["rows", "factor"])
def _past(
    h, x, beside, weight, bias, other, table, factor, rows, channels, first, second,
    ROWS: tl.constexpr, LANES: tl.constexpr, DEPTH: tl.constexpr, BESIDE: tl.constexpr,
    LEARNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """h = (h + w · (x, beside) + bias + other) · factor."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    part, picture = tl.program_id(1), tl.program_id(2)
    row = part * ROWS + tl.arange(0, ROWS)
    begin = picture.to(tl.int64) * rows
    inside = lane < channels
    here = (row < rows)[:, None] & inside[None, :]
    place = h + begin * channels + (row[:, None] * channels + lane[None, :])
    before = tl.load(place, mask=here, other=0)  # on its way while the products are made
    across = first + second
    total = tl.zeros((ROWS, LANES), tl.float32)
    total = _multiply(
        total, x + begin * first, weight, row, lane, rows, channels, first, across, DEPTH, PRECISION
    )
    if BESIDE:
        total = _multiply(
            total, beside + begin * second, weight + first, row, lane, rows, channels, second,
            across, DEPTH, PRECISION,
        )  # fmt: skip
    total += tl.load(bias + lane, mask=inside, other=0).to(tl.float32)[None, :]
    total += tl.load(other + lane, mask=inside, other=0).to(tl.float32)[None, :]
    stored = ((total + before.to(tl.float32)) * factor).to(h.dtype.element_ty)
    tl.store(place, stored, mask=here)
    if LEARNS:
        count = tl.minimum(ROWS, rows - part * ROWS)
        part += picture * tl.num_programs(1)
        _learn(stored.to(tl.float32), here, table, part, lane, count, channels)


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


@triton.jit(do_not_specialize=["count"])
def _split(x, high, low, count, TILE: tl.constexpr):
    """x rounded to TF32, and what the rounding leaves."""
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    here = place < count
    value = tl.load(x + place, mask=here, other=0)
    bits = value.to(tl.int32, bitcast=True)
    rounded = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    tl.store(high + place, rounded, mask=here)
    tl.store(low + place, value - rounded, mask=here)


def try_out(device: torch.device) -> None:
    """Run something small: Triton needs a C compiler, and a GPU that it knows.

    Raises:
        Exception: It does not run, for whatever reason.
    """
    h, one = (torch.full((1, 16, 2, 2), v, dtype=torch.float32, device=device) for v in (0.0, 1.0))
    if not add_up(h.to(memory_format=torch.channels_last), None, one[0, :, 0, 0]).eq(1).all():
        raise RuntimeError("Triton adds 0 and 1 up to something else")


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
    rows = x[0, 0].numel()
    steers = [weight.expand(1, -1) if part is None else part for part in (add, scale, shift)]
    group = channels // groups
    table = torch.empty((count, 2, channels), dtype=torch.float32, device=x.device)
    y = _like(x, channels) if add is None else x
    with torch.cuda.device_of(x):
        moments = [_moments(source, written_over=add is not None) for source in sources]
        own, more = moments[0], moments[-1]
        _weigh[(count, groups)](
            own.table, more.table, weight, bias, *steers, table, rows, own.parts, own.size,
            more.parts, more.size, x.shape[1], channels, group, eps,
            *(part.stride(0) for part in steers), triton.next_power_of_2(group), _PARTS,
            beside is not None, add is not None, scale is not None,
        )  # fmt: skip
        offset = 0
        for source in sources:
            width = source.shape[1]
            lanes, tile = _tile(width)
            _apply[(count, triton.cdiv(rows, tile))](
                source, y, table, offset, rows, width, channels, lanes, tile, silu
            )
            offset += width
    return y, sources


def _moments(x: Tensor, written_over: bool) -> _Moments:
    """Those of x, which whoever wrote it may have learned."""
    known: _Moments | None = None if written_over else recall(x)
    if known is not None:
        return known
    count, channels, rows = len(x), x.shape[1], x[0, 0].numel()
    lanes, tile = _tile(channels, _SUMMED)
    steps = triton.cdiv(triton.cdiv(rows, tile) * count, _PROGRAMS)
    found = _Moments.room(x, steps * tile)
    _sum[(count, found.parts)](
        x, found.table, rows, found.parts, steps, channels, lanes, tile, _AHEAD
    )
    if not written_over:
        remember(x, found)
    return found


def add_up(h: Tensor, x: Tensor | None, bias: Tensor, factor: float = 1.0) -> Tensor:
    """(h + x + bias) · factor, written over h.

    Args:
        h: Feature maps, (N, C, H, W), channels last.
        x: The same, or None for nothing.
        bias: (C,).
        factor: Multiplies the sum.
    """
    count, channels, rows = len(h), h.shape[1], h[0, 0].numel()
    lanes, tile = _tile(channels, 2 * _TILE)
    learned = _Moments.room(h, tile) if is_remembering() else None
    with torch.cuda.device_of(h):
        _join[(count, triton.cdiv(rows, tile))](
            h, h if x is None else x, bias, bias if learned is None else learned.table, factor,
            rows, channels, lanes, tile, x is not None, learned is not None, num_warps=8,
        )  # fmt: skip
    remember(h, learned)
    return h


def add_past(
    h: Tensor,
    sources: Sequence[Tensor],
    past: torch.nn.Conv2d,
    bias: Tensor,
    factor: float = 1.0,
) -> Tensor:
    """(h + past(sources, side by side) + bias) · factor, written over h.

    Args:
        h: Feature maps, (N, C, H, W), channels last.
        sources: One or two with C' channels together, channels last.
        past: A 1×1 convolution from C' channels to C, with a bias.
        bias: (C,).
        factor: Multiplies the sum.
    """
    count, channels, rows = len(h), h.shape[1], h[0, 0].numel()
    widths = [source.shape[1] for source in sources]
    deepest = 64 if past.weight.dtype.itemsize == 2 else 32
    depth = min(deepest, max(16, triton.next_power_of_2(min(widths))))
    tile, widest, stages = _product(h.device)
    lanes = min(widest, max(16, triton.next_power_of_2(channels)))
    learned = _Moments.room(h, tile) if is_remembering() else None
    with torch.cuda.device_of(h):
        _past[(triton.cdiv(channels, lanes), triton.cdiv(rows, tile), count)](
            h, sources[0], sources[-1], past.weight, bias, past.bias,
            bias if learned is None else learned.table, factor,
            rows, channels, widths[0], sum(widths[1:]), tile, lanes, depth, len(widths) > 1,
            learned is not None, product_precision(h.device), num_warps=4, num_stages=stages,
        )  # fmt: skip
    remember(h, learned)
    return h


@cache
def _product(device: torch.device) -> tuple[int, int, int]:
    """The entry of `_PRODUCTS` for a device."""
    room = 0
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        room = getattr(properties, "shared_memory_per_block_optin", 0)  # AMD's do not say
    return next(product for least, product in _PRODUCTS.items() if room >= least)


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
    y = _like(parts, channels, height, width)
    rows = count * height * width
    lanes, tile = _tile(channels)
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
    both = torch.empty(
        (2 * len(x), *x.shape[1:]),
        dtype=torch.float32,
        device=x.device,
        memory_format=torch.channels_last,
    )
    count = x.numel()
    with torch.cuda.device_of(x):
        _split[(triton.cdiv(count, _TILE),)](x, both, both[len(x) :], count, _TILE)
    return both


def _like(x: Tensor, channels: int, *size: int) -> Tensor:
    """Feature maps for x's pictures, not written yet, channels last."""
    return torch.empty(
        (len(x), channels, *(size or x.shape[2:])),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )


def _tile(channels: int, values: int = _TILE) -> tuple[int, int]:
    """Channels and pixels that a program holds at once, as powers of two."""
    lanes: int = triton.next_power_of_2(channels)
    return lanes, max(1, values // lanes)
