"""What a residual layer ends with: a sum, and the way past it; who writes it learns its moments."""

from collections.abc import Sequence
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddim_interp.tf32 import product_precision
from ddim_interp.unet.kernels.moments import Moments, learn
from ddim_interp.unet.kernels.tiles import TILE, pixels, tile_of
from ddim_interp.unet.remembered import is_remembering, remember

__all__ = ["add_past", "add_up", "try_out"]

_LARGE, _SMALL = (128, 128, 3), (64, 64, 2)
"""Rows and columns of the product that a program makes, and how many parts are on their way."""

_ROOMY = 160_000
"""Bytes that a program has for them on GPUs of data centres; on others it is 64 to 100 kB."""


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
        learn(stored.to(tl.float32), here, table, picture, part, lane, rows, channels, ROWS)


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
    before = tl.load(place, mask=here, other=0)
    stored = ((total + before.to(tl.float32)) * factor).to(h.dtype.element_ty)
    tl.store(place, stored, mask=here)
    if LEARNS:
        learn(stored.to(tl.float32), here, table, picture, part, lane, rows, channels, ROWS)


def add_up(h: Tensor, x: Tensor | None, bias: Tensor, factor: float = 1.0) -> Tensor:
    """(h + x + bias) · factor, written over h.

    Args:
        h: Feature maps, (N, C, H, W), channels last.
        x: The same, or None for nothing.
        bias: (C,).
        factor: Multiplies the sum.
    """
    count, channels, rows = len(h), h.shape[1], pixels(h)
    lanes, tile = tile_of(channels, 2 * TILE)
    learned = Moments.room(h, tile) if is_remembering() else None
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
    count, channels, rows = len(h), h.shape[1], pixels(h)
    widths = [source.shape[1] for source in sources]
    half = past.weight.dtype.itemsize == 2
    depth = min(64 if half else 32, max(16, triton.next_power_of_2(min(widths))))
    tile, widest, stages = _LARGE if half and _is_roomy(h.device) else _SMALL
    lanes = min(widest, max(16, triton.next_power_of_2(channels)))
    learned = Moments.room(h, tile) if is_remembering() else None
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
def _is_roomy(device: torch.device) -> bool:
    """Whether a program may have large tiles."""
    if device.type != "cuda":
        return False
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", 0) >= _ROOMY  # AMD's do not say


def try_out(device: torch.device) -> None:
    """Run something small: Triton needs a C compiler, and a GPU that it knows.

    Raises:
        Exception: It does not run, for whatever reason.
    """
    h, one = (torch.full((1, 16, 2, 2), v, dtype=torch.float32, device=device) for v in (0.0, 1.0))
    if not add_up(h.to(memory_format=torch.channels_last), None, one[0, :, 0, 0]).eq(1).all():
        raise RuntimeError("Triton adds 0 and 1 up to something else")
