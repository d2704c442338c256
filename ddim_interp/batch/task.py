"""One film of many, to be made, and what came of it: plain values, which go to other processes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_interp.errors import ArgumentError, DdimInterpError
from ddim_interp.files import StrPath, lost_to, shown
from ddim_interp.production.film import FilmOrder
from ddim_interp.sources import path_of

__all__ = ["Outcome", "Task", "check_apart"]


@dataclass(frozen=True)
class Task:
    """A film to be made.

    Args:
        name: What it is called in its batch.
        order: The film.
        entry: What the ledger says of it, if it was made before.
    """

    name: str
    order: FilmOrder
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a film.

    Args:
        entry: What the ledger is to say of it, as JSON values; `name` is what it is called.
        failed: Whether there is no film; then `error` says why, and `exit_code` with what a run for
            it alone would have ended.
        found: Whether it was made by an earlier run, and is as it was.
        good: Whether every verdict on it is.
    """

    entry: Mapping[str, Any]
    failed: bool = False
    found: bool = False
    good: bool = True

    @property
    def name(self) -> str:
        """What the film is called in its batch."""
        return str(self.entry["name"])

    @classmethod
    def failure(cls, name: str, sources: Sequence[StrPath], error: BaseException) -> "Outcome":
        """A film that could not be made."""
        words = " ".join(str(error).split())
        known = isinstance(error, DdimInterpError)
        entry = {
            "name": name,
            "keyframes": list(map(str, sources)),
            "error": words if known else f"{type(error).__name__}: {words}",
            "exit_code": error.exit_code if isinstance(error, DdimInterpError) else 70,
        }
        return cls(entry, failed=True, good=False)


def check_apart(tasks: Sequence[Task]) -> None:
    """Refuse films of which one would replace what another is made of.

    Raises:
        ArgumentError: One would.
    """
    films = {Path(os.path.realpath(task.order.out)): task for task in tasks}
    for task in tasks:
        for source, place in lost_to(filter(None, map(path_of, task.order.sources)), films):
            if films[place] is not task:
                raise ArgumentError(
                    f"The film {shown(films[place].order.out)} would replace {shown(source)}, of "
                    f"which {shown(task.name)} is made; choose another folder, or another name."
                )
