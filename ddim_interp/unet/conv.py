"""How is a convolution spared work that is the same at every call?"""

from collections.abc import Callable, Hashable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ddim_interp.unet.derived import Derived
from ddim_interp.unet.fused import kernels_for
from ddim_interp.unet.placement import is_channels_last, is_for_gpu
from ddim_interp.unet.split import convolve_split, kernels_to_split
from ddim_interp.unet.winograd import can_halve, convolve_halved, halved_weights

__all__ = ["Conv2d"]

T = TypeVar("T")


class _Packed(NamedTuple):
    """A convolution as oneDNN wants its weights laid out."""

    weight: Tensor
    bias: Tensor | None
    place: tuple[list[Any], list[int], list[int], int]  # padding, stride, dilation, groups

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, shape: torch.Size, *place: Any) -> "_Packed":
        """Lay out weights for pictures of a shape."""
        laid_out = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
            weight.to_mkldnn(), *place, list(shape)
        )
        return cls(laid_out, bias, place)

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.place, "none", [], ""
        )
        return y


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that has its weights laid out as they are needed once, and not at every call.

    oneDNN multiplies weights in blocks of its own; torch hands them over row by row, and has them
    sorted anew in every forward pass. Where a picture is small and channels are many, that is a
    sixth of the time. Here the sorted copy is kept, for as long as the weights are what they were;
    results are the same to the bit, and the weights take twice their memory. A single picture wants
    another order than several do, and pays up to thirty times for the wrong one: whoever sends both
    has a copy for either. So do pictures of another size; there the copy is made anew.

    In float32 wide layers of 3×3 weights do with half of their multiplications (see `winograd`):
    1.2 to 1.6 times as fast, the same to six digits, and the weights take three times their memory.

    Both are for inference mode, on x86 processors, in float32 and bfloat16. On a GPU float32, where
    it is asked for in earnest, is made of three products in TF32 (see `split`). Anywhere else this
    is `nn.Conv2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, (N, C, H, W)."""
        x = self._in_order(x)
        if self._can_pack(x):
            if self._is_plain_3x3() and can_halve(x, self.out_channels):
                return convolve_halved(x, self.out_channels, self._multiply_halved)
            return self._packed(x)(x)
        if not is_for_gpu(x):
            return super().forward(x)
        y = self.without_bias(x)
        if self.bias is None:
            return y
        kernels = kernels_for(y)
        if kernels is None:
            return y.add_(self.bias[:, None, None])
        whole: Tensor = kernels.add_up(y, None, self.bias)
        return whole

    def convolve(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Convolve x, and leave the bias to whoever has something else to add.

        A processor adds it in passing: there it is not left.
        """
        return (self.without_bias(x), self.bias) if x.is_cuda else (self(x), None)

    def without_bias(self, x: Tensor) -> Tensor:
        """Convolve x, and never mind the bias."""
        if kernels := kernels_to_split(x):
            return convolve_split(kernels, x, self._in_parts(kernels), self._convolve)
        return self._convolve(x, self.weight)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _in_parts(self, kernels: ModuleType) -> Tensor:
        """The weights rounded, and what that leaves."""

        def make() -> Tensor:
            weight = self.weight.detach().contiguous(memory_format=torch.channels_last)
            parts: Tensor = kernels.split(weight)
            return parts

        return self._derive("_parts", make, self.weight)

    def _in_order(self, x: Tensor) -> Tensor:
        """x with its channels beside each other, if the weights have them so: a network's input.

        Torch would do so itself, but for a single small picture, which it convolves in a loop.
        """
        if _is_for_onednn(x) and is_channels_last(self.weight):
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _can_pack(self, x: Tensor) -> bool:
        # oneDNN has channels beside each other.
        return _is_for_onednn(x) and is_channels_last(x) and x.dtype in _packable_dtypes()

    def _is_plain_3x3(self) -> bool:
        shape = self.kernel_size, self.padding, self.stride, self.dilation, self.groups
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)

    def _packed(self, x: Tensor) -> _Packed:
        """The weights as pictures like x want them."""

        def make() -> _Packed:
            place = list(self.padding), list(self.stride), list(self.dilation), self.groups
            return _Packed.of(self.weight.detach(), None, x.shape, *place)

        packed = self._derive(f"_packed_for_{_company(x)}", make, self.weight, use=x.shape[2:])
        return packed._replace(bias=self.bias)

    def _multiply_halved(self, x: Tensor) -> Tensor:
        """The six products that `convolve_halved` is made of."""

        def make() -> _Packed:
            weight, bias = halved_weights(self.weight, self.bias)
            return _Packed.of(weight, bias, x.shape, [1, 0], [1, 1], [1, 1], 6)

        sources = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return self._derive(f"_halved_for_{_company(x)}", make, *sources, use=x.shape[2:])(x)

    def _derive(
        self, name: str, make: Callable[[], T], *sources: Tensor, use: Hashable = None
    ) -> T:
        """What was made of these weights for this use, or is made now."""
        derived: Derived | None = getattr(self, name, None)
        if derived is None or not derived.fits(*sources, use=use):
            derived = Derived.of(make(), *sources, use=use)
            setattr(self, name, derived)
        value: T = derived.value
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles derive their own."""
        return {k: v for k, v in self.__dict__.items() if not isinstance(v, Derived)}


def _is_for_onednn(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and torch.is_inference_mode_enabled()
        and x.device.type == "cpu"
    )


def _company(x: Tensor) -> str:
    return "one" if len(x) == 1 else "several"


def _packable_dtypes() -> tuple[torch.dtype, ...]:
    """In which precisions oneDNN takes weights in its own order here."""
    return _dtypes_of_onednn() if torch._C._get_mkldnn_enabled() else ()


@cache
def _dtypes_of_onednn() -> tuple[torch.dtype, ...]:
    if not (torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return ()
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if native else (torch.float32,)
