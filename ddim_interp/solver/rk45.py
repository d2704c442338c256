"""RK45: as many evaluations as the accuracy takes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser
from ddim_interp.errors import NonFiniteError
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver.base import State, carry, check_arrival, check_departure

__all__ = ["RK45"]

# Dormand & Prince's tableau: stage i is at node c_i and leans on the slopes before it. The seventh
# stage is the fifth-order result, and its slope the first of the next step.
_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_FOURTH = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_ERROR = tuple(fifth - fourth for fifth, fourth in zip((*_STAGES[6], 0), _FOURTH, strict=True))


@dataclass(frozen=True)
class RK45:
    """Dormand and Prince's adaptive Runge-Kutta method, fifth order.

        dx̄ / d log σ̄ = σ̄ ε(√ᾱ x̄, t(σ̄))

    Between two levels of the grid it takes the substeps that keep the estimated error, in units of
    atol + rtol |x̄|, below 1: root mean square over a picture, for the worst picture of the batch.
    Six evaluations a substep, also for one that is refused. The inverse is the same walked
    upwards; the round trip closes to the tolerance, times what the trajectory magnifies on the way.
    With tight tolerances this is the trajectory itself, and what other solvers' latents are to be
    compared with.

    Substeps end where the grid does not, so the timestep there has to be asked of the schedule.
    The clean end (timestep −1), of which a network knows nothing, is reached and left by DDIM's
    step with the ε of the other end.

    Args:
        schedule: The noise schedule the network was trained with.
        rtol: Relative tolerance.
        atol: Absolute tolerance, in the units of x̄.

    References:
        Dormand & Prince (1980), A family of embedded Runge-Kutta formulae, J. Comp. Appl. Math. 6.
        Song et al. (2021), Score-based generative modeling through stochastic differential
        equations, arXiv:2011.13456, §4.3 (the tolerances).
    """

    schedule: NoiseSchedule
    rtol: float = 1e-5
    atol: float = 1e-5

    def step(self, denoiser: Denoiser, state: State, s: Level) -> State:
        """Integrate down to the cleaner level s.

        Raises:
            ScheduleError: The state is pure noise.
            NonFiniteError: No step is short enough, as when the network returns NaN.
        """
        check_departure(state.level)
        if s.timestep < 0:
            eps = denoiser(state.x, state.level).eps
            return State(carry(state.x, eps, state.level, s), s)
        return self._integrate(denoiser, state, s)

    def inverse(self, denoiser: Denoiser, state: State, t: Level) -> State:
        """Integrate up to the noisier level t.

        Raises:
            NotInvertibleError: t is pure noise.
            NonFiniteError: No step is short enough, as when the network returns NaN.
        """
        check_arrival(t)
        if state.level.timestep < 0:
            return State(carry(state.x, denoiser(state.x, t).eps, state.level, t), t)
        return self._integrate(denoiser, state, t)

    def _integrate(self, denoiser: Denoiser, state: State, target: Level) -> State:
        def slope(x_bar: Tensor, at: Level) -> Tensor:
            return at.ratio * denoiser(at.signal * x_bar, at).eps

        level, x_bar = state.level, state.x / state.level.signal
        here, end = math.log(level.ratio), math.log(target.ratio)
        known = bool(state.memory) and state.memory[-1][0] == level
        first = level.ratio * state.memory[-1][1] if known else slope(x_bar, level)
        h, shortest = end - here, 1e-6 * abs(end - here)
        while here != end:
            slopes = [first]
            for node, weights in zip(_NODES[1:], _STAGES[1:], strict=True):
                log_ratio = here + node * h
                last = abs(end - log_ratio) < shortest
                at = target if last else self.schedule.level_at(math.exp(log_ratio))
                ahead = x_bar + h * _combine(weights, slopes)
                slopes.append(slope(ahead, at))
            error = self._error(h * _combine(_ERROR, slopes), x_bar, ahead)
            if error <= 1:
                x_bar, first, here = ahead, slopes[-1], end if last else log_ratio
            elif not abs(h) > shortest:
                raise NonFiniteError(
                    f"RK45 found no step short enough at timestep {at.timestep:g} (the error is "
                    f"{error:.1e} times what rtol={self.rtol:g} and atol={self.atol:g} allow); "
                    "use --dtype fp32, or looser tolerances."
                )
            h *= min(max(0.9 * max(error, 1e-8) ** -0.2, 0.2), 5.0)  # 0.2 if the error is infinite
            h = math.copysign(min(abs(h), abs(end - here)), h)
        return State(target.signal * x_bar, target, ((target, first / target.ratio),))

    def _error(self, error: Tensor, before: Tensor, after: Tensor) -> float:
        """Error over tolerance: root mean square of each picture, the worst of the batch."""
        allowed = self.atol + self.rtol * torch.maximum(before.abs(), after.abs())
        worst = (error / allowed).flatten(1).square().mean(1).sqrt().max().item()
        return math.inf if math.isnan(worst) else worst


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Σ_j w_j k_j."""
    terms = (weight * k for weight, k in zip(weights, slopes, strict=True) if weight)
    return torch.stack(list(terms)).sum(0)
