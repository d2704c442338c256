"""Which blocks make up the U, and how many channels run through each of their ResNets?

Going down, every block leaves the state after each of its ResNets, and after its halving, on a
stack; going up, every ResNet takes one of them off and reads it beside its own input. Running
that stack with channel numbers instead of tensors gives every layer's width, without torch.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = [
    "DOWN_KINDS",
    "UP_KINDS",
    "BlockPlan",
    "Kind",
    "ResnetPlan",
    "Sampler",
    "few_groups",
    "plan_down",
    "plan_up",
]

Sampler = Literal["conv", "resnet", "fir"]


class Kind(NamedTuple):
    """What tells one type of block from another.

    Attributes:
        attention: Self-attention follows the ResNets.
        sampler: How the block changes resolution: by a strided or upsampled convolution, by a
            ResNet that resamples inside, or by such a ResNet with a smoothing filter, beside which
            a small copy of the picture itself runs along ("fir", the Skip blocks of NCSN++).
    """

    attention: bool
    sampler: Sampler


DOWN_KINDS = {
    "DownBlock2D": Kind(attention=False, sampler="conv"),
    "AttnDownBlock2D": Kind(attention=True, sampler="conv"),
    "ResnetDownsampleBlock2D": Kind(attention=False, sampler="resnet"),
    "SkipDownBlock2D": Kind(attention=False, sampler="fir"),
    "AttnSkipDownBlock2D": Kind(attention=True, sampler="fir"),
}
UP_KINDS = {
    "UpBlock2D": Kind(attention=False, sampler="conv"),
    "AttnUpBlock2D": Kind(attention=True, sampler="conv"),
    "ResnetUpsampleBlock2D": Kind(attention=False, sampler="resnet"),
    "SkipUpBlock2D": Kind(attention=False, sampler="fir"),
    "AttnSkipUpBlock2D": Kind(attention=True, sampler="fir"),
}


class ResnetPlan(NamedTuple):
    """Channels into and out of one ResNet, and the groups that its two norms split them into."""

    channels: int
    out_channels: int
    groups: int
    out_groups: int


class BlockPlan(NamedTuple):
    """One block: its ResNets in order, and whether it changes resolution after them."""

    kind: Kind
    resnets: tuple[ResnetPlan, ...]
    resample: bool

    @property
    def out_channels(self) -> int:
        return self.resnets[-1].out_channels

    @property
    def attention_groups(self) -> int:
        """Groups of the norm before attention; NCSN++ fixes them."""
        return 32 if self.kind.sampler == "fir" else self.resnets[-1].out_groups


def few_groups(channels: int) -> int:
    """NCSN++'s rule: groups of four channels, but no more than 32 groups."""
    return min(channels // 4, 32)


def plan_down(
    kinds: Sequence[Kind], channels: Sequence[int], layers: int, groups: int
) -> tuple[BlockPlan, ...]:
    """Plan the way down, from full resolution to the middle.

    Args:
        kinds: Kind of each block.
        channels: Width of each block.
        layers: ResNets in a block.
        groups: Groups of each norm, where the kind does not fix them.

    Returns:
        One plan a block. All but the last halve the resolution.

    Example:
        >>> for block in plan_down([DOWN_KINDS["DownBlock2D"]] * 2, (32, 64), 2, 8):
        ...     print([(resnet.channels, resnet.out_channels) for resnet in block.resnets])
        [(32, 32), (32, 32)]
        [(32, 64), (64, 64)]
    """
    blocks: list[BlockPlan] = []
    x = channels[0]
    for kind, out in zip(kinds, channels, strict=True):
        resnets = []
        for _ in range(layers):
            if kind.sampler == "fir":
                resnets.append(ResnetPlan(x, out, few_groups(x), few_groups(out)))
            else:
                resnets.append(ResnetPlan(x, out, groups, groups))
            x = out
        blocks.append(BlockPlan(kind, tuple(resnets), resample=len(blocks) < len(kinds) - 1))
    return tuple(blocks)


def plan_up(
    kinds: Sequence[Kind], channels: Sequence[int], layers: int, groups: int
) -> tuple[BlockPlan, ...]:
    """Plan the way up, from the middle to full resolution.

    Args:
        kinds: Kind of each block, in the order they run: the coarsest first.
        channels: Width of each block on the way *down*: the finest first.
        layers: ResNets in a block on the way down; a block has one more on the way up.
        groups: Groups of each norm, where the kind does not fix them.

    Returns:
        One plan a block. All but the last double the resolution.

    Example:
        >>> for block in plan_up([UP_KINDS["UpBlock2D"]] * 2, (32, 64), 2, 8):
        ...     print([(resnet.channels, resnet.out_channels) for resnet in block.resnets])
        [(128, 64), (128, 64), (96, 64)]
        [(96, 32), (64, 32), (64, 32)]
    """
    skips = [channels[0]]  # the first convolution's output
    for out in channels:
        skips += [out] * (layers + 1)
    skips.pop()  # the coarsest block does not halve

    blocks: list[BlockPlan] = []
    x = channels[-1]
    for kind, out in zip(kinds, reversed(channels), strict=True):
        resnets = []
        for _ in range(layers + 1):
            skip = skips.pop()
            if kind.sampler != "fir":
                split = (groups, groups)
            elif kind.attention:  # checkpoints were trained with this operator precedence
                split = (min(x + skip // 4, 32), few_groups(out))
            else:
                split = (few_groups(x + skip), few_groups(out))
            resnets.append(ResnetPlan(x + skip, out, *split))
            x = out
        blocks.append(BlockPlan(kind, tuple(resnets), resample=len(blocks) < len(kinds) - 1))
    return tuple(blocks)
