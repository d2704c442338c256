"""What a solver is, and what travels through it.

Without fresh noise (η = 0) all samplers discretise one ordinary differential equation. In
x̄ = x / √ᾱ and σ̄ = √(1−ᾱ) / √ᾱ it reads

    dx̄ / dσ̄ = ε(x, t)                (Song et al. 2021, DDIM, arXiv:2010.02502, eq. 14)

Sampling walks it from noise to picture, inversion from picture to noise. Solvers differ in the ε
they walk along, not in the walking, which is `carry`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ddim_interp.denoiser import Denoiser, add_noise, predict_eps, predict_x0
from ddim_interp.errors import NotInvertibleError, ScheduleError
from ddim_interp.grid import Grid
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents

__all__ = [
    "Memory",
    "PairSolver",
    "Solver",
    "State",
    "begin",
    "carry",
    "carry_picture",
    "check_arrival",
    "check_departure",
    "settle",
]

Memory = tuple[tuple[Level, Tensor], ...]
"""Tensors of x's shape, each with the level it belongs to; oldest first."""


@dataclass(frozen=True, eq=False)
class State:
    """A batch of latents on its way along the noise axis.

    The memory belongs to this x. Whoever changes x starts over with `State(x, level)`, or, where
    the solver is a `PairSolver`, changes the memory's tensors in the same way.

    Args:
        x: The latents, (N, C, H, W).
        level: How noisy they are.
        memory: What the solver remembers, if anything: ε or x̂_0 at levels it came through, which
            save evaluations or raise the order and may be dropped at the end of a walk; or the
            other member of a pair, which may not (`PairSolver`, `settle`).
        residual: How far the last step missed the equation it solved, per picture, (N,): root mean
            square, in the units of x at the cleaner end of the step, so that 2/255 is one 8-bit
            level there. None where nothing had to be solved, or nothing was measured.
        decoded: The pictures that x decodes to, (N, C, H, W), where the solver had to look.
        dither: What x decodes to besides the picture, and is to be taken off it, (N, C, H, W); see
            `Plan`. It travels with the latents of an inversion; no solver looks at it.
    """

    x: Latents
    level: Level
    memory: Memory = ()
    residual: Tensor | None = None
    decoded: Tensor | None = None
    dither: Tensor | None = None

    def moved(self, move: Callable[[Tensor], Tensor]) -> "State":
        """x and all that the solver remembers, changed alike; nothing else is left."""
        memory = tuple((level, move(kept)) for level, kept in self.memory)
        return State(move(self.x), self.level, memory)


@runtime_checkable
class Solver(Protocol):
    """One step along the noise axis, and its undoing."""

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the state to a cleaner level s."""
        ...

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Find the state at a noisier level t that `step` carries to this one."""
        ...


@runtime_checkable
class PairSolver(Solver, Protocol):
    """A solver whose point is a pair: `State.x` and one tensor in `State.memory`.

    Two coupled latents can be stepped to and fro by algebra alone: the round trip is exact to
    rounding and nothing is solved. The price is that x without its partner is worth little, so the
    memory is stored and blended along with x, and that rounding grows on the way up.
    """

    def growth(self, grid: Grid) -> float:
        """How the difference of the members' x̄ grows from an inversion's first pair to its last.

        Exact for an ε that stays the same along the way; a network's own pull on its pictures damps
        some of it. Where the growth nears the dtype's precision (1e7 in float32, 1e16 in float64)
        the round trip is lost; long before that, the latent may be no noise.
        """
        ...


def carry(x: Latents, eps: Latents, t: Level, s: Level) -> Latents:
    """Go from level t to level s along one ε, up or down: in x̄ and σ̄, a straight line.

        x_s = √ᾱ_s x̂_0 + √(1−ᾱ_s) ε,    x̂_0 = (x_t − √(1−ᾱ_t) ε) / √ᾱ_t
        x̄_s = x̄_t + (σ̄_s − σ̄_t) ε

    `carry(carry(x, eps, t, s), eps, s, t)` is x: with the same ε a step undoes itself. Every
    solver's art is in choosing the ε.

    Args:
        x: Latents at level t, (N, C, H, W).
        eps: The slope, (N, C, H, W).
        t: From here.
        s: To here.

    Raises:
        ScheduleError: t is pure noise, where σ̄ is infinite.
        NotInvertibleError: s is pure noise, where nothing is left of the picture.

    Example:
        >>> import torch
        >>> t, s = Level(500.0, 0.5), Level(100.0, 0.9)
        >>> x, eps = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
        >>> round(carry(x, eps, t, s).item() ** 2, 4)  # no noise: x scales with √ᾱ
        1.8
    """
    check_departure(t)
    check_arrival(s)
    return add_noise(predict_x0(x, eps, t), eps, s)


def carry_picture(x: Latents, x_0: Images, t: Level, s: Level) -> Latents:
    """Go from level t to level s along the ε that is left of x if the picture under it is x_0."""
    return add_noise(x_0, predict_eps(x, x_0, t), s)


def check_departure(t: Level) -> None:
    """Raise ScheduleError if σ̄ is infinite at level t, so that no slope leads away from it."""
    if t.alpha_bar == 0:
        raise ScheduleError(
            f"Timestep {t.timestep:g} is pure noise (ᾱ = 0), which only the solvers ddim, adams "
            "and dpmpp-2m can start from; use one of them, or begin the grid at a lower level."
        )


def check_arrival(t: Level) -> None:
    """Raise NotInvertibleError if no trace of a picture would be left at level t."""
    if t.alpha_bar == 0:
        raise NotInvertibleError(
            f"Timestep {t.timestep:g} is pure noise (ᾱ = 0), where nothing is left of the "
            "picture; begin the grid at a lower level."
        )


def settle(solver: Solver, state: State) -> State:
    """The end of a walk, without what only helped on the way.

    A pair solver's other member stays: it is half of the latent. A dither stays, too.
    """
    memory = state.memory if isinstance(solver, PairSolver) else ()
    return State(state.x, state.level, memory, dither=state.dither)


def begin(solver: Solver, denoiser: Denoiser, x_T: Latents, grid: Grid) -> State:
    """Noise as an inversion to the top of this grid would have left it, so that the two can blend.

    A pair solver's other member is what sampling will make of x_T in its first step, which is taken
    and undone for it: one evaluation for the two-step rules, four for EDICT, none for all others.

    Args:
        solver: What will sample it.
        denoiser: What it will ask.
        x_T: Latents at `grid[0]`, (N, C, H, W).
        grid: Levels, noisy to clean.
    """
    state = State(x_T, grid[0])
    if not isinstance(solver, PairSolver):
        return state
    state = solver.inverse(denoiser, solver.step(denoiser, state, grid[1]), grid[0])
    return State(x_T, grid[0], state.memory)
