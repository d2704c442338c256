"""Draw the frames of a film together: ask about a few, foretell the others.

In the dark all frames of a film are alike. Far up the noise axis what the network sees in the
latents of one path, x̂_0(u), is so smooth in the film's time u that a handful of frames tells all;
on the way down it roughens, most of all where one picture turns into another; and near the end,
where every frame is all but finished, what is left to change is smooth again. So each frame has its
own state, and the network is asked about some. For the others

    x̂_0(u) ← x̂_0(u) + Σ w_i Δ_i,      Δ_i = x̂_0(u_i) − what it was,

with the weights w_i of the cubic through the four frames asked that are nearest. What is
interpolated is the change since the last time, which is smaller and smoother than the picture.
Where that may miss by too much, frames between are asked, too; where their neighbours would have
told as much, they are not the next time: adaptive mesh refinement, in the time of the film.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser, Prediction, grain_of, predict_eps
from ddim_interp.notebook import Sayings
from ddim_interp.notes import Known
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents

__all__ = ["FAMILY", "Together"]

FAMILY = 64
"""Frames that are drawn together: more share little more, and come later."""

_SPACING = 16
"""At least every so many are always asked, and five."""

_CARE = 2.0
"""Guards the estimate of what interpolation misses, which holds where frames change smoothly."""

_ABRUPT = 0.4
"""What half the distance leaves of a miss, where they do not: a tenth, if they did."""

_MOSTLY = 0.75
"""A frame of which so much is known is one of those always asked."""

_UNDECIDED = 4.0
"""The σ̄ above which errors are not looked at more strictly."""


class Together:
    """A denoiser for frames of one path, which asks another about a few of them at a time.

    A frame's doubt is what interpolation may have missed since it was asked last: the miss at the
    frames asked, each foretold by its neighbours, scaled to the width of the gaps; of several
    times, the root of the sum of squares. Half-way between two frames asked, one more is asked
    where the doubt between them exceeds, in x̂_0, root mean square,

        τ(σ̄) = tolerance / (1 + min(σ̄, 4))

    and so on, until none does; one that its neighbours foretold to within τ is not asked the next
    time, unless doubt grows. An error made before frames part grows as they do, hence the
    denominator; above σ̄ = 4 next to nothing of a picture is decided. The network's own rounding
    tells neighbours apart, too; asking mends nothing of that, so it is taken off the miss, as a
    variance.

    Of some frames it may be known what the network will say, always or at times. They are among
    those asked, then, and cost nothing.

    It serves one walk. Asked about other than all frames, as by solvers that iterate on some, it
    hands on the question, and from there on no frame is known, and nothing noted.

    Args:
        denoiser: Splits x_t into picture and noise.
        u: Where each frame lies on the path, different from each other, in any order, (F,).
        tolerance: What may be missed, in the units of x_0: 2/255 is one 8-bit level of a picture.
        grain: By how much rounding moves x̂_0 at a level, root mean square; what the denoiser says
            of itself when not given.
        known: What was said, in the same walk, of some frames, by their places in `u`.
        take_notes: Whether to keep what is said.

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
        >>> z = angle.cos() * a + angle.sin() * b
        >>> model, few = GaussianDenoiser(variance=0.1), CountCalls(GaussianDenoiser(variance=0.1))
        >>> together = last(sample(Together(few, u, tolerance=0.004), z, grid, DDIM())).x
        >>> alone = last(sample(model, z, grid, DDIM())).x
        >>> bool((together - alone).abs().max() < 0.004), few.nfe < 32 * 10 // 4
        (True, True)
    """

    def __init__(
        self,
        denoiser: Denoiser,
        u: Tensor,
        *,
        tolerance: float,
        grain: Callable[[Level], float] | None = None,
        known: Mapping[int, Known] = MappingProxyType({}),
        take_notes: bool = False,
    ) -> None:
        self._denoiser = denoiser
        self._order = u.argsort()
        order = self._order.tolist()
        self._u = u.double().cpu()[self._order].tolist()
        self._known = {order.index(frame): notes for frame, notes in known.items()}
        self._take_notes = take_notes
        self._levels: list[Level] = []
        self._said: list[tuple[int, int, Images]] = []  # the frame, which time, and what
        always = [frame for frame, notes in self._known.items() if notes.share >= _MOSTLY]
        self._mesh = _Mesh(self._u, always)
        self._tolerance = tolerance
        self._grain = grain or partial(grain_of, denoiser)
        self._asked = self._mesh.first
        self._doubt = [0.0] * len(u)
        self._x_0: Tensor | None = None  # in the order of the path, as all below

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        """Picture and noise of every frame, (F, C, H, W), in the order of `u`."""
        if len(x_t) != len(self._order):
            self._known, self._take_notes = {}, False
            return self._denoiser(x_t, t)
        told = self._recall(t)
        order = self._order.to(x_t.device)
        x = x_t[order]
        limit = self._tolerance / (1 + min(t.ratio, _UNDECIDED))
        grain = self._grain(t)
        if self._x_0 is None or t.ratio > _UNDECIDED:
            self._x_0, self._doubt = torch.zeros_like(x), [0.0] * len(x)
        known = self._x_0
        x_0, eps = known.clone(), torch.empty_like(x)
        asked: list[int] = []
        more = sorted({*self._asked, *told})
        for frame, answer in told.items():
            x_0[frame : frame + 1] = answer = answer.to(x)
            eps[frame : frame + 1] = predict_eps(x[frame : frame + 1], answer, t)
        while more:
            unknown = [frame for frame in more if frame not in told]
            if unknown:
                x_0[unknown], eps[unknown] = self._denoiser(x[unknown], t)
                if self._take_notes:
                    number = len(self._levels) - 1
                    answers = x_0[unknown].cpu()  # a copy: a view would keep all frames in memory
                    self._said += [
                        (frame, number, answer)
                        for frame, answer in zip(unknown, answers, strict=True)
                    ]
            asked = sorted([*asked, *more])
            change = x_0[asked] - known[asked]
            missed, gaps = self._mesh.look(asked, change, grain)
            doubt = self._doubts(asked, gaps)
            more = [(a + b) // 2 for a, b in gaps if max(doubt[a + 1 : b]) > limit]
        rest = sorted({*range(len(x))} - {*asked})
        if rest:
            x_0[rest] += self._mesh.tell(asked, change, rest)
            eps[rest] = predict_eps(x[rest], x_0[rest], t)
        spared = self._mesh.leaves(asked) & {frame for frame in missed if missed[frame] < limit}
        for frame in spared:
            doubt[frame] = missed[frame]
        free = {*told} - {*self._asked}  # maybe not the next time
        self._x_0, self._doubt, self._asked = x_0, doubt, sorted({*asked} - spared - free)
        back = order.argsort()
        return Prediction(x_0[back], eps[back])

    @property
    def said(self) -> Sayings | None:
        """What was said so far, if anything was, and notes are taken."""
        if not self._said:
            return None
        frames, numbers, x_0 = zip(*self._said, strict=True)
        places = torch.tensor([self._u[frame] for frame in frames], dtype=torch.float64)
        return Sayings(tuple(self._levels), places, torch.tensor(numbers), torch.stack(x_0))

    def _recall(self, t: Level) -> dict[int, Images]:
        """What is known this time: of a walk that was not in step, nothing any more."""
        number = len(self._levels)
        self._levels.append(t)
        self._known = {
            frame: known
            for frame, known in self._known.items()
            if known.levels[number : number + 1] == (t,)
        }
        told = {frame: known.answer(number) for frame, known in self._known.items()}
        return {frame: answer for frame, answer in told.items() if answer is not None}

    def _doubts(self, asked: list[int], gaps: dict[tuple[int, int], float]) -> list[float]:
        """What may have been missed of each frame by now."""
        doubt = self._doubt.copy()
        for frame in asked:
            doubt[frame] = 0.0
        for (left, right), miss in gaps.items():
            for frame in range(left + 1, right):
                doubt[frame] = math.hypot(doubt[frame], miss)
        return doubt


class _Mesh:
    """The frames in the order of the path, and which of them are asked.

    Args:
        u: Where they are, rising.
        known: Frames about which nothing has to be asked.

    Attributes:
        first: The frames that are always asked, the known ones among them.
    """

    def __init__(self, u: list[float], known: Iterable[int] = ()) -> None:
        self._u = u
        last = len(u) - 1
        self.first = sorted({0, last, *known})
        for left, right in pairwise(tuple(self.first)):
            width = right - left
            gaps = min(width, max(math.ceil(width / _SPACING), round(4 * width / last)))
            self.first += [left + round(i * width / gaps) for i in range(1, gaps)]
        self.first.sort()
        self._depth = [0] * len(u)  # how often a gap is halved to meet the frame
        halves = [(left, right, 1) for left, right in pairwise(self.first)]
        while halves:
            left, right, depth = halves.pop()
            middle = (left + right) // 2
            if middle > left:
                self._depth[middle] = depth
                halves += [(left, middle, depth + 1), (middle, right, depth + 1)]

    def leaves(self, asked: list[int]) -> set[int]:
        """The frames that halve the gap between their neighbours, and that no other relies on."""
        depth = self._depth
        return {
            frame
            for left, frame, right in zip(asked, asked[1:], asked[2:], strict=False)
            if depth[left] < depth[frame] > depth[right]
        }

    def tell(self, asked: list[int], change: Images, frames: list[int]) -> Images:
        """What is known of the frames asked, (N, C, H, W), told for others, (M, C, H, W)."""
        weights, _ = self._stencils(asked, [self._u[frame] for frame in frames])
        told: Tensor = torch.tensordot(weights.to(change), change, 1)
        return told

    def look(
        self, asked: list[int], change: Images, grain: float
    ) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
        """How far each inner frame asked is from what its neighbours tell, root mean square, beyond
        the grain; and how far others may be half-way along each gap that holds some."""
        inner = range(1, len(asked) - 1)
        if not inner:
            return {}, {}
        weights, reach = self._stencils(asked, [self._u[asked[i]] for i in inner], inner)
        told = torch.tensordot(weights.to(change), change, 1)
        squares = (told - change[1:-1]).flatten(1).square().mean(1).double().cpu()
        missed = (squares - grain**2).clamp(min=0).sqrt().tolist()
        wide = [i for i, (left, right) in enumerate(pairwise(asked)) if right - left > 1]
        middles = [(self._u[asked[i]] + self._u[asked[i + 1]]) / 2 for i in wide]
        _, spans = self._stencils(asked, middles)
        gaps = {}
        for i, span in zip(wide, spans, strict=True):
            beside = {max(i - 1, 0), min(i, len(inner) - 1)}
            miss = max(missed[k] * max(_CARE * span / reach[k], _ABRUPT) for k in beside)
            at_an_end = i in (0, len(asked) - 2)
            gaps[asked[i], asked[i + 1]] = 2 * miss if at_an_end else miss
        return dict(zip(asked[1:-1], missed, strict=True)), gaps

    def _stencils(
        self, asked: list[int], places: Sequence[float], without: Sequence[int] | None = None
    ) -> tuple[Tensor, list[float]]:
        """Lagrange's weights of frames asked for places, (M, N), and Π |u − u_i|, M of them."""
        known = [self._u[frame] for frame in asked]
        weights, reach = [], []
        for m, place in enumerate(places):
            some = _stencil(known, place, None if without is None else without[m])
            nodes = [known[i] for i in some]
            row = [0.0] * len(known)
            for i, node in zip(some, nodes, strict=True):
                others = (other for other in nodes if other != node)
                row[i] = math.prod((place - other) / (node - other) for other in others)
            weights.append(row)
            reach.append(math.prod(abs(place - node) for node in nodes))
        return torch.tensor(weights, dtype=torch.float64), reach


def _stencil(known: list[float], place: float, without: int | None) -> list[int]:
    """Two frames on either side, four in all where there are; none right beside another one.

    Where two are much nearer to each other than the gap is wide, the cubic would take their
    difference for a slope, and magnify its noise.
    """
    middle = bisect_right(known, place)
    left = [i for i in range(middle - 1, -1, -1) if i != without]
    right = [i for i in range(middle, len(known)) if i != without]
    apart = (known[right[0]] - known[left[0]]) / 4 if left and right else 0.0
    left, right = (_thinned(side, known, apart) for side in (left, right))
    before = min(len(left), max(2, 4 - len(right)))
    return sorted(left[:before] + right[: 4 - before])


def _thinned(side: list[int], known: list[float], apart: float) -> list[int]:
    """The first of them, and each that is far enough from the one before, four at most."""
    kept: list[int] = []
    for i in side:
        if len(kept) == 4:
            break
        if not kept or abs(known[i] - known[kept[-1]]) >= apart:
            kept.append(i)
    return kept
