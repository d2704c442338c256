"""Models in other files than ours, made into a folder that `read_checkpoint` opens.

Two kinds come in: diffusers folders whose weights are pickles (`diffusers_pickle`), and bare
checkpoints of other training programs (`checkpoint_file`), each of whose layouts is a module here.
Pickles are read in a process of their own (`confined`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import Tensor, nn

from ddim_interp.autoencoder import DiffusersAutoencoder, build_autoencoder
from ddim_interp.checkpoint import Checkpoint, blueprint, read_checkpoint, write_checkpoint
from ddim_interp.convert import diffusers_pickle
from ddim_interp.convert.checkpoint_file import LAYOUTS, find_file, read_file
from ddim_interp.convert.foreign import Foreign
from ddim_interp.errors import ArgumentError, InputMissingError, ModelError, StorageError
from ddim_interp.files import StrPath, shown
from ddim_interp.hub import Located
from ddim_interp.networks import build_network
from ddim_interp.tensors import check_finite
from ddim_interp.unet import modern_keys

__all__ = ["LAYOUTS", "Foreign", "as_folder", "convert_folder"]

M = TypeVar("M", bound=nn.Module)


def convert_folder(
    source: StrPath,
    out: StrPath,
    *,
    variant: str | None = None,
    config: str | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Make a diffusers folder with safetensors of a model in another format.

    Pickles can run code when they are read. Here they are read for their tensors alone, in a
    process of its own, with no more memory and time than tensors need; one that asks for more is
    refused, whatever it asks for.

    Args:
        source: The model: a diffusers folder with `.bin`, `.pth` or `.ckpt` weights, or a bare
            checkpoint, or a folder with nothing but one, and perhaps its `.yml`.
        out: The folder to create.
        variant: Which weights of a diffusers folder, if there are several.
        config: What a bare checkpoint does not say of itself: the name of a published model
            (`church`, `lsun_bedroom`), a `.yml` file, or `image_size=64,num_heads=4`.
        overwrite: Whether a model in `out` may be replaced.

    Returns:
        What was written, read again: its weights are those of the source, bit for bit. Its
        `warning` says what was taken for granted.

    Raises:
        ArgumentError: `config` cannot be meant.
        InputMissingError: There is no such source.
        ModelError: It is no format known here, asks for more than tensors, or its weights do not
            fit its config.
        OutputError: `out` holds a model already, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    source = Path(source)
    if not source.exists():
        raise InputMissingError(f"There is no {shown(source)}; check the name.")
    model = _read(source, variant, config)
    unet = _filled(partial(build_network, model.unet_config), model.weights, source)
    autoencoder = None
    if model.autoencoder:
        settings, weights = model.autoencoder
        network = _filled(partial(build_autoencoder, settings), weights, source)
        autoencoder = DiffusersAutoencoder(network, settings)
    write_checkpoint(out, unet, model.scheduler_config, autoencoder, overwrite=overwrite)
    written = read_checkpoint(out, dtype=None)
    if not _same(written.unet, unet) or (
        autoencoder
        and written.autoencoder
        and not _same(written.autoencoder.network, autoencoder.network)
    ):
        raise StorageError(f"{shown(out)} does not read back as written; check the disk.")
    if model.known is None:
        return written
    taken = f"By its shapes, {shown(source)} was taken for {model.known}; if it is another, say so "
    return replace(written, warning=taken + "with --config.")


@contextmanager
def as_folder(located: Located, config: str | None = None) -> Iterator[Located]:
    """A model as a folder: itself, or of a bare checkpoint a copy that goes when the block ends.

    Latents of the checkpoint and of a folder that was made of it are the same model's.

    Args:
        located: The model.
        config: What a bare checkpoint does not say of itself; see `convert_folder`.

    Raises:
        ArgumentError: `config` cannot be meant, or the model is a folder.
        ModelError: The checkpoint cannot be used.
    """
    if located.folder.is_dir():
        _refuse_config(config, located.name)
        yield located
        return
    with TemporaryDirectory(prefix="ddim-interp-", ignore_cleanup_errors=True) as place:
        try:
            warning = convert_folder(located.folder, Path(place, "model"), config=config).warning
        except ModelError as error:
            error.add_note(
                "(--config is an option of 'ddim-interp models convert', and config an argument of "
                "from_pretrained.)"
            )
            raise
        yield replace(located, folder=Path(place, "model"), warning=located.warning or warning)


def _refuse_config(config: str | None, name: str) -> None:
    if config is not None:
        raise ArgumentError(
            f"config={config!r} is for bare checkpoints, and {name} is a folder with a config of "
            "its own; drop it."
        )


def _filled(build: Callable[[], M], weights: Mapping[str, Tensor], source: Path) -> M:
    """A network with these weights.

    Raises:
        ModelError: They do not fit it, are no fractions, or are not finite.
    """
    network = blueprint(build, {k: tuple(w.shape) for k, w in weights.items()}, shown(source))
    weights = modern_keys(weights)
    if odd := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise ModelError(f"{shown(source)} has {odd[0]!r} in whole numbers; weights are fractions.")
    check_finite(weights, shown(source))
    network.load_state_dict(weights, strict=True, assign=True)
    return network


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights, bit for bit."""
    state, wanted = one.state_dict(), other.state_dict()
    return all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


def _read(source: Path, variant: str | None, config: str | None) -> Foreign:
    if diffusers_pickle.recognises(source):
        _refuse_config(config, shown(source))
        return diffusers_pickle.read(source, variant=variant)
    file = find_file(source)
    if file is None:
        raise ModelError(
            f"{shown(source)} is of no format known here; expected a diffusers folder with "
            "unet/config.json and weights as .bin, .pth, .pt or .ckpt, or one bare checkpoint."
        )
    return read_file(file, config)
