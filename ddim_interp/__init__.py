"""Carry pictures into a diffusion model's noise space and back, and travel between them.

Example:
    >>> from ddim_interp import DDIMPipeline
    >>> pipe = DDIMPipeline.from_pretrained()  # the model in the package
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

# Names are imported when they are first used: `ddim-interp --help` must not wait for torch.
_HOMES = {
    "DDIM": "solver",
    "DDIMInverseScheduler": "scheduler",
    "DDIMPipeline": "pipeline",
    "DDIMScheduler": "scheduler",
    "DdimInterpError": "errors",
    "GaussianDenoiser": "denoiser",
    "ImagePipelineOutput": "pipeline",
    "KeyframePath": "path",
    "Level": "schedule",
    "Model": "model",
    "NetworkDenoiser": "denoiser",
    "NoiseSchedule": "schedule",
    "Pipeline": "verbs",
    "Plan": "model",
    "Plate": "display",
    "Prediction": "denoiser",
    "Reel": "display",
    "State": "solver",
    "Style": "style",
    "UNet2DModel": "network",
    "as_denoiser": "custom",
    "draw": "latents",
    "invert": "trajectory",
    "last": "trajectory",
    "make_grid": "grid",
    "open_image": "images",
    "open_sink": "sinks",
    "sample": "trajectory",
    "slerp": "interpolate",
    "to_frames": "images",
}

__all__ = [
    "DDIM",
    "DDIMInverseScheduler",
    "DDIMPipeline",
    "DDIMScheduler",
    "DdimInterpError",
    "GaussianDenoiser",
    "ImagePipelineOutput",
    "KeyframePath",
    "Level",
    "Model",
    "NetworkDenoiser",
    "NoiseSchedule",
    "Pipeline",
    "Plan",
    "Plate",
    "Prediction",
    "Reel",
    "State",
    "Style",
    "UNet2DModel",
    "as_denoiser",
    "draw",
    "invert",
    "last",
    "make_grid",
    "open_image",
    "open_sink",
    "sample",
    "slerp",
    "to_frames",
]

if TYPE_CHECKING:
    from ddim_interp.custom import as_denoiser
    from ddim_interp.denoiser import GaussianDenoiser, NetworkDenoiser, Prediction
    from ddim_interp.display import Plate, Reel
    from ddim_interp.errors import DdimInterpError
    from ddim_interp.grid import make_grid
    from ddim_interp.images import open_image, to_frames
    from ddim_interp.interpolate import slerp
    from ddim_interp.latents import draw
    from ddim_interp.model import Model, Plan
    from ddim_interp.network import UNet2DModel
    from ddim_interp.path import KeyframePath
    from ddim_interp.pipeline import DDIMPipeline, ImagePipelineOutput
    from ddim_interp.schedule import Level, NoiseSchedule
    from ddim_interp.scheduler import DDIMInverseScheduler, DDIMScheduler
    from ddim_interp.sinks import open_sink
    from ddim_interp.solver import DDIM, State
    from ddim_interp.style import Style
    from ddim_interp.trajectory import invert, last, sample
    from ddim_interp.verbs import Pipeline


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
