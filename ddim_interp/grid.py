"""Which levels does a trajectory visit?

A grid is a plain tuple of levels from noisy to clean. "The previous level" is the next entry of
that tuple and nothing else: subtracting T // S from the timestep, as diffusers does, misses the
grid whenever S does not divide T or the spacing is not even. One grid serves both directions, so a
picture is inverted along the very levels it is sampled along.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

from ddim_interp.errors import ArgumentError, ScheduleError
from ddim_interp.schedule import Level, NoiseSchedule

__all__ = ["SPACINGS", "Grid", "make_grid", "timesteps"]

Grid: TypeAlias = tuple[Level, ...]
"""Levels from noisy to clean; the number of steps is `len(grid) - 1`."""


def make_grid(
    schedule: NoiseSchedule, steps: int, spacing: str = "log-snr", end: Level | None = None
) -> Grid:
    """Lay `steps` steps along the noise axis.

    leading, linspace, trailing: diffusers' spacings, even in t; `leading` begins T // S short of T.
    uniform, quad: the original DDIM code's (Song et al. 2021, §D.2). `uniform` is every (T // S)-th
        timestep from 0, which is more than S of them unless S divides T: 31 for S = 30, 334 for
        300, 1000 for 600. `quad` is t ∝ i², from 0.8 T.
    log-snr: even in log σ̄ between the noisiest and the cleanest level; timesteps are fractional.
    karras: even in σ̄^(1/7) (Karras et al. 2022, arXiv:2206.00364, eq. 5).
    focus: as log-snr, with steps half as long about σ̄ = 4.5, where it is decided what the picture
        is of: log σ̄ is as dense as 1 + exp(−(log σ̄ − 1.5)² / 8).

    The probability-flow ODE is smooth in log σ̄ and stiff in t near both ends, so `log-snr` needs a
    fraction of the steps of the even-in-t spacings for the same error, and `focus` the fewest where
    steps are few. Those even in t are for comparison with published figures.

    Args:
        schedule: The noise schedule the network was trained with.
        steps: How many steps, 1 … T.
        spacing: A name from `SPACINGS`.
        end: Where sampling ends; `schedule.lowest` (t = 0) when not given. Inversion should start
            there; pass `schedule.clean` to reproduce samplers that step off the table. A spacing
            whose own last level is `end` already (leading, linspace, uniform, quad) is one step
            shorter.

    Returns: The levels, noisy to clean, each strictly cleaner than the one before.

    Raises:
        ScheduleError: `steps` is out of range, or the spacing would start where noise is not yet
            noise (leading, where S does not divide T and S (T // S) is short of T by more than
            15 %), or where it ends (leading, linspace, uniform, quad, S = 1).
        ArgumentError: No spacing has that name.

    Example:
        >>> grid = make_grid(NoiseSchedule.from_config({}), steps=4, spacing="trailing")
        >>> [level.timestep for level in grid]
        [999.0, 749.0, 499.0, 249.0, 0.0]
    """
    end = schedule.lowest if end is None else end
    levels = [schedule.level(t) for t in timesteps(schedule, steps, spacing)]
    first, total = levels[0].timestep, schedule.num_train_timesteps
    if spacing == "leading" and steps * (total // steps) < 0.85 * total:
        raise ScheduleError(
            f"steps={steps} with leading spacing starts at timestep {first:g}, where a picture is "
            f"not yet noise (ᾱ = {levels[0].alpha_bar:.2g}), because it does not divide {total}; "
            "use trailing or log-snr spacing, or a number of steps that does."
        )
    grid = (*(level for level in levels if level.alpha_bar < end.alpha_bar), end)
    if len(grid) == 1:
        raise ScheduleError(
            f"steps={steps} with {spacing} spacing starts at timestep {first:g}, where sampling "
            "would end; use trailing or log-snr spacing, or more steps."
        )
    return grid


def timesteps(
    schedule: NoiseSchedule, steps: int, spacing: str, steps_offset: int = 0
) -> list[float]:
    """Where a spacing puts its evaluations, noisy to clean, without the end level.

    They are `steps` in number, but for `uniform`, which may have more, and `quad`, which merges the
    first few where they round to one timestep.

    Raises:
        ScheduleError: `steps` is out of range, or the offset leads beyond the table.
        ArgumentError: No spacing has that name.

    Example:
        >>> timesteps(NoiseSchedule.from_config({}), 5, "leading")
        [800.0, 600.0, 400.0, 200.0, 0.0]
    """
    if spacing not in SPACINGS:
        raise ArgumentError(
            f"No spacing is called {spacing!r}; choose one of {', '.join(SPACINGS)}."
        )
    total = schedule.num_train_timesteps
    if not 1 <= steps <= total:
        raise ScheduleError(
            f"steps={steps} cannot be laid on a noise schedule of {total} levels; use 1 to {total}."
        )
    chosen = [t + steps_offset for t in SPACINGS[spacing](schedule, steps)]
    if chosen[0] >= total:
        raise ScheduleError(
            f"steps={steps} with steps_offset={steps_offset} starts at timestep {chosen[0]:g}, off "
            f"the {total} levels the network was trained on; use fewer steps, or steps_offset=0."
        )
    return chosen


def _leading(schedule: NoiseSchedule, steps: int) -> list[float]:
    stride = schedule.num_train_timesteps // steps
    return [float(i * stride) for i in reversed(range(steps))]


def _linspace(schedule: NoiseSchedule, steps: int) -> list[float]:
    top = schedule.num_train_timesteps - 1
    if steps == 1:
        return [0.0]  # numpy.linspace(0, top, 1), which is what diffusers asks for
    # numpy multiplies by the stride, and where that rounds matters at halves; round() is to even
    return [float(round(i * (top / (steps - 1)))) for i in reversed(range(steps))]


def _trailing(schedule: NoiseSchedule, steps: int) -> list[float]:
    total = schedule.num_train_timesteps
    # numpy.arange takes its stride from the first two entries. Without its own end it may overshoot
    # to an entry of −1, which diffusers visits; here there are never more than `steps`.
    stride = total - (total - total / steps)
    return [float(round(total - i * stride) - 1) for i in range(steps)]


def _uniform(schedule: NoiseSchedule, steps: int) -> list[float]:
    total = schedule.num_train_timesteps
    return [float(t) for t in reversed(range(0, total, total // steps))]


def _quad(schedule: NoiseSchedule, steps: int) -> list[float]:
    if steps == 1:
        return [0.0]
    top = math.sqrt(0.8 * schedule.num_train_timesteps)
    stride = top / (steps - 1)  # as numpy.linspace has it, whose last entry is the top itself
    ascending = [float(int((i * stride) ** 2)) for i in range(steps - 1)] + [float(int(top**2))]
    # Small squares round to the same timestep; the sampler would stand still there.
    distinct = [t for t, after in pairwise([*ascending, math.inf]) if t != after]
    return distinct[::-1]


def _log_snr(schedule: NoiseSchedule, steps: int) -> list[float]:
    return _warped(schedule, steps, math.log, math.exp)


def _karras(schedule: NoiseSchedule, steps: int) -> list[float]:
    return _warped(schedule, steps, lambda ratio: ratio ** (1 / 7), lambda warped: warped**7)


def _focus(schedule: NoiseSchedule, steps: int) -> list[float]:
    centre, width = 1.5, 2.0  # of log σ̄; measured (docs/fidelity.md)

    def warp(ratio: float) -> float:
        """The integral of the density."""
        at = math.log(ratio)
        return at + width * math.sqrt(math.pi / 2) * math.erf((at - centre) / width / math.sqrt(2))

    def unwarp(warped: float) -> float:
        low, high = schedule.lowest.ratio, schedule.highest.ratio
        for _ in range(60):  # halving, in log σ̄
            middle = math.sqrt(low * high)
            low, high = (middle, high) if warp(middle) < warped else (low, middle)
        return high

    return _warped(schedule, steps, warp, unwarp)


def _warped(
    schedule: NoiseSchedule,
    steps: int,
    warp: Callable[[float], float],
    unwarp: Callable[[float], float],
) -> list[float]:
    """Even steps of `warp(σ̄)` from the noisiest level down; the end at t = 0 is left out."""
    high, low = warp(schedule.highest.ratio), warp(schedule.lowest.ratio)
    ratios = [unwarp(high + (low - high) * i / steps) for i in range(steps)]
    return [schedule.level_at(ratio).timestep for ratio in ratios]


SPACINGS: dict[str, Callable[[NoiseSchedule, int], list[float]]] = {
    "leading": _leading,
    "linspace": _linspace,
    "trailing": _trailing,
    "uniform": _uniform,
    "quad": _quad,
    "log-snr": _log_snr,
    "karras": _karras,
    "focus": _focus,
}
"""Spacings by name; the command line's choices come from here."""
