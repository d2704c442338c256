"""Which files make a model? Told by their names alone, in a folder or in a repository.

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

A bare unet folder, with config.json and weights at its top, serves too.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ddim_interp.errors import InputMissingError, ModelError
from ddim_interp.files import StrPath, shown
from ddim_interp.strict_json import read_object

__all__ = [
    "BARE",
    "PICKLES",
    "ROLES",
    "WEIGHTS",
    "NetworkFiles",
    "Parts",
    "all_weights",
    "few",
    "file_names",
    "find_parts",
    "weight_names",
]

PICKLES = (".bin", ".pth", ".pt", ".ckpt")
"""How weights end that are pickles."""

BARE = (*PICKLES, ".safetensors")
"""How a checkpoint may end that is one file."""

WEIGHTS = "diffusion_pytorch_model"
"""What files of weights are called, but for their end."""

ROLES = ("vqvae", "vae")
"""What an autoencoder is called, in an index and as a folder."""


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
            f"{source} is no diffusers model: expected unet/config.json; found {few(names)}"
            f"{remedy if bare else ''}."
        )
    schedulers = ("scheduler/scheduler_config.json", "scheduler_config.json")
    roles = [role for role in ROLES if f"{role}/config.json" in names and home]
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
        wanted.append(f"{home}{WEIGHTS}{infix}{suffixes[0]}")
        wanted.append(f"{home}{WEIGHTS}{suffixes[0]}.index{infix}.json")
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
        raise ModelError(f"{source} has no weights: expected {wanted[0]}; found {few(here)}.")
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
            for place in (folder, *(folder / part for part in ("unet", "scheduler", *ROLES)))
            if place.is_dir()
            for path in place.iterdir()
            if path.is_file()
        }
    except PermissionError as error:
        raise InputMissingError(
            f"{shown(folder)} may not be read by this user; change its permissions."
        ) from error


def few(names: Collection[str]) -> str:
    """The first names of many, for a message."""
    first = [shown(name) for name in sorted(names)[:4]]
    more = len(names) - len(first)
    return ", ".join(first or ["nothing"]) + (f" and {more} more" if more else "")
