"""DDIM: Euler's method on the probability-flow ODE, and its exact inverse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser, Prediction, add_noise, among, predict_eps
from ddim_interp.errors import NotInvertibleError
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents
from ddim_interp.solver.base import State, carry, check_arrival
from ddim_interp.solver.history import extrapolate, remember
from ddim_interp.solver.implicit import ImplicitEquation

__all__ = ["DDIM", "Bound", "clip_to", "threshold_at"]

Bound: TypeAlias = Callable[[Images], Images]
"""Keeps a predicted x_0 within the range of pictures."""


def clip_to(limit: float) -> Bound:
    """Clamp x_0 to [−limit, limit] (Ho et al. 2020; `clip_sample` in a scheduler's config)."""
    return lambda x_0: x_0.clamp(-limit, limit)


def threshold_at(ratio: float, maximum: float) -> Bound:
    """Dynamic thresholding: clamp each picture at a quantile of its own |x_0|, then rescale to 1.

    Saharia et al. (2022), Photorealistic text-to-image diffusion models, arXiv:2205.11487, §2.3.

    Args:
        ratio: The quantile, in (0, 1].
        maximum: The threshold lies in [1, maximum].
    """

    def threshold(x_0: Images) -> Images:
        sizes = x_0.flatten(1).abs()
        sizes = sizes if sizes.dtype == torch.float64 else sizes.float()  # as quantile asks
        limit = torch.quantile(sizes, ratio, dim=1).clamp(1, maximum)
        limit = limit[:, None, None, None].to(x_0.dtype)
        return torch.clamp(x_0, -limit, limit) / limit

    return threshold


@dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models: first order, one evaluation a step.

        x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε + σ z,    (x̂_0, ε) = the denoiser's split of x_t
        σ = η √((1−ᾱ_s)/(1−ᾱ_t)) √(1 − ᾱ_t/ᾱ_s),      z ~ N(0, I)

    With η = 0 the step is a map, and `inverse` finds its pre-image: the x_t that solves

        x_t = √(ᾱ_t/ᾱ_s) x_s + b ε(x_t, t),           b = √(1−ᾱ_t) − √(ᾱ_t/ᾱ_s) √(1−ᾱ_s)

    With `ImplicitEquation(passes=1)` that is ordinary DDIM inversion, off by O(step) and the cause
    of most complaints about inversions that do not give the picture back; with a tolerance, the
    round trip is exact to that tolerance.

    Args:
        eta: Share of fresh noise: 0 is DDIM, 1 is DDPM.
        bound: Keeps x̂_0 in range (`clip_to`, `threshold_at`). None keeps the step invertible.
        rederive_eps: Whether ε follows a bounded x̂_0. diffusers calls this
            `use_clipped_model_output`; guided-diffusion always does it.
        noise: Draws z in the shape of its argument; called once a step if η > 0.
        equation: How the inverse is solved.
        warm: Whether the inverse begins from an ε extrapolated from the steps before rather than
            from x_s itself. Same solution, fewer evaluations.
        larger_noise: Whether z is scaled by σ̂ = η √(1 − ᾱ_t/ᾱ_s) instead of σ, as Ho et al. did
            for CIFAR-10, while the direction still makes room for σ only. The original code calls
            η = 1 with it, and x̂_0 clipped, `ddpm_noisy`. The last step to clean draws none.

    References:
        Song, Meng & Ermon (2021), Denoising diffusion implicit models, arXiv:2010.02502,
        eq. 12 (step), eq. 16 (σ), eq. 13 (naive inversion), §5 (σ̂).
    """

    eta: float = 0.0
    bound: Bound | None = None
    rederive_eps: bool = False
    noise: Callable[[Tensor], Tensor] = torch.randn_like
    equation: ImplicitEquation = ImplicitEquation()
    warm: bool = True
    larger_noise: bool = False

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the state to the cleaner level s: one evaluation, none if s is as noisy."""
        t = state.level
        if s.alpha_bar == t.alpha_bar and self.eta == 0 and self.bound is None:
            return State(state.x, s)
        return State(self.transfer(denoiser(state.x, t), state.x, t, s), s)

    def transfer(self, split: Prediction, x_t: Latents, t: Level, s: Level) -> Latents:
        """The step's formula, given what the denoiser said."""
        x_0, eps = split
        if self.bound is not None:
            x_0 = self.bound(x_0)
            if self.rederive_eps:
                eps = predict_eps(x_t, x_0, t)
        if self.eta == 0:
            return add_noise(x_0, eps, s)
        sigma = self.eta * ddpm_variance(t, s) ** 0.5
        direction = max(1 - s.alpha_bar - sigma**2, 0.0) ** 0.5  # rounding may leave less than 0
        if self.larger_noise and sigma > 0:
            sigma = self.eta * (1 - t.alpha_bar / s.alpha_bar) ** 0.5
        x_s: Latents = s.signal * x_0 + direction * eps + sigma * self.noise(x_t)
        return x_s

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Find the x_t that `step` carries to this state.

        Raises:
            NotInvertibleError: The step draws noise, clamps, or starts where no signal is left.
        """
        self._refuse(t)
        x_s, s = state.x, state.level
        scale = t.signal / s.signal
        b = t.noise - scale * s.noise
        if b == 0:
            return State(x_s, t, state.memory)

        def f(y: Latents, rows: Tensor) -> Latents:
            return carry(x_s[rows], among(denoiser, rows)(y, t).eps, s, t)

        start = x_s
        if self.warm and state.memory:
            start = carry(x_s, extrapolate(state.memory, t), s, t)
        residual = None
        if self.equation.passes == 1:  # naive inversion: how far it misses is not measured
            x_t = f(start, torch.arange(len(start), device=start.device))
        else:
            solution = self.equation.solve(f, start, scale)
            x_t, residual = solution.y, solution.residual
        eps = (x_t - scale * x_s) / b
        return State(x_t, t, remember(state.memory, t, eps), residual)

    def _refuse(self, t: Level) -> None:
        if self.eta > 0:
            raise NotInvertibleError(
                f"DDIM(eta={self.eta:g}) draws fresh noise at every step, so no step can be "
                "undone; invert with eta=0."
            )
        if self.bound is not None:
            raise NotInvertibleError(
                "DDIM with a bound on x_0 throws away what it clamps, so a step cannot be undone; "
                "invert, and sample again, with bound=None."
            )
        check_arrival(t)


def ddpm_variance(t: Level, s: Level) -> float:
    """Variance of DDPM's step from t to s: (1−ᾱ_s)/(1−ᾱ_t) · (1 − ᾱ_t/ᾱ_s).

    DDIM, eq. 16, with η = 1.
    """
    return (1 - s.alpha_bar) / (1 - t.alpha_bar) * (1 - t.alpha_bar / s.alpha_bar)
