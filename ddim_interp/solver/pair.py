"""Two neighbouring latents know the way in both directions."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ddim_interp.denoiser import Denoiser
from ddim_interp.errors import ScheduleError
from ddim_interp.grid import Grid
from ddim_interp.schedule import Level
from ddim_interp.solver.base import State, carry, check_departure
from ddim_interp.solver.ddim import DDIM
from ddim_interp.solver.implicit import ImplicitEquation

__all__ = ["NAIVE", "TwoStep"]

NAIVE = DDIM(equation=ImplicitEquation(passes=1), warm=False)
"""Begins a pair: one evaluation in either direction."""


@dataclass(frozen=True)
class TwoStep(ABC):
    """A rule through three neighbouring levels r, t, s: exact by algebra, one evaluation a step.

        z_s = D(t→s) + w (z_r − D(t→r)),        D(t→·) = carry(z_t, ε(z_t, t), t, ·)

    DDIM's step from t to s is corrected by w times what DDIM's step from t back to r misses. Solved
    for z_r this is the same rule, with r and s exchanged and 1/w for w: the pair (z_s, z_t) knows
    where it came from. The rules differ in w. The error of a step is least where the correction
    fits the grid, near w = 1; a smaller w damps what the members of a pair disagree about on the
    way down, and magnifies it by as much on the way up.

    The first step of a walk, when there is no pair yet, is DDIM's.
    """

    @abstractmethod
    def weight(self, r: Level, t: Level, s: Level) -> float:
        """w of the step from t to s with r behind; `weight(s, t, r)` is 1 over it."""

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the pair to the cleaner level s: one evaluation, none if its partner is there.

        Raises:
            ScheduleError: The state is pure noise, or the pair was made on another grid.
        """
        check_departure(state.level)
        if not state.memory:
            return _pair(state, NAIVE.step(denoiser, state, s))
        return self._leap(denoiser, state, s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Carry the pair to the noisier level t: one evaluation, none if its partner is there.

        Raises:
            NotInvertibleError: t is pure noise.
            ScheduleError: The pair was made on another grid.
        """
        if not state.memory:
            return _pair(state, NAIVE.inverse(denoiser, state, t))
        return self._leap(denoiser, state, t)

    def growth(self, grid: Grid) -> float:
        """Π w √(ᾱ_r/ᾱ_s) over the steps upwards, from r over t to s."""
        upwards = grid[::-1]
        triples = zip(upwards, upwards[1:], upwards[2:], strict=False)
        return math.prod(self.weight(r, t, s) * r.signal / s.signal for r, t, s in triples)

    def _leap(self, denoiser: Denoiser, state: State, s: Level) -> State:
        x_t, t = state.x, state.level
        ((r, x_r),) = state.memory
        if r.alpha_bar == s.alpha_bar:  # the walk has turned round, and knows where it came from
            return State(x_r, s, ((t, x_t),))
        if (r.alpha_bar - t.alpha_bar) * (t.alpha_bar - s.alpha_bar) <= 0:
            raise ScheduleError(
                f"A pair of latents at timesteps {t.timestep:g} and {r.timestep:g} cannot be "
                f"carried to timestep {s.timestep:g}; use the grid it was made on."
            )
        eps = denoiser(x_t, t).eps
        missed = x_r - carry(x_t, eps, t, r)
        x_s = carry(x_t, eps, t, s) + self.weight(r, t, s) * missed
        return State(x_s, s, ((t, x_t),))


def _pair(before: State, after: State) -> State:
    return State(after.x, after.level, ((before.level, before.x),))
