"""How does a film move?"""

from dataclasses import dataclass

from torch import Tensor

from ddim_interp.easing import parse_easing
from ddim_interp.errors import ArgumentError
from ddim_interp.interpolate import find_blend
from ddim_interp.pace import STEADY, Odometer, frame_times
from ddim_interp.paste import check_feather
from ddim_interp.path import lay_knots
from ddim_interp.perceptual import find_metric

__all__ = ["PACES", "QUICK_TOLERANCE", "Style"]

PACES = ("uniform", "perceptual")
"""Paces by name."""

QUICK_TOLERANCE = 2.0
"""`Style.tolerance` of films that are to be quick: of the size of what their few steps miss."""


@dataclass(frozen=True)
class Style:
    """How a film moves.

    Args:
        frames: Frames in all.
        blend: Curve between neighbouring keyframes; a name from `BLENDS`.
        smooth: Whether the path rounds the corners at the keyframes between its ends.
        ease: Speed along it; see `parse_easing`.
        per_leg: Whether each way from keyframe to keyframe is eased, rather than the whole.
        times: When to be at each keyframe, rising, in any unit; a loop has one more, that of its
            return. Evenly spread when not given.
        pace: `uniform` in u, or `perceptual`: the same amount changes from frame to frame, for
            about twice the evaluations. Between keyframes that have times, it keeps to them.
        metric: By which change is measured; a name from `METRICS`.
        hold: Frames more to rest at every keyframe, or at each.
        loop: Whether the film ends where it began, ready to start over.
        boomerang: Whether it goes back the way it came.
        raw: Whether decoded frames are left as they are, instead of passing exactly through the
            user's own pictures.
        paste: Whether to put the square back into the full pictures, all of one size; see `Paste`.
        feather: How soft the edge is that is put back; a share of the square, 0 for a hard one.
        tolerance: By how much a frame may differ from what it would be if it were drawn by itself,
            in 8-bit levels, root mean square: frames that are alike share work (`refinement`). It
            is aimed at, and not promised. 0 draws every frame by itself.
    """

    frames: int = 60
    blend: str = "slerp"
    smooth: bool = True
    ease: str = "linear"
    per_leg: bool = False
    times: tuple[float, ...] | None = None
    pace: str = "uniform"
    metric: str = "lab"
    hold: int | tuple[int, ...] = 0
    loop: bool = False
    boomerang: bool = False
    raw: bool = False
    paste: bool = False
    feather: float = 0.125
    tolerance: float = 1.0

    def check(self, keyframes: int | None = None) -> None:
        """Refuse what cannot be meant, before a model is loaded.

        Args:
            keyframes: How many there will be, if that is known.

        Raises:
            ArgumentError: A number is out of range, a name unknown, or two wishes contradict.
            PathError: There are fewer than two keyframes, or the times are not theirs.
        """
        if not 2 <= self.frames <= 1_000_000:
            raise ArgumentError(f"frames={self.frames} is no film; ask for 2 to 1000000.")
        if min(self._rests) < 0:
            raise ArgumentError(f"hold={self.hold} is no rest; ask for 0 frames or more.")
        find_blend(self.blend)
        if self.pace not in PACES:
            raise ArgumentError(
                f"No pace is called {self.pace!r}; choose one of {', '.join(PACES)}."
            )
        if self.loop and self.boomerang:
            raise ArgumentError(
                "A boomerang already ends where it began; choose either loop or boomerang."
            )
        if self.boomerang and (self.frames + self._rests[0] + self._rests[-1]) % 2:
            raise ArgumentError(
                f"A boomerang of {self.frames} frames would stumble at its turning point; ask for "
                f"{self.frames + 1}."
            )
        parse_easing(self.ease)
        find_metric(self.metric)
        check_feather(self.feather)
        if not 0 <= self.tolerance <= 16:
            raise ArgumentError(
                f"tolerance={self.tolerance:g} is no difference that eyes would miss; give 0, to "
                "draw every frame by itself, to 16 levels of 255."
            )
        if keyframes is not None:
            knots = lay_knots(keyframes, closed=self.loop, times=self.times)
            self.lay_frames(knots, STEADY)

    def lay_frames(self, knots: Tensor, odometer: Odometer) -> Tensor:
        """Where on a path each frame lies, (frames,), u in [0, 1]; see `frame_times`."""
        return frame_times(
            self.passage,
            knots,
            closed=self.loop,
            boomerang=self.boomerang,
            easing=parse_easing(self.ease),
            per_leg=self.per_leg,
            holds=self.hold,
            odometer=odometer,
        )

    @property
    def passage(self) -> int:
        """Frames from the first keyframe to the last, rests at both included."""
        if not self.boomerang:
            return self.frames
        # There and back again: the way back shows neither end, and no rest at them.
        return (self.frames + self._rests[0] + self._rests[-1]) // 2 + 1

    @property
    def _rests(self) -> tuple[int, ...]:
        return (self.hold,) if isinstance(self.hold, int) else self.hold or (0,)
