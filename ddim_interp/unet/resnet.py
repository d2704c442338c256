"""What does one residual layer of the U do?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ddim_interp.unet.config import UNetConfig
from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.fused import kernels_for, residual
from ddim_interp.unet.norm import GroupNorm
from ddim_interp.unet.plan import ResnetPlan

__all__ = ["ResnetBlock2D", "activation"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
}


def activation(name: str) -> nn.Module:
    """Build the activation that a config names; it writes over its input where it can."""
    kind = _ACTIVATIONS[name]
    return kind() if name == "gelu" else kind(inplace=True)


class ResnetBlock2D(nn.Module):
    """Two convolutions around the timestep, and a way past them.

        h = conv1(resample(act(norm1(x))))
        h = conv2(dropout(act(norm2(h + W·emb))))            time shifts ("default")
        h = conv2(dropout(act(norm2(h)·(1 + a) + b)))        or scales and shifts, (a, b) = W·emb
        y = (shortcut(resample(x)) + h) / scale

    Args:
        plan: Its channels and groups.
        config: What all ResNets share.
        scale: Divides the sum: √2 keeps its variance, as in NCSN++.
        resample: Halves or doubles the resolution on both ways.
        shortcut: Whether the way past has a 1×1 convolution; None gives it one where the number of
            channels changes.

    References:
        He et al. (2016), Deep residual learning, arXiv:1512.03385; Ho et al. (2020),
        arXiv:2006.11239; scale and shift: Dhariwal & Nichol (2021), arXiv:2105.05233, section 3.1.
    """

    def __init__(
        self,
        plan: ResnetPlan,
        config: UNetConfig,
        *,
        scale: float = 1.0,
        resample: Callable[[Tensor], Tensor] | None = None,
        shortcut: bool | None = None,
    ) -> None:
        super().__init__()
        channels, out = plan.channels, plan.out_channels
        self.scale = scale
        self.resample = resample
        self.scale_shift = config.resnet_time_scale_shift == "scale_shift"
        self.norm1 = GroupNorm(plan.groups, channels, config.norm_eps)
        self.conv1 = Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(config.time_channels, 2 * out if self.scale_shift else out)
        self.norm2 = GroupNorm(plan.out_groups, out, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = Conv2d(out, out, 3, padding=1)
        self.nonlinearity = activation(config.act_fn)
        self.conv_shortcut = (
            Conv2d(channels, out, 1) if shortcut or channels != out else nn.Identity()
        )

    def forward(self, x: Tensor, emb: Tensor, skip: Tensor | None = None) -> Tensor:
        """Pass x on, (N, C, H, W) to (N, C_out, H', W'), at the timestep embedded in `emb`.

        Args:
            x: Feature maps, (N, C, H, W).
            emb: The embedded timestep after the activation, (N, time_channels). All ResNets apply
                the same one, so the model does it once for all.
            skip: Feature maps whose channels follow those of x, on the way up; then C counts both.

        Returns:
            Feature maps, (N, C_out, H', W').
        """
        time = self.time_emb_proj(emb)
        silu = isinstance(self.nonlinearity, nn.SiLU) and not self.training
        if silu and (kernels := kernels_for(x)):
            shortcut = self.conv_shortcut if isinstance(self.conv_shortcut, Conv2d) else None
            return residual(
                kernels,
                x,
                time,
                (self.norm1, self.norm2),
                (self.conv1, self.conv2, shortcut),
                skip,
                self.resample,
                self.scale_shift,
                self.scale,
            )
        if skip is not None:
            x = torch.cat((x, skip), dim=1)
        h = self.nonlinearity(self.norm1(x))
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h = self.conv1(h)
        time = time[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm2(h).mul_(1 + scale).add_(shift)
        else:
            h = self.norm2(h.add_(_over_rows(time, h)))
        y: Tensor = self.conv2(self.dropout(self.nonlinearity(h)))
        y += self.conv_shortcut(x)
        return y if self.scale == 1 else y.div_(self.scale)


def _over_rows(time: Tensor, h: Tensor) -> Tensor:
    """What each channel is given, (N, C, 1, 1), as something a processor adds quickly.

    It adds runs of values that lie beside each other. In bfloat16 the channels of one place, where
    there are few, are too short a run, and adding takes up to seventeen times as long; a whole row
    of places is long enough.
    """
    if h.device.type != "cpu" or h.dtype.itemsize != 2 or h.shape[1] >= 64:
        return time
    row = time.expand(*time.shape[:2], 1, h.shape[3])
    return row.contiguous(memory_format=torch.channels_last)
