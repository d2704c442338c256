"""What is an output before it is whole? A temporary file beside it, held by a lock.

Its name says that it is ours, and the lock, which goes with the process, that somebody still needs
it. One that nobody holds is an orphan: a killed run left it, and the next one sweeps it away.

Who takes a lock passes in a list `held`, which gets the descriptor that the lock hangs on: whoever
catches a signal finds it there.
"""

# pathlib would go around the name `os`
# ruff: noqa: PTH106, PTH108, PTH208

import io
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from ddim_interp.errors import BusyError, OutputError
from ddim_interp.files.names import StrPath, shown

try:
    import fcntl
except ImportError:  # Windows: there an open file cannot be deleted, so no lock is needed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "create_part",
    "empty_folder",
    "hold",
    "leave",
    "open_part",
    "part_name",
    "release",
    "remove_folder",
    "sweep",
    "sweep_orphans",
    "try_lock",
]

_ORPHAN = re.compile(r"\..{1,40}\.[0-9a-f]{12}\.part", re.DOTALL)


def part_name(path: Path, token: str = "") -> Path:
    """A name beside `path` that no other run has, and that `sweep_orphans` knows."""
    return path.with_name(f".{path.name[:40]}.{token or secrets.token_hex(6)}.part")


def create_part(path: Path, parts: list[Path], held: list[int]) -> None:
    """Make a new temporary file for `path`: `held` gets the descriptor its lock hangs on.

    Its name is the last of `parts`, where it stands before there is such a file: a signal may come
    at any moment, and whoever catches it must know what to take away.
    """
    while True:
        parts.append(part_name(path))
        held.append(os.open(parts[-1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        if try_lock(held[0]) and _has_name(held[0]):
            return
        release(held)  # another run took it for an orphan before it was held


def open_part(part: Path) -> BinaryIO:
    """Open the temporary file of an `atomic_file`, empty, to read, write and seek; unbuffered.

    An error of any of its methods becomes the StorageError of the `atomic_file` around it.
    """
    return cast(BinaryIO, _Descriptor(part))


def hold(path: Path, lock: Path, held: list[int]) -> None:
    """Lock the file `lock`; `held` gets the descriptor the lock hangs on."""
    while True:
        how = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        held.append(os.open(lock, how, 0o666))
        if not try_lock(held[0]):
            raise BusyError(f"{shown(path)} is being made by another run; wait for it to end.")
        if _has_name(held[0]):
            return
        release(held)  # the run that held it has just ended, and took it away


def try_lock(descriptor: int) -> bool:
    """Hold the file until it is closed, or this process dies; False if another one holds it."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a filesystem without locks: nobody can hold one
            return True
    return True


def release(held: list[int]) -> None:
    """Close the descriptors in `held`, and with them the locks that hang on them."""
    while held:
        with suppress(OSError):  # a close that fails has closed all the same
            os.close(held[-1])
        held.pop()


def leave(held: list[int], part: Path, members: re.Pattern[str] | None = None) -> None:
    """Let go of a temporary file, or a folder of files like `members`, and remove it."""
    release(held)
    sweep(part, members)


def sweep(part: Path, members: re.Pattern[str] | None = None) -> bool:
    """Remove a temporary file or folder that nobody holds; whether it was removed."""
    held: list[int] = []
    try:
        how = os.O_RDWR if members is None else os.O_RDONLY
        held.append(os.open(part, how | getattr(os, "O_NOFOLLOW", 0)))
        if not try_lock(held[0]):
            return False
        if members is None:
            os.unlink(part)
        else:
            remove_folder(part, members)
        return True
    except (OSError, OutputError):  # gone meanwhile, or not ours to touch
        return False
    finally:
        release(held)


def sweep_orphans(folder: StrPath) -> int:
    """Remove the temporary files that killed runs left in `folder`; those in use stay.

    Returns:
        How many were removed.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    return sum(sweep(Path(folder, name)) for name in filter(_ORPHAN.fullmatch, names))


def remove_folder(folder: Path, members: re.Pattern[str]) -> None:
    """Remove a folder of our own files, if there is one."""
    with suppress(FileNotFoundError):
        empty_folder(folder, members)
        os.rmdir(folder)


def empty_folder(folder: Path, members: re.Pattern[str]) -> None:
    """Remove our own files from a folder that is held; never descends, removes nothing else."""
    for name in os.listdir(folder):
        if not members.fullmatch(name) and not _ORPHAN.fullmatch(name):
            raise OutputError(
                f"{shown(folder)} holds {shown(name)}, which is in the way; move that folder away."
            )
        os.unlink(folder / name)


def _has_name(descriptor: int) -> bool:
    """Whether an open file has not been removed meanwhile."""
    return os.fstat(descriptor).st_nlink > 0


class _Descriptor(io.RawIOBase):
    """A file of which every call goes through this module's `os`, and whose errors carry its name.

    It has no `fileno`, so that encoders cannot write around it.
    """

    def __init__(self, part: Path) -> None:
        self.name = os.fspath(part)
        with _named(self.name):
            self._descriptor = os.open(part, os.O_RDWR | os.O_TRUNC)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _named(self.name):
            data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        with _named(self.name):
            written = 0
            while written < len(view):  # the system may take less than it was given
                written += os.write(self._descriptor, view[written:])
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _named(self.name):
            return os.lseek(self._descriptor, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        with _named(self.name):
            os.ftruncate(self._descriptor, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            with _named(self.name):
                os.close(self._descriptor)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of a file that is open, with its name, as those of opening it have."""
    try:
        yield
    except OSError as error:
        error.filename = name
        raise
