"""What will ε be at the next level, judging by the levels before?

ε(x(σ̄), σ̄) is smooth along a trajectory, far smoother in log σ̄ than the trajectory is straight.
Solvers that iterate begin from a guess, and this one costs no evaluation.
"""

import math

from torch import Tensor

from ddim_interp.schedule import Level
from ddim_interp.solver.base import Memory

__all__ = ["extrapolate", "remember"]


def remember(memory: Memory, level: Level, eps: Tensor, depth: int = 2) -> Memory:
    """Append ε at a level, in place of any older one at that level; keep the `depth` newest."""
    others = tuple(past for past in memory if past[0].alpha_bar != level.alpha_bar)
    return (*others, (level, eps))[-depth:]


def extrapolate(memory: Memory, level: Level) -> Tensor:
    """Lagrange's polynomial in log σ̄ through all that is remembered, read off at `level`.

    A level among the remembered ones gives back its own ε. At the clean end, where log σ̄ has no
    value, the newest is all there is to go by.

    Args:
        memory: At least one tensor with its level.
        level: Where to guess.

    Example:
        >>> import torch
        >>> line = tuple((Level(t, a), torch.tensor(Level(t, a).ratio).log())
        ...              for t, a in [(1.0, 0.9), (2.0, 0.8)])
        >>> bool(torch.isclose(extrapolate(line, Level(9.0, 0.5)), torch.tensor(0.0), atol=1e-6))
        True
    """
    if level.noise == 0 or any(past.noise == 0 for past, _ in memory):
        return memory[-1][1]
    at = math.log(level.ratio)
    nodes = [math.log(past.ratio) for past, _ in memory]
    weights = [
        math.prod((at - other) / (node - other) for j, other in enumerate(nodes) if j != i)
        for i, node in enumerate(nodes)
    ]
    return sum(
        (weight * eps for weight, (_, eps) in zip(weights[1:], memory[1:], strict=True)),
        start=weights[0] * memory[0][1],
    )
