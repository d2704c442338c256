"""diffusers folders whose weights are pickles: one file, or several under an index."""

from pathlib import Path

from torch import Tensor

from ddim_interp.convert.confined import is_pickle, unpickle
from ddim_interp.convert.foreign import Foreign
from ddim_interp.errors import ModelError
from ddim_interp.files import shown
from ddim_interp.model_configs import read_configs
from ddim_interp.model_folder import NetworkFiles, file_names, find_parts, weight_names
from ddim_interp.tensors import read_tensors

__all__ = ["read", "recognises"]


def recognises(source: Path) -> bool:
    """Whether there is a UNet's config where diffusers puts it."""
    return any((source / name).is_file() for name in ("unet/config.json", "config.json"))


def read(source: Path, *, variant: str | None) -> Foreign:
    """Read the configs as usual, and the weights file by file.

    Raises:
        ModelError: Parts are missing or damaged, or ask for more than tensors.
    """
    parts = find_parts(file_names(source), shown(source), variant=variant, pickled=True)
    configs = read_configs(source, parts)
    autoencoder = None
    if configs.autoencoder and configs.parts.autoencoder:
        autoencoder = configs.autoencoder, _weights(source, configs.parts.autoencoder)
    return Foreign(configs.unet, configs.scheduler, _weights(source, parts.unet), autoencoder)


def _weights(source: Path, files: NetworkFiles) -> dict[str, Tensor]:
    """The weights of one network, in however many files."""
    weights: dict[str, Tensor] = {}
    for name in weight_names(source, files):
        file = source / name
        tensors = unpickle(file) if is_pickle(file) else read_tensors(file)[0]
        if twice := sorted(weights.keys() & tensors.keys()):
            raise ModelError(f"{shown(file)} gives {twice[0]!r} a second time; get it again.")
        weights |= tensors
    return weights
