"""Makes one film after another with one model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ddim_interp.batch.ledger import digest
from ddim_interp.batch.task import Outcome, Task
from ddim_interp.errors import InputMissingError, OutputError, StorageError
from ddim_interp.files import sha256_bytes, shown
from ddim_interp.pipeline import DDIMPipeline
from ddim_interp.production import identity, produce
from ddim_interp.recipe import pack

__all__ = ["Maker"]


@dataclass
class Maker:
    """Makes films, one after another, and tells what came of each.

    Args:
        load: Gives the model; called once, with the first film.
        batch_size: Pictures in the network at once, at first; by their size when not given.
        overwrite: Whether films that stand there already are replaced.
        anew: Whether half a film that an earlier run left is begun again, and not gone on with.
        allow_drift: Whether to go on with half a film though versions or threads have changed.
        cache: Whether inversions are remembered: a picture in many films is inverted once.
    """

    load: Callable[[], DDIMPipeline]
    batch_size: int | None = None
    overwrite: bool = False
    anew: bool = False
    allow_drift: bool = False
    cache: bool = False
    _full: int = field(default=0, init=False)  # films in a row for which there was no room

    patience = 3
    """Films in a row that the disk may refuse before it counts as full."""

    @cached_property
    def pipe(self) -> DDIMPipeline:
        """The model, loaded."""
        return self.load()

    def make(self, task: Task) -> Outcome:
        """Make a film, unless it was made before.

        Raises:
            StorageError: The disk refused it, and the films before it.
        """
        try:
            outcome = self._found(task) or self._made(task)
        except StorageError as error:
            self._full += 1
            if self._full >= self.patience:
                raise
            return Outcome.failure(task.name, task.order.sources, error)
        except Exception as error:  # whatever it is, the next film may have nothing to do with it
            outcome = Outcome.failure(task.name, task.order.sources, error)
        self._full = 0
        return outcome

    def _found(self, task: Task) -> Outcome | None:
        """The film, if it stands there as an earlier run made it of the same.

        Raises:
            OutputError: Something else stands there, which may not be replaced.
        """
        if task.entry is None:
            return None
        if task.entry.get("identity") != _hash(identity(task.order, self.pipe.model)):
            return None
        if task.order.realism and "realism" not in task.entry:  # not asked for then
            return None
        try:
            same = task.entry.get("sha256") == digest(task.order.out)
        except InputMissingError:
            return None
        if same:
            entry = {**task.entry, "outputs": [str(task.order.out)]}  # as it is called from here
            return Outcome(entry, found=True, good=bool(task.entry.get("good")))
        if not self.overwrite:
            raise OutputError(
                f"{shown(task.order.out)} exists, and is not as it was made; move it elsewhere, or "
                "allow it to be replaced (--overwrite)."
            )
        return None

    def _made(self, task: Task) -> Outcome:
        said: list[str] = []
        made = produce(
            task.order,
            lambda: self.pipe,
            batch_size=self.batch_size,
            overwrite=self.overwrite,
            resume=True,  # so that a film of hours is gone on with, too
            anew=self.anew,
            allow_drift=self.allow_drift,
            cache=self.cache,
            say=said.append,
        )
        entry: dict[str, Any] = {
            "name": task.name,
            "identity": _hash(made.identity),
            "sha256": digest(task.order.out),
            **made.document,
            "good": made.good,
            "said": said,
        }
        return Outcome(entry, good=made.good)


def _hash(decides: Mapping[str, Any]) -> str:
    """The hash of all that decides a film."""
    return sha256_bytes(pack(decides).encode())
