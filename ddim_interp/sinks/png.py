"""Still pictures as PNG: to the bit, with their recipe."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO

from PIL import Image

from ddim_interp.files import StrPath, atomic_file, open_part
from ddim_interp.recipe import pack, to_xmp
from ddim_interp.sinks.film import Frame

__all__ = [
    "HEADER_BYTES",
    "chunk",
    "chunks",
    "encode_png",
    "save_png",
    "text_chunks",
    "write_picture",
]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = len(_SIGNATURE) + 25
"""Where the first chunk after IHDR begins."""


def write_picture(
    path: StrPath,
    frame: Frame,
    *,
    recipe: Mapping[str, Any] | str | None = None,
    overwrite: bool = False,
) -> None:
    """Write one picture as PNG, whole or not at all.

    Args:
        path: The file.
        frame: The picture, (H, W, 3), uint8.
        recipe: What to say about its making; `read_recipe` reads it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    text = text_chunks(None if recipe is None else pack(recipe))
    with atomic_file(path, overwrite=overwrite) as part, open_part(part) as file:
        save_png(file, frame, text)


def save_png(file: BinaryIO, frame: Frame, text: bytes = b"") -> None:
    """Write `frame` as a PNG, with `text` (chunks) behind its header."""
    png = encode_png(frame)
    file.write(png[:HEADER_BYTES] + text + png[HEADER_BYTES:])


def encode_png(frame: Frame) -> bytes:
    """`frame` as a whole PNG file."""
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def text_chunks(recipe: str | None) -> bytes:
    """The chunks in which a PNG carries its packed recipe, as itself and as XMP."""
    if recipe is None:
        return b""
    texts = {b"ddim_interp": recipe, b"XML:com.adobe.xmp": to_xmp(recipe)}
    # keyword, NUL, not compressed (two bytes), no language, no translated keyword, text
    return b"".join(
        chunk(b"iTXt", keyword + bytes(5) + text.encode()) for keyword, text in texts.items()
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file: length, kind, data, checksum."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (kind, data) of every chunk of a whole PNG file.

    Example:
        >>> import numpy as np
        >>> [kind for kind, _ in chunks(encode_png(np.zeros((2, 2, 3), np.uint8)))]
        [b'IHDR', b'IDAT', b'IEND']
    """
    position = len(_SIGNATURE)
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        yield kind, png[position + 8 : position + 8 + length]
        position += 12 + length
