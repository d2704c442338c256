"""How does a 3×3 convolution get by with half of its multiplications?"""

from collections.abc import Callable

import torch
from torch import Tensor

from ddim_interp.unet.fused import native_for
from ddim_interp.unet.placement import blank_maps

__all__ = ["can_halve", "convolve_halved", "halved_weights"]

# Bytes of x at once. Sums of many passes should stay near the processor; for those of one large
# blocks are better, which have fewer rows in common.
_BLOCK, _BLOCK_OF_OURS = 1 << 22, 1 << 24
_FEWEST, _FEWEST_OF_OURS = 128, 24  # channels in and out that it pays for


def can_halve(x: Tensor, out: int) -> bool:
    """Whether a 3×3 convolution of x to so many channels is done sooner so, on a processor.

    Sums grow with the channels and products with their square, and a row has to have more than a
    few fours; fewer will do where our own kernels make the sums in one pass. The number of pictures
    must not count: a picture is the same in any company.
    """
    channels, width = x.shape[1], x.shape[3]
    if x.dtype != torch.float32 or width % 4:
        return False
    fewest, narrowest = (_FEWEST_OF_OURS, 8) if native_for(x) else (_FEWEST, 16)
    return min(channels, out) >= fewest and width >= narrowest


def halved_weights(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """What `convolve_halved` multiplies by.

        u = G · (w₀, w₁, w₂)    of every row of every kernel

    Args:
        weight: Kernels, (C_out, C, 3, 3).
        bias: (C_out,), if any.

    Returns:
        Kernels one wide, (6 C_out, C, 3, 1), for six groups of channels, and what to add to each.
    """
    out, channels = weight.shape[:2]
    rows = torch.tensor(  # a row's polynomial at 0, 1, −1, 2, −2 and ∞, and what undoes them
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, -1],
        ],
        dtype=torch.float64,
        device=weight.device,
    )
    six = torch.einsum("ks,ocrs->kocr", rows, weight.detach().double())
    added = weight.new_zeros(6, out)
    if bias is not None:
        added[1] = bias.detach()  # which enters each of the four sums once
    return six.reshape(6 * out, channels, 3, 1).to(weight.dtype), added.flatten()


def convolve_halved(x: Tensor, out: int, multiply: Callable[[Tensor], Tensor]) -> Tensor:
    """A 3×3 convolution of zero-padded x, by Winograd's F(4, 3) along its rows.

        y = Aᵀ((G w) ⊙ (Bᵀ d))    of six neighbours d and three weights: four neighbours y

    Six products take the place of twelve. They are summed over channels, and down the three rows
    of the kernel, before Aᵀ is applied, so that the sums around them are a small part of the work.
    Down the columns the convolution is an ordinary one: transformed both ways it would be a quarter
    of the products, but so many sums that where they are not one kernel nothing is gained, and
    rounding errors that are four times those of an ordinary convolution; here they are twice.

    Args:
        x: (N, C, H, W), channels last; W a multiple of four.
        out: C_out.
        multiply: Convolves (n, 6 C, h, W/4) with the kernels of `halved_weights` in six groups,
            and adds theirs: (n, 6 C_out, h, W/4).

    Returns:
        (N, C_out, H, W), channels last.

    References:
        Winograd (1980), Arithmetic Complexity of Computations; Lavin & Gray (2016), Fast Algorithms
        for Convolutional Neural Networks, arXiv:1509.09308, section 4.

    Example:
        >>> from torch.nn.functional import conv2d
        >>> x = torch.randn(1, 2, 5, 8).contiguous(memory_format=torch.channels_last)
        >>> weight, bias = torch.randn(3, 2, 3, 3), torch.randn(3)
        >>> six, added = halved_weights(weight, bias)
        >>> y = convolve_halved(x, 3, lambda d: conv2d(d, six, added, padding=(1, 0), groups=6))
        >>> torch.allclose(y, conv2d(x, weight, bias, padding=1), atol=1e-4)
        True
    """
    count, channels, height, width = x.shape
    y = blank_maps(x, count, out, height, width)
    kernels = native_for(x) if min(channels, out) >= _FEWEST_OF_OURS else None
    spread, gather = (kernels.spread, kernels.gather) if kernels else (_spread, _gather)
    row = channels * width * x.element_size()
    rows = max(1, (_BLOCK_OF_OURS if kernels else _BLOCK) // row)
    if rows >= height:
        together = rows // height
        for first in range(0, count, together):
            some = slice(first, first + together)
            gather(multiply(spread(x[some])), y[some])
        return y
    for picture in range(count):
        for top in range(0, height, rows):
            # All blocks are as high, whether or not there are rows above and below.
            start = max(0, min(top - 1, height - rows - 2))
            block = x[picture : picture + 1, :, start : start + rows + 2]
            into = y[picture : picture + 1, :, top : top + rows]
            gather(multiply(spread(block)), into, top - start)
    return y


def _spread(x: Tensor) -> Tensor:
    """Bᵀd of every fourth place and its neighbours: (n, C, h, W) to (n, 6 C, h, W/4)."""
    count, channels, height, width = x.shape
    spread = blank_maps(x, count, 6 * channels, height, width // 4)
    v = spread.chunk(6, dim=1)
    d1, d2, d3, d4 = (x[..., place::4] for place in range(4))  # d0 is d4 and d5 is d1 of neighbours
    even, odd = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
    torch.add(even, odd, out=v[1])
    torch.sub(even, odd, out=v[2])
    torch.sub(d4, d2, out=even)
    torch.sub(d3, d1, out=odd)
    torch.add(even, odd, alpha=2, out=v[3])
    torch.sub(even, odd, alpha=2, out=v[4])
    torch.sub(even, d2, alpha=4, out=v[0])
    v[0][..., 1:].add_(d4[..., :-1], alpha=4)
    torch.add(d3, odd, alpha=4, out=v[5])
    v[5][..., :-1].sub_(d1[..., 1:])
    return spread


def _gather(products: Tensor, y: Tensor, top: int = 0) -> None:
    """Aᵀ of six products, from a row on; they are written over: (n, 6 C_out, h', W/4) to
    (n, C_out, h, W)."""
    m = products[:, :, top : top + y.shape[2]].chunk(6, dim=1)
    p = m[1] + m[2]
    q = torch.sub(m[1], m[2], out=m[1])
    r = torch.add(m[3], m[4], out=m[2])
    s = torch.sub(m[3], m[4], out=m[3])
    torch.add(q, s, alpha=2, out=y[..., 1::4])
    torch.add(p, r, alpha=4, out=y[..., 2::4])
    torch.add(m[0].add_(p), r, out=y[..., 0::4])
    torch.add(q.add_(m[5]), s, alpha=8, out=y[..., 3::4])
