"""Draw the frames of a film together, from coarse to fine.

In the dark all frames of a film are alike. Far up the noise axis the states of a hundred latents on
one path lie on a curve so smooth that a few of them tell the others; it is on the way down that
they part, most of all where one picture turns into another. So only a few frames set out. After
each step every one of them is foretold from its neighbours; where that fails, the frames between
are foretold once, while it is still good enough, and go the rest of the way by themselves. What has
no frame of its own at the end lies between frames so alike that it is their interpolation, to
within rounding to 8 bits. This is adaptive mesh refinement, in the time of the film.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser
from ddim_interp.grid import Grid
from ddim_interp.solver import Solver, State
from ddim_interp.trajectory import check_finite

__all__ = ["FAMILY", "sample_together"]

FAMILY = 32
"""Frames that are drawn together: more share little more, and come later."""

_SPACING = 8
"""One in so many sets out, five at least."""

_CARE = 2.0
"""Guards the estimate of what interpolation misses, which holds where frames change smoothly."""

_ABRUPT = 0.4
"""What half the distance leaves of a miss, where they do not: an eighth, if they did."""

_UNDECIDED = 4.0
"""The σ̄ above which errors are not looked at more strictly."""


def sample_together(
    denoiser: Denoiser,
    start: State,
    u: Tensor,
    grid: Grid,
    solver: Solver,
    *,
    tolerance: float,
    rounding: float = torch.finfo(torch.float32).eps,
) -> Iterator[State]:
    """Carry latents of one path from the first level of the grid to the last, a few for all.

    Between its neighbours i on the path a state is foretold by the cubic through them, helped by
    what is known exactly, the latents z at the start:

        x(u) ≈ Σ w_i x_i + c (z(u) − Σ w_i z_i),    c = ⟨x, z⟩ / ⟨z, z⟩

    Frames join as soon as their gap's estimated error exceeds, in x̄, root mean square,

        τ(σ̄) = max(tolerance / (1 + min(σ̄, 4)), rounding · σ̄ / 2)

    An error made before frames part grows as they do, hence the first; above σ̄ = 4 next to nothing
    of a picture is decided. And no refinement mends what the network's own rounding makes of
    neighbours, hence the second.

    Args:
        denoiser: Splits x_t into picture and noise.
        start: Latents at `grid[0]` and what the solver remembers of them, (F, C, H, W).
        u: Where each lies on the path, different from each other, in any order, (F,).
        grid: Levels, noisy to clean.
        solver: How to step.
        tolerance: What may be missed, in the units of x_0: 2/255 is one 8-bit level of a picture.
        rounding: The relative rounding of the network's numbers.

    Yields: After each step the state of the frames that are on their way; the last one has them
        all, in the order of `u`.

    Raises:
        NonFiniteError: NaN or infinity turned up.

    References:
        Berger & Oliger (1984), Adaptive mesh refinement for hyperbolic partial differential
        equations, Journal of Computational Physics 53.

    Example:
        >>> from ddim_interp.denoiser import CountCalls, GaussianDenoiser
        >>> from ddim_interp.grid import make_grid
        >>> from ddim_interp.schedule import NoiseSchedule
        >>> from ddim_interp.solver import DDIM
        >>> from ddim_interp.trajectory import last, sample
        >>> grid = make_grid(NoiseSchedule.from_config({}), steps=10)
        >>> u = torch.linspace(0, 1, 32, dtype=torch.float64)
        >>> a, b = torch.randn(2, 1, 3, 8, 8)
        >>> angle = (torch.pi / 2 * u).float()[:, None, None, None]
        >>> start = State(angle.cos() * a + angle.sin() * b, grid[0])
        >>> model, few = GaussianDenoiser(variance=0.1), CountCalls(GaussianDenoiser(variance=0.1))
        >>> together = last(sample_together(few, start, u, grid, DDIM(), tolerance=0.004)).x
        >>> alone = last(sample(model, start, grid, DDIM())).x
        >>> bool((together - alone).abs().max() < 0.004), few.nfe < 32 * 10 // 4
        (True, True)
    """
    order = u.argsort()
    film = _Film(u.double().cpu()[order], start.x[order.to(start.x.device)])
    rows = film.first()
    state = _only(start, order[rows])
    for number, s in enumerate(grid[1:], start=1):
        state = check_finite(solver.step(denoiser, state, s), number)
        if number < len(grid) - 1:
            strictness = 1 + min(s.ratio, _UNDECIDED)
            limit = max(tolerance / strictness, rounding * s.ratio / 2)
            new = film.wanted(rows, state, limit)
            rows, state = film.joined(rows, state, new)
            yield state
    everyone = torch.arange(len(u))
    _, state = film.joined(rows, state, everyone[~torch.isin(everyone, rows)])
    yield _only(state, order.argsort())


@dataclass(frozen=True, eq=False)
class _Film:
    """The frames in the order of the path.

    Args:
        u: Where they are, rising, (F,), float64.
        z: Their latents, (F, C, H, W).
    """

    u: Tensor
    z: Tensor

    def first(self) -> Tensor:
        """The frames that set out."""
        count = len(self.u)
        spacing = max(1, min(_SPACING, (count - 1) // 4))
        return torch.tensor(sorted({*range(0, count, spacing), count - 1}))

    def wanted(self, rows: Tensor, state: State, tolerance: float) -> Tensor:
        """The middle frame of every gap that cannot be left any longer."""
        wide = (rows.diff() > 1).nonzero()[:, 0]
        middles = (rows[wide] + rows[wide + 1]) // 2
        if not len(wide):
            return middles
        inner = torch.arange(1, len(rows) - 1)
        weights, reach = self._stencils(rows, rows[inner], inner)
        told = self._told(state.x, rows, weights, rows[inner])
        missed = (told - state.x[inner.to(state.x.device)]).flatten(1).square().mean(1).sqrt()
        # In x̄, and for a gap as wide as a stencil is long.
        missed = missed.double().cpu() / state.level.signal
        _, spans = self._stencils(rows, middles)
        ends = torch.stack([wide - 1, wide]).clamp(0, len(inner) - 1)  # the inner ones beside it
        shrink = (_CARE * spans / reach[ends]).clamp(min=_ABRUPT)
        error = (missed[ends] * shrink).amax(0)
        error = torch.where((wide == 0) | (wide == len(rows) - 2), 2 * error, error)
        wanted: Tensor = middles[error > tolerance]
        return wanted

    def joined(self, rows: Tensor, state: State, new: Tensor) -> tuple[Tensor, State]:
        """The frames on their way and those that join them, which are foretold."""
        if not len(new):
            return rows, state
        weights, _ = self._stencils(rows, new)
        rows_of_all, order = torch.cat([rows, new]).sort()

        def grow(x: Tensor) -> Tensor:
            return torch.cat([x, self._told(x, rows, weights, new)])[order.to(x.device)]

        return rows_of_all, state.moved(grow)

    def _told(self, x: Tensor, rows: Tensor, weights: Tensor, at: Tensor) -> Tensor:
        """What x, known for `rows`, is likely to be at other frames."""
        z, place = self.z[rows.to(x.device)], at.to(x.device)
        weights = weights.to(x)
        near = (weights != 0).to(x)
        lengths = (near @ z.square().flatten(1).sum(1)).clamp(min=torch.finfo(x.dtype).tiny)
        like = (near @ (x * z).flatten(1).sum(1)) / lengths
        told, guess = (torch.tensordot(weights, known, 1) for known in (x, z))
        foretold: Tensor = told + like.view(-1, 1, 1, 1) * (self.z[place] - guess)
        return foretold

    def _stencils(
        self, rows: Tensor, at: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lagrange's weights of known frames for others, (M, N), and Π |u − u_i|, (M,)."""
        known = self.u[rows].tolist()
        weights = torch.zeros(len(at), len(rows), dtype=torch.float64)
        reach = torch.empty(len(at), dtype=torch.float64)
        for m, place in enumerate(self.u[at].tolist()):
            some = _stencil(known, place, None if without is None else int(without[m]))
            nodes = self.u[rows[some]]
            factors = (place - nodes) / (nodes[:, None] - nodes)
            weights[m, some] = factors.fill_diagonal_(1).prod(1)
            reach[m] = (place - nodes).abs().prod()
        return weights, reach


def _stencil(known: list[float], place: float, without: int | None) -> list[int]:
    """Two frames on either side, four in all where there are; none right beside another one.

    Where two are much nearer to each other than the gap is wide, the cubic would take their
    difference for a slope, and magnify its noise.
    """
    others = [i for i in range(len(known)) if i != without]
    left = [i for i in reversed(others) if known[i] <= place]
    right = [i for i in others if known[i] > place]
    apart = (known[right[0]] - known[left[0]]) / 4 if left and right else 0.0
    left, right = (_thinned(side, known, apart) for side in (left, right))
    before = min(len(left), max(2, 4 - len(right)))
    return sorted(left[:before] + right[: 4 - before])


def _thinned(side: list[int], known: list[float], apart: float) -> list[int]:
    """The first of them, and each that is far enough from the one before."""
    kept: list[int] = []
    for i in side:
        if not kept or abs(known[i] - known[kept[-1]]) >= apart:
            kept.append(i)
    return kept


def _only(state: State, rows: Tensor) -> State:
    """Some of a batch."""
    rows = rows.to(state.x.device)
    return state.moved(lambda x: x[rows])
