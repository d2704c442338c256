"""Animated WebP: every colour, in every browser; enlarged films a seventh the size of a GIF.

At upscale 1 every frame is kept to the bit; enlarged frames, which hold nothing their source does
not, are compressed at quality 95. Pillow compresses each frame and this module chains them, because
Pillow's own writer holds the whole film in memory and merges frames that are equal.

References:
    Google (2025), WebP container specification.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path

from PIL import Image

from ddim_interp.files import open_part
from ddim_interp.recipe import to_xmp
from ddim_interp.sinks.film import Film, Format, Frame, WriteFrame, ticks

__all__ = ["WEBP"]

_ANIMATION, _XMP = 0x02, 0x04
_REPLACE = 0x02  # lay the frame on the one before without blending
_WHITE = b"\xff\xff\xff\xff"


@contextmanager
def _encode(part: Path, film: Film) -> Iterator[WriteFrame]:
    indices = count()
    flags = _ANIMATION | (_XMP if film.recipe is not None else 0)
    size = _int24(film.width - 1) + _int24(film.height - 1)
    plays = 0 if film.loop else 1  # 0 is for ever
    with open_part(part) as file:
        file.write(b"RIFF" + bytes(4) + b"WEBP")
        file.write(_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size))
        file.write(_chunk(b"ANIM", _WHITE + struct.pack("<H", plays)))

        def write(frame: Frame) -> None:
            duration = _int24(ticks(film.fps, next(indices), 1000))
            place = _int24(0) + _int24(0) + size
            pixels = _compress(frame, lossless=film.upscale == 1)
            file.write(_chunk(b"ANMF", place + duration + bytes([_REPLACE]) + pixels))

        yield write
        if film.recipe is not None:
            file.write(_chunk(b"XMP ", to_xmp(film.recipe).encode()))
        length = file.seek(0, 2)
        file.seek(4)
        file.write(struct.pack("<I", length - 8))


def _compress(frame: Frame, lossless: bool) -> bytes:
    """The bitstream chunk out of the WebP file Pillow makes of a frame."""
    buffer = BytesIO()
    quality = 80 if lossless else 95  # lossless: the effort
    Image.fromarray(frame).save(buffer, "WEBP", lossless=lossless, quality=quality, method=4)
    return buffer.getvalue()[12:]


def _int24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


WEBP = Format(_encode)
