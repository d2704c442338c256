"""A film while it is being drawn: some of its frames are there, and those may be looked at."""

import secrets
import threading
from collections.abc import Iterator
from typing import Any

from ddim_interp.errors import ArgumentError
from ddim_interp.morph import Morph
from ddim_interp.shapes import Frame
from ddim_interp.spool import Spool

__all__ = ["Drawing"]

_MOST_BYTES = 2**31  # of frames, which lie on the disk


class Drawing:
    """The frames of a film, first as a sketch and then as they are, in files without names.

    One thread draws, others look.

    Args:
        film: The film.

    Raises:
        ArgumentError: Its frames would take more than two gigabytes.
    """

    def __init__(self, film: Morph) -> None:
        self.id = secrets.token_hex(8)
        self.film = film
        self.count = film.style.frames
        _, height, width = film.model.picture_shape
        if self.count * height * width * 3 > _MOST_BYTES:
            raise ArgumentError(
                f"{self.count} frames of {height}×{width} pixels are too many to leaf through; ask "
                f"for {_MOST_BYTES // (height * width * 3)} at most."
            )
        self._lock = threading.Lock()
        self._spools = {"sketch": Spool(), "frames": Spool()}
        self._closed = False

    def append(self, kind: str, frame: Frame) -> None:
        """One frame more of the `sketch`, or of the `frames`."""
        with self._lock:
            if not self._closed:
                self._spools[kind].append(frame)

    def frame(self, kind: str, number: int) -> Frame | None:
        """A frame, if it is there."""
        with self._lock:
            spool = self._spools.get(kind)
            if self._closed or spool is None or not 0 <= number < len(spool):
                return None
            return spool[number]

    def ready(self, kind: str = "frames") -> int:
        """How many are there."""
        return len(self._spools[kind])

    @property
    def finished(self) -> bool:
        """Whether all frames are."""
        return self.ready() == self.count

    def check(self) -> None:
        """Refuse to take home what is not finished.

        Raises:
            ArgumentError: Some frames are missing.
        """
        if not self.finished:
            raise ArgumentError(
                f"The film is not finished: {self.ready()} of {self.count} frames are drawn; wait "
                "for the others."
            )

    def whole(self) -> Iterator[Frame]:
        """All frames of a film that is finished, in order.

        Raises:
            ArgumentError: It is not, or it was forgotten meanwhile.
        """
        for number in range(self.count):
            frame = self.frame("frames", number)
            if frame is None:
                raise ArgumentError("This film has given way to another; take that one home.")
            yield frame

    def close(self) -> None:
        """Forget all frames."""
        with self._lock:
            self._closed = True
            for spool in self._spools.values():
                spool.__exit__(None, None, None)

    def describe(self) -> dict[str, Any]:
        """What the page knows of it, as JSON values."""
        return {
            "id": self.id,
            "count": self.count,
            "ready": self.ready(),
            "sketched": self.ready("sketch"),
        }
