"""Progress bars, for those who want them. The door of tqdm."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ddim_interp.watch import Watch

__all__ = ["bar", "byte_bar", "told"]

T = TypeVar("T")


def bar(items: Iterable[T], total: int, doing: str, **options: Any) -> Iterable[T]:
    """Watch a loop with a bar on stderr; it disappears when the loop ends.

    Args:
        items: What is looped over.
        total: How many there are.
        doing: What is being done to them, in a word.
        **options: tqdm's own, such as `disable=True`.
    """
    defaults: dict[str, Any] = {"leave": False, "file": sys.stderr, "dynamic_ncols": True}
    watched: Iterable[T] = _tqdm()(items, total=total, desc=doing, **{**defaults, **options})
    return watched


def told(say: Callable[[str], None]) -> Watch:
    """A watch that says of each loop, when it has ended, what was done and how long it took.

    Args:
        say: Takes the line.
    """

    def watch(items: Iterable[T], total: int, doing: str) -> Iterable[T]:
        started, done = time.monotonic(), 0
        for item in items:
            done += 1
            yield item
        say(f"{doing}: {done} of {total} in {time.monotonic() - started:.2f} s")

    return watch


def byte_bar(doing: str) -> Callable[[int, int], None]:
    """Something to tell the bytes done and the bytes in all; it shows them as a bar on stderr."""
    how = {"file": sys.stderr, "leave": False, "unit": "B", "unit_scale": True, "delay": 0.5}
    bar = _tqdm()(desc=doing, **how)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show


def _tqdm() -> Any:
    """The bar, without the thread that tqdm starts to watch it: a thread may not be to be had."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

    return Bar
