"""On a processor, all that stands between two convolutions, in as few passes as it takes.

What lies between two convolutions is a few operations a value, and where those multiply quickly,
takes as long as they do. torch does it one operation at a time, and its group norm one value at a
time where channels are few. These are the functions of `native.c`, which is compiled where there is
a C compiler (see `c_library`) and the processor has AVX2, with which they were measured; elsewhere,
or where DDIM_INTERP_KERNELS is `off`, torch's own operations do the same. They have the names of
`kernels`, for a GPU; `fused` chooses.
"""

import math
from collections.abc import Sequence
from ctypes import CDLL, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ddim_interp.c_library import load_c_library
from ddim_interp.unet.placement import blank_maps
from ddim_interp.user_cache import is_off

__all__ = [
    "DTYPES",
    "add_past",
    "add_up",
    "attend",
    "gather",
    "group_norm",
    "has_native",
    "interleave",
    "spread",
]

DTYPES = (torch.float32, torch.bfloat16)
"""What they compute on."""

_LANES, _ROWS = 16, 8  # as in native.c, where there may be half as many lanes
_PART = 1 << 14  # values that are summed by one thread in one go; sums depend on it, not on threads

_SIGNATURES = {
    "group_norm": [
        *[c_int] * 2, *[c_void_p] * 9, *[c_int64] * 8, c_float, c_int, *[c_int64] * 2,
        *[c_void_p] * 2,
    ],
    "interleave": [c_int, *[c_void_p] * 2, *[c_int64] * 4],
    "spread": [c_int, *[c_void_p] * 2, *[c_int64] * 3],
    "gather": [c_int, *[c_void_p] * 2, *[c_int64] * 7],
    "attend": [*[c_int] * 2, *[c_void_p] * 4, *[c_int64] * 5, c_void_p, c_int64],
}  # fmt: skip


@cache
def _library() -> CDLL | None:
    if is_off("DDIM_INTERP_KERNELS"):
        return None
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    library = load_c_library(Path(__file__).with_name("native.c"), "-mprefer-vector-width=512")
    if library is None:
        return None
    try:
        for name, types in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, None
    except AttributeError:  # whatever was compiled, it was not this
        return None
    return library


def has_native() -> bool:
    """Whether they are here. The first to ask may wait a second, while they are compiled."""
    return _library() is not None


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
    """Group norm, with what comes before and after it: act(norm(x + add)·(1 + scale) + shift).

    Args:
        x: Feature maps, (N, C, H, W), channels last, of `DTYPES`; all else is brought to the same.
        groups: Groups of channels, a divisor of C.
        weight: (C,).
        bias: (C,).
        eps: Added to the variance.
        add: (N, C), added to every pixel first. x is written over then. Here and in the next two a
            picture's channels lie side by side.
        scale: (N, C); with `shift`, or neither.
        shift: (N, C).
        silu: Whether SiLU follows; else nothing does.
        beside: More channels of the same pictures, which become the last of x.

    Returns:
        Feature maps like x; and x with what is beside it, for `add_past`.
    """
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    steers = [None if steer is None else steer.to(x.dtype) for steer in (add, scale, shift)]
    beside = None if beside is None else beside.to(x.dtype)
    count, own, height, width = x.shape
    rows, other = height * width, 0 if beside is None else beside.shape[1]
    channels = own + other
    whole = x if beside is None else blank_maps(x, count, channels, height, width)
    y = torch.empty_like(whole) if add is None else whole
    copies = _LANES // math.gcd(_LANES, channels)  # of all channels, in whole vectors
    part = max(1, _PART // (channels * copies)) * copies
    sums = _room(x, count, -(-rows // part), 2, channels)
    table = _room(x, count, 2, copies, channels)
    _functions().group_norm(
        x.dtype == torch.bfloat16, torch.get_num_threads(),
        _at(x), _at(beside), _at(whole), _at(y), _at(weight), _at(bias), *map(_at, steers),
        *[0 if steer is None else steer.stride(0) for steer in steers],
        count, rows, own, other, groups, eps, silu, part, copies, _at(sums), _at(table),
    )  # fmt: skip
    return y, (whole,)


def add_up(h: Tensor, x: Tensor, bias: Tensor | None = None, factor: float = 1.0) -> Tensor:
    """(h + x + bias) · factor, written over h.

    A convolution adds its own bias in passing on a processor, so there is none to add as a rule,
    and one sum is as quick by torch.

    Args:
        h: Feature maps, (N, C, H, W), channels last.
        x: The same.
        bias: (C,), or None for nothing.
        factor: Multiplies the sum.
    """
    h.add_(x)
    if bias is not None:
        h.add_(bias[:, None, None])
    return h if factor == 1 else h.mul_(factor)


def add_past(
    h: Tensor,
    sources: Sequence[Tensor],
    past: nn.Module,
    bias: Tensor | None = None,
    factor: float = 1.0,
) -> Tensor:
    """(h + past(x) + bias) · factor, written over h.

    Args:
        h: Feature maps, (N, C, H, W), channels last.
        sources: x, (N, C', H, W), alone.
        past: A 1×1 convolution from C' channels to C.
        bias: (C,), or None for nothing.
        factor: Multiplies the sum.
    """
    (x,) = sources
    return add_up(h, past(x), bias, factor)


def interleave(parts: Tensor, bias: Tensor | None = None) -> Tensor:
    """What `doubling.DoublingConv2d` makes of its four convolutions.

    Args:
        parts: (N, 4 C, H + 1, W + 1), channels last.
        bias: (C,), or None for nothing.

    Returns:
        (N, C, 2 H, 2 W), channels last.
    """
    count, four, height, width = parts.shape
    y = blank_maps(parts, count, four // 4, 2 * height - 2, 2 * width - 2)
    _functions().interleave(
        torch.get_num_threads(),
        _at(parts), _at(y), count, *y.shape[2:], y.shape[1] * y.element_size(),
    )  # fmt: skip
    return y if bias is None else y.add_(bias[:, None, None])


def spread(x: Tensor) -> Tensor:
    """Bᵀd of every fourth place and its neighbours, for `winograd`.

    Args:
        x: (N, C, H, W), float32; rows, pixels and channels follow one another. C is 16 or more, W
            a multiple of four.

    Returns:
        (N, 6 C, H, W/4), channels last.
    """
    count, channels, height, width = x.shape
    v = blank_maps(x, count, 6 * channels, height, width // 4)
    _functions().spread(torch.get_num_threads(), _at(x), _at(v), count * height, width, channels)
    return v


def gather(products: Tensor, y: Tensor, top: int = 0) -> None:
    """Aᵀ of six products, for `winograd`.

    Args:
        products: (N, 6 C, h, W/4), float32, channels last.
        y: (N, C, H, W), written to; rows, pixels and channels follow one another.
        top: The row of the products that is the first of y.
    """
    count, channels, rows, width = y.shape
    between = y.stride(0) // channels
    _functions().gather(
        torch.get_num_threads(),
        _at(products), _at(y), count, products.shape[2], rows, top, width, channels, between,
    )  # fmt: skip


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention: softmax(q kᵀ / √d) v of every head.

    Args:
        q: (N, pixels, heads · d), of `DTYPES`.
        k: The same.
        v: The same.
        heads: How many there are.

    Returns:
        The same.
    """
    count, pixels, width = q.shape
    d, threads = width // heads, torch.get_num_threads()
    across, across_d = _filled(pixels), _filled(d)
    room = d * across + pixels * across_d + _ROWS * (across + d + across_d) + _LANES
    part = pixels if count * heads >= 2 * threads else 8 * _ROWS
    rooms = _room(q, threads, _filled(room))  # for each thread one that begins in a whole vector
    q, k, v = (each.to(q.dtype).contiguous() for each in (q, k, v))
    y = torch.empty_like(q)
    _functions().attend(
        q.dtype == torch.bfloat16, threads,
        _at(q), _at(k), _at(v), _at(y), count, pixels, heads, d, part, _at(rooms), rooms.shape[1],
    )  # fmt: skip
    return y


def _filled(count: int) -> int:
    """So many values, in whole vectors."""
    return -(-count // _LANES) * _LANES


def _functions() -> CDLL:
    """The library, where it is known to be there."""
    library = _library()
    assert library is not None
    return library


def _at(x: Tensor | None) -> int | None:
    """A tensor's address."""
    return None if x is None else x.data_ptr()


def _room(x: Tensor, *shape: int) -> Tensor:
    """Room to compute x's sums in, whatever the user's default dtype and device are."""
    return torch.empty(shape, dtype=torch.float32, device=x.device)
