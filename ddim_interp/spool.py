"""Remember arrays without holding them in memory."""

import math
import os
import tempfile
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddim_interp.errors import StorageError

__all__ = ["Spool"]


class Spool:
    """Frames in an anonymous temporary file, read back in any order; or other arrays of one kind.

    A boomerang plays every frame twice, and an even pace is known only when all are drawn. Drawing
    them again costs hours on a large model, holding them costs memory that grows with the film; the
    disk has room. The file has no name, so nothing is left behind however the program ends.

    Example:
        >>> with Spool() as spool:
        ...     numbers = [spool.append(np.full((2, 2, 3), grey, np.uint8)) for grey in (1, 2, 3)]
        ...     int(spool[numbers[2]][0, 0, 0]), int(spool[numbers[0]][0, 0, 0])
        (3, 1)
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile()
        except OSError as error:
            raise StorageError(
                f"There is no folder for temporary files: {error.strerror or error}; set TMPDIR "
                "to one that can be written to."
            ) from error
        self._shape: tuple[int, ...] = ()
        self._kind: np.dtype[Any] = np.dtype(np.uint8)
        self._count = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, frame: NDArray[Any]) -> int:
        """Remember a frame, of the shape and kind of the first; returns its number.

        Raises:
            StorageError: The disk for temporary files is full.
        """
        self._shape, self._kind = frame.shape, frame.dtype
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(frame.tobytes())
        except OSError as error:
            raise StorageError(
                f"The folder for temporary files ({tempfile.gettempdir()}) took no more: "
                f"{error.strerror}; free some space, or set TMPDIR to another folder."
            ) from error
        self._count += 1
        return self._count - 1

    def __getitem__(self, number: int) -> NDArray[Any]:
        size = math.prod(self._shape) * self._kind.itemsize
        self._file.seek(number * size)
        return np.frombuffer(self._file.read(size), self._kind).reshape(self._shape)
