"""A folder of numbered PNGs: every frame to the bit, for editors and for whatever comes next."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ddim_interp.files import atomic_file, open_part, write_bytes
from ddim_interp.sinks.film import Film, Format, Frame, WriteFrame
from ddim_interp.sinks.png import save_png, text_chunks

__all__ = ["FOLDER", "MEMBERS", "RECIPE"]

MEMBERS = re.compile(r"frame_\d{6,}\.png|recipe\.json")
"""The names in such a folder; one that holds others is never replaced."""

RECIPE = "recipe.json"


@contextmanager
def _encode(folder: Path, film: Film) -> Iterator[WriteFrame]:
    numbers = count()
    text = text_chunks(film.recipe)
    if film.recipe is not None:
        write_bytes(folder / RECIPE, film.recipe.encode())

    def write(frame: Frame) -> None:
        with (
            atomic_file(folder / f"frame_{next(numbers):06d}.png") as part,
            open_part(part) as file,
        ):
            save_png(file, frame, text)

    yield write


FOLDER = Format(_encode, members=MEMBERS)
