"""Films side by side, by processes of their own.

Each worker has the model, and a GPU where there are some, and makes one film at a time. Between
this process and the workers go names and numbers, never pixels: films go to the disk from where
they are made. A worker that dies is replaced, and its film begun again by another.
"""

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ddim_interp.batch.cluster import joined
from ddim_interp.batch.maker import Maker
from ddim_interp.batch.task import Outcome, Task
from ddim_interp.errors import ArgumentError, BusyError

__all__ = ["Crew", "share_out"]

_GLANCE = 0.5  # seconds between two looks at the clock


@dataclass(frozen=True)
class Crew:
    """Has films made by workers of Ray.

    Args:
        maker: What each worker is to be; its model is loaded where the worker is.
        workers: How many; one for each GPU, or each machine without, when not given.
        gpu: Whether each has a GPU, or its share where there are fewer; if there are some when not
            given.
        tries: How many workers a film may end before it is left out.
        patience: Seconds that a film may take; then its worker is ended. None for no limit.
        address: Where a cluster listens, `host:port`; workers on this machine when not given.
    """

    maker: Maker
    workers: int | None = None
    gpu: bool | None = None
    tries: int = 3
    patience: float | None = None
    address: str | None = None

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome]:
        """Have them made, as workers become free; see `Engine`.

        Raises:
            ArgumentError: Ray is not installed, or there is no such cluster, or no GPU in it.
            DdimInterpError: No worker can begin: there is no model, or no room on the disk.
        """
        with joined(self.address) as ray:
            machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
            workers, cores, cards = share_out(machines, self.workers, self.gpu)
            position = ray.remote(_Worker).options(
                num_cpus=cores, num_gpus=cards, max_restarts=0, scheduling_strategy="SPREAD"
            )
            hire = partial(position.remote, self.maker, Path.cwd())
            shift = _Shift(ray, hire, min(workers, len(tasks)), tasks, self.tries, self.patience)
            try:
                yield from shift.work()
            finally:
                shift.end()


class _Shift:
    """Workers at a list of films: who is at what, and what waits.

    Args:
        ray: Ray itself.
        hire: Gives a worker.
        size: How many there are to be.
        tasks: The films.
        tries: How many workers a film may end before it is left out.
        patience: Seconds that a film may take; None for no limit.
    """

    def __init__(
        self,
        ray: Any,
        hire: Callable[[], Any],
        size: int,
        tasks: Sequence[Task],
        tries: int,
        patience: float | None,
    ) -> None:
        self._ray, self._hire = ray, hire
        self._tries, self._patience = tries, patience
        self._team = [hire() for _ in range(size)]
        self._waiting = deque(tasks)
        self._ended = Counter[str]()  # workers, by the name of their film
        # By Ray's reference to what comes: whose it is, of which film, since when.
        self._running: dict[Any, tuple[int, Task | None, float]] = {}

    def work(self) -> Iterator[Outcome]:
        """What comes of each film, as it comes."""
        for place in range(len(self._team)):
            self._begin(place)
        while self._waiting or any(task for _, task, _ in self._running.values()):
            come, _ = self._ray.wait(list(self._running), timeout=_GLANCE)
            for coming in come:
                if outcome := self._collect(coming):
                    yield outcome
            yield from self._end_the_slow()

    def end(self) -> None:
        """Let all workers go."""
        for worker in self._team:
            with suppress(Exception):  # it may be gone, or the cluster
                self._ray.kill(worker)

    def _begin(self, place: int) -> None:
        """Have a worker get ready; it waits until there is room for it, and no film with it."""
        self._running[self._team[place].begin.remote()] = (place, None, math.inf)

    def _give_film(self, place: int) -> None:
        if self._waiting:
            task = self._waiting.popleft()
            self._running[self._team[place].make.remote(task)] = (place, task, time.monotonic())

    def _replace(self, place: int) -> None:
        self._team[place] = self._hire()
        self._begin(place)

    def _collect(self, coming: Any) -> Outcome | None:
        """What a worker has to say, if anything; it gets a film, or another takes its place."""
        place, task, _ = self._running.pop(coming)
        try:
            outcome: Outcome | None = self._ray.get(coming)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            outcome = self._mourn(task, error)
            self._replace(place)
        else:
            self._give_film(place)
        return outcome

    def _mourn(self, task: Task | None, error: Exception) -> Outcome | None:
        """A worker died at a film, which is begun again or left out; or as it began."""
        if "creation task" in str(error):  # Ray has no other word for it
            raise ArgumentError(
                f"No worker can begin ({_last_line(error)}); install this version of ddim_interp "
                "wherever they are."
            ) from None
        name = task.name if task else ""
        self._ended[name] += 1
        if task is None:
            if self._ended[name] >= self._tries * len(self._team):
                raise BusyError(
                    f"{self._ended[name]} workers died as they began; have fewer --workers, or "
                    "give more memory."
                ) from None
            return None
        if self._ended[name] < self._tries:
            self._waiting.append(task)
            return None
        return _left_out(task, "died")

    def _end_the_slow(self) -> Iterator[Outcome]:
        """Leave out films that take too long; their workers are past help."""
        for coming, (place, task, since) in list(self._running.items()):
            if task and self._patience is not None and time.monotonic() - since > self._patience:
                del self._running[coming]
                self._ray.kill(self._team[place])
                self._replace(place)
                yield _left_out(task, f"were at it for {self._patience:g} seconds")


def _left_out(task: Task, did: str) -> Outcome:
    error = BusyError(
        f"The workers that made it {did}; make it alone to see why, or give more memory or time."
    )
    return Outcome.failure(task.name, task.order.sources, error)


def share_out(
    machines: Sequence[Mapping[str, float]], workers: int | None, gpu: bool | None
) -> tuple[int, float, float]:
    """How many workers there are, and how many cores and GPUs each has.

    Args:
        machines: What each has, as Ray says: CPU, GPU.
        workers: How many are wanted.
        gpu: Whether they are to have GPUs.

    Raises:
        ArgumentError: They are, and there are none.

    Example:
        >>> share_out([{"CPU": 16, "GPU": 4}], None, None), share_out([{"CPU": 16}], 3, None)
        ((4, 4, 1), (3, 5, 0))
    """
    with_cards = [each for each in machines if each.get("GPU", 0) >= 1]
    if gpu and not with_cards:
        raise ArgumentError("Ray knows of no GPU for the workers; choose --device cpu.")
    if gpu is None:
        gpu = bool(with_cards)
    usable = with_cards if gpu else machines
    if workers is None:
        workers = int(sum(each["GPU"] for each in usable)) if gpu else len(usable)
    on_each = math.ceil(workers / len(usable))
    cores = _share(min(each.get("CPU", 1) for each in usable), on_each)
    cards = min(1, _share(min(each["GPU"] for each in usable), on_each)) if gpu else 0
    return workers, cores, cards


def _share(things: float, among: int) -> float:
    """Whole things for each, or such a part of one that there is room for all.

    Ray takes a part from one thing only, and counts in ten-thousandths.
    """
    things = max(1, things)
    return things // among or 10_000 // math.ceil(among / things) / 10_000


class _Worker:
    """A process with a model."""

    def __init__(self, maker: Maker, here: Path) -> None:
        self._maker = maker
        with suppress(OSError):  # names of files may be meant from there, where it is
            os.chdir(here)

    def begin(self) -> None:
        _ = self._maker.pipe  # where there is no model, no film has failed

    def make(self, task: Task) -> Outcome:
        return self._maker.make(task)


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1][:200]
