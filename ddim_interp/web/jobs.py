"""Who works, and on what next? One thread, because two that use a model take twice as long each.

What is asked for waits in lanes, the most urgent first. In some lanes only the newest wish counts:
a slider that has moved on makes the picture it left superfluous. Work that takes long glances up
now and then. There it learns that nobody wants it any more, and there more urgent work is done
first, in its midst, so that a point on a map need not wait for a film.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ddim_interp.errors import BusyError

__all__ = ["Lane", "Superseded", "Worker"]

T = TypeVar("T")


class Superseded(BaseException):
    """Nobody wants this work any more. No error: what catches all of those lets it pass."""


@dataclass(frozen=True)
class Lane:
    """How wishes of one kind wait.

    Args:
        newest_wins: Whether a new one takes the place of all before it, even of one at work.
        most: How many may wait.
    """

    newest_wins: bool = False
    most: int = 4


@dataclass(eq=False)
class _Job:
    lane: str
    work: Callable[[], Any]
    done: "Future[Any]" = field(default_factory=Future)
    unwanted: bool = False


class Worker:
    """A thread that does one thing at a time.

    Args:
        lanes: Their names, the most urgent first.

    Example:
        >>> with Worker({"look": Lane(newest_wins=True), "film": Lane()}) as worker:
        ...     worker.ask("film", lambda: 6 * 7).result()
        42
    """

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self._lanes = dict(lanes)
        self._waiting: dict[str, deque[_Job]] = {name: deque() for name in lanes}
        self._at_work: list[_Job] = []  # each in the midst of the one before
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def busy(self) -> frozenset[str]:
        """The lanes in which something waits or is being done."""
        with self._changed:
            waiting = {name for name, jobs in self._waiting.items() if jobs}
            return frozenset(waiting | {job.lane for job in self._at_work})

    def ask(self, lane: str, work: Callable[[], T]) -> "Future[T]":
        """Have something done.

        Returns:
            What comes of it: `Superseded` is raised there if nobody wants the work any more.

        Raises:
            BusyError: Too much waits in this lane already.
        """
        job = _Job(lane, work)
        with self._changed:
            if self._lanes[lane].newest_wins:
                self._drop(lane)
            if self._closed or len(self._waiting[lane]) >= self._lanes[lane].most:
                raise BusyError(
                    f"{len(self._waiting[lane])} wishes of this kind wait already; try again in a "
                    "moment."
                )
            self._waiting[lane].append(job)
            self._changed.notify_all()
        return job.done

    def drop(self, lane: str) -> None:
        """Nobody wants what waits in this lane, or is being done in it."""
        with self._changed:
            self._drop(lane)

    def glance(self) -> None:
        """For work that takes long, to be called in its midst: do first what is more urgent.

        Raises:
            Superseded: This work is unwanted. Let it pass.
        """
        mine = self._at_work[-1]
        while True:
            with self._changed:
                if mine.unwanted:
                    raise Superseded
                urgent = self._next(before=mine.lane)
            if urgent is None:
                return
            self._do(urgent)

    def close(self, patience: float = 2.0) -> None:
        """Drop everything, and wait for the thread to notice, for some seconds at most."""
        with self._changed:
            self._closed = True
            for lane in self._lanes:
                self._drop(lane)
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(patience)

    def _drop(self, lane: str) -> None:
        for job in self._waiting[lane]:
            _give_up(job.done)
        self._waiting[lane].clear()
        for job in self._at_work:
            job.unwanted = job.unwanted or job.lane == lane

    def _next(self, before: str | None = None) -> _Job | None:
        """The most urgent job that waits; of lanes before this one only."""
        for name, jobs in self._waiting.items():
            if name == before:
                return None
            if jobs:
                job = jobs.popleft()
                self._at_work.append(job)
                return job
        return None

    def _run(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None:
                    if self._closed:
                        return
                    self._changed.wait()
                    job = self._next()
            self._do(job)

    def _do(self, job: _Job) -> None:
        """One job that `_next` gave."""
        try:
            if job.unwanted or not job.done.set_running_or_notify_cancel():
                raise Superseded
            outcome = job.work()
        except Superseded:
            _give_up(job.done)
        except BaseException as error:
            job.done.set_exception(error)
        else:
            job.done.set_result(outcome)
        finally:
            with self._changed:
                self._at_work.pop()


def _give_up(done: "Future[Any]") -> None:
    """Tell whoever waits that nothing will come."""
    with suppress(InvalidStateError):  # nobody waits
        done.set_exception(Superseded())
