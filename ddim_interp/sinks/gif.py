"""GIF: plays everywhere, 256 colours a frame, time in hundredths of a second; a preview.

Pillow chooses the colours and compresses each frame; this module chains them, because Pillow's own
writer holds the whole film in memory, merges frames that are equal and cuts every delay down to a
whole hundredth, which plays 30 frames a second at 33.

References:
    CompuServe (1990), Graphics Interchange Format, version 89a.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from ddim_interp.errors import ArgumentError
from ddim_interp.files import open_part
from ddim_interp.sinks.film import Film, Format, Frame, WriteFrame, ticks

__all__ = ["GIF"]

_FASTEST = 50  # viewers play delays below 2/100 s as 10/100 s
_KEEP = 1 << 2  # the frame stays under the next one
_PALETTE_SIDE = 64  # colours are chosen from a frame no larger than this: 20 times faster, as good


def _check(film: Film) -> None:
    if film.fps > _FASTEST:
        raise ArgumentError(
            f"fps={float(film.fps):g} is more than the {_FASTEST} frames a second that viewers "
            f"play of a GIF; use fps={_FASTEST}, or write .webp or .mp4."
        )


@contextmanager
def _encode(part: Path, film: Film) -> Iterator[WriteFrame]:
    indices = count()
    with open_part(part) as file:
        no_shared_colours = (0, 0, 0)
        file.write(b"GIF89a" + struct.pack("<2H3B", film.width, film.height, *no_shared_colours))
        if film.loop:
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # 0 times: for ever
        if film.recipe is not None:
            file.write(b"\x21\xfe" + _sub_blocks(film.recipe.encode()))

        def write(frame: Frame) -> None:
            palette, pixels = _compress(_with_palette(frame))
            bits = (len(palette) // 3).bit_length() - 2
            delay = ticks(film.fps, next(indices), 100)
            file.write(b"\x21\xf9\x04" + struct.pack("<BHBB", _KEEP, delay, 0, 0))
            descriptor = (0, 0, film.width, film.height, 0x80 | bits)
            file.write(b"\x2c" + struct.pack("<4HB", *descriptor) + palette + pixels)

        yield write
        file.write(b"\x3b")


def _with_palette(frame: Frame) -> Image.Image:
    """`frame` in at most 256 colours: its own if they are so few, else the best, dithered.

    Without error diffusion the washes of a painting break into visible terraces.
    """
    image = Image.fromarray(frame)
    if image.getcolors(256) is None:
        small = image.reduce(max(1, -(-max(image.size) // _PALETTE_SIDE)))
        palette = small.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
        return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    colours, index = np.unique(frame.reshape(-1, 3), axis=0, return_inverse=True)
    exact = Image.fromarray(index.reshape(frame.shape[:2]).astype(np.uint8))
    exact.putpalette(colours.tobytes())
    return exact


def _compress(image: Image.Image) -> tuple[bytes, bytes]:
    """The palette and the LZW stream of a picture, out of the GIF Pillow makes of it."""
    buffer = BytesIO()
    image.save(buffer, "GIF", interlace=0)
    gif = buffer.getvalue()
    start = 13
    end = start + (6 << (gif[10] & 7))
    position = end
    while gif[position] == 0x21:  # extensions, each a chain of sub-blocks
        position += 2
        while gif[position]:
            position += gif[position] + 1
        position += 1
    return gif[start:end], gif[position + 10 : -1]


def _sub_blocks(data: bytes) -> bytes:
    """`data` in pieces of at most 255 bytes, each behind its length; an empty one at the end."""
    pieces = (data[i : i + 255] for i in range(0, len(data), 255))
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


GIF = Format(_encode, _check)
