"""O-BELM: the two-step rule whose weights are fitted to the grid."""

from dataclasses import dataclass

from ddim_interp.denoiser import Denoiser
from ddim_interp.grid import Grid
from ddim_interp.schedule import Level
from ddim_interp.solver.base import Solver, State, check_departure
from ddim_interp.solver.bdia import NAIVE, leap, partner

__all__ = ["OBELM"]


@dataclass(frozen=True)
class OBELM:
    """Bidirectional explicit linear multistep of least error: exact by algebra, second order.

        x̄_s = r² x̄_r + (1 − r²) x̄_t + h (1 + r) ε(x_t, t),    h = σ̄_s − σ̄_t,  r = h / (σ̄_t − σ̄_r)

    The one explicit rule through two levels whose local error is O(h³) on any grid; at even steps
    of σ̄ it is the leapfrog. It is BDIA with γ = r² instead of a constant, and is computed as that.
    One evaluation a step.

    Downwards the grid's steps shrink, r < 1, and errors of the pair die out. Upwards they grow by
    1/r² a step, in all by (h_S/h_1)²: to 1e5 on 50 leading steps from t = 0, 5e6 from the clean
    end, 1e8 on 50 log-snr steps, where the latent that comes out is no noise. Invert with leading
    or linspace spacing, from t = 0.

    Args:
        start: Takes the first step of a walk, when there is no pair yet.

    References:
        Wang et al. (2024), BELM: Bidirectional explicit linear multi-step sampler for exact
        inversion in diffusion models, arXiv:2410.07273.
    """

    start: Solver = NAIVE

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Carry the pair to the cleaner level s: one evaluation, none if its partner is there.

        Raises:
            ScheduleError: The state is pure noise, or the pair was made on another grid.
        """
        check_departure(state.level)
        if not state.memory:
            return partner(state, self.start.step(denoiser, state, s))
        return leap(denoiser, state, s, _weight(state, s))

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Carry the pair to the noisier level t: one evaluation, none if its partner is there.

        Raises:
            NotInvertibleError: t is pure noise.
            ScheduleError: The pair was made on another grid.
        """
        if not state.memory:
            return partner(state, self.start.inverse(denoiser, state, t))
        return leap(denoiser, state, t, _weight(state, t))

    def growth(self, grid: Grid) -> float:
        """(h_S/h_1)², levels counted from the cleanest."""
        return ((grid[0].ratio - grid[1].ratio) / (grid[-2].ratio - grid[-1].ratio)) ** 2


def _weight(state: State, target: Level) -> float:
    """r² in the units of x."""
    before, _ = state.memory[0]
    r = (target.ratio - state.level.ratio) / (state.level.ratio - before.ratio)
    return r**2 * target.signal / before.signal
