"""Pictures, and the smaller tensors that a latent model works on in their stead.

    picture ──encode──▶ x_0 ──invert──▶ latent ──sample──▶ x_0 ──decode──▶ picture

A latent diffusion model (Rombach et al. 2022, arXiv:2112.10752) knows the noise of what an encoder
makes of pictures. What the encoder drops no inversion brings back: that error is the autoencoder's
own, and is measured apart.

Its networks are diffusers' own. This is the door of that library, which is an extra: it is imported
when the first such model is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from ddim_interp.errors import ModelError
from ddim_interp.shapes import Images
from ddim_interp.unet.rules import (
    Rule,
    flag,
    number,
    one_of,
    optional,
    pair_or_one,
    several,
    shown as brief,
    whole,
)

__all__ = [
    "AUTOENCODERS",
    "Autoencoder",
    "AutoencoderConfig",
    "DiffusersAutoencoder",
    "build_autoencoder",
]

AUTOENCODERS = ("VQModel", "AutoencoderKL")
"""Class names in a `vqvae/config.json` or `vae/config.json`, all of diffusers."""


@runtime_checkable
class Autoencoder(Protocol):
    """Anything that carries pictures to what a latent model works on, and back."""

    def encode(self, images: Images) -> Tensor:
        """Pictures, (N, C, H, W) in [−1, 1], as the model's x_0, (N, c, h, w)."""

    def decode(self, x_0: Tensor) -> Images:
        """The model's x_0 as pictures."""

    def picture_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the pictures that an x_0 of shape (c, h, w) stands for."""


_channels = whole(1, 65536)
_COMMON: dict[str, Rule] = {
    "in_channels": _channels,
    "out_channels": _channels,
    "down_block_types": several(one_of(("DownEncoderBlock2D", "AttnDownEncoderBlock2D")), 16),
    "up_block_types": several(one_of(("UpDecoderBlock2D", "AttnUpDecoderBlock2D")), 16),
    "block_out_channels": several(_channels, 16),
    "layers_per_block": whole(1, 64),
    "act_fn": one_of(("silu", "swish", "mish", "gelu", "relu")),
    "latent_channels": _channels,
    "sample_size": pair_or_one(_channels),
    "norm_num_groups": _channels,
    "scaling_factor": number(1e-6, 1e6),
    "mid_block_add_attention": flag,
    "force_upcast": flag,
}
_nothing = Rule("null: statistics of latents are not used here", lambda v: v is None)
_RULES: dict[str, dict[str, Rule]] = {
    "VQModel": _COMMON
    | {
        "num_vq_embeddings": whole(1, 2**24),
        "vq_embed_dim": optional(_channels),
        "norm_type": one_of(("group", "spatial")),
        "lookup_from_codebook": flag,
    },
    "AutoencoderKL": _COMMON
    | {
        "shift_factor": optional(number(-1e6, 1e6)),
        "latents_mean": _nothing,
        "latents_std": _nothing,
        "use_quant_conv": flag,
        "use_post_quant_conv": flag,
    },
}
# diffusers' defaults, but for one. Configs from before it had a scaling_factor name none. Those of
# AutoencoderKL mean 0.18215, Stable Diffusion's, which became the default (its pull request 1860).
# VQ models were not scaled: with 0.18215 CompVis/ldm-celebahq-256 draws no faces (its issue 6725).
_BLOCKS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (64,),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "VQModel": _BLOCKS | {"latent_channels": 3, "vq_embed_dim": None, "scaling_factor": 1.0},
    "AutoencoderKL": _BLOCKS
    | {"latent_channels": 4, "shift_factor": None, "scaling_factor": 0.18215},
}


@dataclass(frozen=True)
class AutoencoderConfig:
    """What an autoencoder is built of: the contents of its `config.json`.

    Args:
        kind: diffusers' name for its class; one of `AUTOENCODERS`.
        options: That class's arguments.
        scaling_named: Whether the file says the scaling factor, or it is taken for granted.
    """

    kind: str
    options: Mapping[str, Any]
    scaling_named: bool = True

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "vqvae/config.json") -> Self:
        """Read a config that came from outside.

        Raises:
            ModelError: The class is another, a key unknown, or a value cannot be meant.

        Example:
            >>> config = AutoencoderConfig.from_mapping({"_class_name": "VQModel"})
            >>> config.latent_channels, config.factor, config.scaling
            (3, 1, 1.0)
        """
        kind = mapping.get("_class_name")
        if not isinstance(kind, str) or kind not in AUTOENCODERS:
            raise ModelError(
                f"{source} is for the class {kind!r:.60}; autoencoders known here are "
                f"{', '.join(AUTOENCODERS)}."
            )
        options = dict(_DEFAULTS[kind])
        for key, value in mapping.items():
            if str(key).startswith("_"):
                continue
            if key not in _RULES[kind]:
                raise ModelError(f"{source}: {brief(key)} is no option of {kind}; remove it.")
            options[key] = tuple(value) if isinstance(value, list) else value
        for key, value in options.items():
            if not _RULES[kind][key].holds(value):
                raise ModelError(
                    f"{source}: {key}={brief(value)} cannot be used; it must be "
                    f"{_RULES[kind][key].wants}."
                )
        blocks = len(options["block_out_channels"])
        for key in ("down_block_types", "up_block_types"):
            if len(options[key]) != blocks:
                raise ModelError(
                    f"{source}: {key}={brief(options[key])} cannot be used; block_out_channels has "
                    f"{blocks} entries, so give {blocks}."
                )
        if options["in_channels"] != options["out_channels"]:
            raise ModelError(
                f"{source}: it takes {options['in_channels']} channels and gives back "
                f"{options['out_channels']}; an autoencoder of pictures gives back what it takes."
            )
        return cls(kind, options, "scaling_factor" in mapping)

    def to_dict(self) -> dict[str, Any]:
        """Write the config as a JSON object that diffusers opens, and `from_mapping` reads back."""
        return {"_class_name": self.kind} | {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.options.items()
        }

    @property
    def latent_channels(self) -> int:
        """Channels of x_0."""
        return int(self.options.get("vq_embed_dim") or self.options["latent_channels"])

    @property
    def factor(self) -> int:
        """How many times smaller x_0 is than the picture, a side."""
        return 1 << (len(self.options["block_out_channels"]) - 1)

    def picture_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the pictures that an x_0 of shape (c, h, w) stands for."""
        _, height, width = shape
        return int(self.options["in_channels"]), self.factor * height, self.factor * width

    @property
    def scaling(self) -> float:
        """What the encoder's answer is multiplied by, so that x_0 has a variance of about 1."""
        return float(self.options["scaling_factor"])

    @property
    def shift(self) -> float:
        """What is taken off the encoder's answer beforehand."""
        return float(self.options.get("shift_factor") or 0.0)

    @property
    def quantises(self) -> bool:
        """Whether the decoder first moves every pixel of x_0 to the nearest of a code book."""
        return self.kind == "VQModel"


def build_autoencoder(config: AutoencoderConfig) -> nn.Module:
    """diffusers' network of a config, with random weights.

    Raises:
        ModelError: diffusers is not installed, or no network can be built from these values.
    """
    try:
        from diffusers import AutoencoderKL, VQModel
    except ImportError as error:
        raise ModelError(
            f"This model has an autoencoder ({config.kind}) of the library diffusers, which is not "
            "installed; get it with 'pip install diffusers'."
        ) from error
    known: dict[str, Any] = {"VQModel": VQModel, "AutoencoderKL": AutoencoderKL}
    try:
        network: nn.Module = known[config.kind](**config.options)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"No {config.kind} can be built from its config ({reason}); get both from one source."
        ) from error
    return network


class DiffusersAutoencoder:
    """An autoencoder with diffusers' network.

        x_0 = scaling · (E(picture) − shift)           E: the encoder, or the mean of its answer
        picture = D(x_0 / scaling + shift)             D: the decoder; quantises, in a VQModel

    It runs in float32, whatever the denoiser does, and takes one picture at a time: it is run once
    a picture, where the denoiser is run once a step, and a picture does not depend on its batch.

    Args:
        network: A `VQModel` or an `AutoencoderKL`.
        config: What it was built of.
    """

    def __init__(self, network: nn.Module, config: AutoencoderConfig) -> None:
        self.network: nn.Module = network.float().eval().requires_grad_(False)
        self.config = config

    def encode(self, images: Images) -> Tensor:
        """Pictures, (N, C, H, W) in [−1, 1], as x_0, (N, c, h, w); nothing is drawn at random."""
        return torch.cat([self._encode(image) for image in torch.split(images, 1)])

    def decode(self, x_0: Tensor) -> Images:
        """x_0, (N, c, h, w), as pictures, (N, C, H, W)."""
        return torch.cat([self._decode(one) for one in torch.split(x_0, 1)])

    def picture_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the pictures that an x_0 of shape (c, h, w) stands for."""
        return self.config.picture_shape(shape)

    def to(self, device: torch.device) -> Self:
        """Move to a device; returns itself."""
        self.network.to(device)
        return self

    def _encode(self, image: Tensor) -> Tensor:
        network: Any = self.network
        answer = network.encode(image.float())
        code = answer.latents if self.config.quantises else answer.latent_dist.mode()
        x_0: Tensor = self.config.scaling * (code - self.config.shift)
        return x_0.to(image.dtype)

    def _decode(self, x_0: Tensor) -> Tensor:
        network: Any = self.network
        image: Tensor = network.decode(x_0.float() / self.config.scaling + self.config.shift).sample
        return image.to(x_0.dtype)
