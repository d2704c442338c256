"""The U-Net of lucidrains' denoising-diffusion-pytorch, which `UNet2DModel` cannot express.

It normalises each pixel's channels rather than groups of them, halves by folding 2×2 pixels into
channels, and attends in linear time at fine levels, with a few learned keys and values beside those
of the picture. Modules are named as in its checkpoints.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.errors import ArgumentError
from ddim_interp.shapes import Images
from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.doubling import DoublingConv2d
from ddim_interp.unet.rules import Rule, even, flag, pair_or_one, several, whole
from ddim_interp.unet.strict_config import StrictConfig

__all__ = ["LucidConfig", "LucidUnet"]

_channels = whole(1, 65536)
_RULES: dict[str, Rule] = {
    "sample_size": pair_or_one(_channels),
    "in_channels": _channels,
    "out_channels": _channels,
    "init_channels": _channels,
    "time_channels": even(4, 65536),  # as many sines as cosines
    "block_out_channels": several(_channels, 16),
    "full_attention": several(flag, 16),
    "heads": whole(1, 1024),
    "head_channels": _channels,
    "memory": whole(0, 1024),
}


@dataclass(frozen=True)
class LucidConfig(StrictConfig):
    """Everything that decides a `LucidUnet`'s layers: the contents of its `unet/config.json`.

    Args:
        sample_size: Side of the pictures, or (height, width), in pixels.
        in_channels: Channels of a picture.
        out_channels: Channels of the prediction.
        init_channels: Width after the first convolution.
        time_channels: Sines and cosines a timestep is spread over.
        block_out_channels: Width after each level, the finest first.
        full_attention: For each level, whether its attention is quadratic rather than linear.
        heads: Heads of every attention.
        head_channels: Channels of each.
        memory: Learned keys and values beside the picture's.

    Raises:
        ModelError: No network can be built from these values.
    """

    sample_size: int | tuple[int, int] = 128
    in_channels: int = 3
    out_channels: int = 3
    init_channels: int = 64
    time_channels: int = 64
    block_out_channels: tuple[int, ...] = (64, 128, 256, 512)
    full_attention: tuple[bool, ...] = (False, False, False, True)
    heads: int = 4
    head_channels: int = 32
    memory: int = 4

    network: ClassVar[str] = "LucidUnet"
    rules: ClassVar[Mapping[str, Rule]] = _RULES
    num_class_embeds: ClassVar[None] = None
    class_embed_type: ClassVar[None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_a_level("full_attention")


class LucidUnet(nn.Module):
    """A U-shaped network from a noisy picture and its timestep to a prediction of the same size.

    Args:
        **options: The fields of `LucidConfig`.

    Attributes:
        config: The options, checked and complete.

    Raises:
        ModelError: No network can be built from these options.

    References:
        Ho et al. (2020), arXiv:2006.11239; linear attention: Shen et al. (2018), Efficient
        attention, arXiv:1812.01243; norm: Zhang & Sennrich (2019), arXiv:1910.07467.

    Example:
        >>> unet = LucidUnet(block_out_channels=(8, 16), full_attention=(False, True))
        >>> unet(torch.zeros(2, 3, 16, 24), torch.tensor([0.0, 999.5])).shape
        torch.Size([2, 3, 16, 24])
    """

    class_embedding = None

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.config = config = LucidConfig.from_mapping(options, "LucidUnet")
        time = 4 * config.time_channels
        widths = (config.init_channels, *config.block_out_channels)
        levels = list(zip(widths, widths[1:], config.full_attention, strict=False))

        self.init_conv = Conv2d(config.in_channels, widths[0], 7, padding=3)
        self.time_mlp = nn.Sequential(
            nn.Identity(),  # where the sinusoids, which have no weights, are in checkpoints
            nn.Linear(config.time_channels, time),
            nn.GELU(),
            nn.Linear(time, time),
        )
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for width, out, full in levels:
            last = len(self.downs) == config.halvings
            self.downs.append(
                nn.ModuleList(
                    [
                        _Resnet(width, width, time),
                        _Resnet(width, width, time),
                        _Attention(width, config, full),
                        Conv2d(width, out, 3, padding=1)
                        if last
                        else nn.Sequential(nn.PixelUnshuffle(2), Conv2d(4 * width, out, 1)),
                    ]
                )
            )
        bottom = widths[-1]
        self.mid_block1 = _Resnet(bottom, bottom, time)
        self.mid_attn = _Attention(bottom, config, full=True)
        self.mid_block2 = _Resnet(bottom, bottom, time)
        for width, out, full in reversed(levels):
            last = len(self.ups) == config.halvings
            self.ups.append(
                nn.ModuleList(
                    [
                        _Resnet(out + width, out, time),
                        _Resnet(out + width, out, time),
                        _Attention(out, config, full),
                        Conv2d(out, width, 3, padding=1)
                        if last
                        else nn.Sequential(nn.Identity(), DoublingConv2d(out, width)),
                    ]
                )
            )
        self.final_res_block = _Resnet(2 * widths[0], widths[0], time)
        self.final_conv = Conv2d(widths[0], config.out_channels, 1)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, and so of the pictures that `forward` takes."""
        return self.init_conv.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.init_conv.weight.device

    def forward(
        self, sample: Images, timestep: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """Predict, for each picture, what the network was trained to predict.

        Args:
            sample: Noisy pictures, (N, in_channels, H, W), in the dtype of the weights.
            timestep: How noisy they are: one number, or (N,); fractions are meant as such.
            class_labels: None: these networks know no classes.

        Returns: Predictions, (N, out_channels, H, W), in the dtype of `sample`.

        Raises:
            ArgumentError: Class labels were given.
        """
        if class_labels is not None:
            raise ArgumentError("class_labels mean nothing to this network; drop them.")
        if not len(sample):  # which torch's PixelUnshuffle would leave as large as it is
            return sample.new_empty((0, self.config.out_channels, *sample.shape[2:]))
        emb = self.time_mlp(self._spread(sample, timestep))
        x: Tensor = self.init_conv(sample)
        first = x
        skips: list[Tensor] = []
        for one, two, attend, resample in map(_layers, self.downs):
            skips.append(x := one(x, emb))
            skips.append(x := attend(two(x, emb)))
            x = resample(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, emb)), emb)
        for one, two, attend, resample in map(_layers, self.ups):
            x = one(torch.cat((x, skips.pop()), dim=1), emb)
            x = attend(two(torch.cat((x, skips.pop()), dim=1), emb))
            x = resample(x)
        x = self.final_conv(self.final_res_block(torch.cat((x, first), dim=1), emb))
        return x

    def _spread(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        """Sines and cosines of the timesteps, (N, time_channels), made in float32."""
        t = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device)
        half = self.config.time_channels // 2
        ladder = torch.arange(half, dtype=torch.float32, device=sample.device)
        angles = t.expand(len(sample))[:, None] * torch.exp(
            ladder * -(math.log(10000) / (half - 1))
        )
        return torch.cat((angles.sin(), angles.cos()), dim=1).to(sample.dtype)


def _layers(level: nn.Module) -> list[nn.Module]:
    """Two ResNets, attention, and what changes the resolution."""
    return list(level.children())


class _Norm(nn.Module):
    """Each pixel's channels, brought to root mean square 1 and weighted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5
        return y


class _Block(nn.Module):
    """A convolution, a norm, and perhaps the timestep's scale and shift."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = Conv2d(channels, out, 3, padding=1)
        self.norm = _Norm(out)

    def forward(
        self, x: Tensor, scale: Tensor | float = 0.0, shift: Tensor | float = 0.0
    ) -> Tensor:
        return F.silu(self.norm(self.proj(x)) * (scale + 1) + shift)


class _Resnet(nn.Module):
    """Two blocks, the first of which is told the timestep, and a way past them."""

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out))
        self.block1, self.block2 = _Block(channels, out), _Block(out, out)
        self.res_conv = nn.Identity() if channels == out else Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.mlp(emb)[:, :, None, None].chunk(2, dim=1)
        y: Tensor = self.block2(self.block1(x, scale, shift)) + self.res_conv(x)
        return y


class _Attention(nn.Module):
    """Self-attention added to its input: quadratic, or linear in the number of pixels.

    full    softmax(q kᵀ / √d) v
    linear  softmax_d(q) / √d · (softmax_n(k)ᵀ v)
    """

    def __init__(self, channels: int, config: LucidConfig, full: bool) -> None:
        super().__init__()
        self.full, heads, d, memory = full, config.heads, config.head_channels, config.memory
        self.norm = _Norm(channels)
        self.mem_kv = nn.Parameter(
            torch.randn(2, heads, memory, d) if full else torch.randn(2, heads, d, memory)
        )
        self.to_qkv = Conv2d(channels, 3 * heads * d, 1, bias=False)
        to_out = Conv2d(heads * d, channels, 1)
        self.to_out = to_out if full else nn.Sequential(to_out, _Norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.mem_kv.shape[1]
        parts = self.to_qkv(self.norm(x)).flatten(2).chunk(3, dim=1)
        q, k, v = (part.unflatten(1, (heads, -1)) for part in parts)  # (N, heads, d, HW)
        learned = self.mem_kv.transpose(2, 3) if self.full else self.mem_kv
        more = learned[:, None].expand(-1, len(x), -1, -1, -1)
        k, v = torch.cat((more[0], k), dim=3), torch.cat((more[1], v), dim=3)
        if self.full:
            q, k, v = (part.transpose(2, 3) for part in (q, k, v))
            seen = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)
        else:
            context = k.softmax(dim=3) @ v.transpose(2, 3)  # (N, heads, d, d)
            seen = context.transpose(2, 3) @ (q.softmax(dim=2) * q.shape[2] ** -0.5)
        y: Tensor = self.to_out(seen.reshape(len(x), -1, *x.shape[2:])) + x
        return y
