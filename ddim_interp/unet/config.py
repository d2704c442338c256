"""What does a UNet's config.json say, and can a network be built from it?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from ddim_interp.unet.plan import (
    DOWN_KINDS,
    UP_KINDS,
    BlockPlan,
    Kind,
    Sampler,
    few_groups,
    plan_down,
    plan_up,
)
from ddim_interp.unet.rules import (
    Rule,
    flag,
    number,
    one_of,
    optional,
    pair_or_one,
    several,
    whole,
)
from ddim_interp.unet.strict_config import StrictConfig

__all__ = ["UNetConfig"]

ACTIVATIONS = ("silu", "swish", "mish", "gelu", "relu")

_MOST_BLOCKS = 16
_LEGACY_PREFIX = "UNetRes"  # configs of 2022 write UNetResDownBlock2D
_channels = whole(1, 65536)


def _block_types(kinds: Mapping[str, Kind]) -> Rule:
    names = one_of(kinds)
    known = Rule(
        names.wants,
        lambda v: isinstance(v, str) and names.holds(v.removeprefix(_LEGACY_PREFIX)),
    )
    return several(known, _MOST_BLOCKS)


def _kinds(kinds: Mapping[str, Kind], names: Iterable[str], sampler: Sampler) -> list[Kind]:
    """Kinds by name; AttnDownBlock2D and AttnUpBlock2D, and no others, let the config choose."""
    chosen = [kinds[name.removeprefix(_LEGACY_PREFIX)] for name in names]
    open_to_choice = Kind(attention=True, sampler="conv")
    return [open_to_choice._replace(sampler=sampler) if k == open_to_choice else k for k in chosen]


_RULES = {
    "sample_size": optional(pair_or_one(whole(1, 65536))),
    "in_channels": _channels,
    "out_channels": _channels,
    "center_input_sample": flag,
    "time_embedding_type": one_of(("positional", "fourier", "learned")),
    "time_embedding_dim": optional(_channels),
    "freq_shift": number(0, 65536),
    "flip_sin_to_cos": flag,
    "down_block_types": _block_types(DOWN_KINDS),
    "mid_block_type": optional(one_of(("UNetMidBlock2D",))),
    "up_block_types": _block_types(UP_KINDS),
    "block_out_channels": several(_channels, _MOST_BLOCKS),
    "layers_per_block": whole(1, 64),
    "mid_block_scale_factor": number(1e-6, 1e6),
    "downsample_padding": whole(0, 1),
    "downsample_type": one_of(("conv", "resnet")),
    "upsample_type": one_of(("conv", "resnet")),
    "dropout": number(0, 1),
    "act_fn": one_of(ACTIVATIONS),
    "attention_head_dim": optional(_channels),
    "norm_num_groups": optional(_channels),
    "attn_norm_num_groups": optional(_channels),
    "norm_eps": number(0, 1),
    "resnet_time_scale_shift": one_of(("default", "scale_shift")),
    "add_attention": flag,
    "class_embed_type": optional(one_of(("timestep", "identity"))),
    "num_class_embeds": optional(whole(1, 10**7)),
    "num_train_timesteps": optional(whole(1, 10**7)),
}


@dataclass(frozen=True)
class UNetConfig(StrictConfig):
    """Everything that decides a UNet's layers: the contents of `unet/config.json`.

    Names, meanings and defaults are those of diffusers' `UNet2DModel`, so its files are read and
    ours are read by it. An instance that exists can be built: wrong types, absurd sizes, lists that
    do not match and values that have no implementation here are refused.

    Attributes:
        sample_size: Side of the pictures the network was trained on, or (height, width), in pixels.
        in_channels: Channels of a picture.
        out_channels: Channels of the prediction.
        center_input_sample: Pictures come in [0, 1] and are first carried to [-1, 1].
        time_embedding_type: How a timestep becomes a vector: by sines of fixed ("positional") or
            random ("fourier") frequencies, or by a "learned" table.
        time_embedding_dim: Width of that vector after its MLP; null means 4 × the first block's.
        freq_shift: Shortens the ladder of positional frequencies: 0, or 1 as in Ho et al. (2020).
        flip_sin_to_cos: Positional vectors hold cosines first, then sines.
        down_block_types: Blocks from full resolution to the coarsest.
        mid_block_type: The block at the bottom, or null for none.
        up_block_types: Blocks from the coarsest back to full resolution.
        block_out_channels: Width of each block, the finest first.
        layers_per_block: ResNets in a block going down; going up there is one more.
        mid_block_scale_factor: The middle's residual sums are divided by this.
        downsample_padding: Zeros around a halving convolution: 1 on each side, or 0 for right and
            bottom only, as in Ho et al. (2020).
        downsample_type: How AttnDownBlock2D halves: "conv", or by a "resnet".
        upsample_type: How AttnUpBlock2D doubles.
        dropout: Share of activations dropped in each ResNet while training.
        act_fn: Activation in the ResNets.
        attention_head_dim: Channels of one attention head; null means a single head.
        norm_num_groups: Groups of each group norm. Skip blocks have a rule of their own, and null
            extends it to the rest of a network that has no others.
        attn_norm_num_groups: Groups of the norm before the middle's attention; null means
            `norm_num_groups`, or no norm at all with "scale_shift".
        norm_eps: Added to the variance in each group norm.
        resnet_time_scale_shift: The timestep's vector is added to the activations ("default"), or
            scales and shifts them ("scale_shift").
        add_attention: The middle has attention.
        class_embed_type: Class labels are embedded like a "timestep" or taken as vectors
            ("identity"); null means by a table, if `num_class_embeds` is set.
        num_class_embeds: Rows of that table.
        num_train_timesteps: Rows of the "learned" table of timesteps.

    Raises:
        ModelError: No network can be built from these values.

    Example:
        >>> config = UNetConfig(block_out_channels=(32, 64, 64, 64))
        >>> config.halvings, config.time_channels
        (3, 128)
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 3
    out_channels: int = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "fourier", "learned"] = "positional"
    time_embedding_dim: int | None = None
    freq_shift: float = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    mid_block_scale_factor: float = 1
    downsample_padding: int = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: float = 0.0
    act_fn: str = "silu"
    attention_head_dim: int | None = 8
    norm_num_groups: int | None = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: Literal["timestep", "identity"] | None = None
    num_class_embeds: int | None = None
    num_train_timesteps: int | None = None

    network: ClassVar[str] = "UNet2DModel"
    rules: ClassVar[Mapping[str, Rule]] = _RULES
    unknown: ClassVar[str] = "remove it, or use a model that is not conditioned on text"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_a_level("down_block_types")
        self._one_a_level("up_block_types")
        self._check_embeddings()
        self._check_skips()
        self._check_norms()
        self._check_attention()

    @property
    def time_channels(self) -> int:
        """Width of the embedded timestep that every ResNet reads."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    @cached_property
    def down_plan(self) -> tuple[BlockPlan, ...]:
        """The blocks on the way down."""
        kinds = _kinds(DOWN_KINDS, self.down_block_types, self.downsample_type)
        return plan_down(
            kinds, self.block_out_channels, self.layers_per_block, self.norm_num_groups or 0
        )

    @cached_property
    def up_plan(self) -> tuple[BlockPlan, ...]:
        """The blocks on the way up."""
        kinds = _kinds(UP_KINDS, self.up_block_types, self.upsample_type)
        return plan_up(
            kinds, self.block_out_channels, self.layers_per_block, self.norm_num_groups or 0
        )

    @property
    def mid_groups(self) -> int:
        """Groups of the norms in the middle's ResNets."""
        return self.norm_num_groups or few_groups(self.block_out_channels[-1])

    @property
    def mid_attention_groups(self) -> int | None:
        """Groups of the norm before the middle's attention, or None for no norm."""
        if self.attn_norm_num_groups is None and self.resnet_time_scale_shift == "default":
            return self.mid_groups
        return self.attn_norm_num_groups

    @property
    def out_groups(self) -> int:
        """Groups of the last norm."""
        return self.norm_num_groups or few_groups(self.block_out_channels[0])

    def _check_embeddings(self) -> None:
        if self.time_embedding_type == "learned" and self.num_train_timesteps is None:
            raise self._refusal(
                "num_train_timesteps", "time_embedding_type='learned' needs a number"
            )
        half = self.block_out_channels[0] // 2
        if self.time_embedding_type == "positional" and 0 < half <= self.freq_shift:
            raise self._refusal("freq_shift", f"it must be less than the {half} frequencies")

    def _check_skips(self) -> None:
        """Skip blocks carry a copy of the picture, which must be at the resolution they run at."""
        halving = [block.kind.sampler == "fir" for block in self.down_plan[:-1]]
        if halving != sorted(halving, reverse=True):
            raise self._refusal("down_block_types", "Skip blocks must come before all others")
        if any(halving) and self.in_channels != 3:
            raise self._refusal("in_channels", "Skip blocks know pictures of 3 channels only")
        doubling = [block.kind.sampler == "fir" for block in self.up_plan]
        if doubling != sorted(doubling):
            raise self._refusal("up_block_types", "Skip blocks must come after all others")
        if any(doubling[:-1]) and self.out_channels != 3:
            raise self._refusal("out_channels", "Skip blocks know pictures of 3 channels only")

    def _check_norms(self) -> None:
        """Groups must be equal parts of the channels."""
        norms = [("norm_num_groups", self.block_out_channels[0], self.out_groups)]
        if self.mid_block_type is not None:
            middle = self.block_out_channels[-1]
            norms.append(("norm_num_groups", middle, self.mid_groups))
            if self.add_attention and self.mid_attention_groups is not None:
                norms.append(("attn_norm_num_groups", middle, self.mid_attention_groups))
        for block in (*self.down_plan, *self.up_plan):
            key = "block_out_channels" if block.kind.sampler == "fir" else "norm_num_groups"
            for resnet in block.resnets:
                norms.append((key, resnet.channels, resnet.groups))
                norms.append((key, resnet.out_channels, resnet.out_groups))
            if block.kind.attention:
                norms.append((key, block.out_channels, block.attention_groups))
        for key, channels, groups in norms:
            if groups < 1 or channels % groups:
                raise self._refusal(
                    key,
                    f"a norm of {groups} groups cannot split {channels} channels into equal parts",
                )

    def _check_attention(self) -> None:
        widths = [b.out_channels for b in (*self.down_plan, *self.up_plan) if b.kind.attention]
        if self.mid_block_type is not None and self.add_attention:
            widths.append(self.block_out_channels[-1])
        if widths and self.attention_head_dim is not None and self.attention_head_dim > min(widths):
            raise self._refusal(
                "attention_head_dim", f"the narrowest attention has {min(widths)} channels"
            )
