"""Something to look at while one waits: the same latents, decoded in few steps."""

import math
from dataclasses import dataclass, replace

from ddim_interp.grid import Grid
from ddim_interp.model import Model, Plan
from ddim_interp.morph import Morph
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import Solver
from ddim_interp.solver.leapfrog import Leapfrog
from ddim_interp.style import QUICK_TOLERANCE

__all__ = ["sketch_of", "sketch_plan"]

_STEPS = 6


def sketch_of(film: Morph) -> Morph | None:
    """The same film in few steps, at a uniform pace; None if it has few itself."""
    plan = sketch_plan(film.model, film.plan)
    if plan == film.plan:
        return None
    # What the network said on the whole walk is of no use on this one.
    each = tuple(replace(keyframe, notes=None) for keyframe in film.keyframes)
    found = replace(film.found, each=each, plan=plan)
    style = replace(film.style, pace="uniform", tolerance=QUICK_TOLERANCE)
    return replace(film, found=found, style=style)


def sketch_plan(model: Model, plan: Plan, steps: int = _STEPS) -> Plan:
    """A plan of few steps that decodes the latents of another; that one, if there is none.

    Half a pair says little. So a pair is decoded as one, on fewer of its own levels, where its rule
    bears that: the damped leapfrog's does, with one evaluation more. O-BELM's and EDICT's do not,
    and theirs are decoded as single latents.

    Args:
        model: The model.
        plan: What found the latents.
        steps: How many.

    Example:
        >>> from ddim_interp import GaussianDenoiser, NoiseSchedule
        >>> grey = Model(GaussianDenoiser(), NoiseSchedule.from_config({}), (1, 8, 8))
        >>> sketch_plan(grey, Plan(solver="heun")).steps, sketch_plan(grey, Plan(steps=4)).steps
        (6, 4)
        >>> pair = Plan(solver="leapfrog")
        >>> [round(level.timestep) for level in sketch_plan(grey, pair).walk(grey.schedule)[0]]
        [999, 950, 843, 722, 577, 302, 86, 9, 0]
    """
    grid, solver = plan.walk(model.schedule)
    if isinstance(solver, Leapfrog):
        stops = steps + 2  # the first is the pair's other member, and costs nothing
        return _Thinned(**vars(plan), stops=stops) if plan.steps > stops else plan
    few = Plan.quick(steps=steps, depth=plan.depth, dither=plan.dither)
    begins_there = few.walk(model.schedule)[0][0] == grid[0]
    return few if plan.steps > steps and begins_there else plan


@dataclass(frozen=True)
class _Thinned(Plan):
    """A walk that leaves levels out: none between the two of the pair, and more and more after."""

    stops: int = 0

    def walk(self, schedule: NoiseSchedule) -> tuple[Grid, Solver]:
        """The first level, and the i-th of these stops at the i^p-th one, where the last is at the
        end."""
        grid, solver = super().walk(schedule)
        power = math.log(len(grid) - 1, self.stops)
        return (grid[0], *(grid[round(i**power)] for i in range(1, self.stops + 1))), solver
