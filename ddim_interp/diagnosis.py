"""What is this machine, and will it do?"""

import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ddim_interp import __version__
from ddim_interp.hub import cache_folder, is_offline
from ddim_interp.model import Model
from ddim_interp.precision import draft_dtype, parse_device
from ddim_interp.shapes import spelled
from ddim_interp.unet.fused import kernels_on

__all__ = ["diagnose", "in_words"]

_LIBRARIES = ("torch", "numpy", "pillow", "av", "safetensors", "huggingface_hub", "click")
_EXTRAS = {
    "ray": "batch --workers",
    "uvicorn": "explore",
    "diffusers": "latent diffusion models",
    "lpips": "--metric lpips",
}
"""Libraries that need not be there, and what each is for."""


def diagnose() -> dict[str, str]:
    """Facts about the machine, in words; no path, no name of a person, no connection opened."""
    device = parse_device()
    cache = cache_folder()
    return {
        "ddim-interp": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: _version(name) for name in _LIBRARIES},
        **{name: f"{_version(name)}, for {use}" for name, use in _EXTRAS.items()},
        "device": f"{device.type}, {_why(device)}",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "kernels": _kernels(device),
        "frames in": str(draft_dtype(device)).removeprefix("torch."),
        "encoders": _encoders(),
        "licence note": "PyAV's wheel contains x264, which is GPL; .webm .webp .apng do not use it",
        "hub cache": _state(cache),
        "offline": "yes" if is_offline() else "no",
        "temporary files": _state(Path(tempfile.gettempdir())),
    }


def in_words(model: Model, network: torch.nn.Module, precision: str) -> str:
    """What pictures are made with, in a line.

    Args:
        model: The model.
        network: Its network.
        precision: What that computes in, in a word.
    """
    size = sum(weights.numel() for weights in network.parameters()) / 1e6
    device = model.device
    where = f"{device}, {torch.get_num_threads()} threads" if device.type == "cpu" else f"{device}"
    return (
        f"{model.name} (weights {model.weights_sha256[:8] or 'unknown'}): {size:.1f} million "
        f"weights, pictures of {spelled(model.picture_shape)}; {precision} on {where}, "
        f"kernels: {_kernels(device)}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _encoders() -> str:
    try:
        from ddim_interp.sinks.video import missing_encoders
    except ImportError as error:
        return f"none: PyAV cannot be loaded ({error})"
    missing = missing_encoders()
    return f"missing: {', '.join(missing)}" if missing else "all here"


def _why(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple's GPU"
    if torch.version.cuda is None and torch.version.hip is None:
        return "because this torch is built for CPUs only"
    return "because no GPU answers: check its driver"


def _kernels(device: torch.device) -> str:
    kernels = kernels_on(device)
    if kernels != "torch":
        return f"our own, in {kernels}"
    missing = {"cuda": "Triton and a C compiler", "cpu": "a C compiler"}.get(device.type)
    return f"torch's; faster with {missing}" if missing else "torch's"


def _state(folder: Path) -> str:
    """Whether a folder can be used; the nearest parent that exists stands in for one to come."""
    place = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    free = shutil.disk_usage(place).free / 1e9
    return f"{'writable' if os.access(place, os.W_OK) else 'READ-ONLY'}, {free:.1f} GB free"
