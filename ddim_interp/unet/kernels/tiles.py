"""How many values does a program hold at once?"""

import math

import triton
from torch import Tensor

__all__ = ["TILE", "pixels", "tile_of"]

TILE = 4096  # 32 values for each of a program's 128 threads


def tile_of(channels: int, values: int = TILE) -> tuple[int, int]:
    """Channels and pixels of a tile, as powers of two."""
    lanes: int = triton.next_power_of_2(channels)
    return lanes, max(1, values // lanes)


def pixels(x: Tensor) -> int:
    """Of one picture's feature maps, (N, C, H, W)."""
    return math.prod(x.shape[2:])
