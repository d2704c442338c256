"""How is a convolution spared work that is the same at every call?"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Conv2d"]


class _Packed(NamedTuple):
    """Weights in the processor's own order, and what they were made of."""

    weight: Tensor  # keeps the memory, so that no other weight can come to lie at its address
    version: int
    laid_out: Tensor


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that lays its weights out for the processor once, and not at every call.

    oneDNN multiplies weights in blocks of its own; torch hands them over row by row, and has them
    sorted anew in every forward pass. Where a picture is small and channels are many, that is a
    sixth of the time. Here the sorted copy is kept, for as long as the weights are what they were;
    results are the same to the bit, and the weights take twice their memory.

    It works in inference mode, on x86 processors, in float32 and bfloat16. Anywhere else this is
    `nn.Conv2d`.
    """

    _packed: _Packed | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, (N, C, H, W)."""
        if not self._can_pack(x):
            return super().forward(x)
        place = list(self.padding), list(self.stride), list(self.dilation), self.groups
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._laid_out(x), self.bias, *place, "none", [], ""
        )
        return y

    def _can_pack(self, x: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()
            and torch.is_inference_mode_enabled()
            and x.device.type == "cpu"
            # Channels beside each other in memory, which is how oneDNN has them.
            and x.is_contiguous(memory_format=torch.channels_last)
            and not x.is_contiguous()
            and x.dtype in _packable_dtypes()
        )

    def _laid_out(self, x: Tensor) -> Tensor:
        weight = self.weight.detach()
        version = 0 if weight.is_inference() else weight._version
        kept = self._packed
        if (
            kept is None
            or kept.weight.data_ptr() != weight.data_ptr()
            or kept.weight.dtype != weight.dtype
            or kept.version != version
        ):
            place = list(self.padding), list(self.stride), list(self.dilation), self.groups
            laid_out = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
                weight.to_mkldnn(), *place, list(x.shape)
            )
            kept = self._packed = _Packed(weight, version, laid_out)
        return kept.laid_out

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles lay out their own."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def _packable_dtypes() -> tuple[torch.dtype, ...]:
    """In which precisions oneDNN takes weights in its own order here."""
    if not (torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()):
        return ()
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return ()
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if native else (torch.float32,)
