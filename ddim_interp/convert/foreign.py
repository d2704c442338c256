"""What every format is brought to before it is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ddim_interp.autoencoder import AutoencoderConfig
from ddim_interp.networks import NetworkConfig
from ddim_interp.schedule import SchedulerConfig

__all__ = ["Foreign"]


@dataclass(frozen=True)
class Foreign:
    """A model out of its own format.

    Args:
        unet_config: What the network is built of.
        scheduler_config: The levels it was trained on.
        weights: By the names that network has for them; for `UNet2DModel`, or had in 2022.
        autoencoder: What stands between it and pictures, if anything does: how it is built, and its
            weights.
        known: The published model it was taken for, by its shapes alone, if any.
    """

    unet_config: NetworkConfig
    scheduler_config: SchedulerConfig
    weights: Mapping[str, Tensor]
    autoencoder: tuple[AutoencoderConfig, Mapping[str, Tensor]] | None = None
    known: str | None = None
