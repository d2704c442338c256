"""What every format of film shares: the film's facts, its clock, and the sink that takes frames."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddim_interp.errors import ArgumentError

__all__ = ["Encoder", "Film", "Format", "Frame", "FrameSink", "WriteFrame", "ticks"]

Frame: TypeAlias = NDArray[np.uint8]
"""One finished picture, (H, W, 3), uint8: `shapes.Frame`, without importing torch."""

WriteFrame: TypeAlias = Callable[[Frame], None]

_LONGEST_SIDE = 16_383  # what WebP can hold; far beyond any player


@dataclass(frozen=True)
class Film:
    """What a format must know about a film besides its frames."""

    fps: Fraction
    frame_count: int | None = None  # how many frames will come, where that is known
    recipe: str | None = None  # packed JSON
    upscale: int = 1
    loop: bool = True
    height: int = 0  # of the frames as they are written; known with the first one
    width: int = 0


Encoder: TypeAlias = Callable[[Path, Film], AbstractContextManager[WriteFrame]]
"""Opens a part of a film's file (or a folder), yields what takes frames, closes it properly."""


def _anything(film: Film) -> None:
    """Most formats hold any film."""


@dataclass(frozen=True)
class Format:
    """How one suffix is written."""

    encode: Encoder
    check: Callable[[Film], None] = _anything  # raises where the film cannot be held
    members: re.Pattern[str] | None = None  # names of the files, where a film is a folder


def ticks(fps: Fraction, index: int, per_second: int) -> int:
    """How long frame `index` stands, in whole ticks of a clock too coarse for the frame rate.

        ⌊(i + 1) · c / fps + ½⌋ - ⌊i · c / fps + ½⌋,   c ticks per second

    The rounding errors cancel instead of adding up: after any number of frames the film is within
    half a tick of its true time.

    Example:
        >>> [ticks(Fraction(30), i, 100) for i in range(6)]  # a GIF's centiseconds
        [3, 4, 3, 3, 4, 3]
    """
    start, end = (floor(i * per_second / fps + Fraction(1, 2)) for i in (index, index + 1))
    return end - start


class FrameSink:
    """Takes the frames of one film, one after the other; made by `open_sink`.

    Attributes:
        frames: How many were written so far.
    """

    def __init__(self, part: Path, film: Film, encode: Encoder, stack: ExitStack) -> None:
        self.frames = 0
        self._part = part
        self._film = film
        self._encode = encode
        self._stack = stack
        self._write: WriteFrame | None = None

    def write(self, frame: Frame) -> None:
        """Add a frame, (H, W, 3), uint8; all frames of a film have one size.

        Raises:
            ArgumentError: It has another shape or type.
            StorageError: The disk is full, or fails.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ArgumentError(
                f"A frame of shape {frame.shape} and type {frame.dtype} cannot be written; "
                "give (H, W, 3) in uint8, as to_frames does."
            )
        upscale = self._film.upscale
        height, width = frame.shape[0] * upscale, frame.shape[1] * upscale
        if self._write is None:
            if max(height, width) > _LONGEST_SIDE:
                raise ArgumentError(
                    f"Frames of {height}×{width} (upscale={upscale}) are more than "
                    f"{_LONGEST_SIDE} pixels a side; choose a smaller upscale."
                )
            self._film = replace(self._film, height=height, width=width)
            self._write = self._stack.enter_context(self._encode(self._part, self._film))
        elif (height, width) != (self._film.height, self._film.width):
            raise ArgumentError(
                f"Frame {self.frames} is {height}×{width}, but the film is "
                f"{self._film.height}×{self._film.width}; give frames of one size."
            )
        self._write(_enlarged(frame, upscale))
        self.frames += 1


def _enlarged(frame: Frame, upscale: int) -> Frame:
    """`frame`, a whole number of times larger; its own pixels, to the bit, at 1."""
    if upscale == 1:
        return np.ascontiguousarray(frame)
    size = frame.shape[1] * upscale, frame.shape[0] * upscale
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
