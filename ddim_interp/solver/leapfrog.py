"""The damped leapfrog: a pair whose weight follows the noise."""

from dataclasses import dataclass

from ddim_interp.errors import ArgumentError
from ddim_interp.schedule import Level
from ddim_interp.solver.pair import TwoStep

__all__ = ["Leapfrog"]


@dataclass(frozen=True)
class Leapfrog(TwoStep):
    """Second order, stable both ways, and fit to be blended: the two-step rule with

        w = (√(1−ᾱ_s) / √(1−ᾱ_r))^κ

    Between BDIA with γ = 1 (κ = 0), whose pairs ripple once they are blended, and O-BELM (κ = 1, on
    a log-snr grid), whose latents are ruined on the way up, lies a rule with neither fault. w tends
    to 1 as the steps shrink, which keeps the order; and what the members disagree about is damped
    by the same power of the noise, whatever the number of steps. Next to the clean end, where there
    is no noise, w = 1.

    Args:
        damping: κ, in [0, 1].

    Raises:
        ArgumentError: κ is not in [0, 1].

    References:
        The rule is that of Zhang, Lewis & Kleijn (2023), BDIA, arXiv:2307.10829; its stability is
        studied by Wang et al. (2024), BELM, arXiv:2410.07273. The weight is this project's.

    Example:
        >>> import torch
        >>> from ddim_interp.denoiser import GaussianDenoiser
        >>> from ddim_interp.grid import make_grid
        >>> from ddim_interp.schedule import NoiseSchedule
        >>> from ddim_interp.trajectory import invert, last, sample
        >>> model, solver = GaussianDenoiser(variance=0.1), Leapfrog()
        >>> grid = make_grid(NoiseSchedule.from_config({}), steps=20)
        >>> picture = torch.ones(1, 1, 8, 8)
        >>> pair = last(invert(model, picture, grid, solver))
        >>> bool((last(sample(model, pair, grid, solver)).x - picture).abs().max() < 1e-5)
        True
    """

    damping: float = 0.33

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= 1:
            raise ArgumentError(
                f"damping={self.damping:g} makes no stable pair; use a number from 0, for none, "
                "to 1."
            )

    def weight(self, r: Level, t: Level, s: Level) -> float:
        """Below 1 downwards, above 1 upwards."""
        if r.noise == 0 or s.noise == 0:
            return 1.0
        return float((s.noise / r.noise) ** self.damping)
