"""The U-Net of OpenAI's improved- and guided-diffusion, where `UNet2DModel` cannot express it.

Most of their checkpoints are a `UNet2DModel` under other names, and become one. Two kinds are not:
those with as many heads in wide attention layers as in narrow ones, so that heads are of several
sizes; and those whose timestep is spread over more channels than the first level has. Modules are
named as in their checkpoints: layers are numbered through.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.shapes import Images
from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.doubling import DoublingConv2d
from ddim_interp.unet.embedding import Positional
from ddim_interp.unet.fused import kernels_for, residual
from ddim_interp.unet.norm import GroupNorm
from ddim_interp.unet.remembered import remembering
from ddim_interp.unet.resample import double, halve
from ddim_interp.unet.rules import Rule, flag, optional, pair_or_one, several, whole
from ddim_interp.unet.strict_config import StrictConfig

__all__ = ["AdmConfig", "AdmUnet"]

_GROUPS = 32

_channels = whole(1, 65536)
_RULES: dict[str, Rule] = {
    "sample_size": pair_or_one(_channels),
    "in_channels": _channels,
    "out_channels": _channels,
    "time_channels": whole(2, 65536),
    "block_out_channels": several(_channels, 16),
    "attention": several(flag, 16),
    "layers_per_block": whole(1, 64),
    "num_heads": optional(_channels),
    "num_head_channels": optional(_channels),
    "new_attention_order": flag,
    "scale_shift": flag,
    "resampling_resnets": flag,
    "num_class_embeds": optional(whole(1, 1_000_000)),
}


@dataclass(frozen=True)
class AdmConfig(StrictConfig):
    """Everything that decides an `AdmUnet`'s layers: the contents of its `unet/config.json`.

    Args:
        sample_size: Side of the pictures, or (height, width), in pixels.
        in_channels: Channels of a picture.
        out_channels: Channels of the prediction; twice as many with a learned variance.
        time_channels: Sines and cosines a timestep is spread over.
        block_out_channels: Width of each level, the finest first.
        attention: For each level, whether its ResNets are followed by attention.
        layers_per_block: ResNets in a level going down; going up there is one more.
        num_heads: Heads of every attention, whatever its width; or
        num_head_channels: channels of every head. One of the two is given.
        new_attention_order: Whether fused weights are cut into q, k and v before heads.
        scale_shift: Whether the timestep scales and shifts activations, or is added to them.
        resampling_resnets: Whether a ResNet changes the resolution, or a convolution.
        num_class_embeds: Rows of the table of classes, if there is one.

    Raises:
        ModelError: No network can be built from these values.
    """

    network: ClassVar[str] = "AdmUnet"
    rules: ClassVar[Mapping[str, Rule]] = _RULES
    class_embed_type: ClassVar[None] = None

    sample_size: int | tuple[int, int] = 64
    in_channels: int = 3
    out_channels: int = 6
    time_channels: int = 128
    block_out_channels: tuple[int, ...] = (128, 256, 384, 512)
    attention: tuple[bool, ...] = (False, False, True, True)
    layers_per_block: int = 3
    num_heads: int | None = None
    num_head_channels: int | None = None
    new_attention_order: bool = False
    scale_shift: bool = True
    resampling_resnets: bool = False
    num_class_embeds: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_a_level("attention")
        if (self.num_heads is None) == (self.num_head_channels is None):
            raise ModelError(
                f"num_heads={self.num_heads} and num_head_channels={self.num_head_channels} say "
                "one thing in two ways; give one of them, and one only."
            )
        for width in self.block_out_channels:
            if width % _GROUPS:
                raise ModelError(
                    f"A level of {width} channels cannot be split into {_GROUPS} groups; give "
                    f"multiples of {_GROUPS}."
                )
        widths = zip(self.block_out_channels, self.attention, strict=True)
        for width in [width for width, attends in widths if attends] + [self.widest]:
            if width % (self.num_heads or self.num_head_channels or 1):
                raise ModelError(
                    f"Attention of {width} channels cannot be cut into equal heads by num_heads="
                    f"{self.num_heads}, num_head_channels={self.num_head_channels}; correct them."
                )

    @property
    def widest(self) -> int:
        """Channels of the coarsest level, and of the middle."""
        return self.block_out_channels[-1]


class AdmUnet(nn.Module):
    """A U-shaped network from a noisy picture and its timestep to a prediction of the same size.

    Args:
        **options: The fields of `AdmConfig`.

    Attributes:
        config: The options, checked and complete.

    Raises:
        ModelError: No network can be built from these options.

    References:
        Nichol & Dhariwal (2021), Improved denoising diffusion probabilistic models,
        arXiv:2102.09672; Dhariwal & Nichol (2021), Diffusion models beat GANs, arXiv:2105.05233.

    Example:
        >>> unet = AdmUnet(block_out_channels=(32, 64), attention=(False, True), num_heads=2)
        >>> unet(torch.zeros(2, 3, 16, 24), torch.tensor([0.0, 999.5])).shape
        torch.Size([2, 6, 16, 24])
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.config = config = AdmConfig.from_mapping(options, "AdmUnet")
        time = 4 * config.time_channels
        widths = config.block_out_channels
        self.time_proj = Positional(config.time_channels, 0, True)
        self.time_embed = nn.Sequential(
            nn.Linear(config.time_channels, time), nn.SiLU(), nn.Linear(time, time)
        )
        if config.num_class_embeds is not None:
            self.label_emb = nn.Embedding(config.num_class_embeds, time)

        self.input_blocks = nn.ModuleList(
            [_Stage([Conv2d(config.in_channels, widths[0], 3, padding=1)])]
        )
        self.output_blocks = nn.ModuleList()
        x, skips = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(config.layers_per_block):
                self.input_blocks.append(_Stage([_Resnet(x, width, config), *self._attend(level)]))
                skips.append(x := width)
            if level < config.halvings:
                down = _Resnet(x, x, config, halve) if config.resampling_resnets else _Halving(x)
                self.input_blocks.append(_Stage([down]))
                skips.append(x)
        self.middle_block = _Stage(
            [_Resnet(x, x, config), _Attention(x, config), _Resnet(x, x, config)]
        )
        for level, width in reversed([*enumerate(widths)]):
            for layer in range(config.layers_per_block + 1):
                layers = [_Resnet(x + skips.pop(), width, config), *self._attend(level)]
                x = width
                if level and layer == config.layers_per_block:
                    layers.append(
                        _Resnet(x, x, config, double) if config.resampling_resnets else _Doubling(x)
                    )
                self.output_blocks.append(_Stage(layers))
        last = Conv2d(x, config.out_channels, 3, padding=1)
        self.out = nn.Sequential(GroupNorm(_GROUPS, x), nn.SiLU(), last)

    def _attend(self, level: int) -> list[nn.Module]:
        """The attention of a level, if it has any."""
        width = self.config.block_out_channels[level]
        return [_Attention(width, self.config)] if self.config.attention[level] else []

    @property
    def class_embedding(self) -> nn.Module | None:
        """The table of classes, if there is one."""
        return None if self.config.num_class_embeds is None else self.label_emb

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, and so of the pictures that `forward` takes."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(
        self, sample: Images, timestep: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """Predict, for each picture, what the network was trained to predict.

        Args:
            sample: Noisy pictures, (N, in_channels, H, W), in the dtype of the weights.
            timestep: How noisy they are: one number, or (N,); fractions are meant as such.
            class_labels: What they show, (N,), for a network with classes.

        Returns: Predictions, (N, out_channels, H, W), in the dtype of `sample`.

        Raises:
            ArgumentError: Class labels are missing, or mean nothing here.
        """
        if (class_labels is None) != (self.class_embedding is None):
            raise ArgumentError(
                "class_labels are for networks that were trained with classes, and those need "
                f"them; {'drop' if self.class_embedding is None else 'give'} them here."
            )
        t = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device)
        emb = self.time_embed(self.time_proj(t.expand(len(sample))).to(sample.dtype))
        if class_labels is not None:
            emb = emb + self.label_emb(class_labels)
        emb = F.silu(emb)
        with remembering(self, sample):
            x: Tensor = sample
            skips = [x := stage(x, emb) for stage in self.input_blocks]
            x = self.middle_block(x, emb)
            for stage in self.output_blocks:
                x = stage(x, emb, skips.pop())
            x = self.out(x)
        return x


class _Stage(nn.ModuleList):
    """Layers one after the other, of which ResNets are told the timestep."""

    def forward(self, x: Tensor, emb: Tensor, skip: Tensor | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, _Resnet):
                x, skip = layer(x, emb, skip), None
            else:
                x = layer(x)
        return x


class _Halving(nn.Module):
    """A convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class _Doubling(nn.Module):
    """Each value four times, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = DoublingConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class _Resnet(nn.Module):
    """Two convolutions around the timestep, and a way past them; `unet.ResnetBlock2D`, renamed.

    The activation of the timestep's vector, `emb_layers.0`, is done once for all of them.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        config: AdmConfig,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.resample, self.scale_shift = resample, config.scale_shift
        told = 2 * out if config.scale_shift else out
        self.in_layers = nn.Sequential(
            GroupNorm(_GROUPS, channels), nn.SiLU(), Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.Identity(), nn.Linear(4 * config.time_channels, told))
        self.out_layers = nn.Sequential(
            GroupNorm(_GROUPS, out), nn.SiLU(), nn.Identity(), Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out else Conv2d(channels, out, 1)

    def forward(self, x: Tensor, emb: Tensor, skip: Tensor | None = None) -> Tensor:
        (norm, act, conv), told = self.in_layers, self.emb_layers(emb)
        if kernels := kernels_for(x):
            norms: Any = norm, self.out_layers[0]
            past = self.skip_connection if isinstance(self.skip_connection, Conv2d) else None
            convolutions: Any = conv, self.out_layers[-1], past
            return residual(
                kernels, x, told, norms, convolutions, skip, self.resample, self.scale_shift
            )
        if skip is not None:
            x = torch.cat((x, skip), dim=1)
        h = act(norm(x))
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h, told = conv(h), told[:, :, None, None]
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + told)
        for layer in rest:
            h = layer(h)
        y: Tensor = self.skip_connection(x) + h
        return y


class _Attention(nn.Module):
    """Self-attention over pixels, added to its input; `unet.Attention` with fused weights."""

    def __init__(self, channels: int, config: AdmConfig) -> None:
        super().__init__()
        self.heads = config.num_heads or channels // (config.num_head_channels or channels)
        self.new_order = config.new_attention_order
        self.norm = GroupNorm(_GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        fused = self.qkv(self.norm(x).flatten(2))
        if self.new_order:  # by kind, and then by head
            parts = fused.unflatten(1, (3, self.heads, -1)).movedim(1, 0)
        else:  # by head, and then by kind
            parts = fused.unflatten(1, (self.heads, 3, -1)).movedim(2, 0)
        q, k, v = parts.mT  # (N, heads, HW, d) each
        seen = F.scaled_dot_product_attention(q, k, v).mT.flatten(1, 2)
        y: Tensor = x + self.proj_out(seen).view_as(x)
        return y
