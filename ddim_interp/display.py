"""How does a result look in a notebook? The door of ipywidgets, and of Pillow's drawing.

    Plate      pictures in rows, with words beside and below them: one still picture, on any page
    Reel       a drawn film: plays where it stands, falls back on a filmstrip, and can be saved
    Slider     a reel to scrub through by hand, if ipywidgets is there

Notebooks ask a value how it looks by methods named `_repr_jpeg_` and the like. Those of `Morph`,
`Inversion` and others import this module when they are asked, and not before.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ddim_interp.errors import ArgumentError
from ddim_interp.files import StrPath
from ddim_interp.shapes import Frame
from ddim_interp.sinks import default_upscale, open_sink
from ddim_interp.sinks.png import encode_png

__all__ = ["Plate", "Reel", "Slider"]

_WIDTH = 1000  # pixels a plate may be wide before its pictures shrink
_CELL = 128  # pixels a small picture is enlarged to
_GUTTER, _FONT, _LINE = 6, 14, 18
_INK, _PAPER = (60, 60, 60), (255, 255, 255)
_STRIP = 8  # pictures on a filmstrip


@dataclass(frozen=True, eq=False)
class Plate:
    """Pictures in rows, as in a printed figure.

    Args:
        rows: Pictures of one size, (H, W, 3), uint8; rows may differ in length.
        beside: A word to the left of each row. Pillow's own font draws it: Latin letters.
        above: A word above each column.
        below: Words under each column; a line break begins a new line.

    Raises:
        ArgumentError: There is no picture.

    Example:
        >>> grey = np.full((64, 64, 3), 128, np.uint8)
        >>> plate = Plate([[grey, grey]], beside=["grey"], below=["one", "two"])
        >>> plate.image.size
        (302, 146)
    """

    rows: Sequence[Sequence[Frame]] = field(repr=False)
    beside: Sequence[str] = ()
    above: Sequence[str] = ()
    below: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not any(len(row) for row in self.rows):
            raise ArgumentError("A plate of no pictures shows nothing; give one at least.")

    @property
    def image(self) -> Image.Image:
        """The plate as one Pillow image."""
        font = ImageFont.load_default(_FONT)
        height, width = next(row[0].shape[:2] for row in self.rows if len(row))
        columns = max(map(len, self.rows))
        margin = max((int(font.getlength(word)) + 2 * _GUTTER for word in self.beside), default=0)
        scale = min((_WIDTH - margin) / columns / width, max(1.0, _CELL / max(height, width)))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        step = size[0] + _GUTTER, size[1] + _GUTTER
        head = _LINE if self.above else 0
        foot = _LINE * max((len(words.splitlines()) for words in self.below), default=0)
        canvas = Image.new(
            "RGB",
            (
                margin + columns * step[0] - _GUTTER,
                head + len(self.rows) * step[1] - _GUTTER + foot,
            ),
            _PAPER,
        )
        draw = ImageDraw.Draw(canvas)
        for i, row in enumerate(self.rows):
            for j, frame in enumerate(row):
                picture = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
                canvas.paste(picture, (margin + j * step[0], head + i * step[1]))
        for i, word in enumerate(self.beside):
            place = (margin - _GUTTER, head + i * step[1] + size[1] // 2)
            draw.text(place, word, _INK, font, anchor="rm")
        for words, top in ((self.above, 1), (self.below, canvas.height - foot + 2)):
            for j, word in enumerate(words):
                place = (margin + j * step[0] + size[0] // 2, top)
                draw.multiline_text(place, word, _INK, font, anchor="ma", align="center")
        return canvas

    def save(self, path: StrPath) -> None:
        """Write the plate; the suffix chooses the format."""
        self.image.save(path)

    def _repr_jpeg_(self) -> bytes:
        buffer = BytesIO()
        self.image.save(buffer, "JPEG", quality=90, subsampling=0)
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class Reel:
    """A film that has been drawn and is kept in memory; in a notebook, it plays.

    For films that are too long to keep, pass the frames of `Morph.draw` to `open_sink`.

    Args:
        frames: The frames, (H, W, 3), uint8.
        fps: Frames a second.
        recipe: What the film says of its making, once saved.

    Raises:
        ArgumentError: There is no frame.
    """

    frames: Sequence[Frame] = field(repr=False)
    fps: float = 30.0
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.frames:
            raise ArgumentError("A film of no frames shows nothing; give one at least.")

    def __repr__(self) -> str:
        return f"Reel({len(self.frames)} frames at {self.fps:g} a second)"

    @property
    def strip(self) -> Plate:
        """Eight frames side by side, evenly spaced, the first and the last among them."""
        last = len(self.frames) - 1
        chosen = np.linspace(0, last, min(last + 1, _STRIP)).round().astype(int)
        return Plate([[self.frames[i] for i in chosen]])

    def save(self, path: StrPath, *, upscale: int = 0, overwrite: bool = False) -> Path:
        """Write the film: .gif .mp4 .webm .webp .apng .png (a filmstrip), none for a folder.

        Args:
            path: Its name.
            upscale: By which whole factor frames are enlarged; 0 chooses a pleasant one.
            overwrite: Whether a film of that name may be replaced.

        Raises:
            ArgumentError: No format has this suffix.
            OutputError: The film exists, or cannot be created.
        """
        with open_sink(
            path,
            fps=self.fps,
            frame_count=len(self.frames),
            recipe=self.recipe or None,
            upscale=upscale or default_upscale(*self.frames[0].shape[:2]),
            overwrite=overwrite,
        ) as sink:
            for frame in self.frames:
                sink.write(frame)
        return Path(path)

    def slider(self) -> "Slider":
        """Scrub through the film by hand."""
        return Slider(self)

    def _repr_html_(self) -> str:
        # Animated WebP needs no player and no codec, and loses nothing.
        with TemporaryDirectory() as folder:
            data = self.save(Path(folder) / "film.webp", upscale=1).read_bytes()
        source = f"data:image/webp;base64,{b64encode(data).decode()}"
        width = _played_width(self.frames[0])
        return f'<img src="{source}" width="{width}" alt="{self!r}">'

    def _repr_jpeg_(self) -> bytes:
        return self.strip._repr_jpeg_()


@dataclass(frozen=True, eq=False)
class Slider:
    """A film under a slider and a play button; its filmstrip, where ipywidgets is missing."""

    reel: Reel

    def widget(self) -> Any:
        """The controls, an ipywidgets box.

        Raises:
            ModuleNotFoundError: ipywidgets is not installed.
        """
        from ipywidgets import HBox, Image as Screen, IntSlider, Play, VBox, jslink

        reel = self.reel
        pictures = [encode_png(frame) for frame in reel.frames]
        last = len(pictures) - 1
        screen = Screen(value=pictures[0], format="png", width=_played_width(reel.frames[0]))
        slider = IntSlider(max=last, description="frame")
        play = Play(max=last, interval=round(1000 / reel.fps), repeat=True)
        jslink((play, "value"), (slider, "value"))
        slider.observe(lambda change: setattr(screen, "value", pictures[change["new"]]), "value")
        return VBox([screen, HBox([play, slider])])

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        strip = b64encode(self.reel._repr_jpeg_()).decode()
        still = {"text/plain": repr(self), "image/jpeg": strip}
        try:
            moving: dict[str, Any] = self.widget()._repr_mimebundle_(**options)
            return still | moving
        except ModuleNotFoundError:
            return still


def _played_width(frame: Frame) -> int:
    """Pixels of the screen a film takes in a notebook: small ones enlarged, at most fourfold."""
    height, width = frame.shape[:2]
    return int(width * min(4, default_upscale(height, width)))
