"""How a file comes to stand under its final name: whole, or not at all.

Everything the package writes is first written beside its final name, flushed to the disk, then
renamed. A reader, a crash or a full disk therefore meets the old file or the new one, never half of
one. This module is the only one that opens a file for writing; each call of the operating system in
it goes through the name `os`, so that a test can let any one of them fail.

A signal may raise an exception wherever Python calls something: after the system has created a file
and before anybody here knows of it, or while it is being removed. So a name is known before there
is a file of it, creating stands inside the `try` that tidies up, and tidying up, where it is
interrupted, begins again.
"""

# pathlib would go around that name
# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH108, PTH208

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from ddim_interp.errors import (
    BusyError,
    DdimInterpError,
    ImageError,
    InputMissingError,
    OutputError,
    StorageError,
)

try:
    import fcntl
except ImportError:  # Windows: there an open file cannot be deleted, so no lock is needed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "DISK_ERRORS",
    "StrPath",
    "atomic_file",
    "atomic_folder",
    "check_output",
    "claim",
    "disk_remedy",
    "is_there",
    "open_input",
    "open_part",
    "remove_work",
    "sha256_bytes",
    "sha256_file",
    "shown",
    "sweep_orphans",
    "work_folder",
    "work_place",
    "write_bytes",
]

StrPath: TypeAlias = str | os.PathLike[str]

_ORPHAN = re.compile(r"\..{1,40}\.[0-9a-f]{12}\.part", re.DOTALL)
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Numbers of the system's errors that say that a disk is full, or fails."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES = {errno.EINTR: "try again", errno.ENAMETOOLONG: "choose a shorter name"}
# Nor are these the fault of a name:
_PASSING = DISK_ERRORS | {errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def shown(path: StrPath) -> str:
    r"""A path as it may stand in a one-line message: control characters are escaped.

    Of an empty one, quotation marks are shown.

    Example:
        >>> print(shown("cat\n\x1b[31m.png"))
        cat\x0a\x1b[31m.png
    """
    name = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in os.fspath(path))
    return name or "''"


def disk_remedy(error: OSError, otherwise: str = "use another disk") -> str:
    """What to do about one of `DISK_ERRORS`, in a few words.

    Example:
        >>> disk_remedy(OSError(errno.EFBIG, "File too large"))
        'raise the limit on file size (ulimit -f), or use another disk'
    """
    limited = error.errno == errno.EFBIG
    first = "raise the limit on file size (ulimit -f)" if limited else "make room"
    return f"{first}, or {otherwise}"


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of bytes, 64 hexadecimal digits.

    Example:
        >>> sha256_bytes(b"abc")[:8]
        'ba7816bf'
    """
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: StrPath) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits, read in pieces.

    Raises:
        InputMissingError: There is no such file, or it may not be read.
        StorageError: Reading failed half-way.
    """
    with open_input(path, InputMissingError) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _reading_error(path, error) from error


def is_there(path: StrPath) -> bool:
    """Whether a file or folder of this name exists; a name no file can have does not."""
    try:
        return os.fspath(path) != "" and Path(path).exists()
    except (OSError, ValueError):
        return False


def open_input(path: StrPath, error: type[DdimInterpError] = ImageError) -> io.BufferedReader:
    """Open a regular file to read; a pipe, a device or a folder is refused without waiting on it.

    Args:
        path: The file.
        error: What to raise when something else than a regular file stands there.

    Raises:
        InputMissingError: There is no such file, or it may not be read.
        StorageError: The device failed.
    """
    try:
        # Non-blocking, or opening a named pipe would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise InputMissingError(f"{shown(path)} is not there; check the name.") from None
    except PermissionError:
        raise InputMissingError(
            f"{shown(path)} may not be read by this user; change its permissions."
        ) from None
    except (OSError, ValueError) as cause:  # ValueError: a name with a NUL in it
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            raise _reading_error(path, cause) from cause
        raise error(f"{shown(path)} cannot be opened: {_reason(cause)}; check the name.") from None
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as cause:
        os.close(descriptor)
        raise _reading_error(path, cause) from cause
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise error(f"{shown(path)} is {kind}; give a file.")
    return os.fdopen(descriptor, "rb")


def check_output(
    path: StrPath, *, overwrite: bool = False, members: re.Pattern[str] | None = None
) -> None:
    """Find out, before any work is done, whether `path` can be created.

    Args:
        path: The file to be, or the folder to be if `members` is given.
        overwrite: Whether something of the same kind may be replaced.
        members: What the names in the folder look like. A folder holding anything else is never
            replaced: it is somebody's, not an earlier output.

    Raises:
        OutputError: It exists, its folder is missing or cannot be written to.
        StorageError: The disk is full, or fails.
    """
    path = _free(path, overwrite, members)
    probe = _part(path)
    try:
        with _creating(path):
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    finally:
        try:
            _discard(probe)
        finally:
            _discard(probe)


@contextmanager
def atomic_file(path: StrPath, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file that appears under its name only when it is whole.

    Yields the path of an empty temporary file in the same folder (`.NAME.<random>.part`); fill it,
    by `open_part` or by its name. On a clean exit it is flushed to the disk and renamed; on any
    exception, Ctrl-C among them, it is removed.

    Args:
        path: The final name.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: It exists, its folder is missing or cannot be written to.
        StorageError: The disk is full, or fails.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder, "note.txt")) as part:
        ...         with open_part(part) as file:
        ...             _ = file.write(b"whole")
        ...     Path(folder, "note.txt").read_bytes()
        b'whole'
    """
    path = _free(path, overwrite, None)
    parts: list[Path] = []
    held: list[int] = []
    try:
        with _creating(path):
            _create(path, parts, held)
        part = parts[-1]
        with _storing(path, part):
            yield part
        with _storing(path):
            _sync(part)
            _free(path, overwrite, None)  # somebody may have come first
            os.replace(part, path)
            _sync(path.parent)
    except BaseException:
        try:
            _discard(*parts)
        finally:
            _discard(*parts)
        raise
    finally:
        _release(held)


@contextmanager
def atomic_folder(
    path: StrPath, *, overwrite: bool = False, members: re.Pattern[str]
) -> Iterator[Path]:
    """Fill a flat folder that appears under its name only when it is complete.

    Yields `NAME.partial` beside the final name, empty. On a clean exit it is renamed; on any
    exception, Ctrl-C among them, it is removed. One that a killed run left is used again.

    Args:
        path: The final name. An empty folder may stand there already.
        overwrite: Whether a folder of an earlier output may be replaced.
        members: What the names of our files look like; a folder that holds others is not replaced.

    Raises:
        BusyError: Another run is filling the same folder.
        OutputError: It exists, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    path = _free(path, overwrite, members)
    partial = path.with_name(path.name + ".partial")
    held: list[int] = []
    try:
        with _creating(path):
            with suppress(FileExistsError):
                os.mkdir(partial)
            held.append(os.open(partial, os.O_RDONLY))
        if not _lock(held[0]):
            raise BusyError(f"{shown(partial)} is being filled by another run; wait for it to end.")
        with _storing(path):
            _empty(partial, members)
        with _storing(path, partial):
            yield partial
        with _storing(path):
            _sync(partial)
            _free(path, overwrite, members)
            _replace_folder(partial, path, members)
        _release(held)
    except BaseException:
        try:
            _leave(held, partial, members)
        finally:
            _leave(held, partial, members)
        raise


@contextmanager
def claim(path: StrPath) -> Iterator[None]:
    """Keep other runs from making the same output, until the block is left or this process dies.

    The lock is on an empty `.NAME.<hash of NAME>.part` beside the output. One that a killed run
    left holds nobody up, and goes with the next run, as do its other temporary files there.

    Raises:
        BusyError: Another run is making it.
        OutputError: The output's folder is missing or cannot be written to.
        StorageError: The disk is full, or fails.
    """
    path = Path(path)
    lock = _part(path, sha256_bytes(os.fsencode(path.name))[:12])
    held: list[int] = []
    try:
        with _creating(path):
            _hold(path, lock, held)
        sweep_orphans(path.parent)
        yield
    finally:
        try:
            _leave(held, lock)
        finally:
            _leave(held, lock)


@contextmanager
def work_folder(path: StrPath, members: re.Pattern[str]) -> Iterator[Path]:
    """A folder beside the output `path` for what an interrupted run should find again.

    It outlives a run that fails, if there is anything in it, and goes with one that succeeds. Enter
    it inside `claim`, so that it has one user.

    Args:
        path: The output.
        members: What the names of our files look like; others are in the way.

    Raises:
        OutputError: It cannot be created, or holds something else.
        StorageError: The disk is full, or fails.
    """
    folder = work_place(path)
    try:
        with _creating(folder):
            with suppress(FileExistsError):
                os.mkdir(folder)
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise OutputError(f"{shown(folder)} is in the way; move it elsewhere.")
            sweep_orphans(folder)
        yield folder
        with _storing(folder):
            _empty(folder, members)
            os.rmdir(folder)
    except BaseException:
        try:
            _rmdir(folder)  # if there is nothing in it
        finally:
            _rmdir(folder)
        raise


def work_place(path: StrPath) -> Path:
    """Where the `work_folder` of an output is, if it has one."""
    path = Path(path)
    return path.with_name(f".{path.name[:40]}.{sha256_bytes(os.fsencode(path.name))[:12]}.work")


def remove_work(path: StrPath, members: re.Pattern[str]) -> bool:
    """Remove the `work_folder` of an output, if it has one; inside `claim`, too.

    Returns:
        Whether it was removed. One that holds others than files like `members` stays.
    """
    return _sweep(work_place(path), members)


def write_bytes(path: StrPath, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` as the whole file `path`, atomically; see `atomic_file` for the errors."""
    with atomic_file(path, overwrite=overwrite) as part, open_part(part) as file:
        file.write(data)


def open_part(part: Path) -> BinaryIO:
    """Open the temporary file of an `atomic_file`, empty, to read, write and seek; unbuffered.

    An error of any of its methods becomes the StorageError of the `atomic_file` around it.
    """
    return cast(BinaryIO, _Descriptor(part))


def sweep_orphans(folder: StrPath) -> int:
    """Remove the temporary files that killed runs left in `folder`; those in use stay.

    Returns:
        How many were removed.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    return sum(_sweep(Path(folder, name)) for name in filter(_ORPHAN.fullmatch, names))


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


def _part(path: Path, token: str = "") -> Path:
    """A name beside `path` that no other run has, and that `sweep_orphans` knows."""
    return path.with_name(f".{path.name[:40]}.{token or secrets.token_hex(6)}.part")


def _create(path: Path, parts: list[Path], held: list[int]) -> None:
    """Make a new temporary file for `path`: `held` gets the descriptor its lock hangs on.

    Its name is the last of `parts`, where it stands before there is such a file: a signal may come
    at any moment, and whoever catches it must know what to take away.
    """
    while True:
        parts.append(_part(path))
        held.append(os.open(parts[-1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        if _lock(held[0]) and _has_name(held[0]):
            return
        _release(held)  # another run took it for an orphan before it was held


def _hold(path: Path, lock: Path, held: list[int]) -> None:
    """Lock the file `lock`; `held` gets the descriptor the lock hangs on."""
    while True:
        how = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        held.append(os.open(lock, how, 0o666))
        if not _lock(held[0]):
            raise BusyError(f"{shown(path)} is being made by another run; wait for it to end.")
        if _has_name(held[0]):
            return
        _release(held)  # the run that held it has just ended, and took it away


def _has_name(descriptor: int) -> bool:
    """Whether an open file has not been removed meanwhile."""
    return os.fstat(descriptor).st_nlink > 0


def _release(held: list[int]) -> None:
    """Close the descriptors in `held`, and with them the locks that hang on them."""
    while held:
        with suppress(OSError):  # a close that fails has closed all the same
            os.close(held[-1])
        held.pop()


def _leave(held: list[int], part: Path, members: re.Pattern[str] | None = None) -> None:
    """Let go of a temporary file, or a folder of files like `members`, and remove it."""
    _release(held)
    _sweep(part, members)


def _sweep(part: Path, members: re.Pattern[str] | None = None) -> bool:
    """Remove a temporary file or folder that nobody holds; whether it was removed."""
    held: list[int] = []
    try:
        how = os.O_RDWR if members is None else os.O_RDONLY
        held.append(os.open(part, how | getattr(os, "O_NOFOLLOW", 0)))
        if not _lock(held[0]):
            return False
        if members is None:
            os.unlink(part)
        else:
            _remove_folder(part, members)
        return True
    except (OSError, OutputError):  # gone meanwhile, or not ours to touch
        return False
    finally:
        _release(held)


def _remove_folder(folder: Path, members: re.Pattern[str]) -> None:
    """Remove a folder of our own files, if there is one."""
    with suppress(FileNotFoundError):
        _empty(folder, members)
        os.rmdir(folder)


def _rmdir(folder: Path) -> None:
    """Remove a folder if there is one, and nothing in it."""
    with suppress(OSError):
        os.rmdir(folder)


def _free(path: StrPath, overwrite: bool, members: re.Pattern[str] | None) -> Path:
    """`path`, if it may be written to: nothing is there, or something that may be replaced."""
    path = Path(path)
    if path.name in ("", "..") or "\0" in path.name:
        raise OutputError(f"{shown(path)} names no file; give the output a name.")
    with _creating(path):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            if path.parent.is_dir():
                return path
            raise OutputError(
                f"{shown(path)} cannot be created: there is no folder {shown(path.parent)}; "
                "create it first."
            ) from None
        kind = "file" if members is None else "folder"
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise OutputError(f"{shown(path)} is a pipe or a device; give a {kind}'s name.")
        if members is None:
            if stat.S_ISDIR(mode):
                raise OutputError(f"{shown(path)} is a folder; give the output another name.")
        else:
            if not stat.S_ISDIR(mode):
                raise OutputError(f"{shown(path)} is a file, not a folder; choose another name.")
            names = os.listdir(path)
            if not names:
                return path
            for name in names:
                if not members.fullmatch(name):
                    raise OutputError(
                        f"{shown(path)} holds other files, such as {shown(name)}; "
                        "choose another folder."
                    )
    if not overwrite:
        raise OutputError(
            f"{shown(path)} exists; choose another name, or allow it to be replaced (--overwrite)."
        )
    return path


def _replace_folder(partial: Path, path: Path, members: re.Pattern[str]) -> None:
    """Let `partial` take the place of whatever folder stands at `path`."""
    old = _part(path)
    try:
        if path.is_dir():
            os.rename(path, old)
        os.rename(partial, path)
        _sync(path.parent)
        _remove_folder(old, members)
    except BaseException:
        with suppress(OSError):  # `partial` has its place already, or there was no other
            os.rename(old, path)
        with suppress(OSError):
            _remove_folder(old, members)
        raise


def _empty(folder: Path, members: re.Pattern[str]) -> None:
    """Remove our own files from a folder that is held; never descends, removes nothing else."""
    for name in os.listdir(folder):
        if not members.fullmatch(name) and not _ORPHAN.fullmatch(name):
            raise OutputError(
                f"{shown(folder)} holds {shown(name)}, which is in the way; move that folder away."
            )
        os.unlink(folder / name)


def _discard(*parts: Path) -> None:
    """Remove temporary files; if even that fails they stay behind, recognisable as ours."""
    for part in parts:
        with suppress(OSError):
            os.unlink(part)


def _lock(descriptor: int) -> bool:
    """Hold the file until it is closed, or this process dies; False if another one holds it."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a filesystem without locks: nobody can hold one
            return True
    return True


def _sync(path: Path) -> None:
    """Make what was written to a file, or renamed in a folder, last through a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network filesystems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _creating(path: Path) -> Iterator[None]:
    """Errors of creating something beside `path`: it cannot be made, or the disk is full."""
    try:
        yield
    except DdimInterpError:
        raise
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise _storage_error(path, error) from error
        remedy = _REMEDIES.get(error.errno or 0, "choose a folder you may write to")
        raise OutputError(
            f"{shown(path)} cannot be created: {_reason(error)}; {remedy}."
        ) from error


@contextmanager
def _storing(path: Path, part: Path | None = None) -> Iterator[None]:
    """Errors of writing `path`: all, or (around a caller's code) those of `part` and of a disk."""
    try:
        yield
    except DdimInterpError:
        raise
    except OSError as error:
        foreign = part is not None and error.filename != os.fspath(part)
        if foreign and error.errno not in DISK_ERRORS:
            raise
        raise _storage_error(path, error) from error


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of a file that is open, with its name, as those of opening it have."""
    try:
        yield
    except OSError as error:
        error.filename = name
        raise


def _reading_error(path: StrPath, error: OSError) -> StorageError:
    return StorageError(
        f"Reading {shown(path)} failed: {_reason(error)}; try again, or copy it to another disk."
    )


def _storage_error(path: Path, error: OSError) -> StorageError:
    room = ""
    if error.errno in _FULL:
        with suppress(OSError):
            room = f" ({shutil.disk_usage(path.parent).free:,} bytes free)"
    remedy = "try again" if error.errno == errno.EINTR else disk_remedy(error)
    return StorageError(f"Writing {shown(path)} failed: {_reason(error)}{room}; {remedy}.")


def _reason(error: BaseException) -> str:
    """What the operating system said, without the path and the number."""
    return (getattr(error, "strerror", None) or str(error)).lower()
