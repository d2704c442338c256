"""On a GPU, all that stands between two convolutions, in as few passes over memory as it takes.

A convolution of half precision keeps a GPU's matrix units busy; what lies between two of them is a
few operations a value, and takes as long as reading and writing the values does. Done one by one,
bias, timestep, norm, activation and sum are ten such passes; here they are five. Each kernel takes
channels last, as the convolutions have them, and computes in float32.

This is the door to Triton, which comes with torch where torch knows CUDA. `GroupNorm` and
`ResnetBlock2D` come here by way of `fused`; the formulas are theirs. With TRITON_INTERPRET=1 in the
environment the kernels run on a processor, slowly, which is how they are tested.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["add_up", "group_norm", "interleave", "split"]

_TILE = 4096  # values that a program holds at once: 32 for each of its 128 threads
_PROGRAMS = 2048  # as many sum at a time, over all pictures: some for each multiprocessor
_PARTS = 128  # of one picture at most, for they are summed by one program


# Sizes are no constants of the kernels, lest each be compiled for every batch and every level.
@triton.jit(do_not_specialize=["rows", "parts", "steps"])
def _sum(
    x, joined, sums, offset, rows, parts, steps, channels, across,
    LANES: tl.constexpr, ROWS: tl.constexpr, JOINS: tl.constexpr,
):  # fmt: skip
    """Of each channel of one part of a picture: Σ(x − p) and Σ(x − p)², p the first pixel's value.

    Around p, and not 0, a mean far from zero costs no digits. Where x has some of the channels
    `across` only, from `offset` on, it is written to its place in `joined`.
    """
    picture, part = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, LANES)
    inside = lane < channels
    begin = picture.to(tl.int64) * rows
    values = x + begin * channels
    pivot = tl.load(values + lane, mask=inside, other=0).to(tl.float32)
    once = tl.zeros((ROWS, LANES), tl.float32)
    twice = tl.zeros((ROWS, LANES), tl.float32)
    for step in range(steps):
        row = (part * steps + step) * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & inside[None, :]
        value = tl.load(values + row[:, None] * channels + lane[None, :], mask=here, other=0)
        if JOINS:
            place = joined + begin * across + offset + row[:, None] * across + lane[None, :]
            tl.store(place, value, mask=here)
        off = tl.where(here, value.to(tl.float32) - pivot[None, :], 0)
        once += off
        twice += off * off
    place = sums + (picture * parts + part) * 2 * across + offset + lane
    tl.store(place, tl.sum(once, 0), mask=inside)
    tl.store(place + across, tl.sum(twice, 0), mask=inside)


_WEIGHS = ["rows", "parts", "channels", "group", "add_stride", "scale_stride", "shift_stride"]


@triton.jit(do_not_specialize=_WEIGHS)
def _weigh(
    x, sums, weight, bias, add, scale, shift, table, rows, parts, eps,
    add_stride, scale_stride, shift_stride, channels, group,
    LANES: tl.constexpr, PARTS: tl.constexpr, ADDS: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """Of each channel of one group of a picture: the a and b of y = a·x + b."""
    picture = tl.program_id(0)
    lane = tl.arange(0, LANES)
    inside = lane < group
    channel = tl.program_id(1) * group + lane
    part = tl.arange(0, PARTS)
    here = (part < parts)[:, None] & inside[None, :]
    places = sums + (picture * parts + part[:, None]) * 2 * channels + channel[None, :]
    once = tl.sum(tl.load(places, mask=here, other=0), 0) / rows
    twice = tl.sum(tl.load(places + channels, mask=here, other=0), 0) / rows
    pivot = tl.load(x + picture.to(tl.int64) * rows * channels + channel, mask=inside, other=0)
    means = pivot.to(tl.float32) + once
    added = tl.zeros((LANES,), tl.float32)
    if ADDS:
        added = tl.load(add + picture * add_stride + channel, mask=inside, other=0).to(tl.float32)
        means += added
    mean = tl.sum(tl.where(inside, means, 0), 0) / group
    apart = tl.where(inside, means - mean, 0)  # a group's variance: within channels, between them
    variance = tl.sum(twice - once * once, 0) / group + tl.sum(apart * apart, 0) / group
    a = tl.load(weight + channel, mask=inside, other=0).to(tl.float32)
    a /= tl.sqrt(tl.maximum(variance, 0) + eps)
    b = tl.load(bias + channel, mask=inside, other=0).to(tl.float32) + (added - mean) * a
    if SCALES:
        more = tl.load(scale + picture * scale_stride + channel, mask=inside, other=0)
        more = more.to(tl.float32)
        a += a * more
        b += b * more
        b += tl.load(shift + picture * shift_stride + channel, mask=inside, other=0).to(tl.float32)
    tl.store(table + picture * 2 * channels + channel, a, mask=inside)
    tl.store(table + (picture * 2 + 1) * channels + channel, b, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _apply(
    x, y, table, rows, channels, LANES: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr
):
    """y = a·x + b, and the activation."""
    picture, part = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, LANES)
    inside = lane < channels
    row = part * ROWS + tl.arange(0, ROWS)
    here = (row < rows)[:, None] & inside[None, :]
    place = picture.to(tl.int64) * rows * channels + (row[:, None] * channels + lane[None, :])
    a = tl.load(table + picture * 2 * channels + lane, mask=inside, other=0)
    b = tl.load(table + (picture * 2 + 1) * channels + lane, mask=inside, other=0)
    value = tl.load(x + place, mask=here, other=0).to(tl.float32)
    value = value * a[None, :] + b[None, :]
    if SILU:
        value = value / (1 + tl.exp(-value))
    tl.store(y + place, value.to(y.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["rows", "factor"])
def _join(
    h, x, bias, other, factor, rows, channels, LANES: tl.constexpr, ROWS: tl.constexpr,
    OTHER: tl.constexpr,
):  # fmt: skip
    """h = (h + x + bias + other) · factor."""
    lane = tl.arange(0, LANES)
    inside = lane < channels
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = (row < rows)[:, None] & inside[None, :]
    place = row.to(tl.int64)[:, None] * channels + lane[None, :]
    most = tl.load(bias + lane, mask=inside, other=0).to(tl.float32)
    if OTHER:
        most += tl.load(other + lane, mask=inside, other=0).to(tl.float32)
    value = tl.load(h + place, mask=here, other=0).to(tl.float32) + most[None, :]
    value += tl.load(x + place, mask=here, other=0).to(tl.float32)
    tl.store(h + place, (value * factor).to(h.dtype.element_ty), mask=here)


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
) -> tuple[Tensor, Tensor]:
    """`native.group_norm`, on a GPU: act(norm(x + add)·(1 + scale) + shift), and x and `beside`."""
    count = len(x)
    sources = (x,) if beside is None else (x, beside)
    channels = sum(source.shape[1] for source in sources)
    rows = x[0, 0].numel()
    lanes, tile = _tile(channels)
    tiles = triton.cdiv(rows, tile)
    steps = max(triton.cdiv(tiles * count, _PROGRAMS), triton.cdiv(tiles, _PARTS))
    parts = triton.cdiv(tiles, steps)
    whole = x if beside is None else _like(x, channels)
    sums = torch.empty((count, parts, 2, channels), dtype=torch.float32, device=x.device)
    table = torch.empty((count, 2, channels), dtype=torch.float32, device=x.device)
    steers = [weight.expand(1, -1) if part is None else part for part in (add, scale, shift)]
    group = channels // groups
    y = torch.empty_like(whole) if add is None else whole
    with torch.cuda.device_of(x):
        offset = 0
        for source in sources:
            own = source.shape[1]
            _sum[(count, parts)](
                source, whole, sums, offset, rows, parts, steps, own, channels,
                triton.next_power_of_2(own), tile, beside is not None,
            )  # fmt: skip
            offset += own
        _weigh[(count, groups)](
            whole, sums, weight, bias, *steers, table, rows, parts, eps,
            *(part.stride(0) for part in steers), channels, group,
            triton.next_power_of_2(group), _PARTS, add is not None, scale is not None,
        )  # fmt: skip
        _apply[(count, tiles)](whole, y, table, rows, channels, lanes, tile, silu)
    return y, whole


def add_up(
    h: Tensor, x: Tensor, bias: Tensor, other: Tensor | None = None, factor: float = 1.0
) -> Tensor:
    """(h + x + bias + other) · factor, written over h.

    Args:
        h: Feature maps, (N, C, H, W), channels last.
        x: The same.
        bias: (C,).
        other: (C,), or None for nothing.
        factor: Multiplies the sum.
    """
    channels = h.shape[1]
    rows = h.numel() // channels
    lanes, tile = _tile(channels)
    with torch.cuda.device_of(h):
        _join[(triton.cdiv(rows, tile),)](
            h, x, bias, bias if other is None else other, factor,
            rows, channels, lanes, tile, other is not None,
        )  # fmt: skip
    return h


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


def _tile(channels: int) -> tuple[int, int]:
    """Channels and pixels that a program holds at once, as powers of two."""
    lanes: int = triton.next_power_of_2(channels)
    return lanes, max(1, _TILE // lanes)
