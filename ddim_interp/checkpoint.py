"""Models on disk: the folders diffusers writes and reads.

    model/
    ├── model_index.json                 which classes the parts are of
    ├── unet/
    │   ├── config.json                  UNetConfig, LucidConfig or AdmConfig: see `_class_name`
    │   └── diffusion_pytorch_model.safetensors
    │        or …model.fp16.safetensors  a variant
    │        or …model.safetensors.index.json and …model-00001-of-00003.safetensors, …
    ├── scheduler/
    │   └── scheduler_config.json        SchedulerConfig
    └── vqvae/ or vae/                   for a model that works in an autoencoder's space
        ├── config.json                  AutoencoderConfig
        └── diffusion_pytorch_model.safetensors

A bare unet folder, with config.json and weights at its top, serves too. Files of a stranger decide
nothing here but numbers: no code is imported by a name they give, and everything is checked, down
to each tensor's shape, before memory is taken.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ddim_interp.autoencoder import (
    AUTOENCODERS,
    AutoencoderConfig,
    DiffusersAutoencoder,
    build_autoencoder,
)
from ddim_interp.errors import InputMissingError, ModelError, OutputError
from ddim_interp.files import StrPath, check_output, sha256_file, shown, write_bytes
from ddim_interp.networks import (
    NETWORKS,
    Network,
    NetworkConfig,
    build_network,
    read_network_config,
)
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.strict_json import read_object
from ddim_interp.tensors import read_header, read_tensors, write_tensors
from ddim_interp.unet import modern_keys

__all__ = [
    "MAX_PARAMETERS",
    "PICKLES",
    "Checkpoint",
    "Configs",
    "NetworkFiles",
    "Parts",
    "all_weights",
    "blueprint",
    "file_names",
    "find_parts",
    "read_checkpoint",
    "read_configs",
    "weight_names",
    "write_checkpoint",
    "write_network",
]

MAX_PARAMETERS = 2_000_000_000
PICKLES = (".bin", ".pth", ".pt", ".ckpt")

M = TypeVar("M", bound=nn.Module)

_WEIGHTS = "diffusion_pytorch_model"
_WEIGHTS_FILE = f"{_WEIGHTS}.safetensors"  # as written here
_PIPELINES = {"DDIMPipeline", "DDPMPipeline", "PNDMPipeline"}
_LATENT_PIPELINES = {"LDMPipeline"}
_ROLES = ("vqvae", "vae")  # what an autoencoder is called in an index
# Schedulers for networks trained on a table of betas: what they were trained on, DDIM can sample.
_SCHEDULERS = {
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
}
_FLOATS = {"F64", "F32", "F16", "BF16"}


@dataclass(frozen=True)
class NetworkFiles:
    """Where a model keeps one of its networks: paths inside its folder, or its repository.

    Args:
        config: `unet/config.json`, or `config.json` in a bare folder.
        weights: The safetensors file, or the `.index.json` that lists several.
    """

    config: str
    weights: str


@dataclass(frozen=True)
class Parts:
    """Where a model keeps its parts: paths inside its folder, or its repository.

    Args:
        unet: The denoiser's files.
        index: `model_index.json`, if there is one.
        scheduler_config: The scheduler's, if there is one.
        autoencoder: The autoencoder's files, if there are any.
    """

    unet: NetworkFiles
    index: str | None = None
    scheduler_config: str | None = None
    autoencoder: NetworkFiles | None = None

    @property
    def networks(self) -> tuple[NetworkFiles, ...]:
        """The files of every network."""
        return (self.unet,) if self.autoencoder is None else (self.unet, self.autoencoder)


@dataclass(frozen=True)
class Configs:
    """What a model is, read without its weights.

    Args:
        parts: Where its files are.
        unet: What the network is built of.
        scheduler: The levels it was trained on.
        autoencoder: What stands between it and pictures, if anything does.
        warning: What the user should be told: the schedule has options that mean nothing here.
    """

    parts: Parts
    unet: NetworkConfig
    scheduler: SchedulerConfig
    autoencoder: AutoencoderConfig | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model read from a folder.

    Args:
        unet: The network, on the CPU, in evaluation mode.
        scheduler_config: The levels it was trained on.
        weights_sha256: SHA-256 of its weights file; of the files' hashes in order, if several.
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
) -> Checkpoint:
    """Read a model folder.

    Args:
        folder: The folder; see the head of this file.
        dtype: What the weights are converted to; None leaves them as they are stored.
        variant: Which weights, if there are several: "fp16" for `….fp16.safetensors`.
        source: What to call the model; the folder's name if None.
        max_parameters: Larger networks are refused before memory is taken.

    Raises:
        InputMissingError: There is no such folder.
        ModelError: It holds no model that we can run, or a damaged one.
    """
    folder = Path(folder)
    parts = find_parts(file_names(folder), shown(folder), variant=variant)
    configs = read_configs(folder, parts)
    build = partial(build_network, configs.unet)
    unet, digests = _read_network(folder, parts.unet, build, max_parameters, dtype)
    autoencoder = None
    if configs.autoencoder and configs.parts.autoencoder:
        files, build_it = configs.parts.autoencoder, partial(build_autoencoder, configs.autoencoder)
        network, more = _read_network(folder, files, build_it, max_parameters, torch.float32)
        autoencoder = DiffusersAutoencoder(network, configs.autoencoder)
        digests += more
    return Checkpoint(
        unet.eval(),
        configs.scheduler,
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
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
    """A network with its weights, and the hashes of the files that held them."""
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
    return network, digests


def read_configs(folder: StrPath, parts: Parts | None = None) -> Configs:
    """Read what a model folder says of itself; the weights are not opened.

    Args:
        folder: The folder.
        parts: Where its parts are, if that is known already.

    Raises:
        InputMissingError: There is no such folder.
        ModelError: It holds no model that we can run.
    """
    folder = Path(folder)
    parts = parts or find_parts(file_names(folder), shown(folder))
    if parts.index:
        index = read_object(folder / parts.index)
        parts = _check_index(index, shown(folder / parts.index), parts)
    unet = read_network_config(
        read_object(folder / parts.unet.config), shown(folder / parts.unet.config)
    )
    autoencoder = None
    if parts.autoencoder:
        path = folder / parts.autoencoder.config
        autoencoder = AutoencoderConfig.from_mapping(read_object(path), shown(path))
        if autoencoder.latent_channels != unet.in_channels:
            raise ModelError(
                f"{shown(path)} makes {autoencoder.latent_channels} channels of a picture, and the "
                f"network takes {unet.in_channels}; get both from one source."
            )
    scheduler: Mapping[str, Any] = {}
    if parts.scheduler_config:
        scheduler = read_object(folder / parts.scheduler_config)
        _check_class(scheduler, _SCHEDULERS, shown(folder / parts.scheduler_config))
    return Configs(
        parts,
        unet,
        SchedulerConfig.from_mapping(scheduler, shown(folder / (parts.scheduler_config or ""))),
        autoencoder,
        _unknown_options(scheduler, parts.scheduler_config),
    )


def find_parts(
    names: Collection[str], source: str, *, variant: str | None = None, pickled: bool = False
) -> Parts:
    """Tell a model's parts by the names of the files around it.

    Args:
        names: Paths inside the folder or repository, with forward slashes.
        source: What to call it in a message.
        variant: Which weights, if there are several.
        pickled: Look for weights that are pickles; only for conversion.

    Raises:
        ModelError: Config or weights are missing.

    Example:
        >>> find_parts(["config.json", "diffusion_pytorch_model.safetensors"], "here").unet.weights
        'diffusion_pytorch_model.safetensors'
    """
    home = "unet/" if "unet/config.json" in names else ""
    if home + "config.json" not in names:
        bare = any(name.endswith(PICKLES) for name in names)
        remedy = "; convert a bare checkpoint with 'ddim-interp models convert SOURCE -o FOLDER'"
        raise ModelError(
            f"{source} is no diffusers model: expected unet/config.json; found {_few(names)}"
            f"{remedy if bare else ''}."
        )
    schedulers = ("scheduler/scheduler_config.json", "scheduler_config.json")
    roles = [role for role in _ROLES if f"{role}/config.json" in names and home]
    files = [
        _network_files(names, place, source, variant, pickled)
        for place in (home, *(f"{role}/" for role in roles[:1]))
    ]
    return Parts(
        files[0],
        "model_index.json" if "model_index.json" in names else None,
        next((name for name in schedulers if name in names), None),
        files[1] if roles else None,
    )


def _network_files(
    names: Collection[str], home: str, source: str, variant: str | None, pickled: bool
) -> NetworkFiles:
    """The files of the network in one place."""
    here = sorted(name for name in names if name.rpartition("/")[0] == home.rstrip("/"))
    # What calls itself safetensors may be a pickle, too.
    kinds = [PICKLES, (".safetensors",)] if pickled else [(".safetensors",)]
    infix = f".{variant}" if variant else ""
    wanted = []
    for suffixes in kinds:
        wanted.append(f"{home}{_WEIGHTS}{infix}{suffixes[0]}")
        wanted.append(f"{home}{_WEIGHTS}{suffixes[0]}.index{infix}.json")
        if not variant:  # a file of another name will do, if it is the only one
            others = [name for name in here if name.endswith(suffixes)]
            wanted += others if len(others) == 1 else []
    weights = next((name for name in wanted if name in names), None)
    if weights is None and any(name.endswith(PICKLES) for name in here) and not pickled:
        raise ModelError(
            f"{source} has its weights as a pickle only, which might run code; make it safe with "
            "'ddim-interp models convert SOURCE -o FOLDER'."
        )
    if weights is None:
        raise ModelError(f"{source} has no weights: expected {wanted[0]}; found {_few(here)}.")
    return NetworkFiles(home + "config.json", weights)


def weight_names(folder: StrPath, files: NetworkFiles) -> list[str]:
    """The files that hold the weights, as paths inside the folder: one, or those an index lists.

    Raises:
        ModelError: The index lists none, or files outside its folder.
    """
    if not files.weights.endswith(".json"):
        return [files.weights]
    path = Path(folder, files.weights)
    suffix = ".safetensors" if ".safetensors." in path.name else ".bin"
    weight_map = read_object(path).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or not all(
        isinstance(name, str) and re.fullmatch(r"\w[\w.-]*" + re.escape(suffix), name)
        for name in names
    ):
        raise ModelError(
            f"{shown(path)} lists no {suffix} files of its folder; get the model again."
        )
    home = files.weights.rpartition("/")[0]
    return [f"{home}/{name}".lstrip("/") for name in sorted(names)]


def all_weights(folder: StrPath, parts: Parts) -> list[str]:
    """The files that hold the weights of every network, as paths inside the folder."""
    return [name for files in parts.networks for name in weight_names(folder, files)]


def file_names(folder: Path) -> set[str]:
    """The files a model may be made of, as paths inside the folder.

    Raises:
        InputMissingError: There is no such folder, or it may not be read.
    """
    if not folder.is_dir():
        raise InputMissingError(f"There is no folder {shown(folder)}; check the name.")
    try:
        return {
            path.relative_to(folder).as_posix()
            for place in (folder, *(folder / part for part in ("unet", "scheduler", *_ROLES)))
            if place.is_dir()
            for path in place.iterdir()
            if path.is_file()
        }
    except PermissionError as error:
        raise InputMissingError(
            f"{shown(folder)} may not be read by this user; change its permissions."
        ) from error


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
            f"{len(names)} {trouble} ({_few(names)})"
            for trouble, names in troubles.items()
            if names
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
    networks = ("unet", *(_ROLES[:1] if autoencoder else ()))
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
        index[_ROLES[0]] = ["diffusers", autoencoder.config.kind]
        _write_part(folder / _ROLES[0], autoencoder.config.to_dict(), autoencoder.network)
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


def _few(names: Collection[str]) -> str:
    """The first names of many, for a message."""
    first = [shown(name) for name in sorted(names)[:4]]
    more = len(names) - len(first)
    return ", ".join(first or ["nothing"]) + (f" and {more} more" if more else "")


def _check_index(index: Mapping[str, Any], source: str, parts: Parts) -> Parts:
    """Refuse a pipeline that is more than a network, a schedule of betas and an autoencoder.

    Returns: The parts that it names: an autoencoder that lies there unnamed is left alone.
    """
    classes: dict[str, tuple[Any, Any]] = {}
    for role, entry in index.items():
        if role.startswith("_") or entry is None or entry == [None, None]:
            continue
        if not isinstance(entry, list) or len(entry) != 2:
            raise ModelError(f"{source} says {role}={entry!r:.60}; a library and a class go there.")
        classes[role] = (entry[0], entry[1])
    library, name = classes.pop("unet", (None, None))
    if (name, library) not in tuple(NETWORKS.items()):  # which need not be hashable
        raise ModelError(
            f"{source} asks for the network {library!r:.60}.{name!r:.60}, and its code is not run; "
            "this program has diffusers' UNet2DModel, which is not conditioned on text."
        )
    roles = [role for role in _ROLES if role in classes]
    for role in roles[:1]:
        if (autoencoder := classes.pop(role)) not in [("diffusers", kind) for kind in AUTOENCODERS]:
            raise ModelError(
                f"{source} asks for the autoencoder {autoencoder[0]!r:.60}.{autoencoder[1]!r:.60}; "
                f"this program knows diffusers' {', '.join(AUTOENCODERS)}."
            )
        if not parts.autoencoder or not parts.autoencoder.config.startswith(role):
            raise ModelError(
                f"{source} names a {role}, but {role}/config.json is missing; get the model again."
            )
    if not roles and index.get("_class_name") in tuple(_LATENT_PIPELINES):
        raise ModelError(
            f"{source} is of a model in an autoencoder's space, and names no vqvae; get it again."
        )
    _check_class(index, _PIPELINES | (_LATENT_PIPELINES if roles else set()), source)
    library, name = classes.pop("scheduler", ("diffusers", "DDIMScheduler"))
    if library != "diffusers":
        raise ModelError(f"{source} asks for code of its own, {library!r:.60}, which is not run.")
    _check_class({"_class_name": name}, _SCHEDULERS, source)
    if classes:
        raise ModelError(f"{source} has parts that nothing here can use: {_few(classes)}.")
    if "scheduler" in index and not parts.scheduler_config:
        raise ModelError(
            f"{source} names a scheduler, but scheduler/scheduler_config.json is missing; "
            "get the model again."
        )
    return parts if roles else replace(parts, autoencoder=None)


def _unknown_options(scheduler: Mapping[str, Any], source: str | None) -> str | None:
    """A word on options that a DDIM schedule does not have: a misspelt one would go unnoticed."""
    if scheduler.get("_class_name") != "DDIMScheduler":
        return None  # other schedulers have options of their own
    known = {field.name for field in fields(SchedulerConfig)}
    unknown = [key for key in scheduler if key not in known and not key.startswith("_")]
    return f"{source} has options that mean nothing to DDIM: {_few(unknown)}." if unknown else None


def _check_class(config: Mapping[str, Any], known: set[str], source: str) -> None:
    """Refuse a class name that is not among the known; none at all will do."""
    name = config.get("_class_name")
    if "_class_name" in config and not (isinstance(name, str) and name in known):
        raise ModelError(
            f"{source} is for the class {name!r:.60}; "
            f"this program knows {', '.join(sorted(known))}."
        )


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
