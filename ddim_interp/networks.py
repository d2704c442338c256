"""The networks that a model folder may name, and no others."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from ddim_interp.adm import AdmConfig, AdmUnet
from ddim_interp.errors import ModelError
from ddim_interp.lucid import LucidConfig, LucidUnet
from ddim_interp.unet import UNet2DModel, UNetConfig

__all__ = ["NETWORKS", "Network", "NetworkConfig", "build_network", "read_network_config"]

Network: TypeAlias = UNet2DModel | LucidUnet | AdmUnet
NetworkConfig: TypeAlias = UNetConfig | LucidConfig | AdmConfig

NETWORKS = {"UNet2DModel": "diffusers", "LucidUnet": "ddim_interp", "AdmUnet": "ddim_interp"}
"""Class names in a `unet/config.json`, each with the library that has it."""

_CONFIGS: dict[str, type[NetworkConfig]] = {
    "UNet2DModel": UNetConfig,
    "LucidUnet": LucidConfig,
    "AdmUnet": AdmConfig,
}


def read_network_config(mapping: Mapping[str, Any], source: str) -> NetworkConfig:
    """Read a config of whichever network it names; one that names none is a UNet2DModel's.

    Raises:
        ModelError: It names another, or no network can be built from it.
    """
    name = mapping.get("_class_name", "UNet2DModel")
    if not isinstance(name, str) or name not in NETWORKS:
        raise ModelError(
            f"{source} is for the class {name!r:.60}; this program knows {', '.join(NETWORKS)}."
        )
    return _CONFIGS[name].from_mapping(mapping, source)


def build_network(config: NetworkConfig) -> Network:
    """The network of a config, with random weights."""
    if isinstance(config, LucidConfig):
        return LucidUnet(**config.to_dict())
    if isinstance(config, AdmConfig):
        return AdmUnet(**config.to_dict())
    return UNet2DModel(**config.to_dict())
