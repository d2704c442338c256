"""Undo any step, exactly: solve for the latent that it carries to the one at hand."""

from dataclasses import dataclass

from torch import Tensor

from ddim_interp.denoiser import Denoiser, among
from ddim_interp.schedule import Level
from ddim_interp.shapes import Latents
from ddim_interp.solver.base import Solver, State, carry, check_arrival
from ddim_interp.solver.history import extrapolate, remember
from ddim_interp.solver.implicit import ImplicitEquation

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact:
    """A one-step solver with its inverse replaced by the true one.

        y ← y − √(ᾱ_t/ᾱ_s) (step(y) − x_s)        Anderson-accelerated

    Sampling stays as cheap as the solver's own step: the iteration is paid for once a picture, when
    it is inverted, and not once a frame. For Euler's step this is `DDIM.inverse`. The factor undoes
    the scaling of x between the levels, so what is iterated is the slope of the step, and it
    contracts wherever the step is short enough for the explicit solver to be of use.

    Args:
        solver: Whose steps to undo. Its step must be a function of x alone: no fresh noise, no
            memory of earlier steps, no pair.
        equation: How the inverse is solved. A pass costs one step of the solver.

    Example:
        >>> import torch
        >>> from ddim_interp.denoiser import GaussianDenoiser
        >>> from ddim_interp.solver.heun import Heun
        >>> t, s, model = Level(500.0, 0.5), Level(100.0, 0.9), GaussianDenoiser(variance=0.1)
        >>> solver = Exact(Heun(), ImplicitEquation(tolerance=1e-6))
        >>> z = solver.inverse(model, State(torch.ones(1, 1, 8, 8), s), t)
        >>> bool((solver.step(model, z, s).x - 1).abs().max() < 1e-5)
        True
    """

    solver: Solver
    equation: ImplicitEquation = ImplicitEquation()

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """The solver's own step."""
        return self.solver.step(denoiser, State(state.x, state.level), s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Find the x_t that `step` carries to this state; the residual says how nearly it does.

        Raises:
            NotInvertibleError: t is pure noise.
        """
        check_arrival(t)
        x_s, s = state.x, state.level
        scale = t.signal / s.signal

        def f(y: Latents, rows: Tensor) -> Latents:
            stepped = self.solver.step(among(denoiser, rows), State(y, t), s)
            return y - scale * (stepped.x - x_s[rows])

        start = x_s
        if state.memory:  # the slope of the steps before is nearly that of this one: fewer passes
            start = carry(x_s, extrapolate(state.memory, t), s, t)
        solution = self.equation.solve(f, start, scale)
        slope = (solution.y - scale * x_s) / (t.noise - scale * s.noise)
        return State(solution.y, t, remember(state.memory, t, slope), solution.residual)
