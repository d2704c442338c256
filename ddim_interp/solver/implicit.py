"""Solve y = f(y), where each f costs a network evaluation and each picture needs its own number.

Undoing a step means finding the latent that the step carries to the one at hand. The network has to
be evaluated at the unknown, so this is an equation and not a formula.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.shapes import Latents

__all__ = ["ImplicitEquation", "Question", "Solution"]

Question: TypeAlias = tuple[Latents, Tensor]
"""What is f(y)? And of which pictures of the batch: y, (M, C, H, W), and their places, (M,)."""


@dataclass(frozen=True)
class Solution:
    """Where an iteration ended.

    Args:
        y: The solution, (N, C, H, W).
        residual: The smallest that was measured, ‖f(y) − y‖ / (scale √d) per picture, (N,).
    """

    y: Latents
    residual: Tensor


@dataclass(frozen=True)
class ImplicitEquation:
    """Anderson-accelerated fixed-point iteration, with a residual for every picture.

        y_{k+1} = Σ_j θ_j f(y_{k−j}),   θ = argmin ‖Σ_j θ_j (f(y_{k−j}) − y_{k−j})‖²,  Σ_j θ_j = 1

    Plain iteration (window = 1) converges only where f contracts, and in the middle of the noise
    axis it often does not. Mixing the last few iterates so that their residuals cancel converges
    there too. Every picture stops by itself once its residual is below the tolerance: the network
    then sees only the others. A picture that is done takes one more mixing, which costs nothing and
    leaves it better than the residual measured. A picture that is not returns the iterate with the
    smallest residual measured, so that a diverging iteration makes nothing worse.

    Args:
        passes: Evaluations of f at most, at least 1.
        tolerance: Residual at which a picture is done, relative to `scale`. Solvers measure it in
            pictures, in [−1, 1]: 1e-4 is 1/78 of an 8-bit level, and small enough for a round trip
            of 20 steps to end on the same level everywhere. 0 spends every pass.
        window: Iterates mixed, at least 1, which is plain fixed-point iteration.

    Raises:
        ArgumentError: `passes` or `window` is less than 1.

    References:
        Anderson (1965), Iterative procedures for nonlinear integral equations, J. ACM 12.
        Walker & Ni (2011), Anderson acceleration for fixed-point iterations, SIAM J. Num. An. 49.
        Pan et al. (2023), Effective real image editing with accelerated iterative diffusion
        inversion, arXiv:2309.04907 (fixed-point and accelerated inversion of DDIM).

    Example:
        >>> half = lambda y, rows: 0.5 * y + 1
        >>> equation = ImplicitEquation(passes=5, tolerance=1e-6)
        >>> equation.solve(half, torch.zeros(1, 1, 1, 1)).y.item()
        2.0
    """

    passes: int = 12
    tolerance: float = 1e-4
    window: int = 4

    def __post_init__(self) -> None:
        if self.passes < 1 or self.window < 1:
            raise ArgumentError(
                f"passes={self.passes} and window={self.window} cannot be iterated with; "
                "both count from 1."
            )

    def solve(
        self, f: Callable[[Latents, Tensor], Latents], start: Latents, scale: float = 1.0
    ) -> Solution:
        """Iterate from `start`.

        Args:
            f: Called as `f(y, rows)`: y holds some pictures of the batch, `rows` says which, (M,).
            start: Where to begin, (N, C, H, W).
            scale: What a residual is measured against: its rms value is divided by this.
        """
        search = self.search(start, scale)
        question = next(search)
        while True:
            try:
                question = search.send(f(*question))
            except StopIteration as found:
                solution: Solution = found.value
                return solution

    def search(self, start: Latents, scale: float = 1.0) -> Generator[Question, Latents, Solution]:
        """The iteration for those who evaluate f themselves: it asks, is sent f(y), and returns.

        Args:
            start: Where to begin, (N, C, H, W).
            scale: What a residual is measured against.
        """
        best_y, best_f = start.clone(), start.clone()
        best = torch.full((len(start),), torch.inf, dtype=start.dtype, device=start.device)
        strikes = torch.zeros_like(best)  # passes astray in a row
        rows = torch.arange(len(start), device=start.device)
        y = start
        ys: list[Latents] = []
        fs: list[Latents] = []
        for _ in range(self.passes):
            f_y = yield y, rows
            residual = (f_y - y).flatten(1).square().mean(1).sqrt() / scale
            better = residual < best[rows]
            best[rows[better]] = residual[better]
            best_y[rows[better]], best_f[rows[better]] = y[better], f_y[better]
            # NaN says nothing of f, and would stay in the mixture for as long as it is remembered.
            broken = ~residual.isfinite()
            y = torch.where(_column(broken), best_y[rows], y)
            f_y = torch.where(_column(broken), best_f[rows], f_y)
            ys, fs = [*ys, y][-self.window :], [*fs, f_y][-self.window :]
            # An iterate that ran away still says how f bends, so it is mixed in once. From the
            # second in a row on: back to the best one, and a step from there, halved every time.
            strikes[rows] = torch.where(residual <= 4 * best[rows], 0, strikes[rows] + 1)
            stride = _column(0.5 ** strikes[rows])
            damped = best_y[rows] + stride * (best_f[rows] - best_y[rows])
            y = torch.where(_column(broken | (strikes[rows] > 1)), damped, _mix(ys, fs))
            going = best[rows] > self.tolerance
            best_y[rows[~going]] = y[~going]
            if not going.any():
                break
            if not going.all():
                rows, y = rows[going], y[going]
                ys, fs = [past[going] for past in ys], [past[going] for past in fs]
        return Solution(best_y, best)


def _column(per_picture: Tensor) -> Tensor:
    return per_picture[:, None, None, None]


def _mix(ys: list[Latents], fs: list[Latents]) -> Latents:
    """Σ θ_j f_j with the θ that best cancel the residuals, picture by picture; float64 inside."""
    if len(ys) == 1:
        return fs[0]
    newest = fs[-1]
    g = torch.stack([(f - y).flatten(1).double() for y, f in zip(ys, fs, strict=True)], dim=1)
    differences = g[:, :-1] - g[:, -1:]  # (N, window − 1, d): removes the constraint Σθ = 1
    gram = differences @ differences.mT
    # A pinch of Tikhonov: near convergence the differences are parallel to rounding.
    ridge = 1e-10 * gram.diagonal(dim1=1, dim2=2).sum(1) + torch.finfo(torch.float64).tiny
    gram = gram + torch.diag_embed(ridge[:, None].expand(-1, gram.shape[1]))
    theta = torch.linalg.solve(gram, -(differences @ g[:, -1, :, None]))[..., 0]
    steps = torch.stack([f - newest for f in fs[:-1]], dim=1)
    return newest + torch.einsum("nk,nkchw->nchw", theta.to(newest.dtype), steps)
