"""Checkpoints of the original DDIM code, and of the DDPM networks it took over.

A file is a state dict, or the list that training saves: the network under `module.`, its
optimizer, two counters, and last the shadow weights of the moving average. The network is that of
Ho et al. (2020), which `UNet2DModel` has layer for layer; attention there is 1×1 convolutions.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from ddim_interp.convert.foreign import Foreign
from ddim_interp.convert.hints import Hints
from ddim_interp.convert.schedules import scheduler_config
from ddim_interp.errors import ModelError
from ddim_interp.unet import UNetConfig

__all__ = ["PUBLISHED", "read", "recognises"]

_ANCHOR = "mid.attn_1.q.weight"
_ATTENTION_SIZE = 16  # pixels a side where the published networks attend
_BETAS = Hints(timesteps=1000, noise_schedule="linear", beta_start=0.0001, beta_end=0.02)

PUBLISHED = {
    name: Hints(image_size=size).over(_BETAS)
    for name, size in (("bedroom", 256), ("church", 256), ("celeba", 64), ("cifar10", 32))
}
"""The configs that come with the code."""


def recognises(names: Collection[str]) -> bool:
    """Whether there is the middle attention of such a network, under whatever prefix."""
    return any(name == _ANCHOR or name.endswith(f".{_ANCHOR}") for name in names)


def read(tensors: Mapping[str, Tensor], source: str, hints: Hints) -> Foreign:
    """Take the moving average if there is one, and give weights and layers their names here.

    Raises:
        ModelError: Layers are missing without which nothing can be told.
    """
    prefixes = sorted(name.removesuffix(_ANCHOR) for name in tensors if name.endswith(_ANCHOR))
    chosen = next((p for p in prefixes if p.startswith("ema")), prefixes[-1])  # the list's last
    weights = {
        name.removeprefix(chosen): tensor
        for name, tensor in tensors.items()
        if name.startswith(chosen) and name != f"{chosen}logvar"  # which only weighed the loss
    }
    config = _config(weights, source, hints)
    levels = len(config.block_out_channels)
    renamed = {_renamed(name, levels): _squeezed(name, w) for name, w in weights.items()}
    return Foreign(config, scheduler_config(hints.over(_BETAS), source), renamed)


def _config(weights: Mapping[str, Tensor], source: str, hints: Hints) -> UNetConfig:
    widths: list[int] = []
    while f"down.{len(widths)}.block.0.conv1.weight" in weights:
        widths.append(len(weights[f"down.{len(widths)}.block.0.conv1.weight"]))
    if not widths or not {"conv_in.weight", "conv_out.weight"} <= weights.keys():
        raise ModelError(
            f"{source} lacks layers that every network of its kind has (down.0.block.0, conv_in, "
            "conv_out); get it again."
        )
    layers = sum(f"down.0.block.{i}.conv1.weight" in weights for i in range(64))
    attends = [f"down.{level}.attn.0.q.weight" in weights for level in range(len(widths))]
    finest = attends.index(True) if True in attends else None
    size = hints.image_size or (None if finest is None else _ATTENTION_SIZE << finest)
    return UNetConfig(
        sample_size=size,
        in_channels=weights["conv_in.weight"].shape[1],
        out_channels=len(weights["conv_out.weight"]),
        flip_sin_to_cos=False,
        freq_shift=1,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        downsample_padding=0,
        attention_head_dim=None,
        norm_eps=1e-6,
    )


_NAMES = (
    (r"^temb\.dense\.0\.", "time_embedding.linear_1."),
    (r"^temb\.dense\.1\.", "time_embedding.linear_2."),
    (r"^norm_out\.", "conv_norm_out."),
    (r"^mid\.block_1\.", "mid_block.resnets.0."),
    (r"^mid\.attn_1\.", "mid_block.attentions.0."),
    (r"^mid\.block_2\.", "mid_block.resnets.1."),
    (r"^down\.(\d+)\.", r"down_blocks.\1."),
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.downsample\.", ".downsamplers.0."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"\.temb_proj\.", ".time_emb_proj."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)


def _renamed(name: str, levels: int) -> str:
    """The name of a weight in `UNet2DModel`, which counts its way up from the coarsest level."""
    name = re.sub(r"^up\.(\d+)\.", lambda up: f"up_blocks.{levels - 1 - int(up[1])}.", name)
    for old, new in _NAMES:
        name = re.sub(old, new, name)
    return name


def _squeezed(name: str, weight: Tensor) -> Tensor:
    """A 1×1 convolution in attention is a linear layer over pixels."""
    in_attention = re.search(r"\.(attn\.\d+|attn_1)\.(q|k|v|proj_out)\.weight$", name)
    return weight.flatten(1) if in_attention and weight.shape[2:] == (1, 1) else weight
