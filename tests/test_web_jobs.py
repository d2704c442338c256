"""One worker: the most urgent first, the newest wins, and nobody waits for ever."""

import threading
from collections.abc import Iterator

import pytest

from ddim_interp.errors import BusyError
from ddim_interp.web.jobs import Lane, Superseded, Worker

LANES = {"open": Lane(most=2), "look": Lane(newest_wins=True), "film": Lane(newest_wins=True)}


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(LANES) as worker:
        yield worker


class Long:
    """Work that glances up until it is told to end."""

    def __init__(self, worker: Worker) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self._worker = worker

    def __call__(self) -> str:
        self.begun.set()
        while not self.end.wait(0.001):
            self._worker.glance()
        return "done"


def test_urgent_work_is_done_in_the_midst_of_long_work(worker: Worker) -> None:
    long = Long(worker)
    film = worker.ask("film", long)
    assert long.begun.wait(30)
    assert worker.ask("look", lambda: "seen").result(30) == "seen"
    assert not film.done() and worker.busy == {"film"}
    long.end.set()
    assert film.result(30) == "done"


def test_the_newest_wish_takes_the_place_of_those_before_it(worker: Worker) -> None:
    first, second = Long(worker), Long(worker)
    one = worker.ask("film", first)
    assert first.begun.wait(30)
    two, three = worker.ask("film", second), worker.ask("film", lambda: "newest")
    for old in (one, two):
        with pytest.raises(Superseded):
            old.result(30)
    assert three.result(30) == "newest" and not second.begun.is_set()


def test_work_of_a_less_urgent_kind_waits(worker: Worker) -> None:
    long = Long(worker)
    look = worker.ask("look", long)
    assert long.begun.wait(30)
    film = worker.ask("film", lambda: "later")
    with pytest.raises(TimeoutError):
        film.result(0.05)
    long.end.set()
    assert (look.result(30), film.result(30)) == ("done", "later")


def test_a_lane_that_is_full_says_so(worker: Worker) -> None:
    stuck, begun = threading.Event(), threading.Event()
    worker.ask("film", lambda: (begun.set(), stuck.wait(30)))
    assert begun.wait(30)
    waiting = [worker.ask("open", lambda: 1) for _ in range(2)]
    with pytest.raises(BusyError, match="try again"):
        worker.ask("open", lambda: 1)
    stuck.set()
    assert [each.result(30) for each in waiting] == [1, 1]


def test_work_that_was_called_off_while_it_waited_is_not_begun(worker: Worker) -> None:
    stuck, begun, done = threading.Event(), threading.Event(), []
    worker.ask("film", lambda: (begun.set(), stuck.wait(30)))
    assert begun.wait(30)
    assert worker.ask("open", lambda: done.append("called off")).cancel()
    stuck.set()
    assert worker.ask("open", lambda: "next").result(30) == "next"
    assert done == []


def test_an_error_is_for_whoever_asked_and_the_work_goes_on(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.ask("film", lambda: 1 / 0).result(30)
    assert worker.ask("film", lambda: 1).result(30) == 1


def test_a_closed_worker_leaves_no_thread_behind() -> None:
    before = threading.enumerate()
    with Worker(LANES) as worker:
        assert worker.ask("look", lambda: "seen").result(30) == "seen"
    assert threading.enumerate() == before


def test_closing_lets_go_of_all_who_wait(worker: Worker) -> None:
    long = Long(worker)
    film = worker.ask("film", long)
    assert long.begun.wait(30)
    worker.close()
    with pytest.raises(Superseded):
        film.result(30)
    with pytest.raises(BusyError):
        worker.ask("look", lambda: 1)
    assert not worker.busy
