"""Pictures between corners, on one sheet: what `ddim-interp grid` makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError
from ddim_interp.files import StrPath, check_output, shown
from ddim_interp.keyframes import find_keyframes
from ddim_interp.model import Model, Plan
from ddim_interp.production import Attempt, Product
from ddim_interp.resume import is_finished
from ddim_interp.sheet import Layout, PictureGrid
from ddim_interp.sinks import contact_sheet, write_picture
from ddim_interp.sources import check_sources, count_keyframes, fingerprint

__all__ = ["GridOrder"]


@dataclass(frozen=True)
class GridOrder:
    """A grid of pictures to be made.

    Args:
        sources: Pictures, latent files or `seed:N`, in reading order.
        out: The grid, a `.png`.
        plan: How to walk the noise axis.
        rows: Pictures down.
        columns: Pictures across; 5 if None, and as many as rows in a triangle.
        across: Keyframes in a row; if None, three make a triangle, and others stand two by two.
        blend: What lies between keyframes; a name from `BLENDS`.
        raw: Whether cells that are the user's own pictures are decoded all the same.
    """

    sources: Sequence[StrPath]
    out: StrPath
    plan: Plan = field(default_factory=Plan)
    rows: int = 5
    columns: int | None = None
    across: int | None = None
    blend: str = "slerp"
    raw: bool = False

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be made, before a model is loaded."""
        if not str(self.out).lower().endswith(".png"):
            raise ArgumentError(
                f"A grid is one picture, and {shown(self.out)} is no .png; name it so."
            )
        check_sources(self.sources)
        Layout(count_keyframes(self.sources), self.rows, self.columns, self.across)
        check_output(self.out, overwrite=replace)

    def describe(self, model: Model) -> dict[str, Any]:
        """All that decides the grid, besides the model."""
        return {
            "plan": self.plan.describe(),
            "rows": self.rows,
            "columns": self.columns,
            "across": self.across,
            "blend": self.blend,
            "raw": self.raw,
            "keyframes": [fingerprint(source) for source in self.sources],
        }

    def make(self, attempt: Attempt) -> Product:
        """Invert, draw, write."""
        pipe, size = attempt.pipe, attempt.batch_size
        model = pipe.model
        found = find_keyframes(
            model, self.sources, self.plan, size, pipe.progress_bar, attempt.keep
        )
        attempt.tell(found)
        picture = PictureGrid(
            model,
            found,
            self.rows,
            self.columns,
            self.across,
            self.blend,
            self.raw,
            size,
            attempt.keep,
        )
        counted = CountCalls(model.for_frames)
        recipe = picture.recipe()
        if not attempt.is_made(lambda: is_finished(self.out, recipe)):
            frames = list(picture.draw(counted, pipe.progress_bar))
            sheet = contact_sheet(frames, columns=picture.layout.cells)
            write_picture(self.out, sheet, recipe=recipe, overwrite=attempt.overwrite)
        facts = found.describe() | {"keyframes": [keyframe.report() for keyframe in found.each]}
        good = all(keyframe.good for keyframe in found.each)
        return Product(model, found.nfe + counted.nfe, facts, good)
