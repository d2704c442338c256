"""Where and how does what lies between two convolutions run as one?"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Convolution", "has_kernels", "kernels_for", "residual"]


class Convolution(Protocol):
    """A convolution that can leave its bias to others."""

    bias: Tensor | None

    def without_bias(self, x: Tensor) -> Tensor: ...


def kernels_for(x: Tensor) -> ModuleType | None:
    """Our own kernels, `unet.kernels`, where they can take the place of torch's; else None.

    They are for a GPU with Triton, for feature maps with channels last in float32 or less, and know
    no gradients. What is being compiled gets kernels from the compiler.
    """
    if not x.is_cuda or x.dtype == torch.float64:
        return None
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    if not x.is_contiguous(memory_format=torch.channels_last):
        return None
    return _kernels()


def has_kernels() -> bool:
    """Whether they are here at all."""
    return _kernels() is not None


@cache
def _kernels() -> ModuleType | None:
    try:
        from ddim_interp.unet import kernels
    except ImportError:  # torch for Windows comes without Triton
        return None
    return kernels


def residual(
    kernels: ModuleType,
    x: Tensor,
    time: Tensor,
    norms: tuple[nn.GroupNorm, nn.GroupNorm],
    convolutions: tuple[Convolution, Convolution, Convolution | None],
    skip: Tensor | None = None,
    resample: Callable[[Tensor], Tensor] | None = None,
    scale_shift: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """`ResnetBlock2D.forward` with SiLU and without dropout: a bias waits for what is added next.

    Args:
        kernels: What `kernels_for` found.
        x: Feature maps, (N, C, H, W), channels last.
        time: The projected timestep, (N, C_out), or (N, 2 C_out) for a scale and a shift.
        norms: The first and the second.
        convolutions: The first, the second, and the one past them, if any.
        skip: Feature maps whose channels follow those of x, (N, C', H, W), if any.
        resample: Halves or doubles the resolution on both ways.
        scale_shift: Whether `time` scales and shifts.
        scale: Divides the sum.

    Returns:
        Feature maps, (N, C_out, H', W').
    """
    (norm1, norm2), (conv1, conv2, past) = norms, convolutions
    h, x = kernels.group_norm(x, *_place(norm1), silu=True, beside=skip)
    if resample is not None:
        x, h = resample(x), resample(h)
    h = conv1.without_bias(h)
    if scale_shift:
        add = _bias(conv1).expand(len(x), -1)
        factor, shift = time.chunk(2, dim=1)
    else:
        add, factor, shift = time + _bias(conv1), None, None
    h, _ = kernels.group_norm(h, *_place(norm2), add=add, scale=factor, shift=shift, silu=True)
    h = conv2.without_bias(h)
    other = None
    if past is not None:
        x, other = past.without_bias(x), _bias(past)
    y: Tensor = kernels.add_up(h, x, _bias(conv2), other, 1 / scale)
    return y


def _place(norm: nn.GroupNorm) -> tuple[int, Tensor, Tensor, float]:
    return norm.num_groups, norm.weight, norm.bias, norm.eps


def _bias(conv: Convolution) -> Tensor:
    assert conv.bias is not None
    return conv.bias
