"""Glide from keyframe to keyframe: the main job."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddim_interp.denoiser import CountCalls, InBatches
from ddim_interp.display import Reel
from ddim_interp.ends import EndCorrection
from ddim_interp.errors import ArgumentError
from ddim_interp.files import sha256_bytes
from ddim_interp.images import from_frames, to_frames
from ddim_interp.interpolate import find_blend
from ddim_interp.keep import Keep, forget, keep_frames
from ddim_interp.keyframes import Keyframe, Keyframes, join_states
from ddim_interp.model import Model, Plan
from ddim_interp.notes import Notes
from ddim_interp.pace import STEADY, retime
from ddim_interp.paste import Paste
from ddim_interp.path import KeyframePath
from ddim_interp.perceptual import find_metric
from ddim_interp.realism import denoising_errors
from ddim_interp.refinement import FAMILY, Together
from ddim_interp.shapes import Frame, Frames, Images, spelled
from ddim_interp.solver import settle
from ddim_interp.spool import Spool
from ddim_interp.style import Style
from ddim_interp.trajectory import last, sample
from ddim_interp.watch import Watch, unwatched

__all__ = ["Morph"]


@dataclass(frozen=True)
class Morph:
    """A film that has yet to be drawn: keyframes in noise space, and how to travel between them.

    Args:
        model: The model.
        found: What to pass through, at least two, and the plan that decodes it.
        style: How the film moves.
        batch_size: Frames drawn at once. Fixed for the whole film: sums depend on it in their last
            bit, and two runs must give the same bytes.
        keep: Remembers the batches drawn, or does not.

    Raises:
        PathError: There are fewer than two keyframes.
        ArgumentError: The style cannot be meant.
    """

    model: Model
    found: Keyframes
    style: Style = field(default_factory=Style)
    batch_size: int = 16
    keep: Keep = forget

    def __post_init__(self) -> None:
        self.style.check(len(self.keyframes))
        _ = self._paste

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """What the film passes through, in order."""
        return self.found.each

    @property
    def plan(self) -> Plan:
        """How latents are decoded: as they were found."""
        return self.found.plan

    @property
    def nfe(self) -> int:
        """Network evaluations spent on the keyframes."""
        return self.found.nfe

    @cached_property
    def path(self) -> KeyframePath:
        """The curve through the keyframes' latents."""
        latents = torch.cat([keyframe.state.x for keyframe in self.keyframes])
        style = self.style
        blend = find_blend(style.blend)
        return KeyframePath(latents, blend, style.loop, style.smooth, style.times)

    @cached_property
    def times(self) -> Tensor:
        """Where on the path each frame lies at a uniform pace, (frames,), u in [0, 1], float64.

        Equal entries are the same frame, which is drawn once.
        """
        return self.style.lay_frames(self.path.knots, STEADY)

    def draw(self, counted: CountCalls | None = None, watch: Watch = unwatched) -> Iterator[Frame]:
        """Draw the film, frame by frame.

        At a uniform pace frames come as they are drawn, `FAMILY` or a batch at once. At a
        perceptual pace all are drawn, some twice as densely, before the first one comes; they wait
        on disk.

        Args:
            counted: The denoiser to use, if its calls are being counted.
            watch: Sees the frames being drawn.

        Yields: `style.frames` frames, (H, W, 3), uint8.

        Raises:
            NonFiniteError: NaN or infinity turned up in a frame.
        """
        perceptual = self.style.pace == "perceptual"
        with Spool() as spool:
            kept: dict[float, int] = {}  # u -> number in the spool
            if perceptual:
                times = self._retime(spool, kept, counted, watch)
            else:
                times = _retraced(self.times) if self._comes_back_the_same_way else self.times
            stops, repeats = torch.unique_consecutive(times, return_counts=True)
            to_come = Counter(stops.tolist())
            fresh = [u for u in to_come if u not in kept]
            coming = self._drawn(fresh, counted, watch, early=not perceptual)
            drawn = iter(watch(coming, len(fresh), "drawing"))
            for u, repeat in zip(stops.tolist(), repeats.tolist(), strict=True):
                to_come[u] -= 1
                if u in kept:
                    frame = spool[kept[u]]
                else:
                    frame = next(drawn)
                    if to_come[u]:
                        kept[u] = spool.append(frame)
                yield from [frame] * repeat

    @property
    def _comes_back_the_same_way(self) -> bool:
        """Whether the path is at u where it is at 1 − u: a loop through two keyframes."""
        style = self.style
        return style.loop and len(self.keyframes) == 2 and style.times is None

    def _retime(
        self, spool: Spool, kept: dict[float, int], counted: CountCalls | None, watch: Watch
    ) -> Tensor:
        """Times at which equal amounts change from frame to frame; their frames are kept."""

        metric = find_metric(self.style.metric)

        def look(u: Tensor) -> Tensor:
            views = []
            coming = self._drawn(u.tolist(), counted, watch, early=False)
            frames = watch(coming, len(u), "drawing")
            for at, frame in zip(u.tolist(), frames, strict=True):
                kept[at] = spool.append(frame)
                views.append(metric(from_frames(frame[None])))
            return torch.cat(views)

        knots = self.path.knots
        legs = knots if self.style.times else None
        times = partial(self.style.lay_frames, knots)
        *_, best = retime(look, times, closed=self.style.loop, legs=legs)
        return best.u

    @torch.inference_mode()
    def realism(self, counted: CountCalls | None = None) -> list[float]:
        """How real the picture half-way along each leg is beside those at its ends.

        1 is as real as they are; below, it is smoother, above, grainier or stranger (`realism`).

            r = mean over noise levels of e(middle) / e(ends)
        """
        denoiser = counted or CountCalls(self.model.for_frames)
        knots = self.path.knots
        places = torch.cat([(knots[1:] + knots[:-1]) / 2, knots[: len(self.keyframes)]])
        batches = torch.split(places, self.batch_size)
        images = torch.cat([self._decode(u, denoiser) for u in batches])
        errors = denoising_errors(self.model, images, InBatches(denoiser, self.batch_size))
        middles, ends = errors.tensor_split([len(knots) - 1])
        beside = (ends + ends.roll(-1, 0))[: len(middles)] / 2
        return [float(ratio) for ratio in (middles / beside).mean(1)]

    def film(self, fps: float = 30.0) -> Reel:
        """Draw the whole film and keep it: in a notebook it plays, and it can be saved."""
        return Reel(tuple(self.draw()), fps, self.recipe())

    def __repr__(self) -> str:
        return f"Morph({' → '.join(k.source for k in self.keyframes)}, {self.style.frames} frames)"

    def _repr_jpeg_(self) -> bytes:
        """A filmstrip: only its few frames are drawn."""
        few = replace(self.style, frames=max(8, len(self.keyframes)), hold=0, boomerang=False)
        return replace(self, style=few).film()._repr_jpeg_()

    def _drawn(
        self, u: Sequence[float], counted: CountCalls | None, watch: Watch, *, early: bool
    ) -> Iterator[Frame]:
        """The frames at u, in batches; or in families of about one size, to share work, and the
        first one before them, if somebody should see it early."""
        at = torch.tensor(u, dtype=torch.float64)
        if self.style.tolerance:
            alone = at[: int(early)]
            families = max(1, math.ceil((len(u) - len(alone)) / FAMILY))
            parts = (alone, *at[len(alone) :].tensor_split(families))
        else:
            parts = torch.split(at, self.batch_size)
        for part in filter(len, parts):
            frames = self._kept(part, counted, watch)
            if self._paste is None:
                yield from frames
            else:
                yield from map(self._paste, frames, part.tolist())

    def _kept(self, u: Tensor, counted: CountCalls | None, watch: Watch) -> Frames:
        """Frames that are drawn at once, now or remembered, (F, H, W, 3)."""
        name = f"frames-{self.batch_size}-{sha256_bytes(u.numpy().tobytes())[:32]}"
        return keep_frames(self.keep, name, lambda: np.stack(self._frames(u, counted, watch)))

    @torch.inference_mode()
    def _frames(self, u: Tensor, counted: CountCalls | None, watch: Watch) -> list[Frame]:
        """Frames that are drawn at once; a keyframe that is the user's picture is that picture."""
        own = [self._own_picture(at) for at in u.tolist()]
        missing = u[[picture is None for picture in own]]
        drawn = iter(to_frames(self._decode(missing, counted, watch)) if len(missing) else ())
        return [next(drawn) if picture is None else picture for picture in own]

    def _decode(self, u: Tensor, counted: CountCalls | None, watch: Watch = unwatched) -> Images:
        grid, solver = self.plan.walk(self.model.schedule)
        together = join_states([keyframe.state for keyframe in self.keyframes])
        denoiser = counted or self.model.for_frames
        places = u
        if self.style.tolerance:
            places, notes = self._beside(u)
            denoiser = Together(
                InBatches(denoiser, self.batch_size),
                places,
                tolerance=self.style.tolerance * 2 / 255,
                grain=self.model.grain,
                notes=notes,
            )
        start = settle(solver, together).moved(lambda kept: self.path.carry(kept, places))
        walk = sample(denoiser, start, grid, solver)
        x_0 = last(watch(walk, len(grid) - 1, f"{len(u)} frames")).x[: len(u)]
        if together.dither is not None:
            x_0 = x_0 - self._faded(together.dither)(u)
        images = torch.cat([self.model.decode(part) for part in torch.split(x_0, self.batch_size)])
        return images if self.style.raw else images + self._correction(u)

    def _beside(self, u: Tensor) -> tuple[Tensor, dict[int, Notes]]:
        """u, and after them the keyframes next to them that are not among them; and what is known
        of keyframes, by their number in these."""
        places = u.tolist()
        reach = 2 * (max(places) - min(places)) / max(1, len(places) - 1)
        notes = {}
        for number, knot in enumerate(self.path.knots.tolist()):
            known = self.keyframes[number % len(self.keyframes)].notes
            if known and min(places) - reach <= knot <= max(places) + reach:
                if knot not in places:
                    places.append(knot)
                notes[places.index(knot)] = known
        return torch.tensor(places, dtype=u.dtype), notes

    @cached_property
    def _correction(self) -> EndCorrection:
        none = torch.zeros(self.model.picture_shape, device=self.model.device)
        residuals = [none if k.residual is None else k.residual for k in self.keyframes]
        return self._faded(torch.stack(residuals))

    def _faded(self, residuals: Tensor) -> EndCorrection:
        """What belongs to the keyframes, (K, C, H, W), and fades out around them."""
        knots = self.path.knots[: len(self.keyframes)]
        return EndCorrection(residuals, knots, self.style.loop)

    @cached_property
    def _paste(self) -> Paste | None:
        """What puts the square back into the full pictures, if that is wanted."""
        style = self.style
        if not style.paste:
            return None
        wholes, squares = [], []
        for keyframe in self.keyframes:
            picture = keyframe.picture
            if picture is None or picture.whole is None:
                raise ArgumentError(
                    f"There is no full picture around {keyframe.source} to paste its square back "
                    "into; give pictures only, or do without paste."
                )
            wholes.append(picture.whole)
            squares.append(picture.frame)
            if picture.full_size != wholes[0].shape[:2]:
                first = self.keyframes[0].source or "the first one"
                mine, its = picture.full_size[::-1], wholes[0].shape[1::-1]
                raise ArgumentError(
                    f"{keyframe.source or 'A picture'} has {spelled(mine)} pixels, and {first} "
                    f"{spelled(its)}, so their squares do not fit one film; bring the pictures to "
                    "one size, or do without paste."
                )
            box = picture.box
        knots = self.path.knots
        return Paste(wholes, squares, box, knots, style.loop, style.feather, style.raw)

    def _own_picture(self, u: float) -> Frame | None:
        """The user's own picture, if this is the place of its keyframe."""
        if self.style.raw:
            return None
        for knot, keyframe in zip(self.path.knots.tolist(), self.keyframes, strict=False):
            if u == knot and keyframe.picture is not None:
                return keyframe.picture.frame
        return None

    def recipe(self) -> Mapping[str, Any]:
        """How the film was made, for `info` to read in it. No path, no date: it must repeat."""
        return {
            "tool": "ddim_interp",
            "kind": "morph",
            **self.model.describe(),
            **self.found.describe(),
            "style": asdict(self.style),
            "batch_size": self.batch_size,
            "keyframes": self.report(),
        }

    def report(self) -> list[dict[str, Any]]:
        """For each keyframe: what it is, and how well it was inverted."""
        return [keyframe.report() for keyframe in self.keyframes]


def _retraced(u: Tensor) -> Tensor:
    """Places of a path that comes back the same way, on its first half; but for rounding equal
    ones are equal."""
    return torch.where(u > 0.5, 1 - u, u).mul(2**40).round().div(2**40)
