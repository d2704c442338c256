"""What a denoiser said on one walk, for others who walk beside it.

To prove an inversion, its latents are decoded. The frames of a film then start from latents on
either side of them, on the same grid: at its keyframes, the film knows what the network is going to
say, and need not ask (`refinement`).
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ddim_interp.denoiser import Denoiser, Prediction, among
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images, Latents

__all__ = ["Known", "Notes", "TakesNotes"]


class Known(Protocol):
    """What is known of the walk of one picture, all of it or a part.

    Attributes:
        levels: Where the network is asked on this walk, in order.
        share: The part of these at which its answer is known, in (0, 1].
    """

    @property
    def levels(self) -> tuple[Level, ...]: ...

    @property
    def share(self) -> float: ...

    def answer(self, number: int) -> Images | None:
        """The picture predicted the `number`-th time, from 0, (1, C, H, W), if that is known."""
        ...


@dataclass(frozen=True, eq=False)
class Notes:
    """Every answer of a walk, in order.

    Args:
        levels: Where it was given, S of them.
        x_0: The pictures predicted there, (S, N, C, H, W).
        share: The part of the walk that is known: all.
    """

    levels: tuple[Level, ...]
    x_0: Tensor
    share: float = 1.0

    def of(self, i: int) -> "Notes":
        """Those on one picture of the batch; N = 1."""
        return replace(self, x_0=self.x_0[:, i : i + 1])

    def answer(self, number: int) -> Images:
        """What was said the `number`-th time, from 0, (N, C, H, W)."""
        return self.x_0[number]


class TakesNotes:
    """A denoiser that notes what another says.

    A solver that iterates asks again about some pictures of a batch, as often as each of them
    needs: others will not walk in step with it. From there on nothing is noted.

    Args:
        denoiser: Whom to ask.

    Example:
        >>> from ddim_interp.denoiser import GaussianDenoiser
        >>> scribe = TakesNotes(GaussianDenoiser(mean=1.0, variance=0.0))
        >>> t = Level(500.0, 0.5)
        >>> _ = scribe(torch.zeros(2, 1, 1, 1), t)
        >>> scribe.notes.of(1).answer(0)
        tensor([[[[1.]]]])
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self._levels: list[Level] = []
        self._x_0: list[Images] = []
        self._in_step = True

    @property
    def notes(self) -> Notes | None:
        """What has been said so far; None if nothing."""
        return Notes(tuple(self._levels), torch.stack(self._x_0)) if self._x_0 else None

    def among(self, rows: Tensor) -> Denoiser:
        """The denoiser for some pictures of the batch."""
        self._in_step = False
        return among(self.denoiser, rows)

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        prediction = self.denoiser(x_t, t)
        if self._in_step:
            self._levels.append(t)
            self._x_0.append(prediction.x_0)
        return prediction
