"""Solvers carry a latent one step along the noise axis, and can undo the step. One file each."""

from ddim_interp.solver.base import PairSolver, Solver, State
from ddim_interp.solver.ddim import DDIM, Bound, clip_to, threshold_at
from ddim_interp.solver.implicit import ImplicitEquation, Solution

__all__ = [
    "DDIM",
    "SOLVERS",
    "Bound",
    "ImplicitEquation",
    "PairSolver",
    "Solution",
    "Solver",
    "State",
    "clip_to",
    "threshold_at",
]

SOLVERS = {"ddim": DDIM}
"""Solvers by name; the command line's choices come from here."""
