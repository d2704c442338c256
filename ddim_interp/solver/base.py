"""What a solver is, and what travels through it.

Without fresh noise (η = 0) all samplers discretise one ordinary differential equation. In
x̄ = x / √ᾱ and σ̄ = √(1−ᾱ) / √ᾱ it reads

    dx̄ / dσ̄ = ε(x, t)                (Song et al. 2021, DDIM, arXiv:2010.02502, eq. 14)

Sampling walks it from noise to picture, inversion from picture to noise.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ddim_interp.denoiser import Denoiser
from ddim_interp.schedule import Level
from ddim_interp.shapes import Latents

__all__ = ["Solver", "State"]


@dataclass(frozen=True)
class State:
    """A batch of latents on its way along the noise axis.

    Args:
        x: The latents, (N, C, H, W).
        level: How noisy they are.
        memory: What the solver has to remember, if anything: tensors of x's shape, each with the
            level it belongs to.
        residual: How far the last step missed the equation it solved, per picture, (N,), relative
            to the noise at its level; None where nothing had to be solved.
    """

    x: Latents
    level: Level
    memory: tuple[tuple[Level, Tensor], ...] = ()
    residual: Tensor | None = None


@runtime_checkable
class Solver(Protocol):
    """One step along the noise axis, and its undoing."""

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the state to a cleaner level s."""
        ...

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Find the state at a noisier level t that `step` carries to this one."""
        ...
