"""The socket the page is served from, until a signal says stop. The door of uvicorn."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ddim_interp.errors import BusyError
from ddim_interp.web.guard import Guard

__all__ = ["HOST", "USUAL_PORT", "Impatient", "listen", "run"]

HOST = "127.0.0.1"
"""Where it listens: on this machine, and nowhere else."""

USUAL_PORT = 8346
"""Tried first, so that the page is where it was the last time."""


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine only.

    Args:
        port: Which one; `USUAL_PORT` if None, or a free one if that is taken.

    Raises:
        BusyError: The port is taken, or may not be used.
    """
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would let another program in beside us
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((HOST, candidate))
            opened.listen(128)
            return opened
        except OSError as error:
            opened.close()
            if port is None and candidate == USUAL_PORT:
                continue
            taken = error.errno == errno.EADDRINUSE
            why = "is taken" if taken else f"cannot be used ({str(error.strerror).lower()})"
            raise BusyError(
                f"Port {candidate} of {HOST} {why}; choose another --port, or none, and a free one "
                "is taken."
            ) from None
    raise AssertionError


def run(
    app: Guard, opened: socket.socket, ready: Callable[[], None], stop: Callable[[], None]
) -> None:
    """Serve until a signal comes.

    Args:
        app: What is served.
        opened: The socket.
        ready: Called when it is.
        stop: Called when the signal has come: lets go of those who wait for work.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        http=Impatient,
        loop="asyncio",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=64,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=2**15,
    )
    _Server(config, ready, stop).run(sockets=[opened])


class Impatient(H11Protocol):
    """A connection that is closed if nobody asks for anything: so many of them may be open.

    uvicorn waits for ever for a first request, and for the end of one's head.
    """

    patience = 20.0
    """Seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody is there."""
        super().connection_made(transport)
        self.loop.call_later(self.patience, self._look, self.cycle)

    def _look(self, before: object) -> None:
        """Look again and again whether a request came, until the connection is closed."""
        if self.transport.is_closing():
            return
        rests = self.cycle is None or self.cycle.response_complete
        if rests and self.cycle is before:
            self.transport.close()
        else:
            self.loop.call_later(self.patience, self._look, self.cycle)


class _Server(uvicorn.Server):
    """uvicorn's, with the program's own way to end."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Note signals while serving, and hand them on when all is put away."""
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        # Ignored they are under nohup, or in a script's background.
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._captured_signals:
            signal.raise_signal(self._captured_signals[0])
