"""A file that grows by a line at a time, for what is done bit by bit and known at once.

It is never whole, so it cannot be written beside its name. A line is there to its end, flushed to
the disk, or it is not there: one that could not be written is cut off again, and one that a killed
run left without its end is not read.
"""

import os
from pathlib import Path

from ddim_interp.errors import OutputError
from ddim_interp.files.names import StrPath
from ddim_interp.files.reading import open_input
from ddim_interp.files.trouble import storing

__all__ = ["append_line", "read_lines"]


def append_line(path: StrPath, line: str) -> None:
    """Add a line to a file, which is created if need be.

    Args:
        path: The file; it ends in whole lines.
        line: Text without a line break.

    Raises:
        StorageError: The disk is full, or fails; the file is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     append_line(f"{folder}/log", "one")
        ...     append_line(f"{folder}/log", "two")
        ...     read_lines(f"{folder}/log")
        [b'one', b'two']
    """
    path, data = Path(path), line.encode() + b"\n"
    how = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with storing(path):
        descriptor = os.open(path, how, 0o666)
        try:
            before = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(data):  # the system may take less than it was given
                    written += os.write(descriptor, data[written:])
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def read_lines(path: StrPath) -> list[bytes]:
    """The whole lines of a file, without their ends.

    Raises:
        InputMissingError: There is no such file.
        OutputError: Something else than a file stands there.
        StorageError: It cannot be read.
    """
    with open_input(path, OutputError) as file:
        *whole, _ = file.read().split(b"\n")
    return whole
