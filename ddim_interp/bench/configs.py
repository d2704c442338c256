"""Networks that people run, as they are configured; speed does not ask for their weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["CONFIGS", "Shape"]


class Shape(NamedTuple):
    """A network's config, and how many pictures it is given at once; a GPU wants more."""

    config: Mapping[str, Any]
    batch: int
    batch_on_gpu: int


_CIFAR = {
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
_PIXELS_256 = _CIFAR | {
    "sample_size": 256,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}

CONFIGS: Mapping[str, Shape] = {
    # google/ddpm-cifar10-32
    "cifar10-32": Shape(_CIFAR, 8, 256),
    # google/ddpm-celebahq-256
    "celebahq-256": Shape(_PIXELS_256, 1, 20),
    # google/ddpm-church-256: the same layers; two pictures at once
    "church-256": Shape(_PIXELS_256, 2, 32),
    # The layers of Dhariwal & Nichol (2021), arXiv:2105.05233, table 4, as far as UNet2DModel has
    # them: attention at 32, 16 and 8 pixels, 64 channels a head, scale and shift, mean and variance
    "adm-256": Shape(
        {
            "sample_size": 256,
            "out_channels": 6,
            "block_out_channels": [256, 256, 512, 512, 1024, 1024],
            "down_block_types": [*["ResnetDownsampleBlock2D"] * 3, *["AttnDownBlock2D"] * 3],
            "up_block_types": [*["AttnUpBlock2D"] * 3, *["ResnetUpsampleBlock2D"] * 3],
            "layers_per_block": 2,
            "attention_head_dim": 64,
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
        },
        1,
        8,
    ),
}
"""By name. `embedded`, the model in the package, is the one that runs when no name is given."""
