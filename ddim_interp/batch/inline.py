"""Films one after the other, in this process."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_interp.batch.maker import Maker
from ddim_interp.batch.task import Outcome, Task
from ddim_interp.errors import BusyError, DdimInterpError
from ddim_interp.files import write_bytes
from ddim_interp.strict_json import read_object

__all__ = ["Inline"]


@dataclass(frozen=True)
class Inline:
    """Makes films one after the other, in this process.

    A film may end the process that makes it: memory runs out, a library crashes. So what is being
    made is written down in a file, and a film that has ended `tries` runs is left out.

    Args:
        maker: Makes them.
        ends: A file for what is being made.
        tries: How many runs a film may end.
    """

    maker: Maker
    ends: Path
    tries: int = 3

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome]:
        """Make them, in order; see `Engine`."""
        _ = self.maker.pipe  # where there is no model, no film has failed
        ends = _Ends(self.ends, anew=self.maker.anew)
        for task in tasks:
            if (times := ends.by(task.name)) >= self.tries:
                error = BusyError(
                    f"{times} runs ended while they made this film; make it alone to see why, or "
                    "give more --tries."
                )
                yield Outcome.failure(task.name, task.order.sources, error)
                continue
            with ends.watch(task.name):
                outcome = self.maker.make(task)
            yield outcome


class _Ends:
    """How many runs each film has ended without a word, in a file."""

    def __init__(self, path: Path, *, anew: bool) -> None:
        self._path = path
        found: dict[str, Any] = {}
        with suppress(DdimInterpError):  # it is not there, or somebody has written into it
            found = {} if anew else read_object(path, BusyError)
        self._times = {name: times for name, times in found.items() if isinstance(times, int)}

    def by(self, name: str) -> int:
        """How many this film has ended."""
        return self._times.get(name, 0)

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Count a run as ended by this film, until the block is left in any way."""
        before = self.by(name)
        self._write({**self._times, name: before + 1})
        try:
            yield
        finally:
            self._times.pop(name, None)
            self._write(self._times)

    def _write(self, times: dict[str, int]) -> None:
        if times:
            write_bytes(self._path, json.dumps(times).encode(), overwrite=True)
        else:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
