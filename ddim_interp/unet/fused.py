"""Where and how does what lies between two convolutions run as one?"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor, nn

from ddim_interp.unet import native
from ddim_interp.unet.placement import is_channels_last

__all__ = [
    "Convolution",
    "has_kernels",
    "kernels_for",
    "kernels_on",
    "native_for",
    "residual",
]


class Convolution(Protocol):
    """A convolution that can leave its bias to others."""

    def convolve(self, x: Tensor) -> tuple[Tensor, Tensor | None]: ...


def kernels_for(x: Tensor) -> ModuleType | None:
    """Our own kernels where they can take the place of torch's; else None.

    Those of `unet.kernels` are for a GPU with Triton, those of `unet.native` for a processor with a
    C compiler, in inference mode. Both are for feature maps with channels last in float32 or less,
    and know no gradients. What is being compiled gets kernels from the compiler.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    if not is_channels_last(x):
        return None
    if x.is_cuda:
        return None if x.dtype == torch.float64 else _kernels()
    return native_for(x)


def native_for(x: Tensor) -> ModuleType | None:
    """Those for a processor, `unet.native`, where they can take the place of torch's; else None."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return None
    if x.device.type != "cpu" or x.dtype not in native.DTYPES:
        return None
    return native if native.has_native() else None


def has_kernels() -> bool:
    """Whether those for a GPU are here, and run on the GPU that torch uses."""
    return _kernels() is not None


def kernels_on(device: torch.device) -> str:
    """What is computed with on a device: "Triton", "C", or "torch" where that is all there is."""
    if device.type == "cuda":
        return "Triton" if has_kernels() else "torch"
    return "C" if device.type == "cpu" and native.has_native() else "torch"


@cache
def _kernels() -> ModuleType | None:
    try:
        from ddim_interp.unet import kernels

        kernels.try_out(torch.device("cuda"))
    except Exception:  # torch for Windows has no Triton; many a container has no C compiler for it
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
    if skip is not None:
        skip = skip.contiguous(memory_format=torch.channels_last)  # as it is already, as a rule
    h, sources = kernels.group_norm(x, *_place(norm1), silu=True, beside=skip)
    if resample is not None:
        sources, h = [resample(source) for source in sources], resample(h)
    h, add = conv1.convolve(h)
    factor = shift = None
    if scale_shift:
        factor, shift = time.chunk(2, dim=1)
        add = None if add is None else add.expand(len(x), -1)
    else:
        add = time if add is None else time + add
    h, _ = kernels.group_norm(h, *_place(norm2), add=add, scale=factor, shift=shift, silu=True)
    h, bias = conv2.convolve(h)
    y: Tensor
    if past is not None:
        y = kernels.add_past(h, sources, past, bias, 1 / scale)
    else:
        x = sources[0] if len(sources) == 1 else torch.cat(sources, dim=1)
        y = kernels.add_up(h, x, bias, 1 / scale)
    return y


def _place(norm: nn.GroupNorm) -> tuple[int, Tensor, Tensor, float]:
    return norm.num_groups, norm.weight, norm.bias, norm.eps
