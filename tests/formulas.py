"""Formulas of what stands between two convolutions, in float64, and maps to try them on."""

import torch
import torch.nn.functional as F
from torch import Tensor

LAST = torch.channels_last
SHAPES = [(2, 32, 8, 8, 8), (3, 48, 5, 7, 4), (1, 96, 16, 16, 32), (2, 384, 9, 3, 32)]


def near(found: Tensor, wanted: Tensor, bound: float) -> None:
    assert found.is_contiguous(memory_format=LAST)
    gap = (found.double() - wanted).norm() / wanted.norm()
    assert gap < bound, gap


def maps(dtype: torch.dtype, *shape: int) -> Tensor:
    """Feature maps with channels far from zero, as far as their digits allow."""
    far = 50 if dtype == torch.float32 else 2
    x = 2 * torch.randn(shape) + far * torch.randn(1, shape[1], 1, 1)
    return x.to(dtype).to(memory_format=LAST)


def steers(dtype: torch.dtype, count: int, channels: int) -> tuple[Tensor, ...]:
    """Weight and bias of a norm; and what is added, multiplied and added again, which are rows of
    something wider, or one row for all pictures."""
    weight, bias = torch.randn(2, channels).to(dtype)
    add, scale = torch.randn(count, 2 * channels).to(dtype).chunk(2, dim=1)
    return weight, bias, add, scale, torch.randn(channels).to(dtype).expand(count, -1)


def written_out(x, groups, weight, bias, add=None, scale=None, shift=None, silu=False) -> Tensor:
    add, scale, shift = (
        0 if each is None else each.double()[:, :, None, None] for each in (add, scale, shift)
    )
    y = torch.group_norm(x.double() + add, groups, weight.double(), bias.double(), 1e-5)
    y = y * (1 + scale) + shift
    return F.silu(y) if silu else y
