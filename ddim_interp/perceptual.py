"""How different do two pictures look?

A picture is mapped to a vector such that the distance between two vectors is the difference one
sees, as far as a few lines can tell: colours in CIELAB, where equal distances look about equally
large, and blurred at several scales, so that a line moved by a pixel counts for little and a shape
moved by a quarter of the picture for much.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.learned import lpips_vectors
from ddim_interp.shapes import Images

__all__ = ["METRICS", "Metric", "find_metric", "lab", "perceive"]

Metric: TypeAlias = Callable[[Images], Tensor]
"""Pictures, (N, C, H, W), to vectors, (N, D), whose distance is the difference one sees."""


def lab(images: Images) -> Tensor:
    """sRGB to CIELAB under daylight (D65), (N, 3, H, W) both ways; L* from 0 to 100.

    References:
        IEC 61966-2-1 (sRGB); CIE 15 (L*a*b*).

    Example:
        >>> white = lab(torch.ones(1, 3, 1, 1)).flatten()
        >>> [round(value) for value in white.tolist()]
        [100, 0, 0]
    """
    encoded = (images.float().clamp(-1, 1) + 1) / 2
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.tensor(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ],
        dtype=linear.dtype,
        device=images.device,
    )
    xyz = torch.einsum("ij,njhw->nihw", to_xyz / to_xyz.sum(1, keepdim=True), linear)
    small = xyz <= (6 / 29) ** 3
    f = torch.where(small, xyz * (29 / 6) ** 2 / 3 + 4 / 29, xyz.clamp(min=1e-4) ** (1 / 3))
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def perceive(images: Images, sides: tuple[int, ...] = (32, 16, 8)) -> Tensor:
    """Vectors whose distance is the colour difference ΔE*, averaged over scales and pixels.

        |v − w|² = mean over scales of mean over pixels of ΔE*²

    About 2 can just be seen when two plain fields lie side by side; black to white is 100.

    Args:
        images: (N, 3, H, W), in [−1, 1]. Grey pictures, (N, 1, H, W), are taken as such.
        sides: The picture is averaged down to squares of these sides.

    Returns: (N, 3 · Σ sides²), float32.

    Example:
        >>> black, white = perceive(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8))
        >>> round((white - black).norm().item())
        100
    """
    colours = lab(images.expand(-1, 3, -1, -1))
    scales = [F.adaptive_avg_pool2d(colours, side).flatten(1) / side for side in sides]
    return torch.cat(scales, dim=1) / math.sqrt(len(sides))


METRICS: dict[str, Callable[[], Metric]] = {"lab": lambda: perceive, "lpips": lpips_vectors}
"""What makes each metric, by name."""


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ArgumentError: There is none, or its package is not installed.
        HubError: Its weights cannot be fetched.
    """
    if name not in METRICS:
        raise ArgumentError(f"No metric is called {name!r}; choose one of {', '.join(METRICS)}.")
    return METRICS[name]()
