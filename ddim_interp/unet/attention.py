"""How do distant pixels of a feature map see one another?"""

import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.unet.fused import native_for
from ddim_interp.unet.norm import GroupNorm

__all__ = ["Attention"]

_NARROW = 32  # channels of a head; torch is as good at wider ones


class Attention(nn.Module):
    """Self-attention over the pixels of a feature map, added to it.

        y = (x + W_o · concat_heads softmax(q kᵀ / √d) v) / scale,   q, k, v = W_q,k,v · norm(x)

    Its cost grows with the square of the number of pixels, which is why U-Nets have it at their
    coarse levels only.

    Args:
        channels: Channels in and out.
        head_channels: Channels d of one head, at most `channels`. What remains after cutting
            `channels` into heads is left out of q, k and v.
        groups: Groups of the norm, or None for no norm.
        eps: Added to the variance in the norm.
        scale: Divides the sum.

    References:
        Vaswani et al. (2017), Attention is all you need, arXiv:1706.03762, equation 1.
    """

    def __init__(
        self, channels: int, head_channels: int, groups: int | None, eps: float, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.scale = scale
        inner = self.heads * head_channels
        self.group_norm = nn.Identity() if groups is None else GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, inner)
        self.to_k = nn.Linear(channels, inner)
        self.to_v = nn.Linear(channels, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])  # a list, as in checkpoints

    def forward(self, x: Tensor) -> Tensor:
        """Let pixels attend to one another, (N, C, H, W) to the same."""
        pixels = self.group_norm(x).flatten(2).transpose(1, 2)  # (N, HW, C)
        seen = self._attend(self.to_q(pixels), self.to_k(pixels), self.to_v(pixels))
        x = x + self.to_out[0](seen).transpose(1, 2).unflatten(2, x.shape[2:])
        return x if self.scale == 1 else x / self.scale

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each pixel sees, (N, HW, heads · d)."""
        if q.shape[2] <= _NARROW * self.heads and (kernels := native_for(q)):
            seen: Tensor = kernels.attend(q, k, v, self.heads)
            return seen
        d = q.shape[2] // self.heads
        q, k, v = (
            each.reshape(*each.shape[:2], self.heads, d).transpose(1, 2)  # (N, heads, HW, d)
            for each in (q, k, v)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
