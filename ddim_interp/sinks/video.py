"""MP4 (H.264) and WebM (VP9): small, smooth, for the web and for editors.

Both store colour at half the resolution (yuv420p, all that every player takes) and lose a little;
`.apng` and `.webp` keep pixels to the bit. Sides must be even, so an odd one is widened by
repeating its last row or column, which the tag `padding` declares. The same frames give the same
bytes: as many threads on every machine, no dates.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import av
import imageio.v3 as iio
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from ddim_interp.errors import OutputError, StorageError
from ddim_interp.files import StrPath, shown
from ddim_interp.sinks.film import Film, Format, Frame, WriteFrame

__all__ = ["VIDEOS", "count_frames", "missing_encoders", "tags"]


_THREADS = 2
"""Bytes depend on their number, so it is not the machine's."""


@dataclass(frozen=True)
class _Codec:
    """A container, an encoder and their settings."""

    container: str
    encoder: str
    container_options: dict[str, str]
    options: dict[str, str]


_H264 = _Codec(
    "mp4",
    "libx264",
    # The index stands first, so that a browser plays while it loads; tags may have any name.
    {"movflags": "+faststart+use_metadata_tags", "fflags": "+bitexact"},
    # Left to choose by processor, x264 weighs blocks, where there is AVX-512, by code that reads
    # beyond its rows: the bytes of a film then depend on what lay in memory before. With `trellis`
    # the preset `veryfast` is what `medium` is for films of this kind, in half the time: a morph of
    # enlarged frames 52.6 dB in 379 kB (52.7 in 382), two photographs panned and blended 48.9 dB in
    # 634 kB (49.0 in 665), luma. Looking 24 frames ahead keeps half as many as 50, as well.
    {
        "crf": "12",
        "preset": "veryfast",
        "x264-params": "cpu-independent=1:rc-lookahead=24:trellis=1",
    },
)
_VP9 = _Codec(
    "webm",
    "libvpx-vp9",
    {"fflags": "+bitexact"},
    {"crf": "12", "b": "0", "deadline": "good", "cpu-used": "2"},
)


def missing_encoders() -> list[str]:
    """Suffixes of the films that the installed PyAV cannot write."""
    return [f".{c.container}" for c in (_H264, _VP9) if c.encoder not in av.codecs_available]


def _check(codec: _Codec, film: Film) -> None:
    if codec.encoder not in av.codecs_available:
        raise OutputError(
            f"The installed PyAV cannot write .{codec.container}: it lacks the encoder "
            f"{codec.encoder}; write .webp or .apng, or install PyAV's own wheel."
        )


@contextmanager
def _encode(codec: _Codec, part: Path, film: Film) -> Iterator[WriteFrame]:
    frames = 0
    right, bottom = film.width % 2, film.height % 2
    # An absolute path cannot be taken for a protocol, whatever colons are in it.
    container = av.open(
        str(part.absolute()),
        "w",
        format=codec.container,
        container_options=codec.container_options,
    )
    try:
        if film.recipe is not None:
            container.metadata.update(ddim_interp=film.recipe, comment=film.recipe)
        if right or bottom:
            container.metadata["padding"] = f"right {right}, bottom {bottom}"
        stream = cast(
            VideoStream, container.add_stream(codec.encoder, rate=film.fps, options=codec.options)
        )
        stream.width, stream.height = film.width + right, film.height + bottom
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = _THREADS
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG

        def write(frame: Frame) -> None:
            nonlocal frames
            padded = np.pad(frame, ((0, bottom), (0, right), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation="BICUBIC",
            )
            picture.pts = frames
            container.mux(stream.encode(picture))
            frames += 1

        yield write
        container.mux(stream.encode())
        container.close()
    finally:
        with suppress(FFmpegError):  # closes what an error left open; a closed one stays closed
            container.close()
    readable = count_frames(part)
    if readable != frames:
        raise StorageError(
            f"Only {readable} of the {frames} frames written to {shown(part)} can be read back; "
            "write to another disk."
        )


def count_frames(path: StrPath) -> int:
    """How many pictures of a video file can be decoded."""
    return len([None for _ in iio.imiter(Path(path), plugin="pyav")])


def tags(file: BinaryIO) -> dict[str, str]:
    """The tags of an open video file, named in lower case (WebM writes them in capitals)."""
    with av.open(file, metadata_errors="replace") as container:
        return {name.lower(): text for name, text in container.metadata.items()}


VIDEOS = {
    codec.container: Format(partial(_encode, codec), partial(_check, codec))
    for codec in (_H264, _VP9)
}
"""By the name of their container."""
