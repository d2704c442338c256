"""What is a block of the U made of, and what does it hand on?

All blocks but the middle have one signature: they carry `x` along, leave its states on a stack of
`skips` or take them off, and pass on a small `image` that only Skip blocks look at.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from ddim_interp.unet.attention import Attention
from ddim_interp.unet.config import UNetConfig
from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.norm import GroupNorm
from ddim_interp.unet.plan import BlockPlan, ResnetPlan
from ddim_interp.unet.resample import (
    Downsample2D,
    Upsample2D,
    double,
    double_smoothly,
    halve,
    halve_smoothly,
)
from ddim_interp.unet.resnet import ResnetBlock2D

__all__ = ["DownBlock", "SkipDownBlock", "SkipUpBlock", "UNetMidBlock2D", "UpBlock"]


class _Block(nn.Module):
    """What blocks share: ResNets, and attention after each, or once after all, or not at all."""

    scale = 1.0
    attends_once = False

    def __init__(self, plan: BlockPlan, config: UNetConfig) -> None:
        super().__init__()
        self.attentions = nn.ModuleList()
        self.resnets = nn.ModuleList()
        for layer, resnet in enumerate(plan.resnets, start=1):
            self.resnets.append(ResnetBlock2D(resnet, config, scale=self.scale))
            if layer == len(plan.resnets) or not self.attends_once:
                self.attentions.append(self._attention(plan, config))

    def _attention(self, plan: BlockPlan, config: UNetConfig) -> nn.Module:
        if not plan.kind.attention:
            return nn.Identity()
        channels = plan.out_channels
        head = config.attention_head_dim or channels
        return Attention(channels, head, plan.attention_groups, config.norm_eps, self.scale)

    def _resampling_resnet(
        self,
        plan: BlockPlan,
        config: UNetConfig,
        resample: Callable[[Tensor], Tensor],
        shortcut: bool | None = None,
    ) -> ResnetBlock2D:
        channels, groups = plan.out_channels, plan.resnets[-1].out_groups
        same = ResnetPlan(channels, channels, groups, groups)
        return ResnetBlock2D(same, config, scale=self.scale, resample=resample, shortcut=shortcut)


class DownBlock(_Block):
    """ResNets, then a halving: DownBlock2D, AttnDownBlock2D, ResnetDownsampleBlock2D.

    Args:
        plan: Its kind, and the channels of its ResNets.
        config: What all blocks share.
    """

    def __init__(self, plan: BlockPlan, config: UNetConfig) -> None:
        super().__init__(plan, config)
        self.downsamplers = nn.ModuleList()
        if plan.resample:
            self.downsamplers.append(
                self._resampling_resnet(plan, config, halve)
                if plan.kind.sampler == "resnet"
                else Downsample2D(plan.out_channels, config.downsample_padding)
            )

    def forward(
        self, x: Tensor, emb: Tensor, skips: list[Tensor], image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Carry x, (N, C, H, W), to (N, C_out, H/2, W/2), and leave every state on `skips`."""
        for resnet, attend in zip(self.resnets, self.attentions, strict=True):
            x = attend(resnet(x, emb))
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x, emb)
            skips.append(x)
        return x, image


class UpBlock(_Block):
    """ResNets that read skips, then a doubling: UpBlock2D, AttnUpBlock2D, ResnetUpsampleBlock2D.

    Args:
        plan: Its kind, and the channels of its ResNets.
        config: What all blocks share.
    """

    def __init__(self, plan: BlockPlan, config: UNetConfig) -> None:
        super().__init__(plan, config)
        self.upsamplers = nn.ModuleList()
        if plan.resample:
            self.upsamplers.append(
                self._resampling_resnet(plan, config, double)
                if plan.kind.sampler == "resnet"
                else Upsample2D(plan.out_channels)
            )

    def forward(
        self, x: Tensor, emb: Tensor, skips: list[Tensor], image: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Carry x, (N, C, H, W), to (N, C_out, 2H, 2W), and take one of `skips` for each ResNet."""
        for resnet, attend in zip(self.resnets, self.attentions, strict=True):
            x = attend(resnet(x, emb, skips.pop()))
        for upsample in self.upsamplers:
            x = upsample(x, emb)
        return x, image


class SkipDownBlock(_Block):
    """A DownBlock that reads the shrunken picture again: SkipDownBlock2D, AttnSkipDownBlock2D.

    Args:
        plan: Its kind, and the channels of its ResNets.
        config: What all blocks share.

    References:
        "Input skip" in Song et al. (2021), arXiv:2011.13456, appendix H (NCSN++).
    """

    scale = math.sqrt(2)

    def __init__(self, plan: BlockPlan, config: UNetConfig) -> None:
        super().__init__(plan, config)
        self.halves = plan.resample
        if self.halves:
            self.resnet_down = self._resampling_resnet(plan, config, halve_smoothly, shortcut=True)
            self.skip_conv = Conv2d(config.in_channels, plan.out_channels, 1)

    def forward(
        self, x: Tensor, emb: Tensor, skips: list[Tensor], image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Carry x and the picture, (N, 3, H, W), to half their size; leave states on `skips`."""
        for resnet, attend in zip(self.resnets, self.attentions, strict=True):
            x = attend(resnet(x, emb))
            skips.append(x)
        if self.halves:
            image = halve_smoothly(image)
            x = self.resnet_down(x, emb) + self.skip_conv(image)
            skips.append(x)
        return x, image


class SkipUpBlock(_Block):
    """An UpBlock that adds its part to a growing picture: SkipUpBlock2D, AttnSkipUpBlock2D.

    Args:
        plan: Its kind, and the channels of its ResNets.
        config: What all blocks share.

    References:
        "Output skip" in Song et al. (2021), arXiv:2011.13456, appendix H (NCSN++).
    """

    scale = math.sqrt(2)
    attends_once = True

    def __init__(self, plan: BlockPlan, config: UNetConfig) -> None:
        super().__init__(plan, config)
        self.doubles = plan.resample
        if self.doubles:
            channels, groups = plan.out_channels, plan.resnets[-1].out_groups
            self.resnet_up = self._resampling_resnet(plan, config, double_smoothly, shortcut=True)
            self.skip_conv = Conv2d(channels, config.out_channels, 3, padding=1)
            self.skip_norm = GroupNorm(groups, channels, config.norm_eps)

    def forward(
        self, x: Tensor, emb: Tensor, skips: list[Tensor], image: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Carry x, (N, C, H, W), to twice its size; double the picture and add its part to it."""
        for resnet in self.resnets:
            x = resnet(x, emb, skips.pop())
        x = self.attentions[0](x)
        if image is not None:
            image = double_smoothly(image)
        if self.doubles:
            part = self.skip_conv(self.skip_norm(x, silu=True))
            image = part if image is None else image + part
            x = self.resnet_up(x, emb)
        return x, image


class UNetMidBlock2D(nn.Module):
    """The bottom of the U: a ResNet, attention, and another ResNet.

    Args:
        config: What all blocks share.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels[-1], config.mid_groups
        plan = ResnetPlan(channels, channels, groups, groups)
        scale = config.mid_block_scale_factor
        self.attentions = nn.ModuleList()
        self.resnets = nn.ModuleList([ResnetBlock2D(plan, config, scale=scale)])
        self.attentions.append(
            Attention(
                channels,
                config.attention_head_dim or channels,
                config.mid_attention_groups,
                config.norm_eps,
                scale,
            )
            if config.add_attention
            else nn.Identity()
        )
        self.resnets.append(ResnetBlock2D(plan, config, scale=scale))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Carry x, (N, C, H, W), to the same shape."""
        first, second = self.resnets
        x = self.attentions[0](first(x, emb))
        x = second(x, emb)
        return x
