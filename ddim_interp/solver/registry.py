"""Solvers by name, with what each costs and when to take it."""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import NamedTuple

from ddim_interp.errors import ArgumentError
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver.adams import Adams
from ddim_interp.solver.base import Solver
from ddim_interp.solver.bdia import BDIA
from ddim_interp.solver.closed import Closed
from ddim_interp.solver.ddim import DDIM
from ddim_interp.solver.dpmpp import DPMpp2M
from ddim_interp.solver.edict import EDICT
from ddim_interp.solver.exact import Exact
from ddim_interp.solver.heun import Heun
from ddim_interp.solver.implicit import ImplicitEquation
from ddim_interp.solver.leapfrog import Leapfrog
from ddim_interp.solver.obelm import OBELM
from ddim_interp.solver.pair import NAIVE
from ddim_interp.solver.rk45 import RK45
from ddim_interp.solver.trapezoid import Trapezoid

__all__ = ["AUTO", "AUTO_SAMPLER", "SOLVERS", "SolverEntry", "make_solver", "name_solver"]


class SolverEntry(NamedTuple):
    """What to know of a solver before taking it.

    Args:
        make: Builds it, with its defaults, for a noise schedule.
        order: Halving every step divides the error of sampling by 2^order.
        step: Evaluations a step takes when sampling, at most; None if it takes what it needs, or
            needs more at the end of the walk.
        inverse: The same when inverting.
        exact: Whether walks up and down end where they began, to the tolerance or to rounding.
        summary: When to take it, in one line.
    """

    make: Callable[[NoiseSchedule], Solver]
    order: int
    step: int | None
    inverse: int | None
    exact: bool
    summary: str


_PASSES = ImplicitEquation().passes

SOLVERS: dict[str, SolverEntry] = {
    "ddim": SolverEntry(
        lambda _: DDIM(), 1, 1, _PASSES, True, "a single latent, solved for; the simplest exact one"
    ),
    "ddim-naive": SolverEntry(
        lambda _: NAIVE, 1, 1, 1, False, "inversion as commonly done; for comparison"
    ),
    "heun": SolverEntry(
        lambda _: Heun(), 2, 2, 2, False, "explicit; forgiving of pictures strange to the model"
    ),
    "heun-exact": SolverEntry(
        lambda _: Exact(Heun()), 2, 2, 2 * _PASSES, True, "second-order frames; dear to invert"
    ),
    "trapezoid": SolverEntry(
        lambda _: Trapezoid(),
        2,
        _PASSES + 1,
        _PASSES + 1,
        True,
        "exact, with the truest latents for the evaluations; dear frames",
    ),
    "dpmpp-2m": SolverEntry(
        lambda _: DPMpp2M(), 2, 1, 1, False, "second-order frames at DDIM's price; well known"
    ),
    "adams": SolverEntry(
        lambda _: Adams(), 2, 1, 1, False, "the nearest frames for the evaluations"
    ),
    "dpmpp-exact": SolverEntry(
        lambda _: Closed(DPMpp2M()),
        2,
        1,
        None,
        True,
        "the same frames, from single latents that give the picture back",
    ),
    "rk45": SolverEntry(
        RK45, 5, None, None, False, "adaptive; the trajectory itself, as a yardstick"
    ),
    "leapfrog": SolverEntry(
        lambda _: Leapfrog(),
        2,
        1,
        1,
        True,
        "a pair, by algebra: most for the evaluations, to and fro; what auto tries first",
    ),
    "bdia": SolverEntry(
        lambda _: BDIA(), 2, 1, 1, True, "a pair, by algebra; ripples once it is blended"
    ),
    "o-belm": SolverEntry(
        lambda _: OBELM(), 2, 1, 1, True, "a pair, by algebra; loud latents, but on leading grids"
    ),
    "edict": SolverEntry(
        lambda _: EDICT(), 1, 2, 2, True, "a pair, by algebra; not to be blended, up to 50 steps"
    ),
}
"""Solvers by name; the command line's choices come from here."""


AUTO = ("leapfrog", "dpmpp-exact", "ddim")
"""What `auto` tries, in this order, until pictures come back exactly from latents like noise: first
algebra, which closes whatever the network says of a picture, for one evaluation a step either way;
then single latents, corrected until the walk down ends on the picture; then one equation a step."""

AUTO_SAMPLER = "dpmpp-2m"
"""What `auto` draws seeds by, where no picture has to be given back: second order, for one
evaluation a step."""


def make_solver(name: str, schedule: NoiseSchedule) -> Solver:
    """Build a solver with its defaults.

    Raises:
        ArgumentError: No solver has that name.

    Example:
        >>> make_solver("heun", NoiseSchedule.from_config({}))
        Heun()
    """
    if name not in SOLVERS:
        raise ArgumentError(
            f"No solver is called {name!r}; choose one of {', '.join(SOLVERS)}, or plan with auto."
        )
    return SOLVERS[name].make(schedule)


def name_solver(solver: Solver) -> str:
    """What recipes call a solver: its name in `SOLVERS`, or how it differs from its defaults.

    Example:
        >>> name_solver(BDIA()), name_solver(BDIA(gamma=0.5))
        ('bdia', 'BDIA(gamma=0.5)')
    """
    schedule = getattr(solver, "schedule", NoiseSchedule.from_config({}))
    for name, entry in SOLVERS.items():
        if entry.make(schedule) == solver:
            return name
    changed = ""
    if is_dataclass(solver):
        own = {field.name: (getattr(solver, field.name), field.default) for field in fields(solver)}
        changed = ", ".join(
            f"{name}={value!r}"
            for name, (value, default) in own.items()
            if value != default and not isinstance(value, NoiseSchedule)
        )
    # Where a function lies in memory is no part of its name: a recipe must repeat.
    return re.sub(r" at 0x[0-9a-f]+", "", f"{type(solver).__name__}({changed})")
