"""How is a file or a folder written so that it appears whole, or not at all?

It is made beside its final name and renamed. Whether it may be made is asked three times: before
any work is done (`check_output`), at the start, and just before the renaming.
"""

# pathlib would go around the name `os`
# ruff: noqa: PTH102, PTH104, PTH105, PTH108, PTH208

import errno
import os
import re
import stat
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddim_interp.errors import ArgumentError, BusyError, OutputError
from ddim_interp.files.names import StrPath, is_there, shown
from ddim_interp.files.parts import (
    create_part,
    empty_folder,
    leave,
    open_part,
    part_name,
    release,
    remove_folder,
    try_lock,
)
from ddim_interp.files.trouble import creating, storing

__all__ = [
    "atomic_file",
    "atomic_folder",
    "check_not_input",
    "check_output",
    "lost_to",
    "make_folder",
    "write_bytes",
]


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
    probe = part_name(path)
    try:
        with creating(path):
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    finally:
        try:
            _discard(probe)
        finally:
            _discard(probe)


def check_not_input(path: StrPath, inputs: Iterable[StrPath]) -> None:
    """Refuse an output that would replace what it is to be made of.

    Args:
        path: The file or folder to be.
        inputs: What is read for it; none may be it, or lie in it.

    Raises:
        ArgumentError: One does.
    """
    out = Path(os.path.realpath(path))
    for each, _ in lost_to(inputs, {out}):
        does = "is" if os.path.realpath(each) == str(out) else "holds"
        raise ArgumentError(
            f"The output {shown(path)} {does} the input {shown(each)}, which would be lost; "
            "give the output another name."
        )


def lost_to(inputs: Iterable[StrPath], outputs: Container[Path]) -> Iterator[tuple[StrPath, Path]]:
    """The inputs that an output would take the place of, each with that output.

    Args:
        inputs: What is read, if it is there.
        outputs: What is to be written, by `os.path.realpath`: files, or folders that hold more.

    Example:
        >>> list(lost_to([__file__], {Path("/nowhere/film.mp4")}))
        []
    """
    for each in filter(is_there, inputs):
        real = Path(os.path.realpath(each))
        yield from ((each, place) for place in (real, *real.parents) if place in outputs)


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
        with creating(path):
            create_part(path, parts, held)
        part = parts[-1]
        with storing(path, part):
            yield part
        with storing(path):
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
        release(held)


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
        with creating(path):
            with suppress(FileExistsError):
                os.mkdir(partial)
            held.append(os.open(partial, os.O_RDONLY))
        if not try_lock(held[0]):
            raise BusyError(f"{shown(partial)} is being filled by another run; wait for it to end.")
        with storing(path):
            empty_folder(partial, members)
        with storing(path, partial):
            yield partial
        with storing(path):
            _sync(partial)
            _free(path, overwrite, members)
            _replace_folder(partial, path, members)
        release(held)
    except BaseException:
        try:
            leave(held, partial, members)
        finally:
            leave(held, partial, members)
        raise


def make_folder(path: StrPath) -> None:
    """Make a folder for many outputs, unless it is there.

    Raises:
        OutputError: Something else stands there, or the folder it would be in is missing or may not
            be written to.
        StorageError: The disk is full, or fails.
    """
    path = Path(path)
    with creating(path):
        try:
            os.mkdir(path)
        except FileExistsError:
            if not path.is_dir():
                raise OutputError(f"{shown(path)} is a file; give the name of a folder.") from None


def write_bytes(path: StrPath, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` as the whole file `path`, atomically; see `atomic_file` for the errors."""
    with atomic_file(path, overwrite=overwrite) as part, open_part(part) as file:
        file.write(data)


def _free(path: StrPath, overwrite: bool, members: re.Pattern[str] | None) -> Path:
    """`path`, if it may be written to: nothing is there, or something that may be replaced."""
    path = Path(path)
    if path.name in ("", "..") or "\0" in path.name:
        raise OutputError(f"{shown(path)} names no file; give the output a name.")
    with creating(path):
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
    old = part_name(path)
    try:
        if path.is_dir():
            os.rename(path, old)
        os.rename(partial, path)
        _sync(path.parent)
        remove_folder(old, members)
    except BaseException:
        with suppress(OSError):  # `partial` has its place already, or there was no other
            os.rename(old, path)
        with suppress(OSError):
            remove_folder(old, members)
        raise


def _discard(*parts: Path) -> None:
    """Remove temporary files; if even that fails they stay behind, recognisable as ours."""
    for part in parts:
        with suppress(OSError):
            os.unlink(part)


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
