"""What does a cheaper precision cost in the frames?"""

from collections.abc import Sequence

import torch

from ddim_interp.checks import Fidelity, compare
from ddim_interp.denoiser import CountCalls
from ddim_interp.inversion import sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.watch import Watch, unwatched

__all__ = ["measure_draft"]


@torch.inference_mode()
def measure_draft(
    model: Model, plan: Plan, seeds: Sequence[int] = range(8), watch: Watch = unwatched
) -> Fidelity:
    """Draw seeds in the precision of inversion and in that of frames; the pair least alike."""
    latents = draw(seeds, model.shape)
    exact = sample_latents(model, latents, plan, watch)
    drafted = sample_latents(model, latents, plan, watch, CountCalls(model.for_frames))
    return max(compare(exact, drafted), key=lambda found: found.mse)
