"""The implicit trapezoid: the same equation read from either end."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser, among
from ddim_interp.schedule import Level
from ddim_interp.shapes import Latents
from ddim_interp.solver.base import State, carry
from ddim_interp.solver.ddim import DDIM
from ddim_interp.solver.history import extrapolate, remember
from ddim_interp.solver.implicit import ImplicitEquation

__all__ = ["Trapezoid"]


@dataclass(frozen=True)
class Trapezoid:
    """Second order and symmetric: exactly invertible with a single latent.

        x̄_s = x̄_t + (σ̄_s − σ̄_t) (ε(x_t, t) + ε(x_s, s)) / 2

    Exchange t and s and the equation is the same. Whoever solves it for x_s has stepped, whoever
    solves it for x_t has undone the step, and there is no second latent to keep. Both are exact to
    the equation's tolerance, and both cost its passes: sampling is dearer than with an explicit
    solver. ε at the end just found is the ε at the beginning of the next step, so a step costs as
    many evaluations as passes, and the first step of a walk one more.

    The unknown is ε at the far end. Upwards the iteration contracts by (1 − σ̄_s/σ̄_t)/2 or better,
    half of DDIM's; downwards by (σ̄_t/σ̄_s − 1)/2. Steps that divide σ̄ by more than 3 may have more
    than one solution there, each with a small residual, and for a picture strange to the network
    the way back may find another than the way up came from. DDIM, whose step is a formula, cannot
    go astray so. From 20 log-snr steps on it did not happen.

    At the clean end (timestep −1), of which a network knows nothing, the step and its inverse are
    DDIM's.

    Args:
        equation: How the equation is solved, in both directions. Tighter than DDIM's, since the way
            back is solved as well, and downwards what it misses is magnified.

    References:
        Hairer, Lubich & Wanner (2006), Geometric numerical integration, §II.4 and §V.1 (symmetric
        methods are their own inverse).
    """

    equation: ImplicitEquation = ImplicitEquation(tolerance=3e-5)

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Solve for the state at the cleaner level s."""
        if s.timestep < 0:
            return DDIM().step(denoiser, state, s)
        return self._cross(denoiser, state, s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Solve the same equation for the state at the noisier level t.

        Raises:
            NotInvertibleError: t is pure noise.
        """
        if state.level.timestep < 0:
            return DDIM(equation=self.equation).inverse(denoiser, state, t)
        return self._cross(denoiser, state, t)

    def _cross(self, denoiser: Denoiser, state: State, target: Level) -> State:
        x, level, memory = state.x, state.level, state.memory
        if not memory or memory[-1][0] != level:
            memory = remember(memory, level, denoiser(x, level).eps)
        here = memory[-1][1]

        def reach(there: Tensor, rows: Tensor) -> Latents:
            """x at the target, if ε is `there` at it."""
            return carry(x[rows], (here[rows] + there) / 2, level, target)

        def f(there: Tensor, rows: Tensor) -> Tensor:
            return among(denoiser, rows)(reach(there, rows), target).eps

        # An error of 1 in ε shifts x by this much at the cleaner end.
        shift = max(level.signal, target.signal) * abs(level.ratio - target.ratio) / 2
        solution = self.equation.solve(f, extrapolate(memory, target), scale=1 / shift)
        x = reach(solution.y, torch.arange(len(x), device=x.device))
        memory = remember(memory, target, solution.y)
        return State(x, target, memory, solution.residual)
