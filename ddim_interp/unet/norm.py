"""How are activations kept in range, whatever the batch?"""

import torch
from torch import Tensor, nn

__all__ = ["GroupNorm"]


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` for every size: torch's refuses one picture of one pixel, like a batch norm.

    The statistics are those of a group of channels, so there is nothing to refuse: a prediction
    must not depend on how many pictures happen to be in the batch.

    References:
        Wu & He (2018), Group normalization, arXiv:1803.08494.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (N, C, H, W), in groups of channels."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
