"""Keep the memory of large tensors, instead of handing it back to the system after each use.

Every layer of a network takes tensors of megabytes and gives them up again. The C library of Linux
asks the system for each such block and returns it at once, and the system clears every page before
it hands it out again: a tenth of a forward's time, more on virtual machines. Kept blocks are used
again as they are. The peak of memory stays the same; what is idle is not given back before the
process ends, so a library must not decide this for the program it is used in. Programs do.
"""

import ctypes
import sys

__all__ = ["keep_large_blocks"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_large_blocks() -> bool:
    """Tell glibc's allocator to keep freed memory; says whether there is one to tell.

    Example:
        >>> keep_large_blocks() in (True, False)
        True
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    told = [
        mallopt(option, value)
        for option, value in (
            (_MMAP_THRESHOLD, _LARGEST),
            (_TRIM_THRESHOLD, _LARGEST),
            (_TOP_PAD, 2**26),
        )
    ]
    return all(told)
