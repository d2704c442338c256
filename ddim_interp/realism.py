"""Could the model have made this picture? Asked of the model itself.

A denoiser is at home in what it was trained on: noise is added to a picture, and what it tells of
the noise is compared with the truth. A picture that is grainier or stranger than the model's own is
told badly, one that is smoother too well. It takes no labels, no other network and no collection of
pictures, and a handful of evaluations a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser, add_noise
from ddim_interp.inversion import sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.shapes import Images

__all__ = ["RATIOS", "Realism", "denoising_errors"]

RATIOS = (0.2, 0.5, 1.2, 3.5, 12.0)
"""Noise-to-signal ratios σ̄ at which the model is asked: from grain to the coarse picture."""


@torch.inference_mode()
def denoising_errors(model: Model, images: Images, denoiser: Denoiser | None = None) -> Tensor:
    """How far the model misses the noise in each picture, at each of `RATIOS`.

        e = |ε̂(√ᾱ x + √(1−ᾱ) ε) − ε|² / d        x: the picture, or what an autoencoder makes of it

    The noise is the same for all pictures, so that differences between them are their own.

    Args:
        model: The model.
        images: (N, C, H, W), in [−1, 1]; what lies beyond is clamped, as in a saved picture.
        denoiser: Instead of the model's: one that counts, or takes a few pictures at a time.

    Returns: (N, len(RATIOS)), float64. A ratio off the model's schedule is moved to its end.
    """
    ask = denoiser or model.denoiser
    x_0 = model.encode(images.clamp(-1, 1))
    eps = model.place(draw([0], model.shape)).expand_as(x_0)
    low, high = model.schedule.lowest.ratio, model.schedule.highest.ratio
    errors = []
    for ratio in RATIOS:
        t = model.schedule.level_at(min(max(ratio, low), high))
        missed = ask(add_noise(x_0, eps, t), t).eps - eps
        errors.append(missed.double().square().mean((1, 2, 3)))
    return torch.stack(errors, dim=1).cpu()


@dataclass(frozen=True, eq=False)
class Realism:
    """A scale on which a model's own samples, or other pictures to compare with, score 1.

        realism(x) = mean over noise levels of e(x) / e(reference)

    Below 1, pictures are smoother than the reference, as a cross-fade is; above, grainier or
    stranger. What a picture shows moves its score too: bare paper scores lower than a bunch of
    grapes. So compare means over several pictures, or a film's middle with its own ends.

    Args:
        reference: Mean error of the reference at each of `RATIOS`, (L,).

    Example:
        >>> from ddim_interp import GaussianDenoiser, NoiseSchedule
        >>> grey = Model(GaussianDenoiser(variance=0.1), NoiseSchedule.from_config({}), (1, 8, 8))
        >>> scale = Realism.of_samples(grey, Plan(), seeds=range(4))
        >>> own = sample_latents(grey, draw(range(4), (1, 8, 8)), Plan())
        >>> round(scale(grey, own).mean().item()), bool((scale(grey, own / 2) < 1).all())
        (1, True)
    """

    reference: Tensor

    @classmethod
    def of_samples(cls, model: Model, plan: Plan, seeds: Sequence[int] = range(16)) -> "Realism":
        """The scale on which the model's pictures of these seeds score 1."""
        return cls.of_images(model, sample_latents(model, draw(seeds, model.shape), plan))

    @classmethod
    def of_images(cls, model: Model, images: Images) -> "Realism":
        """The scale on which these pictures score 1, (N, C, H, W)."""
        return cls(denoising_errors(model, images).mean(0))

    def __call__(self, model: Model, images: Images) -> Tensor:
        """The score of each picture, (N,)."""
        return (denoising_errors(model, images) / self.reference).mean(1)
