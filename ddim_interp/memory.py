"""When memory runs out, try again with half as much at once."""

import errno
from collections.abc import Callable
from typing import TypeVar

from ddim_interp.errors import BusyError

__all__ = ["OUT_OF_MEMORY", "halve_until_it_fits", "ran_out_of_memory"]

OUT_OF_MEMORY = "Memory ran out; use a smaller --batch-size, or close other programs."
"""What its user is told when it ran out for good."""

T = TypeVar("T")

_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "[enforce fail a",  # PyTorch's allocator, which had no memory for the rest of the sentence
    "could not create a primitive",  # oneDNN
    "could not create a memory object",
    "without exception set",  # Python itself: something in C returned nothing, and said nothing
    "without setting an exception",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's, a library's or a GPU driver's way of saying so.

    Example:
        >>> ran_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
        True
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    if not isinstance(error, OSError | RuntimeError | SystemError):
        return isinstance(error, MemoryError)
    said = str(error).lower()
    return any(word in said for word in _WORDS)


def halve_until_it_fits(work: Callable[[int], T], batch_size: int) -> T:
    """Do `work(batch_size)`; where memory runs out, all of it again with half the batch.

    Everything is done anew because results depend on the batch size in their last bit: a film made
    of batches of 16 and of 8 could not be made a second time.

    Args:
        work: What to do with a batch size. It must leave nothing behind when it fails.
        batch_size: The first to try.

    Raises:
        BusyError: Memory runs out even with batches of one.

    Example:
        >>> def work(size):
        ...     if size > 3:
        ...         raise MemoryError
        ...     return size
        >>> halve_until_it_fits(work, 12)
        3
    """
    while True:
        try:
            return work(batch_size)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            if batch_size == 1:
                raise BusyError(
                    "Memory ran out even for one picture at a time; close other programs, or use "
                    "a smaller model."
                ) from error
        batch_size //= 2  # outside the handler, which holds the failed attempt's tensors
