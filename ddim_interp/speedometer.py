"""How evenly does a film move? Told while its frames go by."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.images import from_frames
from ddim_interp.pace import path_length, pdv, unevenness
from ddim_interp.perceptual import Metric, perceive
from ddim_interp.shapes import Frame

__all__ = ["Speedometer", "Speeds"]


@dataclass(frozen=True)
class Speeds:
    """What a film's steps from frame to frame come to.

    Args:
        path_length: How much changes in all; see `pace.path_length`.
        pdv: Variance of the steps over their mean squared; 0 is even.
        largest_over_mean: Largest step over mean step; 1 is even.
    """

    path_length: float
    pdv: float
    largest_over_mean: float

    @classmethod
    def of(cls, steps: Tensor) -> "Speeds":
        """Of steps, (N,)."""
        return cls(path_length(steps), pdv(steps), unevenness(steps))


class Speedometer:
    """Passes frames on, and keeps what changed from each to the next: a number a frame.

    Frames equal to the one before are rests, and no steps.

    Args:
        metric: How different two pictures look.

    Attributes:
        steps: What changed, so far.

    Example:
        >>> import numpy as np
        >>> greys = (np.full((8, 8, 3), grey, np.uint8) for grey in (0, 100, 100, 255))
        >>> meter = Speedometer()
        >>> len(list(meter(greys))), len(meter.steps)
        (4, 2)
    """

    def __init__(self, metric: Metric = perceive) -> None:
        self.steps: list[float] = []
        self._metric = metric
        self._first: Tensor | None = None
        self._last: Tensor | None = None

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames, measured."""
        for frame in frames:
            (view,) = self._metric(from_frames(frame[None]))
            self._step_to(view)
            self._first = view if self._first is None else self._first
            yield frame

    def speeds(self, *, closed: bool = False) -> Speeds | None:
        """What the steps come to; of a closed film also that from the last frame to the first.

        Nothing, if no frame has come by.
        """
        if self._first is None:
            return None
        if closed:
            self._step_to(self._first)
        return Speeds.of(torch.tensor(self.steps or [0.0]).double())

    def _step_to(self, view: Tensor) -> None:
        if self._last is not None:
            step = float((view.double() - self._last.double()).square().sum().sqrt())
            if step > 0:
                self.steps.append(step)
        self._last = view
