"""Time several pieces of work so that they can be compared."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch

from ddim_interp.errors import ArgumentError

__all__ = ["check_rounds", "race", "wait_for"]


def check_rounds(rounds: int) -> None:
    """Refuse a race without rounds, or one that nobody lives to see.

    Raises:
        ArgumentError: `rounds` is out of range.
    """
    if not 1 <= rounds <= 1000:
        raise ArgumentError(f"rounds={rounds} is no race; ask for 1 to 1000.")


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all it was given; a CPU has, when it answers."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def race(
    runners: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
) -> dict[str, float]:
    """Let each run once to warm up, then all in turns; the median of each, in seconds.

    Whatever else the machine does in the meantime falls on all of them. Every round begins with
    another one, so that none always comes after the same neighbour.

    Example:
        >>> times = race({"nap": lambda: time.sleep(0.02), "blink": lambda: None}, rounds=3)
        >>> times["blink"] < times["nap"]
        True
    """
    names = list(runners)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        runners[name]()
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(_seconds(runners[name], device))
    return {name: median(values) for name, values in seconds.items()}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run, by the device's own clock where it has one."""
    wait_for(device)
    if device.type == "cuda":
        event = partial(torch.cuda.Event, enable_timing=True)
        first, last = event(), event()
        first.record()
        run()
        last.record()
        wait_for(device)
        return float(first.elapsed_time(last)) / 1000
    started = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - started
