"""BDIA: leap over the present from the past to the future."""

from dataclasses import dataclass

from ddim_interp.denoiser import Denoiser
from ddim_interp.errors import ArgumentError, ScheduleError
from ddim_interp.grid import Grid
from ddim_interp.schedule import Level
from ddim_interp.solver.base import Solver, State, carry, check_departure
from ddim_interp.solver.ddim import DDIM
from ddim_interp.solver.implicit import ImplicitEquation

__all__ = ["BDIA", "NAIVE", "leap", "partner"]

NAIVE = DDIM(equation=ImplicitEquation(passes=1), warm=False)
"""Begins a pair: one evaluation in either direction."""


@dataclass(frozen=True)
class BDIA:
    """Bi-directional integration approximation: exact by algebra, one evaluation a step.

        z_s = γ z_r + D(t→s) − γ D(t→r),        D(t→·) = carry(z_t, ε(z_t, t), t, ·)

    r is the level before t. DDIM's step from t to s is corrected by what DDIM's step from t back to
    r misses. Solved for z_r the formula is itself, with 1/γ for γ and the neighbours exchanged, so
    that the pair (z_s, z_t) knows where it came from. γ = 1 is a leapfrog rule, second order where
    the grid's steps change slowly, as log-snr's do; less is first order, and γ = 0 would be DDIM,
    which forgets.

    Less γ damps what the members disagree about when sampling, and magnifies it when inverting, by
    1/γ a step: at γ = 0.5 to 5e2 over 10 steps, 5e5 over 20, 6e14 over 50, which is the end of
    float64 and of the round trip. With γ = 1 inversion is at its best, and a pair that was blended
    from others, whose members fit one another only roughly, is sampled with a visible ripple. The
    authors use 0.5 for 10 steps and 1 for 40.

    Invert from t = 0 (`schedule.lowest`): from the clean end the first step is a guess.

    Args:
        gamma: γ, in (0, 1].
        start: Takes the first step of a walk, when there is no pair yet.

    Raises:
        ArgumentError: γ is not in (0, 1].

    References:
        Zhang, Lewis & Kleijn (2023), Exact diffusion inversion via bi-directional integration
        approximation, arXiv:2307.10829.
    """

    gamma: float = 1.0
    start: Solver = NAIVE

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ArgumentError(
                f"gamma={self.gamma:g} gives no pair that can be walked both ways; use a number "
                "above 0, where the past counts, and at most 1, where it stays stable."
            )

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the pair to the cleaner level s: one evaluation, none if its partner is there.

        Raises:
            ScheduleError: The state is pure noise, or the pair was made on another grid.
        """
        check_departure(state.level)
        if not state.memory:
            return partner(state, self.start.step(denoiser, state, s))
        return leap(denoiser, state, s, self.gamma)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Carry the pair to the noisier level t: one evaluation, none if its partner is there.

        Raises:
            NotInvertibleError: t is pure noise.
            ScheduleError: The pair was made on another grid.
        """
        if not state.memory:
            return partner(state, self.start.inverse(denoiser, state, t))
        return leap(denoiser, state, t, 1 / self.gamma)

    def growth(self, grid: Grid) -> float:
        """γ^−(S−1) √(ᾱ_0 ᾱ_1 / (ᾱ_{S−1} ᾱ_S)), levels counted from the cleanest."""
        clean, noisy = grid[-1].signal * grid[-2].signal, grid[1].signal * grid[0].signal
        return self.gamma ** -(len(grid) - 2) * clean / noisy


def partner(before: State, after: State) -> State:
    """The first pair: where the walk was, and where it is."""
    return State(after.x, after.level, ((before.level, before.x),))


def leap(denoiser: Denoiser, state: State, target: Level, weight: float) -> State:
    """One step of a two-step rule, up or down: z' = D(t→target) + weight (z_r − D(t→r)).

    The same rule with 1 / weight, from the new pair, leads back. A pair that turns round needs no
    rule: it already holds the latent it is asked for.

    Raises:
        ScheduleError: The pair's members are not neighbours of the target on one grid.
    """
    level = state.level
    ((before, past),) = state.memory
    if before.alpha_bar == target.alpha_bar:
        return State(past, target, ((level, state.x),))
    if (before.alpha_bar - level.alpha_bar) * (level.alpha_bar - target.alpha_bar) <= 0:
        raise ScheduleError(
            f"A pair of latents at timesteps {level.timestep:g} and {before.timestep:g} cannot be "
            f"carried to timestep {target.timestep:g}; use the grid it was made on."
        )
    eps = denoiser(state.x, level).eps
    missed = past - carry(state.x, eps, level, before)
    x = carry(state.x, eps, level, target) + weight * missed
    return State(x, target, ((level, state.x),))
