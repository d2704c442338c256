"""Models on disk: their networks with weights, read from folders and written to them.

The folders are diffusers' (see `model_folder`). Everything is checked, down to each tensor's shape,
before memory is taken.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ddim_interp.autoencoder import (
    DiffusersAutoencoder,
    build_autoencoder,
)
from ddim_interp.errors import ModelError, OutputError
from ddim_interp.files import StrPath, check_output, sha256_file, shown, write_bytes
from ddim_interp.model_configs import read_configs
from ddim_interp.model_folder import (
    ROLES,
    WEIGHTS,
    NetworkFiles,
    few,
    file_names,
    find_parts,
    weight_names,
)
from ddim_interp.networks import (
    NETWORKS,
    Network,
    NetworkConfig,
    build_network,
)
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.tensors import read_header, read_tensors, write_tensors
from ddim_interp.unet import modern_keys

__all__ = [
    "MAX_PARAMETERS",
    "Checkpoint",
    "blueprint",
    "read_checkpoint",
    "write_checkpoint",
    "write_network",
]

MAX_PARAMETERS = 2_000_000_000

M = TypeVar("M", bound=nn.Module)

_WEIGHTS_FILE = f"{WEIGHTS}.safetensors"  # as written here
_FLOATS = {"F64", "F32", "F16", "BF16"}


@dataclass(frozen=True)
class Checkpoint:
    """A model read from a folder.

    Args:
        unet: The network, on the CPU, in evaluation mode.
        scheduler_config: The levels it was trained on.
        weights_sha256: SHA-256 of its weights file; of the files' hashes in order, if several.
            Empty if the network was given.
        source: What it is called: no absolute path, it goes into recipes.
        autoencoder: What stands between it and pictures, if anything does.
        warning: What the user should be told, if anything.
    """

    unet: Network
    scheduler_config: SchedulerConfig
    weights_sha256: str
    source: str
    autoencoder: DiffusersAutoencoder | None = None
    warning: str | None = None

    @property
    def unet_config(self) -> NetworkConfig:
        """What the network is built of."""
        return self.unet.config


def read_checkpoint(
    folder: StrPath,
    *,
    dtype: torch.dtype | None = torch.float32,
    variant: str | None = None,
    source: str | None = None,
    max_parameters: int = MAX_PARAMETERS,
    unet: Network | None = None,
) -> Checkpoint:
    """Read a model folder.

    Args:
        folder: The folder; see the head of this file.
        dtype: What the weights are converted to; None leaves them as they are stored.
        variant: Which weights, if there are several: "fp16" for `….fp16.safetensors`.
        source: What to call the model; the folder's name if None.
        max_parameters: Larger networks are refused before memory is taken.
        unet: Takes the place of the folder's own network, whose weights are then not opened.

    Raises:
        InputMissingError: There is no such folder.
        ModelError: It holds no model that we can run, or a damaged one.
    """
    folder = Path(folder)
    parts = find_parts(file_names(folder), shown(folder), variant=variant)
    configs = read_configs(folder, parts)
    digests: list[str] = []
    if own := unet is None:
        build = partial(build_network, configs.unet)
        unet, digests = _read_network(folder, parts.unet, build, max_parameters, dtype)
    autoencoder = None
    if configs.autoencoder and configs.parts.autoencoder:
        files, build_it = configs.parts.autoencoder, partial(build_autoencoder, configs.autoencoder)
        network, more = _read_network(folder, files, build_it, max_parameters, torch.float32)
        autoencoder = DiffusersAutoencoder(network, configs.autoencoder)
        digests += more
    several = hashlib.sha256("".join(digests).encode()).hexdigest()
    return Checkpoint(
        unet,
        configs.scheduler,
        (digests[0] if len(digests) == 1 else several) if own else "",
        source or folder.resolve().name,
        autoencoder,
        configs.warning,
    )


def _read_network(
    folder: Path,
    files: NetworkFiles,
    build: Callable[[], M],
    max_parameters: int,
    dtype: torch.dtype | None,
) -> tuple[M, list[str]]:
    """A network with its weights, to be evaluated, and the hashes of the files that held them."""
    paths = [folder / name for name in weight_names(folder, files)]
    shapes = _announced_shapes(paths, shown(folder / files.weights))
    network = blueprint(build, shapes, shown(folder), max_parameters=max_parameters)
    digests = [_checked_sha256(path) for path in paths]
    state: dict[str, Tensor] = {}
    for path in paths:
        state |= {
            name: tensor.to(dtype or tensor.dtype) for name, tensor in read_tensors(path)[0].items()
        }
    network.load_state_dict(modern_keys(state), strict=True, assign=True)
    return network.eval(), digests


def blueprint(
    build: Callable[[], M],
    shapes: Mapping[str, tuple[int, ...]],
    source: str,
    *,
    max_parameters: int = MAX_PARAMETERS,
) -> M:
    """An empty network, after making sure that weights of these shapes fill it.

    Args:
        build: Builds it.
        shapes: The weights' shapes, by name, old or new.
        source: What to call them in a message.
        max_parameters: Larger networks are refused.

    Returns:
        The network on the meta device: it takes no memory until `load_state_dict(assign=True)`.

    Raises:
        ModelError: It is too large, or weights are missing, unexpected or misshapen.
    """
    with torch.device("meta"):  # which also draws no random weights
        network = build()
    wanted = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    parameters = sum(map(math.prod, wanted.values()))
    if parameters > max_parameters:
        raise ModelError(
            f"{source} describes a network of {parameters:,} parameters, more than the "
            f"{max_parameters:,} allowed; check its config."
        )
    found = modern_keys(shapes)
    if len(found) < len(shapes):
        raise ModelError(f"{source} has weights under an old and a new name; get it again.")
    troubles = {
        "missing": wanted.keys() - found.keys(),
        "unexpected": found.keys() - wanted.keys(),
        "misshapen": {k for k in wanted.keys() & found.keys() if wanted[k] != found[k]},
    }
    if any(troubles.values()):
        listed = "; ".join(
            f"{len(names)} {trouble} ({few(names)})" for trouble, names in troubles.items() if names
        )
        raise ModelError(
            f"The weights of {source} do not fit its config: {listed}; get both from one source."
        )
    return network


def write_checkpoint(
    folder: StrPath,
    unet: Network,
    scheduler_config: SchedulerConfig,
    autoencoder: DiffusersAutoencoder | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a model folder, which `read_checkpoint` and diffusers open.

    diffusers' class for it is DDIMPipeline, or LDMPipeline if there is an autoencoder.

    Args:
        folder: Is created if need be.
        unet: The network; its weights keep their dtype.
        scheduler_config: The levels it was trained on.
        autoencoder: What stands between it and pictures, if anything does.
        overwrite: Whether a model in that folder may be replaced.

    Raises:
        OutputError: The folder holds a model already, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    folder = Path(folder)
    weights = folder / "unet" / _WEIGHTS_FILE
    if not overwrite and (weights.exists() or (folder / "model_index.json").exists()):
        raise OutputError(f"{shown(folder)} holds a model already; choose another folder.")
    networks = ("unet", *(ROLES[:1] if autoencoder else ()))
    try:
        for part in (*networks, "scheduler"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{shown(folder)} cannot be created: {error.strerror}; choose another folder."
        ) from error
    for part in networks:
        _remove(folder / part / _WEIGHTS_FILE)
    scheduler = {"_class_name": "DDIMScheduler", **scheduler_config.to_dict()}
    network = str(unet.config.to_dict()["_class_name"])
    index = {
        "_class_name": "LDMPipeline" if autoencoder else "DDIMPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": [NETWORKS[network], network],
    }
    if autoencoder:
        index[ROLES[0]] = ["diffusers", autoencoder.config.kind]
        _write_part(folder / ROLES[0], autoencoder.config.to_dict(), autoencoder.network)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(folder / "model_index.json", index)
    _write_part(folder / "unet", unet.config.to_dict(), unet)


def write_network(folder: StrPath, unet: Network, *, overwrite: bool = False) -> None:
    """Write a bare network, `config.json` and weights, into a folder that exists.

    Args:
        folder: The folder.
        unet: The network; its weights keep their dtype.
        overwrite: Whether a network in that folder may be replaced.

    Raises:
        OutputError: The folder holds a network already, or cannot be written to.
        StorageError: The disk is full, or fails.
    """
    folder = Path(folder)
    for name in ("config.json", _WEIGHTS_FILE):
        check_output(folder / name, overwrite=overwrite)
    _remove(folder / _WEIGHTS_FILE)
    _write_part(folder, unet.config.to_dict(), unet)


def _remove(weights: Path) -> None:
    """Remove earlier weights, if there are any, before a file beside them is replaced.

    The new ones come last, so that until then this is no model, and never one of two halves.
    """
    try:
        weights.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{shown(weights)} cannot be replaced: {error.strerror}; choose another folder."
        ) from error


def _write_part(folder: Path, config: Mapping[str, Any], network: nn.Module) -> None:
    _write_json(folder / "config.json", config)
    write_tensors(folder / _WEIGHTS_FILE, network.state_dict(), {"format": "pt"})


def _announced_shapes(files: Sequence[Path], source: str) -> dict[str, tuple[int, ...]]:
    """The shapes that weight files say they hold, by name, and nothing twice."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        if not file.is_file():
            raise ModelError(f"{source} lists {file.name}, which is missing; get the model again.")
        header = read_header(file)
        if twice := sorted(shapes.keys() & header.shapes.keys()):
            raise ModelError(f"{shown(file)} gives {twice[0]!r} a second time; get it again.")
        if odd := [name for name, dtype in header.dtypes.items() if dtype not in _FLOATS]:
            raise ModelError(
                f"{shown(file)} holds {header.dtypes[odd[0]]} in {odd[0]!r}; weights are "
                f"{', '.join(sorted(_FLOATS))}."
            )
        shapes |= header.shapes
    return shapes


def _checked_sha256(file: Path) -> str:
    """A file's hash, which must be its name where the hub's cache calls it by its hash."""
    digest = sha256_file(file)
    blob = file.resolve().name
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob) and blob != digest:
        raise ModelError(
            f"{shown(file)} was damaged in the cache; delete {shown(file.resolve())} and "
            "download it again."
        )
    return digest


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), overwrite=True)
