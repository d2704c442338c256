"""What does a run leave beside its output while it is at work, and for the run after it?

A claim keeps others away for as long as the run lives. A work folder outlives it, so that another
run can go on where this one ended.
"""

# pathlib would go around the name `os`
# ruff: noqa: PTH102, PTH106

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddim_interp.errors import OutputError
from ddim_interp.files.names import StrPath, shown
from ddim_interp.files.parts import empty_folder, hold, leave, part_name, sweep, sweep_orphans
from ddim_interp.files.reading import sha256_bytes
from ddim_interp.files.trouble import creating, storing

__all__ = ["claim", "remove_work", "work_folder", "work_place"]


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
    lock = part_name(path, sha256_bytes(os.fsencode(path.name))[:12])
    held: list[int] = []
    try:
        with creating(path):
            hold(path, lock, held)
        sweep_orphans(path.parent)
        yield
    finally:
        try:
            leave(held, lock)
        finally:
            leave(held, lock)


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
        with creating(folder):
            with suppress(FileExistsError):
                os.mkdir(folder)
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise OutputError(f"{shown(folder)} is in the way; move it elsewhere.")
            sweep_orphans(folder)
        yield folder
        with storing(folder):
            empty_folder(folder, members)
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


def remove_work(path: StrPath, members: re.Pattern[str]) -> None:
    """Remove the `work_folder` of an output, if it has one; inside `claim`, too.

    One that holds others than files like `members` stays.
    """
    sweep(work_place(path), members)


def _rmdir(folder: Path) -> None:
    """Remove a folder if there is one, and nothing in it."""
    with suppress(OSError):
        os.rmdir(folder)
