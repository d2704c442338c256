"""Let someone remember what a loop computes, without the loop knowing.

Verbs hand every batch of work over as a name and a function that does it. The default keeper does
the work and forgets it. One that remembers (`resume.WorkFolder`) gives back what an interrupted run
has done already, to the bit.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ddim_interp.shapes import Frames

__all__ = ["Keep", "Kept", "forget", "keep_frames"]


class Kept(NamedTuple):
    """The outcome of a batch of work: tensors by name, and a text."""

    tensors: dict[str, Tensor]
    text: str = ""


class Keep(Protocol):
    """Gives the outcome of `make`, which may have been computed before under that name."""

    def __call__(self, name: str, make: Callable[[], Kept]) -> Kept: ...


def forget(name: str, make: Callable[[], Kept]) -> Kept:
    """Nothing is remembered."""
    return make()


def keep_frames(keep: Keep, name: str, make: Callable[[], Frames]) -> Frames:
    """The frames that `make` draws, (F, H, W, 3), uint8, or drew before under that name."""
    kept = keep(name, lambda: Kept({"frames": torch.from_numpy(make())}))
    return kept.tensors["frames"].numpy()
