"""DPM-Solver++ 2M: the multistep method that most image generators sample with."""

import math
from dataclasses import dataclass

from ddim_interp.denoiser import Denoiser
from ddim_interp.schedule import Level
from ddim_interp.solver.base import State, carry, carry_picture, check_arrival

__all__ = ["DPMpp2M"]


@dataclass(frozen=True)
class DPMpp2M:
    """Second order for one evaluation a step, by remembering the step before.

        D   = x̂_0(x_t) + h/(2h') (x̂_0(x_t) − x̂_0 of the step before)
        x_s = √(1−ᾱ_s)/√(1−ᾱ_t) x_t − √ᾱ_s (e^−h − 1) D,      h = λ_s − λ_t

    λ = log √ᾱ/√(1−ᾱ), and h' is the step before. D is x̂_0 half-way in λ, read off the line through
    the two that are known; with it the step is DDIM's. Without a past, and next to an infinite λ,
    D is x̂_0(x_t) alone.

    The inverse walks the same scheme upwards. It is explicit and off by O(step²) a picture: cheap
    latents, but not the very picture back. Solving for x_t would not make it exact, since the step
    depends on the one before it as well.

    References:
        Lu et al. (2022), DPM-Solver++, arXiv:2211.01095, algorithm 2.
    """

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the state to the cleaner level s: one evaluation."""
        return _walk(denoiser, state, s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Walk to the noisier level t: one evaluation. From the clean end, it is DDIM's naive one.

        Raises:
            NotInvertibleError: t is pure noise.
        """
        check_arrival(t)
        if state.level.timestep < 0:
            return State(carry(state.x, denoiser(state.x, t).eps, state.level, t), t)
        return _walk(denoiser, state, t)


def _walk(denoiser: Denoiser, state: State, target: Level) -> State:
    x, level = state.x, state.level
    x_0 = halfway = denoiser(x, level).x_0
    h = target.log_snr - level.log_snr
    if state.memory and math.isfinite(h):
        before, past = state.memory[-1]
        halfway = x_0 + h / (2 * (level.log_snr - before.log_snr)) * (x_0 - past)
    return State(carry_picture(x, halfway, level, target), target, ((level, x_0),))
