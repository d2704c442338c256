"""What is a model? Read from its configs, without its weights.

Files of a stranger decide nothing here but numbers and which of our own classes are built: no code
is imported by a name they give.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ddim_interp.autoencoder import AUTOENCODERS, AutoencoderConfig
from ddim_interp.errors import ModelError
from ddim_interp.files import StrPath, shown
from ddim_interp.model_folder import ROLES, Parts, few, file_names, find_parts
from ddim_interp.networks import NETWORKS, NetworkConfig, read_network_config
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.strict_json import read_object

__all__ = ["SCHEDULERS", "Configs", "read_configs"]

_PIPELINES = {"DDIMPipeline", "DDPMPipeline", "PNDMPipeline"}
_LATENT_PIPELINES = {"LDMPipeline"}

SCHEDULERS = {
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
"""Schedulers for networks trained on a table of betas, which DDIM can sample."""


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
        _check_class(scheduler, SCHEDULERS, shown(folder / parts.scheduler_config))
    return Configs(
        parts,
        unet,
        SchedulerConfig.from_mapping(scheduler, shown(folder / (parts.scheduler_config or ""))),
        autoencoder,
        _unknown_options(scheduler, parts.scheduler_config),
    )


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
    named = next((role for role in ROLES if role in classes), None)
    if named is not None:
        if (autoencoder := classes.pop(named)) not in [
            ("diffusers", kind) for kind in AUTOENCODERS
        ]:
            raise ModelError(
                f"{source} asks for the autoencoder {autoencoder[0]!r:.60}.{autoencoder[1]!r:.60}; "
                f"this program knows diffusers' {', '.join(AUTOENCODERS)}."
            )
        if not parts.autoencoder or not parts.autoencoder.config.startswith(named):
            raise ModelError(
                f"{source} names a {named}, but {named}/config.json is missing; get the model "
                "again."
            )
    if named is None and index.get("_class_name") in tuple(_LATENT_PIPELINES):
        raise ModelError(
            f"{source} is of a model in an autoencoder's space, and names no vqvae; get it again."
        )
    _check_class(index, _PIPELINES | (_LATENT_PIPELINES if named else set()), source)
    library, name = classes.pop("scheduler", ("diffusers", "DDIMScheduler"))
    if library != "diffusers":
        raise ModelError(
            f"{source} asks for code of its own, {library!r:.60}, which is not run; use a model "
            "with a scheduler of diffusers."
        )
    _check_class({"_class_name": name}, SCHEDULERS, source)
    if classes:
        raise ModelError(
            f"{source} has parts that nothing here can use: {few(classes)}; use a model without "
            "them."
        )
    if "scheduler" in index and not parts.scheduler_config:
        raise ModelError(
            f"{source} names a scheduler, but scheduler/scheduler_config.json is missing; "
            "get the model again."
        )
    return parts if named else replace(parts, autoencoder=None)


def _unknown_options(scheduler: Mapping[str, Any], source: str | None) -> str | None:
    """A word on options that a DDIM schedule does not have: a misspelt one would go unnoticed."""
    if scheduler.get("_class_name") != "DDIMScheduler":
        return None  # other schedulers have options of their own
    known = {field.name for field in fields(SchedulerConfig)}
    unknown = [key for key in scheduler if key not in known and not key.startswith("_")]
    return f"{source} has options that mean nothing to DDIM: {few(unknown)}." if unknown else None


def _check_class(config: Mapping[str, Any], known: set[str], source: str) -> None:
    """Refuse a class name that is not among the known; none at all will do."""
    name = config.get("_class_name")
    if "_class_name" in config and not (isinstance(name, str) and name in known):
        raise ModelError(
            f"{source} is for the class {name!r:.60}; "
            f"this program knows {', '.join(sorted(known))}."
        )
