"""What does an error of the operating system mean?

One of a disk is a StorageError, others of creating something an OutputError; each says in one line
what happened, and what to do.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddim_interp.errors import DdimInterpError, OutputError, StorageError
from ddim_interp.files.names import shown

__all__ = ["DISK_ERRORS", "creating", "disk_remedy", "reason", "storing"]

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Numbers of the system's errors that say that a disk is full, or fails."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES = {errno.EINTR: "try again", errno.ENAMETOOLONG: "choose a shorter name"}


def disk_remedy(error: OSError, otherwise: str = "use another disk") -> str:
    """What to do about one of `DISK_ERRORS`, in a few words.

    Example:
        >>> disk_remedy(OSError(errno.EFBIG, "File too large"))
        'raise the limit on file size (ulimit -f), or use another disk'
    """
    limited = error.errno == errno.EFBIG
    first = "raise the limit on file size (ulimit -f)" if limited else "make room"
    return f"{first}, or {otherwise}"


@contextmanager
def creating(path: Path) -> Iterator[None]:
    """Errors of creating something beside `path`: it cannot be made, or the disk is full."""
    try:
        yield
    except DdimInterpError:
        raise
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise _storage_error(path, error) from error
        remedy = _REMEDIES.get(error.errno or 0, "choose a folder you may write to")
        raise OutputError(f"{shown(path)} cannot be created: {reason(error)}; {remedy}.") from error


@contextmanager
def storing(path: Path, part: Path | None = None) -> Iterator[None]:
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


def reason(error: BaseException) -> str:
    """What the operating system said, without the path and the number."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _storage_error(path: Path, error: OSError) -> StorageError:
    room = ""
    if error.errno in _FULL:
        with suppress(OSError):
            room = f" ({shutil.disk_usage(path.parent).free:,} bytes free)"
    remedy = "try again" if error.errno == errno.EINTR else disk_remedy(error)
    return StorageError(f"Writing {shown(path)} failed: {reason(error)}{room}; {remedy}.")
