"""How do feature maps change resolution by a factor of two?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.doubling import DoublingConv2d
from ddim_interp.unet.placement import is_for_gpu, layout_of

__all__ = [
    "CornerConv2d",
    "Downsample2D",
    "Upsample2D",
    "double",
    "double_smoothly",
    "halve",
    "halve_smoothly",
]


def halve(x: Tensor) -> Tensor:
    """Mean of each 2×2 square, (N, C, H, W) to (N, C, H/2, W/2)."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Each value four times, (N, C, H, W) to (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halve_smoothly(x: Tensor) -> Tensor:
    """Halve with the filter (1, 3, 3, 1)/8 along each axis, zeros outside.

    It is the box (1, 1)/2 applied three times, so it is `halve` after smoothing, and doubling is
    smoothing after `double`: with less aliasing than either alone.

    References:
        Karras et al. (2020), Analyzing and improving the image quality of StyleGAN,
        arXiv:1912.04958, appendix B; Song et al. (2021), arXiv:2011.13456, appendix H.

    Example:
        >>> import torch
        >>> impulse = torch.zeros(1, 1, 1, 8).index_fill(3, torch.tensor(3), 64.0)
        >>> halve_smoothly(impulse.expand(1, 1, 8, 8))[0, 0, 1]
        tensor([ 0., 24.,  8.,  0.])
    """
    return halve(_smooth(x))


def double_smoothly(x: Tensor) -> Tensor:
    """Double with the filter (1, 3, 3, 1)/4 along each axis, zeros outside."""
    return _smooth(double(x))


def _smooth(x: Tensor) -> Tensor:
    """Filter with (1, 2, 1)/4 along each axis: two boxes."""
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1, padding=1), 2, stride=1)


class CornerConv2d(Conv2d):
    """A 3×3 convolution with stride 2 that begins in the corner, with zeros at the far ends only.

    A GPU's has them at both ends or none. There it is given two of them at each end, and the first
    row and column of what it makes are left out: that copies a quarter of what adding a row and a
    column to x would.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve x, (N, C, H, W)."""
        return super().forward(x if is_for_gpu(x) else F.pad(x, (0, 1, 0, 1)))

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        y = torch.conv2d(x, weight, None, self.stride, 2)
        return y[:, :, 1:, 1:].contiguous(memory_format=layout_of(y))


class Downsample2D(nn.Module):
    """Halve by a convolution with stride 2.

    Args:
        channels: Channels in and out.
        padding: 1 for zeros on every side; 0 for zeros on the right and bottom only.
    """

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = (
            Conv2d(channels, channels, 3, stride=2, padding=padding)
            if padding
            else CornerConv2d(channels)
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Halve x, (N, C, H, W); the timestep in `emb` does not matter here."""
        x = self.conv(x)
        return x


class Upsample2D(nn.Module):
    """Double, then convolve.

    Args:
        channels: Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = DoublingConv2d(channels, channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Double x, (N, C, H, W); the timestep in `emb` does not matter here."""
        x = self.conv(x)
        return x
