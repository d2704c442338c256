"""Films side by side, by processes of their own: the door of Ray.

Each worker has the model, and a GPU where there are some, and makes one film at a time. Between
this process and the workers go names and numbers, never pixels: films go to the disk from where
they are made. A worker that dies is replaced, and its film begun again by another.

On one machine nobody else can speak to the workers: they listen on the loopback alone, and ask for
a token that this run has drawn.
"""

import atexit
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_interp.batch.maker import Maker
from ddim_interp.batch.task import Outcome, Task
from ddim_interp.errors import ArgumentError, BusyError

__all__ = ["Crew", "share_out"]

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0, or Ray listens on all addresses
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
        with _joined(self.address) as ray:
            machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
            workers, cores, cards = share_out(machines, self.workers, self.gpu)
            position = ray.remote(_Worker).options(
                num_cpus=cores, num_gpus=cards, max_restarts=0, scheduling_strategy="SPREAD"
            )

            def hire() -> Any:
                return position.remote(self.maker, Path.cwd())

            team = [hire() for _ in range(min(workers, len(tasks)))]
            try:
                yield from self._oversee(ray, tasks, team, hire)
            finally:
                for worker in team:
                    with suppress(Exception):  # it may be gone, or the cluster
                        ray.kill(worker)

    def _oversee(
        self, ray: Any, tasks: Sequence[Task], team: list[Any], hire: Callable[[], Any]
    ) -> Generator[Outcome]:
        waiting, ended = deque(tasks), Counter[str]()
        running: dict[Any, tuple[int, Task | None, float]] = {}  # by Ray's reference to what comes

        def begin(place: int) -> None:
            """Have a worker get ready; it waits until there is room for it, and no film with it."""
            running[team[place].begin.remote()] = (place, None, math.inf)

        def give_film(place: int) -> None:
            if waiting:
                task = waiting.popleft()
                running[team[place].make.remote(task)] = (place, task, time.monotonic())

        def replace(place: int) -> None:
            team[place] = hire()
            begin(place)

        for place in range(len(team)):
            begin(place)
        while waiting or any(task for _, task, _ in running.values()):
            come, _ = ray.wait(list(running), timeout=_GLANCE)
            for coming in come:
                place, task, _ = running.pop(coming)
                outcome = None
                try:
                    outcome = ray.get(coming)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    if "creation task" in str(error):  # Ray has no other word for it
                        raise ArgumentError(
                            f"No worker can begin ({_last_line(error)}); install this version of "
                            "ddim_interp wherever they are."
                        ) from None
                    name = task.name if task else ""  # of none, it died as it began
                    ended[name] += 1
                    if task is None and ended[name] >= self.tries * len(team):
                        raise BusyError(
                            f"{ended[name]} workers died as they began; have fewer --workers, or "
                            "give more memory."
                        ) from None
                    if task and ended[name] < self.tries:
                        waiting.append(task)
                    elif task:
                        outcome = self._left_out(task, "died")
                    replace(place)
                else:
                    give_film(place)
                if outcome is not None:
                    yield outcome
            for coming, (place, task, since) in list(running.items()):
                if task and self.patience is not None and time.monotonic() - since > self.patience:
                    del running[coming]
                    ray.kill(team[place])
                    replace(place)
                    yield self._left_out(task, f"were at it for {self.patience:g} seconds")

    def _left_out(self, task: Task, did: str) -> Outcome:
        error = BusyError(
            f"The workers that made it {did}; make it alone to see why, or give more memory or "
            "time."
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


@contextmanager
def _joined(address: str | None) -> Iterator[Any]:
    """Ray, with a cluster to speak to: the one at an address, or one of this process alone."""
    _prepare(alone=address is None)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    ours = None
    if address is not None:
        _check_answers(address)
    else:
        short = "/tmp" if Path("/tmp").is_dir() else None  # names of sockets may not be long
        ours = Path(tempfile.mkdtemp(prefix="ddim-", dir=short))
        # Where Ray is stopped as it begins, it ends what it has begun at exit, before this.
        atexit.register(shutil.rmtree, ours, ignore_errors=True)
        options |= {
            "include_dashboard": False,
            "object_store_memory": 100 * 2**20,  # names and numbers need no more
            "_temp_dir": str(ours),
        }
    try:
        ray = _import_ray()
        with _our_signals():
            try:
                ray.init(address or "local", **options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = "on this machine" if address is None else f"at {address!r}"
                raise ArgumentError(
                    f"Ray cannot be used {where}: {' '.join(str(error).split()):.200}; check the "
                    "address, or do without workers."
                ) from error
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        if ours is not None:
            shutil.rmtree(ours, ignore_errors=True)


def _check_answers(address: str) -> None:
    """Refuse an address at which nobody listens: Ray would ask there for ten minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(
            f"No cluster of Ray answers at {address!r} ({why}); give the host:port that `ray start "
            "--head` named."
        ) from None


def _import_ray() -> Any:
    """Ray itself.

    Raises:
        ArgumentError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ArgumentError(
            "Workers side by side need Ray, which is not installed; pip install "
            "'ddim_interp[batch]', or do without --workers."
        ) from error
    return ray


def _prepare(*, alone: bool) -> None:
    """Tell Ray, which must not be imported yet, to be quiet; and where all is ours, to listen on
    the loopback, and to nobody without a token.

    Raises:
        ArgumentError: It is imported already, and was not told.
    """
    if alone and "ray" in sys.modules and os.environ.get(_LOOPBACK) != "0":
        raise ArgumentError(
            "Ray was imported before it could be told to listen on this machine alone; import it "
            "later, or give the address of your cluster."
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # it would write on stdout when a worker dies
    if alone:
        os.environ[_LOOPBACK] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # one for the process


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it begins; give it back, also one that has come already."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # what Ray makes of it
        if callable(stop := before[signal.SIGTERM]):
            stop(signal.SIGTERM, None)
        raise
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
