"""How does a tensor lie, and who is to answer to it?"""

import torch
from torch import Tensor

__all__ = ["is_channels_last", "is_for_gpu"]


def is_channels_last(x: Tensor) -> bool:
    """Whether channels lie beside each other, and could lie otherwise; one pixel's do both."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def is_for_gpu(x: Tensor) -> bool:
    """Whether a GPU is to answer, as fast as it can: nobody wants gradients, or compiles it."""
    return x.is_cuda and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
