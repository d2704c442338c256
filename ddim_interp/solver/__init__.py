"""Solvers carry a latent one step along the noise axis, and can undo the step. One file each."""

from ddim_interp.solver.adams import Adams
from ddim_interp.solver.base import PairSolver, Solver, State, begin, carry, settle
from ddim_interp.solver.bdia import BDIA
from ddim_interp.solver.closed import Closed
from ddim_interp.solver.ddim import DDIM, Bound, clip_to, threshold_at
from ddim_interp.solver.dpmpp import DPMpp2M
from ddim_interp.solver.edict import EDICT
from ddim_interp.solver.exact import Exact
from ddim_interp.solver.heun import Heun
from ddim_interp.solver.implicit import ImplicitEquation, Solution
from ddim_interp.solver.leapfrog import Leapfrog
from ddim_interp.solver.obelm import OBELM
from ddim_interp.solver.registry import (
    AUTO,
    AUTO_SAMPLER,
    SOLVERS,
    SolverEntry,
    make_solver,
    name_solver,
)
from ddim_interp.solver.rk45 import RK45
from ddim_interp.solver.trapezoid import Trapezoid

__all__ = [
    "AUTO",
    "AUTO_SAMPLER",
    "BDIA",
    "DDIM",
    "EDICT",
    "OBELM",
    "RK45",
    "SOLVERS",
    "Adams",
    "Bound",
    "Closed",
    "DPMpp2M",
    "Exact",
    "Heun",
    "ImplicitEquation",
    "Leapfrog",
    "PairSolver",
    "Solution",
    "Solver",
    "SolverEntry",
    "State",
    "Trapezoid",
    "begin",
    "carry",
    "clip_to",
    "make_solver",
    "name_solver",
    "settle",
    "threshold_at",
]
