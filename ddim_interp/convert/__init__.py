"""Models in other files than ours, made into a folder that `read_checkpoint` opens.

Each format is a module here with two functions: `recognises` looks at the names only, `read` brings
config, schedule and weights. Pickles are read in a process of their own (`confined`).
"""

from pathlib import Path
from typing import Protocol

import torch

from ddim_interp.checkpoint import Checkpoint, blueprint, read_checkpoint, write_checkpoint
from ddim_interp.convert import diffusers_pickle
from ddim_interp.convert.foreign import Foreign
from ddim_interp.errors import InputMissingError, ModelError, StorageError
from ddim_interp.files import StrPath, shown
from ddim_interp.unet import modern_keys

__all__ = ["FORMATS", "Foreign", "Format", "convert_folder"]


class Format(Protocol):
    """How models of one origin are read."""

    def recognises(self, source: Path, /) -> bool:
        """Whether a folder or file looks like this format, by its name and the names in it."""

    def read(self, source: Path, /, *, variant: str | None) -> Foreign:
        """Bring config, schedule and weights."""


FORMATS: tuple[Format, ...] = (diffusers_pickle,)


def convert_folder(
    source: StrPath, out: StrPath, *, variant: str | None = None, overwrite: bool = False
) -> Checkpoint:
    """Make a diffusers folder with safetensors of a model in another format.

    Pickles can run code when they are read. Here they are read for their tensors alone, in a
    process of its own, with no more memory and time than tensors need; one that asks for more is
    refused, whatever it asks for.

    Args:
        source: The model: a diffusers folder with `.bin`, `.pth` or `.ckpt` weights.
        out: The folder to create.
        variant: Which weights, if there are several.
        overwrite: Whether a model in `out` may be replaced.

    Returns:
        What was written, read again: its weights are those of the source, bit for bit.

    Raises:
        InputMissingError: There is no such source.
        ModelError: It is no format known here, asks for more than tensors, or its weights do not
            fit its config.
        OutputError: `out` holds a model already, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    source = Path(source)
    if not source.exists():
        raise InputMissingError(f"There is no {shown(source)}; check the name.")
    reader = next((reader for reader in FORMATS if reader.recognises(source)), None)
    if reader is None:
        raise ModelError(
            f"{shown(source)} is of no format known here; expected a diffusers folder with "
            "unet/config.json and weights as .bin, .pth, .pt or .ckpt."
        )
    model = reader.read(source, variant=variant)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.weights.items()}
    unet = blueprint(model.unet_config, shapes, shown(source))
    weights = modern_keys(model.weights)
    if odd := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise ModelError(f"{shown(source)} has {odd[0]!r} in whole numbers; weights are fractions.")
    unet.load_state_dict(weights, strict=True, assign=True)
    write_checkpoint(out, unet, model.scheduler_config, overwrite=overwrite)
    written = read_checkpoint(out, dtype=None)
    state = written.unet.state_dict()
    if not all(torch.equal(state[name], tensor) for name, tensor in weights.items()):
        raise StorageError(f"{shown(out)} does not read back as written; check the disk.")
    return written
