"""Let someone remember what a loop computes, without the loop knowing.

Verbs hand every batch of work over as a name and a function that does it. The default keeper does
the work and forgets it. One that remembers (`resume.WorkFolder`) gives back what an interrupted run
has done already, to the bit.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Keep", "Kept", "forget"]


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
