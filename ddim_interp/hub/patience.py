"""How long does one wait for the network? As long as new bytes arrive.

The hub's client retries, sleeps and waits for other processes' locks for as long as it likes, and
cannot be interrupted: so it works in a thread, which is left behind if need be.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

__all__ = ["patiently"]

T = TypeVar("T")


def patiently(
    work: Callable[[], T], seconds: float, size: Callable[[], int], tell: Callable[[int], None]
) -> Future[T] | None:
    """Do what may wait for the network, as long as bytes arrive.

    Args:
        work: What to do.
        seconds: How long it may go on without a new byte.
        size: How many bytes are here now.
        tell: Is told how many are new since the start, whenever there are more.

    Returns:
        What became of it, a result or an exception; None if it was left behind.

    Example:
        >>> patiently(lambda: 6 * 7, seconds=10, size=lambda: 0, tell=print).result()
        42
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    start = most = size()
    last = time.monotonic()
    while not wait([future], timeout=0.2).done:
        now = size()
        if now > most:  # a download that starts over and over brings nothing new
            most, last = now, time.monotonic()
            tell(now - start)
        if time.monotonic() - last > seconds:
            return None
    return future
