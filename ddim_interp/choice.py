"""Which solver? The first that gives every picture back.

No solver is best for all pictures. `auto` tries them in the order of what they cost, looks at the
certificates, and is content when the pictures come back to the bit and no latent is louder than
noise by a solver's own doing. Where none gets so far it keeps the one that comes nearest. What was
passed over, and why, is part of the result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ddim_interp.checks import POWER_LIMITS, Certificate
from ddim_interp.errors import NonFiniteError
from ddim_interp.model import Plan
from ddim_interp.solver import AUTO

__all__ = ["Choice", "Trial", "choose"]


RIPPLE = 0.5
"""So much louder than noise may a pair's own ripple make a latent; by a third, that of a network
trained for minutes. What is louder still is so by the picture's doing, which no solver mends."""


class Trial(Protocol):
    """Pictures inverted by one plan."""

    @property
    def certificates(self) -> Sequence[Certificate]:
        """How that went, picture by picture."""

    @property
    def nfe(self) -> int:
        """Network evaluations it took."""


T = TypeVar("T", bound=Trial)


@dataclass(frozen=True)
class Choice(Generic[T]):
    """What was chosen.

    Args:
        trial: What the chosen plan found.
        plan: That plan; its solver has a name, and not `auto`.
        nfe: Network evaluations of all trials.
        passed_over: For each plan tried in vain: what came of it.
    """

    trial: T
    plan: Plan
    nfe: int
    passed_over: tuple[str, ...] = ()


def choose(plan: Plan, attempt: Callable[[Plan], T]) -> Choice[T]:
    """Try a plan's candidates until pictures come back exactly, in 8 bits, from latents like noise.

    Args:
        plan: What is wished for. With a solver named, there is nothing to choose.
        attempt: Inverts the pictures by a plan, and decodes them to see.

    Raises:
        NonFiniteError: Every candidate ran into NaN or infinity; the first one's words.
    """
    trials: list[tuple[Plan, T]] = []
    failed: list[NonFiniteError] = []
    said: dict[str, str] = {}  # by solver
    for candidate in plan.candidates():
        try:
            trial = attempt(candidate)
        except NonFiniteError as error:
            failed.append(error)
            said[str(candidate.solver)] = f"{candidate.solver} failed: {error}"
            continue
        trials.append((candidate, trial))
        worst = max((each.inversion.max_level for each in trial.certificates), default=0)
        # Single latents are as loud as the trajectory is; only a pair can be so by itself.
        loudest = _ripple(trial) if candidate.solver == AUTO[0] else 0.0
        if worst == 0 and not loudest:
            break
        said[str(candidate.solver)] = f"{candidate.solver} " + (
            f"was off by up to {worst} of 255 levels"
            if worst
            else f"made a latent too loud by itself (|z|²/d = {1 + loudest:.2f})"
        )
    if not trials:
        raise failed[0]
    chosen, best = min(trials, key=lambda entry: _error(entry[1]))
    said.pop(str(chosen.solver), None)
    return Choice(best, chosen, sum(trial.nfe for _, trial in trials), tuple(said.values()))


def _ripple(trial: Trial) -> float:
    """By how much the loudest latent is louder than noise, of those that a solver may have made so;
    0 if there is none."""
    excesses = (each.latent_power - 1 for each in trial.certificates if each.grade != "partial")
    return max((x for x in excesses if POWER_LIMITS[0] < x < RIPPLE), default=0.0)


def _error(trial: Trial) -> tuple[int, float, float]:
    """The worst picture's difference, in levels first; 8-bit exact is as good as exact, and then
    the quieter latents are better."""
    certificates = trial.certificates
    return (
        max((each.inversion.max_level for each in certificates), default=0),
        round(_ripple(trial), 2),
        max((each.inversion.mse for each in certificates), default=0.0),
    )
