"""The noise schedules of training programs, as a scheduler's config says them."""

import math
from collections.abc import Sequence

from ddim_interp.convert.hints import Hints
from ddim_interp.errors import ModelError
from ddim_interp.schedule import PredictionType, SchedulerConfig, cosine_betas

__all__ = ["scheduler_config", "thinned"]

_TOLD = 1000  # timesteps that a network trained with `rescale_timesteps` is told


def scheduler_config(hints: Hints, source: str) -> SchedulerConfig:
    """The schedule of Ho et al. (2020), "linear", or Nichol & Dhariwal (2021), "cosine".

    A linear schedule of T steps other than 1000 has its βs multiplied by 1000/T, unless the hints
    name them. A network that was told rescaled timesteps gets the entries of the table at which it
    was told a whole number: those are exact, and levels between them are interpolated as always.

    Args:
        hints: What is known.
        source: What to call the model in a message.

    Raises:
        ModelError: Rescaled timesteps that do not fall on entries of the table.
    """
    total = hints.timesteps or _TOLD
    kind: PredictionType = hints.prediction_type or "epsilon"  # type: ignore[assignment]
    start = hints.beta_start or 0.0001 * _TOLD / total
    end = hints.beta_end or 0.02 * _TOLD / total
    cosine = hints.noise_schedule == "cosine"
    if not hints.rescale_timesteps or total == _TOLD:
        config = SchedulerConfig(
            num_train_timesteps=total,
            beta_start=start,
            beta_end=end,
            beta_schedule="squaredcos_cap_v2" if cosine else "linear",
            prediction_type=kind,
        )
        return SchedulerConfig.from_mapping(config.to_dict(), source)
    if total % _TOLD:
        raise ModelError(
            f"{source} was told {total} timesteps rescaled to {_TOLD}, which do not fall on whole "
            "numbers; such a table cannot be written down."
        )
    betas = thinned(cosine_betas(total) if cosine else _linear(start, end, total), total // _TOLD)
    return SchedulerConfig(trained_betas=tuple(betas), prediction_type=kind)


def thinned(betas: Sequence[float], stride: int) -> list[float]:
    """The βs of a table that keeps every `stride`-th entry of ᾱ, beginning with the first.

    Example:
        >>> [round(beta, 6) for beta in thinned([0.1, 0.2, 0.3, 0.4], 2)]
        [0.1, 0.44]
    """
    kept = [betas[0]]
    for i in range(stride, len(betas), stride):
        kept.append(1 - math.prod(1 - beta for beta in betas[i - stride + 1 : i + 1]))
    return kept


def _linear(start: float, end: float, total: int) -> list[float]:
    return [start + (end - start) * i / (total - 1) for i in range(total)]
