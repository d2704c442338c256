"""Walk a grid: noise to picture, picture to noise.

Both walks are generators that yield the state after every step, so that whoever wants a progress
bar, a preview or a record puts it around them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isclose

import torch

from ddim_interp.denoiser import Denoiser
from ddim_interp.errors import NonFiniteError, ScheduleError
from ddim_interp.grid import Grid
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents
from ddim_interp.solver import DDIM, Closed, Solver, State

__all__ = ["about_steps", "check_finite", "invert", "last", "sample"]


def sample(
    denoiser: Denoiser, x_T: Latents | State, grid: Grid, solver: Solver | None = None
) -> Iterator[State]:
    """Carry latents from the first level of the grid to the last: noise becomes picture.

    Args:
        denoiser: Splits x_t into picture and noise.
        x_T: Latents at `grid[0]`, (N, C, H, W); or the state an inversion ended with, for solvers
            that remember more than x.
        grid: Levels, noisy to clean.
        solver: How to step; `DDIM()` when not given.

    Yields: The state after each of the `len(grid) - 1` steps; the last one's x is x_0.

    Raises:
        ScheduleError: The state is of another level than `grid[0]`.
        NonFiniteError: NaN or infinity turned up; says at which step and in which picture.

    Example:
        >>> from ddim_interp.denoiser import GaussianDenoiser
        >>> from ddim_interp.grid import make_grid
        >>> from ddim_interp.schedule import NoiseSchedule
        >>> grid = make_grid(NoiseSchedule.from_config({}), steps=50)
        >>> black = GaussianDenoiser(mean=-1.0, variance=0.0)
        >>> x_0 = last(sample(black, torch.randn(1, 3, 8, 8), grid)).x
        >>> bool((x_0.mean() + 1).abs() < 0.01)
        True
    """
    solver = DDIM() if solver is None else solver
    state = _begin(x_T, grid[0])
    for number, s in enumerate(grid[1:], start=1):
        state = solver.step(denoiser, state, s)
        yield check_finite(state, number)


def invert(
    denoiser: Denoiser, x_0: Images | State, grid: Grid, solver: Solver | None = None
) -> Iterator[State]:
    """Carry pictures from the last level of the grid to the first: the inverse of `sample`.

    Args:
        denoiser: Splits x_t into picture and noise.
        x_0: Pictures, taken to live at `grid[-1]`, (N, C, H, W), in [−1, 1].
        grid: Levels, noisy to clean: the very grid to sample along later.
        solver: Whose steps to undo; `DDIM()` when not given.

    Yields: The state after each of the `len(grid) - 1` steps; then, where the solver makes them
        good at the end (`Closed`), the last one again for each step of its walks. The very last
        one's x is x_T.

    Raises:
        NotInvertibleError: The solver's steps lose information.
        NonFiniteError: NaN or infinity turned up; says at which step and in which picture.
    """
    solver = DDIM() if solver is None else solver
    state = _begin(x_0, grid[-1])
    pictures = state.x
    for number, t in enumerate(reversed(grid[:-1]), start=1):
        state = solver.inverse(denoiser, state, t)
        yield check_finite(state, number)
    if isinstance(solver, Closed):
        for corrected in solver.close(denoiser, pictures, state.x, grid):
            yield check_finite(corrected, len(grid))


def about_steps(grid: Grid, solver: Solver) -> int:
    """How many states `invert` is going to yield, to measure progress by.

    A walk that is made good at the end goes up and down, and for the slowest of a few pictures
    mostly three times more.
    """
    return (len(grid) - 1) * (8 if isinstance(solver, Closed) else 1)


def last(states: Iterable[State]) -> State:
    """Run a walk to its end, keeping one state in memory.

    Raises:
        ScheduleError: The walk is empty.
    """
    state = None
    for state in states:  # noqa: B007
        pass
    if state is None:
        raise ScheduleError("A walk over a grid of one level takes no step; give a grid of two.")
    return state


def _begin(x: Latents | State, level: Level) -> State:
    if not isinstance(x, State):
        return State(x, level)
    if not isclose(x.level.ratio, level.ratio, rel_tol=1e-6):
        raise ScheduleError(
            f"These latents are of timestep {x.level.timestep:g}, and the grid begins at "
            f"{level.timestep:g}; walk the grid they were found on, or invert once more."
        )
    return replace(x, level=level)


def check_finite(state: State, number: int) -> State:
    """Pass the state on if every number in it is one.

    Raises:
        NonFiniteError: One is not; says at which step and in which picture.
    """
    good = torch.isfinite(state.x).flatten(1).all(1)
    if state.residual is not None:
        good &= torch.isfinite(state.residual)
    if not bool(good.all()):
        raise NonFiniteError(
            f"Step {number}, at timestep {state.level.timestep:g}, turned picture "
            f"{', '.join(map(str, (~good).nonzero()[:, 0].tolist()))} of the batch into NaN or "
            f"infinity, in {str(state.x.dtype).removeprefix('torch.')}; use more steps, another "
            "--solver, or another --model."
        )
    return state
