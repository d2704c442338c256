"""Checkpoints of OpenAI's improved-diffusion and guided-diffusion.

A file is a state dict whose layers are numbered through: `input_blocks`, `middle_block`,
`output_blocks`. `UNet2DModel` has nearly all of it: ResNets that scale and shift by the timestep,
ResNets that resample, heads of attention. Only heads are cut out of one fused matrix there, in one
of two orders; cut beforehand, they are the same numbers. What it cannot express becomes an
`AdmUnet`, under the names it came with.
"""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ddim_interp.adm import AdmConfig
from ddim_interp.convert.foreign import Foreign
from ddim_interp.convert.hints import Hints
from ddim_interp.convert.schedules import scheduler_config
from ddim_interp.errors import ModelError
from ddim_interp.unet import UNetConfig

__all__ = ["PUBLISHED", "read", "recognises"]

_IDDPM = Hints(timesteps=4000, noise_schedule="cosine", num_heads=4, rescale_timesteps=True)
_ADM_256 = Hints(image_size=256, num_head_channels=64)

PUBLISHED = {
    "cifar10_uncond_50M_500K": Hints(image_size=32).over(_IDDPM),
    "imagenet64_uncond_100M_1500K": Hints(image_size=64).over(_IDDPM),
    "lsun_uncond_100M_1200K_bs128": Hints(image_size=256, num_heads=1),
    "64x64_diffusion": Hints(
        image_size=64, noise_schedule="cosine", num_head_channels=64, use_new_attention_order=True
    ),
    "128x128_diffusion": Hints(image_size=128, num_heads=4),
    "256x256_diffusion": _ADM_256,
    "256x256_diffusion_uncond": _ADM_256,
    "512x512_diffusion": Hints(image_size=512, num_head_channels=64),
    "lsun_bedroom": _ADM_256,
    "lsun_cat": _ADM_256,
    "lsun_horse": _ADM_256,
}
"""The checkpoints in the two READMEs, by file name."""

# What tells them apart if the file was renamed: widths of the levels, and ResNets in each.
_BY_SHAPE = {
    ((128, 256, 256, 256), 3): "cifar10_uncond_50M_500K",
    ((128, 256, 384, 512), 3): "imagenet64_uncond_100M_1500K",
    ((128, 128, 256, 256, 512, 512), 2): "lsun_uncond_100M_1200K_bs128",
    ((192, 384, 576, 768), 3): "64x64_diffusion",
    ((256, 256, 512, 768, 1024), 2): "128x128_diffusion",
    ((256, 256, 512, 512, 1024, 1024), 2): "256x256_diffusion_uncond",
    ((128, 256, 256, 512, 512, 1024, 1024), 2): "512x512_diffusion",
}


def recognises(names: Collection[str]) -> bool:
    """Whether blocks are numbered through, down and up."""
    return {"input_blocks.0.0.weight", "middle_block.1.qkv.weight"} <= {*names} and any(
        name.startswith("output_blocks.") for name in names
    )


def read(tensors: Mapping[str, Tensor], source: str, hints: Hints) -> Foreign:
    """Count the layers, cut attention into heads, and give the weights their names here.

    Raises:
        ModelError: Layers are missing, it enlarges pictures and does not draw them, or nobody said
            what the weights do not tell.
    """
    shape = _Shape(tensors, source)
    known = _BY_SHAPE.get((shape.widths, shape.layers))
    guessed = known if hints.image_size is None else None
    hints = hints.over(PUBLISHED[known] if known else Hints())
    head = _head_channels(shape, hints, source)
    if hints.image_size is None:
        raise ModelError(
            f"{source} does not say how large its pictures are, and is not one of the published "
            "checkpoints; add --config image_size=64, or what it is, with num_heads=4 or "
            "num_head_channels=64 and noise_schedule=cosine if it differs."
        )
    if head is None or shape.time_channels != shape.widths[0]:
        return Foreign(
            _as_it_is(shape, hints, hints.image_size),
            scheduler_config(hints, source),
            tensors,
            known=guessed,
        )
    config = UNetConfig(
        sample_size=hints.image_size,
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        down_block_types=shape.block_types("Down", "Downsample"),
        up_block_types=shape.block_types("Up", "Upsample"),
        block_out_channels=shape.widths,
        layers_per_block=shape.layers,
        downsample_type="resnet" if shape.resampling_resnets else "conv",
        upsample_type="resnet" if shape.resampling_resnets else "conv",
        attention_head_dim=head,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift" if shape.scale_shift else "default",
        num_class_embeds=shape.classes,
    )
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = shape.renamed(name)
        if ".qkv." in new:
            weights |= _cut(new, tensor, head, bool(hints.use_new_attention_order))
        else:
            attends = new.endswith("to_out.0.weight")
            weights[new] = tensor.flatten(1) if attends else tensor
    return Foreign(config, scheduler_config(hints, source), weights, known=guessed)


class _Shape:
    """What names and shapes tell of a network.

    Args:
        tensors: Its weights.
        source: What to call it in a message.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        self.tensors = tensors
        blocks = {int(m[1]) for name in tensors if (m := re.match(r"output_blocks\.(\d+)\.", name))}
        doubling = {
            m[1]: m[2]
            for name in tensors
            if (m := re.match(r"(output_blocks\.\d+\.[12])\.(conv|in_layers)\.", name))
        }
        self.levels = len(doubling) + 1
        self.resampling_resnets = "in_layers" in doubling.values()
        self.layers = len(blocks) // self.levels - 1
        first = [1 + level * (self.layers + 1) for level in range(self.levels)]
        needed = [
            *(f"input_blocks.{i}.0.out_layers.3.weight" for i in first),
            "input_blocks.1.0.emb_layers.1.weight",
            "time_embed.0.weight",
            "out.2.weight",
        ]
        if self.layers < 1 or not set(needed) <= tensors.keys():
            missing = [name for name in needed if name not in tensors] or ["output_blocks"]
            raise ModelError(
                f"{source} lacks layers that its numbering asks for ({missing[0]}); get it again."
            )
        self.widths = tuple(len(tensors[f"input_blocks.{i}.0.out_layers.3.weight"]) for i in first)
        self.attends = [f"input_blocks.{i}.1.qkv.weight" in tensors for i in first]
        self.scale_shift = (
            len(tensors["input_blocks.1.0.emb_layers.1.weight"]) == 2 * self.widths[0]
        )
        self.in_channels = tensors["input_blocks.0.0.weight"].shape[1]
        self.out_channels = len(tensors["out.2.weight"])
        self.time_channels = tensors["time_embed.0.weight"].shape[1]
        table = tensors.get("label_emb.weight")
        self.classes = None if table is None else len(table)
        if self.in_channels == 6:
            raise ModelError(
                f"{source} enlarges small pictures (it takes 6 channels: a picture and its "
                "enlargement); use a model that draws pictures from noise alone."
            )

    @property
    def attention_widths(self) -> set[int]:
        """Channels of every attention layer."""
        widths = {w for w, attends in zip(self.widths, self.attends, strict=True) if attends}
        return widths | {self.widths[-1]}

    def block_types(self, way: str, sampler: str) -> tuple[str, ...]:
        """The type of each block, in the order they run."""
        plain = f"Resnet{sampler}Block2D" if self.resampling_resnets else f"{way}Block2D"
        types = [f"Attn{way}Block2D" if attends else plain for attends in self.attends]
        return tuple(types if way == "Down" else types[::-1])

    def renamed(self, name: str) -> str:
        """The name of a weight in `UNet2DModel`; one that has none there stays."""
        match = re.fullmatch(r"(input_blocks|output_blocks|middle_block)\.(\d+)\.(.+)", name)
        if name.startswith("input_blocks.0.0."):
            return name.replace("input_blocks.0.0", "conv_in")
        if match is None:
            for old, new in _ENDS:
                name = re.sub(old, new, name)
            return name
        part, number, rest = match[1], int(match[2]), match[3]
        if part == "middle_block":
            place = ("resnets.0", "attentions.0", "resnets.1")[min(number, 2)]
            return f"mid_block.{place}.{_inner(rest)}"
        per_level = self.layers + 1
        level, layer = divmod(number - (part == "input_blocks"), per_level)
        index, _, rest = rest.partition(".")
        way = "down" if part == "input_blocks" else "up"
        if way == "down" and layer == self.layers:
            place = "downsamplers.0"
        elif index == "0":
            place = f"resnets.{layer}"
        elif rest.startswith(("norm.", "qkv.", "proj_out.")):
            place = f"attentions.{layer}"
        else:
            place = "upsamplers.0"
        return f"{way}_blocks.{level}.{place}.{_inner(rest)}"


_ENDS = (
    (r"^time_embed\.0\.", "time_embedding.linear_1."),
    (r"^time_embed\.2\.", "time_embedding.linear_2."),
    (r"^label_emb\.", "class_embedding."),
    (r"^out\.0\.", "conv_norm_out."),
    (r"^out\.2\.", "conv_out."),
)
_INNER = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
}


def _inner(name: str) -> str:
    """The name of a weight inside its layer."""
    layer, _, kind = name.rpartition(".")
    return f"{_INNER.get(layer, layer)}.{kind}"


def _as_it_is(shape: _Shape, hints: Hints, size: int) -> AdmConfig:
    """The config of a network that stays as OpenAI's code builds it."""
    return AdmConfig(
        sample_size=size,
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        time_channels=shape.time_channels,
        block_out_channels=shape.widths,
        attention=tuple(shape.attends),
        layers_per_block=shape.layers,
        num_heads=None if hints.num_head_channels else hints.num_heads,
        num_head_channels=hints.num_head_channels,
        new_attention_order=bool(hints.use_new_attention_order),
        scale_shift=shape.scale_shift,
        resampling_resnets=shape.resampling_resnets,
        num_class_embeds=shape.classes,
    )


def _head_channels(shape: _Shape, hints: Hints, source: str) -> int | None:
    """Channels of a head; None where they are not the same in every attention layer."""
    if hints.num_head_channels:
        return hints.num_head_channels
    if hints.num_heads is None:
        raise ModelError(
            f"{source} does not say how many attention heads it has, and is not one of the "
            "published checkpoints; add --config image_size=64,num_heads=4, or what they are."
        )
    if any(width % hints.num_heads for width in shape.attention_widths):
        widths = ", ".join(map(str, sorted(shape.attention_widths)))
        raise ModelError(
            f"{source} has attention layers of {widths} channels, which {hints.num_heads} heads "
            "cannot share equally; correct --config."
        )
    heads = {width // hints.num_heads for width in shape.attention_widths}
    return heads.pop() if len(heads) == 1 else None


def _cut(name: str, fused: Tensor, head: int, new_order: bool) -> dict[str, Tensor]:
    """Cut (3 C, …) into q, k and v: by head and then by kind, or in the new order the reverse."""
    channels = len(fused) // 3
    if len(fused) % 3 or channels % head:
        return {name: fused}  # which will be told apart as unexpected
    fused = fused.flatten(1) if fused.ndim > 1 else fused
    if not new_order:
        by_head = fused.reshape(channels // head, 3, head, *fused.shape[1:])
        fused = by_head.transpose(0, 1).flatten(0, 2)
    parts = zip("qkv", torch.chunk(fused, 3), strict=True)
    return {name.replace("qkv", f"to_{kind}"): part.clone() for kind, part in parts}
