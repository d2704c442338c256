"""Finished frames, read back from where they were kept: to be written once more, in another format.

    folder   numbered PNGs, or pictures that an editor has been at since
    .apng    every pixel
    .webp    every pixel at upscale 1, else nearly

What was drawn in an hour need not be drawn again to play at another speed, or elsewhere. Other
formats have lost colours that no second writing brings back, and are not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddim_interp.decoding import count_pictures, read_moving, read_still
from ddim_interp.errors import ArgumentError, ImageError
from ddim_interp.files import StrPath, is_there, list_input, shown
from ddim_interp.shapes import Frame
from ddim_interp.sinks import find_recipe

__all__ = ["Footage", "open_footage"]

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"}
_LOST_COLOURS = {".mp4", ".webm", ".gif"}
_USUAL_FPS = 30.0
_WANTED = "give a folder of frames, an .apng or a .webp"


@dataclass(frozen=True)
class Footage:
    """The frames of a film that stands in a file or a folder.

    Args:
        path: The film.
        pictures: The files of its frames in order, if it is a folder.
        frames: How many there are.
        recipe: What it says of its making, if it says anything.
    """

    path: Path
    pictures: tuple[Path, ...]
    frames: int
    recipe: dict[str, Any] | None

    @property
    def fps(self) -> float:
        """At how many frames a second it was meant to play; 30 if it does not say."""
        fps = (self.recipe or {}).get("fps")
        return float(fps) if isinstance(fps, int | float) else _USUAL_FPS

    def draw(self) -> Iterator[Frame]:
        """The frames, (H, W, 3), uint8, one at a time; nothing is kept.

        Raises:
            ImageError: One is damaged, or of another size than those before.
            InputMissingError: One is there no longer.
        """
        names = [shown(path) for path in self.pictures] or [shown(self.path)] * self.frames
        images = map(read_still, self.pictures) if self.pictures else read_moving(self.path)
        first = None
        for name, image in zip(names, images, strict=True):
            frame = np.asarray(image)
            first = frame.shape if first is None else first
            if frame.shape != first:
                raise ImageError(
                    f"{name} is {frame.shape[0]}×{frame.shape[1]}, the frames before it are "
                    f"{first[0]}×{first[1]}; a film has one size."
                )
            yield frame

    def told(self, fps: float, upscale: int) -> dict[str, Any] | None:
        """Its recipe once it plays at `fps`, `upscale` times as large; None if it has none."""
        if self.recipe is None:
            return None
        before = self.recipe.get("upscale")
        size = {"upscale": before * upscale} if isinstance(before, int) else {}
        return {**self.recipe, "fps": fps, **size, "encoded_from": self.path.resolve().name}


def open_footage(path: StrPath) -> Footage:
    """Find the frames of a film.

    In a folder they are its pictures in the order of the numbers in their names; files of other
    kinds are left alone.

    Args:
        path: A folder of pictures, an .apng or a .webp.

    Raises:
        ImageError: It is neither, is damaged, or holds no more than a still picture.
        InputMissingError: There is nothing of this name.
        ArgumentError: A folder has no pictures in it.

    Example:
        >>> import tempfile
        >>> from ddim_interp.sinks import open_sink
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_sink(f"{folder}/dawn.apng", fps=12, recipe={"fps": 12}) as sink:
        ...         for grey in range(0, 256, 32):
        ...             sink.write(np.full((8, 8, 3), grey, np.uint8))
        ...     dawn = open_footage(f"{folder}/dawn.apng")
        ...     dawn.frames, dawn.fps, [int(frame[0, 0, 0]) for frame in dawn.draw()][:3]
        (8, 12.0, [0, 32, 64])
    """
    place = Path(path)
    if is_there(place) and place.is_dir():
        kept = [p for p in list_input(place) if p.suffix.lower() in _PICTURES and p.stem[0] != "."]
        pictures = tuple(sorted(kept, key=_in_order))
        if not pictures:
            raise ArgumentError(f"{shown(place)} holds no pictures; give a folder of frames.")
        frames = len(pictures)
    else:
        if place.suffix.lower() in _LOST_COLOURS:
            raise ImageError(
                f"{shown(place)} lost colours when it was written, which nothing brings back; "
                f"{_WANTED}."
            )
        pictures, frames = (), count_pictures(place)
        if frames < 2:
            raise ImageError(f"{shown(place)} is one picture, and no film; {_WANTED}.")
    return Footage(place, pictures, frames, find_recipe(place))


def _in_order(path: Path) -> tuple[list[int | str], str]:
    """`frame_2` before `frame_10`: text by letters, numbers by size, turn about."""
    parts = re.split(r"(\d+)", path.stem)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name
