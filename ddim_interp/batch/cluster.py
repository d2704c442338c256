"""Ray, made ready to be used: the door of it.

On one machine nobody else can speak to its processes: they listen on the loopback alone, and ask
for a token that this run has drawn.
"""

import atexit
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddim_interp.errors import ArgumentError

__all__ = ["joined", "our_signals"]

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0, or Ray listens on all addresses


@contextmanager
def joined(address: str | None) -> Iterator[Any]:
    """Ray, with a cluster to speak to: the one at an address, or one of this process alone.

    Raises:
        ArgumentError: Ray is not installed, was imported too early, or no such cluster answers.
    """
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
        with our_signals():
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
def our_signals() -> Iterator[None]:
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
