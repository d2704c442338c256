"""Progress bars, for those who want them. The door of tqdm."""

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

__all__ = ["bar"]

T = TypeVar("T")


def bar(items: Iterable[T], total: int, doing: str, **options: Any) -> Iterable[T]:
    """Watch a loop with a bar on stderr; it disappears when the loop ends.

    Args:
        items: What is looped over.
        total: How many there are.
        doing: What is being done to them, in a word.
        **options: tqdm's own, such as `disable=True`.
    """
    from tqdm import tqdm

    defaults: dict[str, Any] = {"leave": False, "file": sys.stderr, "dynamic_ncols": True}
    bar: Iterable[T] = tqdm(items, total=total, desc=doing, **{**defaults, **options})
    return bar
