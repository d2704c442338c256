"""Let someone watch a loop from outside, without the loop knowing.

Verbs that run several loops (inverting, then sampling back, then drawing frames) hand each of them
to a watcher together with its length and a word for what it does. The command line's watcher draws
a progress bar; the default one does nothing.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

__all__ = ["Watch", "unwatched"]

T = TypeVar("T")


class Watch(Protocol):
    """Passes every item of a loop through, and may show how far it is."""

    def __call__(self, items: Iterable[T], total: int, doing: str) -> Iterable[T]: ...


def unwatched(items: Iterable[T], total: int, doing: str) -> Iterable[T]:
    """Nobody watches."""
    return items
