"""The array shapes signatures are written in.

The names say at the signature what a comment would say below it; they are plain aliases, checked by
the reader and by the tests, not at run time.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Frame", "Frames", "Images", "Latents", "spelled"]

Latents: TypeAlias = Tensor
"""Points on the noise axis, (N, C, H, W), float32 or float64."""

Images: TypeAlias = Tensor
"""Pictures, (N, C, H, W), float, in [-1, 1]."""

Frame: TypeAlias = NDArray[np.uint8]
"""One finished picture, (H, W, 3), uint8: what a sink writes."""

Frames: TypeAlias = NDArray[np.uint8]
"""Finished pictures, (N, H, W, 3), uint8."""


def spelled(shape: Sequence[int]) -> str:
    """A shape in a sentence.

    Example:
        >>> spelled((3, 64, 64))
        '3×64×64'
    """
    return "×".join(map(str, shape))
