"""Heun's method: look ahead, average, and step again."""

from dataclasses import dataclass

from ddim_interp.denoiser import Denoiser
from ddim_interp.schedule import Level
from ddim_interp.solver.base import State, carry

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun:
    """The explicit trapezoid of Karras et al.: second order, two evaluations a step.

        x'  = carry(x_t, ε(x_t, t))                   Euler's step, which is DDIM's
        x_s = carry(x_t, (ε(x_t, t) + ε(x', s)) / 2)  the same with the mean of both ends

    The inverse is the same scheme walked upwards. It comes back to within O(step²) a picture, not
    exactly; `Exact(Heun())` undoes the very step. Nothing is iterated, so nothing can diverge: of
    all inverses here the most forgiving of pictures the network finds strange.

    A network knows nothing of the clean end (timestep −1); a step there takes ε from its other end
    alone, as in the paper.

    References:
        Karras et al. (2022), Elucidating the design space of diffusion-based generative models,
        arXiv:2206.00364, algorithm 1.
    """

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the state to the cleaner level s: two evaluations, one if s is the clean end."""
        return _walk(denoiser, state, s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Walk to the noisier level t: two evaluations, one from the clean end.

        Raises:
            NotInvertibleError: t is pure noise.
        """
        return _walk(denoiser, state, t)


def _walk(denoiser: Denoiser, state: State, target: Level) -> State:
    x, level = state.x, state.level
    if level.timestep < 0:
        return State(carry(x, denoiser(x, target).eps, level, target), target)
    eps = denoiser(x, level).eps
    ahead = carry(x, eps, level, target)
    if target.timestep >= 0:
        eps = (eps + denoiser(ahead, target).eps) / 2
        ahead = carry(x, eps, level, target)
    return State(ahead, target)
