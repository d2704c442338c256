"""APNG: every frame to the bit, every delay exact, in every browser; large files.

Pillow compresses each frame as a PNG of its own and this module chains them, because Pillow's own
APNG writer holds the whole film in memory and merges frames that are equal.

References:
    W3C (2025), Portable Network Graphics, third edition, §11.3.6 (acTL, fcTL, fdAT).
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ddim_interp.files import open_part
from ddim_interp.sinks.film import Film, Format, Frame, WriteFrame
from ddim_interp.sinks.png import HEADER_BYTES, chunk, chunks, encode_png, text_chunks

__all__ = ["APNG"]

_KEEP, _REPLACE = 0, 0  # what becomes of a frame after its time; how the next one is laid on it


@contextmanager
def _encode(part: Path, film: Film) -> Iterator[WriteFrame]:
    plays = 0 if film.loop else 1  # 0 is for ever
    frames, numbers = count(), count()
    with open_part(part) as file:

        def write(frame: Frame) -> None:
            png = encode_png(frame)
            first = next(frames) == 0
            if first:
                file.write(png[:HEADER_BYTES])
                file.write(chunk(b"acTL", bytes(8)) + text_chunks(film.recipe))
            delay = film.fps.denominator, film.fps.numerator  # seconds, as a fraction
            control = (next(numbers), film.width, film.height, 0, 0, *delay, _KEEP, _REPLACE)
            file.write(chunk(b"fcTL", struct.pack(">5I2H2B", *control)))
            pixels = b"".join(data for kind, data in chunks(png) if kind == b"IDAT")
            file.write(
                chunk(b"IDAT", pixels)
                if first
                else chunk(b"fdAT", struct.pack(">I", next(numbers)) + pixels)
            )

        yield write
        file.write(chunk(b"IEND", b""))
        file.seek(HEADER_BYTES)
        file.write(chunk(b"acTL", struct.pack(">2I", next(frames), plays)))


APNG = Format(_encode)
