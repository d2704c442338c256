"""Did it work? Numbers to trust an inversion by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.latents import latent_power
from ddim_interp.shapes import Images, Latents

__all__ = ["Certificate", "certify"]


@dataclass(frozen=True)
class Certificate:
    """How faithfully one picture went into noise space and came back.

    Args:
        roundtrip_mse: Mean squared difference between the picture and its decoded latent, pixels
            in [0, 1].
        roundtrip_max_level: Largest difference of a pixel, in 8-bit levels; 0 means that the saved
            pictures are equal.
        latent_power: |z|² / d; 1 for typical noise.
        residuals: How far each step of the inversion missed its equation, relative to the noise at
            its level; empty if nothing had to be solved.
        nfe: Network evaluations the inversion took, for this picture.
    """

    roundtrip_mse: float
    roundtrip_max_level: int
    latent_power: float
    residuals: tuple[float, ...] = ()
    nfe: float = 0.0

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio of the round trip, in dB; infinite for no difference."""
        return -10 * math.log10(self.roundtrip_mse) if self.roundtrip_mse > 0 else math.inf

    @property
    def verdict(self) -> str:
        """What the numbers mean, in words."""
        exact = self.roundtrip_max_level == 0
        power = self.latent_power
        there = "comes back exactly" if exact else f"comes back to {self.psnr:.1f} dB"
        if abs(power - 1) <= 0.05:
            where = "its latent is typical noise"
        elif power < 1:
            where = f"its latent is too quiet (|z|²/d = {power:.2f}); middles may look bleached"
        else:
            where = f"its latent is too loud (|z|²/d = {power:.2f}); middles may look harsh"
        return f"the picture {there}; {where}"


def certify(
    pictures: Images,
    decoded: Images,
    latents: Latents,
    residuals: Sequence[Tensor] = (),
    nfe: Tensor | None = None,
) -> tuple[Certificate, ...]:
    """One certificate per picture.

    Args:
        pictures: What was inverted, (N, C, H, W), in [−1, 1].
        decoded: What its latents decode to, (N, C, H, W).
        latents: x_T, (N, C, H, W).
        residuals: Of each step of the inversion, (N,) each.
        nfe: Evaluations spent on each picture, (N,).

    Example:
        >>> grey = torch.zeros(1, 3, 8, 8)
        >>> certify(grey, grey + 0.02, torch.ones_like(grey))[0].roundtrip_max_level
        3
    """
    unit = [(x.double() / 2 + 0.5).clamp(0, 1) for x in (pictures, decoded)]
    levels = [(x * 255).round() for x in unit]
    mse = (unit[0] - unit[1]).flatten(1).square().mean(1).tolist()
    most = (levels[0] - levels[1]).flatten(1).abs().amax(1).tolist()
    power = latent_power(latents).tolist()
    steps = torch.stack(list(residuals), dim=1).tolist() if residuals else [[]] * len(mse)
    spent = [0.0] * len(mse) if nfe is None else nfe.tolist()
    return tuple(
        Certificate(mse[i], int(most[i]), power[i], tuple(steps[i]), spent[i])
        for i in range(len(mse))
    )
