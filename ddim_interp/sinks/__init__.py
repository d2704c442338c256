"""Where finished frames go: a film, a moving picture, a filmstrip or a folder, by the suffix.

    suffix   format         pixels             time                   for
    ------   ------------   ----------------   --------------------   -----------------------------
    .mp4     H.264          nearly lossless    exact                  players, editors, the web
    .webm    VP9            nearly lossless    milliseconds           the web
    .webp    animated WebP  to the bit¹        milliseconds           the web, small
    .apng    animated PNG   to the bit         exact                  the web, faithful
    .gif     GIF            256 colours        hundredths, no drift   a preview that plays anywhere
    .png     filmstrip      to the bit²        -                      a page, a paper
    none     folder         to the bit         -                      whatever comes next

¹ at upscale 1.  ² up to 256 pixels a side.

Every one streams (a filmstrip keeps its few thumbnails), gives the same bytes for the same frames,
carries a recipe, and stands under its name only when it is whole.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any

from ddim_interp.errors import ArgumentError, OutputError
from ddim_interp.files import (
    StrPath,
    atomic_file,
    atomic_folder,
    check_output,
    shown,
    sweep_orphans,
)
from ddim_interp.recipe import pack
from ddim_interp.sinks.apng import APNG
from ddim_interp.sinks.film import Film, Format, FrameSink, WriteFrame
from ddim_interp.sinks.filmstrip import FILMSTRIP, contact_sheet
from ddim_interp.sinks.folder import FOLDER
from ddim_interp.sinks.gif import GIF
from ddim_interp.sinks.png import write_picture
from ddim_interp.sinks.reading import find_recipe, read_recipe
from ddim_interp.sinks.webp import WEBP

__all__ = [
    "SINKS",
    "Film",
    "Format",
    "FrameSink",
    "check_sink",
    "contact_sheet",
    "default_upscale",
    "find_recipe",
    "open_sink",
    "read_recipe",
    "write_picture",
]


def _video(container: str) -> Format:
    """A format of `video`, which is loaded with the first film: FFmpeg takes a tenth of a second.

    Raises:
        OutputError: It cannot be loaded.
    """

    def load() -> Format:
        try:
            from ddim_interp.sinks.video import VIDEOS
        except ImportError as error:
            raise OutputError(
                f"PyAV, which writes .{container}, cannot be loaded ({error}); write .webp or "
                ".apng, or install av again."
            ) from error
        return VIDEOS[container]

    def encode(part: Path, film: Film) -> AbstractContextManager[WriteFrame]:
        return load().encode(part, film)

    def check(film: Film) -> None:
        load().check(film)

    return Format(encode, check)


SINKS: dict[str, Format] = {
    ".gif": GIF,
    ".mp4": _video("mp4"),
    ".webm": _video("webm"),
    ".webp": WEBP,
    ".apng": APNG,
    ".png": FILMSTRIP,
    "": FOLDER,
}
"""How each suffix is written; none at all is a folder of PNGs."""

_SLOWEST, _FASTEST = 0.1, 240.0
_PLEASANT = 512  # pixels on the longer side that are good to look at on a screen


def default_upscale(height: int, width: int) -> int:
    """By which whole factor small frames are enlarged so that a film is pleasant to watch.

    Example:
        >>> default_upscale(64, 64), default_upscale(256, 256), default_upscale(600, 400)
        (8, 2, 1)
    """
    return min(16, max(1, round(_PLEASANT / max(height, width))))


def check_sink(
    path: StrPath,
    *,
    fps: float = 30.0,
    frame_count: int | None = None,
    upscale: int = 1,
    overwrite: bool = False,
) -> None:
    """Find out whether a film can be written, before the hours that its frames may take.

    Raises:
        ArgumentError: No format has this suffix, or it cannot hold such a film.
        OutputError: The file exists, cannot be created, or its encoder is missing.
    """
    format, _ = _plan(path, fps, frame_count, None, upscale, True)
    check_output(path, overwrite=overwrite, members=format.members)


@contextmanager
def open_sink(
    path: StrPath,
    *,
    fps: float = 30.0,
    frame_count: int | None = None,
    recipe: Mapping[str, Any] | str | None = None,
    upscale: int = 1,
    loop: bool = True,
    overwrite: bool = False,
) -> Iterator[FrameSink]:
    """Open a film to write; its suffix chooses the format, see `SINKS`.

    The film appears under its name when the block is left; on an exception, nothing does.

    Args:
        path: The film's name.
        fps: Frames a second, 0.1 to 240. A GIF takes at most 50.
        frame_count: How many frames will come; a filmstrip must know.
        recipe: What the film says about its making (JSON); `read_recipe` reads it.
        upscale: By which whole factor the frames are enlarged (Lanczos); `default_upscale`.
        loop: Whether a GIF, WebP or APNG plays for ever, or once.
        overwrite: Whether an existing film may be replaced.

    Yields:
        What takes the frames: `write`, with (H, W, 3) uint8, all of one size.

    Raises:
        ArgumentError: No format has this suffix, or it cannot hold such a film; no frame came.
        OutputError: The film exists, or cannot be created.
        StorageError: The disk is full, or fails.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_sink(f"{folder}/dawn.gif", fps=10) as sink:
        ...         for grey in range(0, 256, 16):
        ...             sink.write(np.full((8, 8, 3), grey, np.uint8))
        ...     sink.frames, Path(folder, "dawn.gif").exists()
        (16, True)
    """
    format, film = _plan(path, fps, frame_count, recipe, upscale, loop)
    with _door(path, format, overwrite) as part, ExitStack() as stack:
        sweep_orphans(Path(path).parent)
        sink = FrameSink(part, film, format.encode, stack)
        yield sink
        if not sink.frames:
            raise ArgumentError(
                f"No frame was written to {shown(path)}; a film needs one at least."
            )


def _door(path: StrPath, format: Format, overwrite: bool) -> AbstractContextManager[Path]:
    if format.members is None:
        return atomic_file(path, overwrite=overwrite)
    return atomic_folder(path, overwrite=overwrite, members=format.members)


def _plan(
    path: StrPath,
    fps: float,
    frame_count: int | None,
    recipe: Mapping[str, Any] | str | None,
    upscale: int,
    loop: bool,
) -> tuple[Format, Film]:
    """The format of a film and its facts, if they go together."""
    name = Path(path).name
    if name == "-":
        raise ArgumentError(
            "'-' is no name of a film, and films do not go to stdout; give one, as in film.mp4."
        )
    if name.endswith("."):
        raise ArgumentError(
            f"{shown(name)} ends in a dot, and names no format; choose one of "
            f"{', '.join(filter(None, SINKS))}, or no dot for a folder of PNGs."
        )
    if name and name.lower() in SINKS:  # to pathlib a name without a suffix, and so a folder's
        raise ArgumentError(
            f"{shown(name)} is a suffix without a name; give the film one, as in film{name}."
        )
    suffix = Path(name).suffix.lower()
    if suffix not in SINKS:
        raise ArgumentError(
            f"No sink writes {suffix!r} ({shown(Path(path).name)}); choose one of "
            f"{', '.join(filter(None, SINKS))}, or no suffix for a folder of PNGs."
        )
    if not (isfinite(fps) and _SLOWEST <= fps <= _FASTEST):
        raise ArgumentError(
            f"fps={fps:g} is no frame rate; choose one from {_SLOWEST:g} to {_FASTEST:g}."
        )
    if upscale < 1:
        raise ArgumentError(f"upscale={upscale} enlarges nothing; choose 1 or more.")
    film = Film(
        fps=Fraction(fps).limit_denominator(250),  # so that APNG's 16-bit fractions hold it
        frame_count=frame_count,
        recipe=None if recipe is None else pack(recipe),
        upscale=upscale,
        loop=loop,
    )
    SINKS[suffix].check(film)
    return SINKS[suffix], film
