"""Files to take home: the film in every format there is, a frame, the latents."""

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddim_interp.errors import ArgumentError
from ddim_interp.keyframes import join_states, note_of
from ddim_interp.latent_file import write_latents
from ddim_interp.production.film import FilmOrder
from ddim_interp.shapes import Frame
from ddim_interp.sinks import check_sink, open_sink, write_picture
from ddim_interp.web.drawing import Drawing

__all__ = ["FORMATS", "Keepsake", "Keepsakes"]

_MOST = 4  # files at once; older ones have been taken, or are not wanted


@dataclass(frozen=True)
class _Format:
    suffix: str
    media_type: str


FORMATS = {
    "mp4": _Format(".mp4", "video/mp4"),
    "webm": _Format(".webm", "video/webm"),
    "webp": _Format(".webp", "image/webp"),
    "apng": _Format(".apng", "image/apng"),
    "gif": _Format(".gif", "image/gif"),
    "strip": _Format(".png", "image/png"),
    "frame": _Format(".png", "image/png"),
    "latents": _Format(".safetensors", "application/octet-stream"),
}
"""What can be taken home of a film: itself, a `strip` or a `frame` of it, its keyframes."""


@dataclass(frozen=True)
class Keepsake:
    """A file to take home.

    Args:
        path: Where it is.
        name: What it is called there.
        media_type: What it holds.
        id: What the page calls it by.
    """

    path: Path
    name: str
    media_type: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))


class Keepsakes:
    """The last few files, in a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[str, Keepsake] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, id: str) -> Keepsake | None:
        """A file, if it is still here."""
        with self._lock:
            return self._kept.get(id)

    def plan(
        self, format: str, drawing: Drawing, fps: int, number: int, glance: Callable[[], None]
    ) -> Callable[[], Keepsake]:
        """What writes a file, if it can be written.

        Args:
            format: A name from `FORMATS`.
            drawing: The film.
            fps: Frames a second.
            number: Which frame, if it is to be one.
            glance: To be called now and then.

        Raises:
            ArgumentError: It cannot.
        """
        if format not in FORMATS:
            raise ArgumentError(
                f"{format[:40]!r} is nothing to take home; choose one of {', '.join(FORMATS)}."
            )
        film = drawing.film
        if format == "frame":
            frame = drawing.frame("frames", number)
            if frame is None:
                raise ArgumentError(f"Frame {number} is not drawn; wait for it.")
            recipe = {**film.recipe(), "frame": number}
            return lambda: self.picture(f"frame_{number:06}.png", frame, recipe)
        kind = FORMATS[format]
        path = self._folder / f"{secrets.token_hex(8)}{kind.suffix}"
        if format == "latents":
            found = film.found
            state = join_states([keyframe.state for keyframe in found.each])
            notes = [note_of(keyframe) for keyframe in found.each]
            return lambda: self._add(
                Keepsake(path, "latents.safetensors", kind.media_type),
                lambda: write_latents(path, state, film.model, found.plan, notes),
            )
        drawing.check()
        look = FilmOrder((), path, film.plan, film.style, float(fps)).look(film.model)
        upscale = look["upscale"]
        check_sink(path, fps=fps, frame_count=drawing.count, upscale=upscale)

        def write() -> None:
            with open_sink(
                path,
                fps=fps,
                frame_count=drawing.count,
                recipe={**film.recipe(), **look},
                upscale=upscale,
            ) as sink:
                for frame in drawing.whole():
                    glance()
                    sink.write(frame)

        name = f"{'strip' if format == 'strip' else 'morph'}{kind.suffix}"
        return lambda: self._add(Keepsake(path, name, kind.media_type), write)

    def picture(self, name: str, frame: Frame, recipe: Mapping[str, Any]) -> Keepsake:
        """One picture, as PNG.

        Args:
            name: What it is to be called.
            frame: The picture.
            recipe: How it was made.
        """
        path = self._folder / f"{secrets.token_hex(8)}.png"
        return self._add(
            Keepsake(path, name, "image/png"), lambda: write_picture(path, frame, recipe=recipe)
        )

    def _add(self, keepsake: Keepsake, write: Callable[[], None]) -> Keepsake:
        write()
        with self._lock:
            self._kept[keepsake.id] = keepsake
            old = [self._kept.popitem(last=False)[1] for _ in range(len(self._kept) - _MOST)]
        for each in old:
            with suppress(OSError):
                os.unlink(each.path)  # noqa: PTH108
        return keepsake
