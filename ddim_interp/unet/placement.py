"""How does a tensor lie, and who is to answer to it?"""

import torch
from torch import Tensor

__all__ = ["blank_maps", "is_channels_last", "is_for_gpu", "layout_of"]


def is_channels_last(x: Tensor) -> bool:
    """Whether channels lie beside each other, and could lie otherwise; one pixel's do both."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def layout_of(x: Tensor) -> torch.memory_format:
    """How it lies; one pixel's channels, which lie both ways, beside each other."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def blank_maps(x: Tensor, *shape: int) -> Tensor:
    """Feature maps not written yet, (N, C, H, W), channels last, where and of what x is."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def is_for_gpu(x: Tensor) -> bool:
    """Whether a GPU is to answer, as fast as it can: nobody wants gradients, or compiles it."""
    return x.is_cuda and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
