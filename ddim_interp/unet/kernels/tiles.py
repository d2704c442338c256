"""How many values does a program hold at once?"""

import math

import torch
import triton
from torch import Tensor

__all__ = ["TILE", "like", "pixels", "tile_of"]

TILE = 4096  # 32 values for each of a program's 128 threads


def tile_of(channels: int, values: int = TILE) -> tuple[int, int]:
    """Channels and pixels of a tile, as powers of two."""
    lanes: int = triton.next_power_of_2(channels)
    return lanes, max(1, values // lanes)


def pixels(x: Tensor) -> int:
    """Of one picture's feature maps, (N, C, H, W)."""
    return math.prod(x.shape[2:])


def like(x: Tensor, channels: int, *size: int) -> Tensor:
    """Feature maps for x's pictures, not written yet, channels last."""
    return torch.empty(
        (len(x), channels, *(size or x.shape[2:])),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
