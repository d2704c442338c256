"""How does long work look up now and then, and say how far it is, without knowing for whom?"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ddim_interp.denoiser import Denoiser, Prediction
from ddim_interp.refinement import FAMILY
from ddim_interp.schedule import Level
from ddim_interp.shapes import Latents
from ddim_interp.web.drawing import Drawing

__all__ = ["Attentive", "Progress", "Watched"]

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """What is being done, and how much of it is, 0 to 1."""

    doing: str
    share: float


@dataclass(frozen=True)
class Watched:
    """A `Watch` that looks up at every step.

    Args:
        glance: Called at each.
        doing: What is being done, in words for the page; nothing is said if empty.
        say: Takes the progress.
        drawing: The film that is being drawn, if one is: its frames count.
    """

    glance: Callable[[], None]
    doing: str
    say: Callable[[Progress], None]
    drawing: Drawing | None = None

    def __call__(self, items: Iterable[T], total: int, doing: str) -> Iterable[T]:
        """Pass every item of a loop through."""
        for number, item in enumerate(items):
            self.glance()
            # Frames come when the steps of all that are drawn together are done: those tell.
            if self.doing and doing != "drawing":
                self.say(Progress(self.doing, self._share(number / max(1, total))))
            yield item
        self.glance()

    def _share(self, steps: float) -> float:
        if self.drawing is None:
            return min(1.0, steps)
        there, count = self.drawing.ready(), self.drawing.count
        return min(1.0, (there + steps * min(FAMILY, count - there)) / count)


@dataclass(frozen=True)
class Attentive:
    """A denoiser that looks up before each answer: a step of many frames takes many."""

    denoiser: Denoiser
    glance: Callable[[], None]

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        self.glance()
        return self.denoiser(x_t, t)
