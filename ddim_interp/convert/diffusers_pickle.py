"""diffusers folders whose weights are pickles: one file, or several under an index."""

from pathlib import Path

from torch import Tensor

from ddim_interp.checkpoint import Parts, file_names, find_parts, read_configs, weight_names
from ddim_interp.convert.confined import is_pickle, unpickle
from ddim_interp.convert.foreign import Foreign
from ddim_interp.errors import ModelError
from ddim_interp.files import shown
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
    parts = _parts(source, variant)
    configs = read_configs(source, parts)
    weights: dict[str, Tensor] = {}
    for name in weight_names(source, parts):
        file = source / name
        tensors = unpickle(file) if is_pickle(file) else read_tensors(file)[0]
        if twice := sorted(weights.keys() & tensors.keys()):
            raise ModelError(f"{shown(file)} gives {twice[0]!r} a second time; get it again.")
        weights |= tensors
    return Foreign(configs.unet, configs.scheduler, weights)


def _parts(source: Path, variant: str | None) -> Parts:
    """Pickles, or what calls itself safetensors and may be one."""
    names = file_names(source)
    try:
        return find_parts(names, shown(source), variant=variant, pickled=True)
    except ModelError:
        return find_parts(names, shown(source), variant=variant)
