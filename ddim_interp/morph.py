"""Glide from keyframe to keyframe: the main job."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ddim_interp.denoiser import CountCalls, InBatches
from ddim_interp.display import Reel
from ddim_interp.images import from_frames
from ddim_interp.interpolate import find_blend
from ddim_interp.keep import Keep, forget
from ddim_interp.keyframes import Keyframe, Keyframes
from ddim_interp.model import Model, Plan
from ddim_interp.notebook import Notebook
from ddim_interp.pace import STEADY, UNEVEN, Retiming, retime
from ddim_interp.path import KeyframePath
from ddim_interp.perceptual import find_metric
from ddim_interp.realism import denoising_errors
from ddim_interp.rendering import Rendering
from ddim_interp.shapes import Frame
from ddim_interp.spool import Spool
from ddim_interp.style import Style
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
        _ = self._rendering

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
        rendering = replace(self._rendering, counted=counted, watch=watch)
        with Spool() as spool:
            kept: dict[float, int] = {}  # u -> number in the spool
            if perceptual:
                times = self._retime(spool, kept, rendering)
            else:
                times = _retraced(self.times) if self._comes_back_the_same_way else self.times
            stops, repeats = torch.unique_consecutive(times, return_counts=True)
            to_come = Counter(stops.tolist())
            fresh = [u for u in to_come if u not in kept]
            coming = rendering.frames(fresh, early=not perceptual)
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

    @cached_property
    def _rendering(self) -> Rendering:
        return Rendering(self.model, self.found, self.path, self.style, self.batch_size, self.keep)

    def _retime(self, spool: Spool, kept: dict[float, int], rendering: Rendering) -> Tensor:
        """Times at which equal amounts change from frame to frame; their frames are kept.

        Where one picture turns into another at once, rounding decides which of the two a frame
        shows in a cheap precision. A film that stays uneven in it is drawn anew in the model's own.
        """
        draft = self.model.draft is not None
        passes = 3 if draft else 6
        best = self._even(spool, kept, replace(rendering, name="look"), passes)
        if draft and best.excess > UNEVEN:
            kept.clear()
            model = replace(self.model, draft=None)
            counted = rendering.counted and rendering.counted.instead(model.denoiser)
            precise = replace(rendering, model=model, counted=counted, name="look-precise")
            best = self._even(spool, kept, precise)
        return best.u

    def _even(
        self, spool: Spool, kept: dict[float, int], rendering: Rendering, passes: int = 6
    ) -> Retiming:
        """The most even film that is found, looking at frames again and again."""
        metric = find_metric(self.style.metric)

        def look(u: Tensor) -> Tensor:
            views = []
            coming = shared.frames(u.tolist(), early=False)
            frames = shared.watch(coming, len(u), "drawing")
            for at, frame in zip(u.tolist(), frames, strict=True):
                kept[at] = spool.append(frame)
                views.append(metric(from_frames(frame[None])))
            return torch.cat(views)

        knots = self.path.knots
        legs = knots if self.style.times else None
        times = partial(self.style.lay_frames, knots)
        with Spool() as answers:
            shared = replace(rendering, notebook=Notebook(answers))
            *_, best = retime(look, times, closed=self.style.loop, legs=legs, passes=passes)
        return best

    @torch.inference_mode()
    def realism(self, counted: CountCalls | None = None) -> list[float]:
        """How real the picture half-way along each leg is beside those at its ends.

        1 is as real as they are; below, it is smoother, above, grainier or stranger (`realism`).

            r = mean over noise levels of e(middle) / e(ends)
        """
        denoiser = counted or CountCalls(self.model.for_frames)
        rendering = replace(self._rendering, counted=denoiser)
        knots = self.path.knots
        places = torch.cat([(knots[1:] + knots[:-1]) / 2, knots[: len(self.keyframes)]])
        batches = torch.split(places, self.batch_size)
        images = torch.cat([rendering.decode(u) for u in batches])
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
