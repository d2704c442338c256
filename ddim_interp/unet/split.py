"""How does a GPU convolve in float32 by units that know ten bits?"""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from ddim_interp.tf32 import allow_tf32, product_precision
from ddim_interp.unet.fused import kernels_for

__all__ = ["convolve_split", "kernels_to_split"]


def kernels_to_split(x: Tensor) -> ModuleType | None:
    """Our kernels, where float32 is wanted in earnest on a GPU that multiplies TF32; else None."""
    if x.dtype != torch.float32 or not x.is_cuda:
        return None
    return kernels_for(x) if product_precision(x.device) == "tf32x3" else None


def convolve_split(
    kernels: ModuleType,
    x: Tensor,
    weights: Tensor,
    convolve: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """A convolution to float32's precision, out of three in TF32.

        x = h + l,  w = H + L:    x ∗ w ≈ h ∗ H + l ∗ H + h ∗ L

    h and H have ten bits and are multiplied exactly; l and L are what is left, 2⁻¹¹ of them at
    most, so that their own rounding, and l ∗ L, are as small as float32's. Sums are in float32
    anyway. It is as exact as float32 and several times as fast, because a GPU's matrix units have
    no float32.

    Args:
        kernels: What `kernels_to_split` found.
        x: (N, C, H, W), channels last.
        weights: H and L, one after the other, (2 C_out, C, …).
        convolve: Called with pictures and weights.

    References:
        Ootomo & Yokota (2022), Recovering single precision accuracy from Tensor Cores while
        surpassing the FP32 theoretical peak performance, arXiv:2203.03341.
    """
    high, low = weights.chunk(2)
    both = kernels.split(x)
    with allow_tf32():
        y, rest = convolve(both, high).chunk(2)
        y = y.add_(rest)
        return y.add_(convolve(both[: len(x)], low))
