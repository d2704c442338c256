"""What do seeds look like? A few are drawn at a time, and the last hundred or so are remembered."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from ddim_interp.errors import ArgumentError
from ddim_interp.images import to_frames
from ddim_interp.inversion import sample_latents
from ddim_interp.latents import LARGEST_SEED, draw
from ddim_interp.model import Model, Plan
from ddim_interp.shapes import Frame
from ddim_interp.watch import Watch

__all__ = ["AT_ONCE", "SeedPictures", "check_seed"]

AT_ONCE = 4
"""Drawn together: the first ones are to come soon."""

_MOST = 128


def check_seed(number: int) -> None:
    """Refuse what is no seed.

    Raises:
        ArgumentError: It is out of range.
    """
    if not 0 <= number <= LARGEST_SEED:
        raise ArgumentError(f"{number} is no seed; use 0 to {LARGEST_SEED}.")


class SeedPictures:
    """Pictures of seeds, in the steps of a quick film.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._drawn: OrderedDict[int, Frame] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> Frame | None:
        """What a seed looks like, if it was drawn and is remembered."""
        with self._lock:
            return self._drawn.get(number)

    def draw(self, seeds: Sequence[int], watch: Watch) -> Iterator[None]:
        """Draw those that are not known, `AT_ONCE` together."""
        with self._lock:
            fresh = [seed for seed in seeds if seed not in self._drawn]
            for seed in {*seeds} - {*fresh}:
                self._drawn.move_to_end(seed)  # these are wanted now
        for start in range(0, len(fresh), AT_ONCE):
            some = fresh[start : start + AT_ONCE]
            latents = draw(some, self._model.shape)
            images = sample_latents(
                self._model, latents, Plan.quick(), watch, self._model.for_frames
            )
            with self._lock:
                self._drawn.update(zip(some, to_frames(images), strict=True))
                while len(self._drawn) > _MOST:
                    self._drawn.popitem(last=False)
            yield
