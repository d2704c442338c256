"""Close a round trip: correct the latent until the walk down ends on the picture."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ddim_interp.denoiser import Denoiser, among
from ddim_interp.grid import Grid
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents
from ddim_interp.solver.base import Solver, State
from ddim_interp.solver.implicit import ImplicitEquation, Solution

__all__ = ["Closed"]


@dataclass(frozen=True)
class Closed:
    """Any sampler made exactly invertible, multistep ones too: a single latent, found as a whole.

        z ← z + E(x_0) − E(D(z)),      z = E(x_0) at first

    D walks the grid down by the solver's steps, E walks it up by its inverses, which undo those
    only roughly. A latent that decodes to x_0 stands still; any other is moved by what the walk up
    sees of its error. The iteration contracts by as much as E D differs from the identity, so the
    better the round trip was the faster it closes: a second-order solver needs two or three rounds,
    and Anderson's mixing helps where a picture is strange to the network. Solving each step for
    itself (`Exact`, `DDIM`) costs passes at every step and needs steps that depend on x alone; here
    the steps may remember, and frames are drawn at the plain sampler's price.

    A round is one walk down and one up, for the pictures still open: 2 S evaluations, and S for
    the last, which finds nothing left to do. A picture is done when no pixel of what its latent
    decodes to is off by more than the tolerance.

    Args:
        solver: How to walk. It draws no noise, clamps nothing, and its point is x alone.
        equation: How z is solved for: a pass is a round, and the tolerance is the largest error of
            a pixel, in [−1, 1]; it has to be below 1/255, half an 8-bit level.

    References:
        Stetter (1978), The defect correction principle and discretization methods, Numerische
        Mathematik 29 (the iteration, with E the approximate inverse of D).

    Example:
        >>> from ddim_interp.denoiser import GaussianDenoiser
        >>> from ddim_interp.grid import make_grid
        >>> from ddim_interp.schedule import NoiseSchedule
        >>> from ddim_interp.solver.dpmpp import DPMpp2M
        >>> from ddim_interp.trajectory import invert, last, sample
        >>> model, solver = GaussianDenoiser(variance=0.1), Closed(DPMpp2M())
        >>> grid = make_grid(NoiseSchedule.from_config({}), steps=10)
        >>> picture = torch.ones(1, 1, 8, 8)
        >>> z = last(invert(model, picture, grid, solver)).x
        >>> bool((last(sample(model, z, grid, solver)).x - picture).abs().max() <= 2.5e-3)
        True
    """

    solver: Solver
    equation: ImplicitEquation = ImplicitEquation(passes=8, tolerance=2.5e-3)

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """The solver's own step."""
        return self.solver.step(denoiser, state, s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """The solver's own inverse, which the end of the walk makes good."""
        return self.solver.inverse(denoiser, state, t)

    def close(self, denoiser: Denoiser, x_0: Images, x_T: Latents, grid: Grid) -> Iterator[State]:
        """Correct the latents that a walk up the grid ended with.

        Args:
            denoiser: Splits x_t into picture and noise.
            x_0: The pictures that the walk began with, (N, C, H, W).
            x_T: What it ended with, (N, C, H, W).
            grid: Levels, noisy to clean.

        Yields: The latents as they were, once for each step of the walks; and at last as they are.
            Their residual then is what the last walk down missed of the picture, and `decoded` what
            it arrived at, if every picture was closed.
        """
        waiting = State(x_T, grid[0])
        decoded = torch.full_like(x_0, torch.nan)
        residual = torch.full_like(x_0[:, 0, 0, 0], torch.inf)
        still_open = torch.ones_like(residual, dtype=torch.bool)
        # Tolerance is judged here, by pixels: what is near enough stays, and so is solved exactly.
        search = replace(self.equation, tolerance=0.0).search(x_T)
        question = next(search)
        while True:
            z, rows = question
            state, asked = State(z, grid[0]), among(denoiser, rows)
            for s in grid[1:]:
                state = self.solver.step(asked, state, s)
                yield waiting
            missed = state.x - x_0[rows]
            decoded[rows] = state.x
            residual[rows] = missed.flatten(1).square().mean(1).sqrt().to(residual.dtype)
            # A comparison with NaN is false: what is not known to be near is far.
            far = ~(missed.flatten(1).abs().amax(1) <= self.equation.tolerance)
            still_open[rows] = far
            corrected = z.clone()
            if far.any():
                state, asked = State(state.x[far], grid[-1]), among(denoiser, rows[far])
                for t in reversed(grid[:-1]):
                    state = self.solver.inverse(asked, state, t)
                    yield waiting
                corrected[far] = z[far] + x_T[rows[far]] - state.x
            try:
                question = search.send(corrected)
            except StopIteration as found:
                solution: Solution = found.value
                break
        seen = None if bool(still_open.any()) else decoded
        yield State(solution.y, grid[0], residual=residual, decoded=seen)
