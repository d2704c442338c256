"""How are activations kept in range, whatever the batch?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.unet.fused import kernels_for

__all__ = ["GroupNorm"]


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` for every size: torch's refuses one picture of one pixel, like a batch norm.

    The statistics are those of a group of channels, so there is nothing to refuse: a prediction
    must not depend on how many pictures happen to be in the batch.

    On a GPU torch's wants channels first, and copies there and back what has them last; on a
    processor it is slow where they are few. Ours is neither (see `kernels` and `native`). Compiled
    for a GPU in half precision it is written out by channels, so that the compiler joins it to its
    neighbours, and so that channels that lie beside each other in memory are read side by side.

    References:
        Wu & He (2018), Group normalization, arXiv:1803.08494.
    """

    def forward(self, x: Tensor, silu: bool = False) -> Tensor:
        """Normalise x, (N, C, H, W), in groups of channels; with `silu`, SiLU follows."""
        place = self.num_groups, self.weight, self.bias, self.eps
        if kernels := kernels_for(x):
            fused: Tensor = kernels.group_norm(x, *place, silu=silu)[0]
            return fused
        if torch.compiler.is_compiling() and x.is_cuda and x.dtype.itemsize == 2:
            y = self._by_channels(x)
        else:
            y = torch.group_norm(x, *place)
        return F.silu(y, inplace=True) if silu else y

    def _by_channels(self, x: Tensor) -> Tensor:
        """The same in float32 sums over channels first, then over groups.

        The variance is E[x²] − E[x]²; what that loses is less than half precision has lost in x.
        """
        wide = x.float()
        sums = torch.stack((wide.mean((2, 3)), wide.square().mean((2, 3))))  # (2, N, C)
        mean, square = sums.view(2, len(x), self.num_groups, -1).mean(3, keepdim=True)
        deviation = ((square - mean.square()).clamp_min(0) + self.eps).rsqrt()  # (N, groups, 1)
        weight, bias = (p.float().view(self.num_groups, -1) for p in (self.weight, self.bias))
        scale = weight * deviation
        shift = bias - mean * scale  # (N, groups, channels of each)
        scale, shift = (part.flatten(1)[:, :, None, None] for part in (scale, shift))
        y: Tensor = (wide * scale + shift).to(x.dtype)
        return y
