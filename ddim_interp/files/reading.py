"""May a file be read, and what is its hash?

A name may be wrong, or something else than a file may stand there: that is told before a byte is
read, and without waiting on a pipe.
"""

# pathlib would go around the name `os`
# ruff: noqa: PTH208

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

from ddim_interp.errors import DdimInterpError, ImageError, InputMissingError, StorageError
from ddim_interp.files.names import StrPath, shown
from ddim_interp.files.trouble import DISK_ERRORS, reason

__all__ = ["list_input", "open_input", "sha256_bytes", "sha256_file"]

# Errors that are not the fault of a name:
_PASSING = DISK_ERRORS | {errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


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
        raise _not_allowed(path) from None
    except (OSError, ValueError) as cause:  # ValueError: a name with a NUL in it
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            raise _reading_error(path, cause) from cause
        raise error(f"{shown(path)} cannot be opened: {reason(cause)}; check the name.") from None
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


def list_input(path: StrPath) -> list[Path]:
    """What lies in a folder, in no order.

    Raises:
        InputMissingError: There is no such folder, or it may not be read.
        StorageError: The device failed.
    """
    try:
        return [Path(path, name) for name in os.listdir(path)]
    except (FileNotFoundError, NotADirectoryError):
        raise InputMissingError(f"{shown(path)} is no folder; check the name.") from None
    except PermissionError:
        raise _not_allowed(path) from None
    except OSError as cause:
        raise _reading_error(path, cause) from cause


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


def _not_allowed(path: StrPath) -> InputMissingError:
    return InputMissingError(f"{shown(path)} may not be read by this user; change its permissions.")


def _reading_error(path: StrPath, error: OSError) -> StorageError:
    return StorageError(
        f"Reading {shown(path)} failed: {reason(error)}; try again, or copy it to another disk."
    )
