"""A filmstrip: frames of a film side by side in one PNG, to see a whole journey at once.

It shows at most 16 frames, evenly spaced, the first and the last among them, each reduced to 256
pixels a side where it is larger. A film of one frame is that picture.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from ddim_interp.errors import ArgumentError
from ddim_interp.files import open_part
from ddim_interp.sinks.film import Film, Format, Frame, WriteFrame
from ddim_interp.sinks.png import save_png, text_chunks

__all__ = ["FILMSTRIP", "contact_sheet"]

_MOST = 16  # pictures on a strip
_ROW = 8
_THUMBNAIL = 256  # pixels a side, at most


def contact_sheet(frames: Sequence[Frame], *, columns: int | Sequence[int] | None = None) -> Frame:
    """Lay pictures of one size out in rows, on white, with a gutter between them.

    Args:
        frames: The pictures, (H, W, 3), uint8.
        columns: How many stand in a row, or in each row, shorter ones centred; all of them in one
            row if not given.

    Returns:
        The sheet, (H', W', 3), uint8. A single picture stays as it is.

    Raises:
        ArgumentError: There is no picture, or no column, or the rows hold another number.

    Example:
        >>> contact_sheet([np.zeros((64, 64, 3), np.uint8)] * 6, columns=3).shape
        (132, 200, 3)
    """
    rows = _rows(len(frames), len(frames) if columns is None else columns)
    height, width, _ = frames[0].shape
    gutter = max(1, height // 16)
    most = max(rows)
    shape = len(rows) * (height + gutter) - gutter, most * (width + gutter) - gutter, 3
    sheet = np.full(shape, 255, np.uint8)
    remaining = iter(frames)
    for i, here in enumerate(rows):
        indent = 0 if isinstance(columns, int) else (most - here) * (width + gutter) // 2
        for j in range(here):
            top, left = i * (height + gutter), indent + j * (width + gutter)
            sheet[top : top + height, left : left + width] = next(remaining)
    return sheet


def _rows(count: int, columns: int | Sequence[int]) -> list[int]:
    """How many pictures stand in each row."""
    if isinstance(columns, int):
        rows = [min(columns, count - start) for start in range(0, count, max(columns, 1))]
    else:
        rows = list(columns)
    if not rows or min(rows) < 1 or sum(rows) != count:
        raise ArgumentError(
            f"{count} pictures in {columns} columns make no sheet; give at least one of each."
        )
    return rows


def _check(film: Film) -> None:
    if film.frame_count is None:
        raise ArgumentError(
            "A filmstrip shows frames evenly spaced, so it must know how many will come; "
            "give frame_count, or write .gif, .mp4 or a folder."
        )


@contextmanager
def _encode(part: Path, film: Film) -> Iterator[WriteFrame]:
    numbers = count()
    total = film.frame_count or 1
    wanted = {round(i) for i in np.linspace(0, total - 1, min(total, _MOST))}
    thumbnails: list[Frame] = []

    def write(frame: Frame) -> None:
        if next(numbers) in wanted:
            thumbnails.append(frame if total == 1 else _thumbnail(frame))

    yield write
    with open_part(part) as file:
        columns = min(_ROW, len(thumbnails))
        save_png(file, contact_sheet(thumbnails, columns=columns), text_chunks(film.recipe))


def _thumbnail(frame: Frame) -> Frame:
    if max(frame.shape) <= _THUMBNAIL:
        return frame.copy()
    image = Image.fromarray(frame)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    return np.asarray(image)


FILMSTRIP = Format(_encode, _check)
