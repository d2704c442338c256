"""Pictures from seeds or latents, on a sheet or in a folder: what `ddim-interp sample` makes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ddim_interp.denoiser import CountCalls
from ddim_interp.files import StrPath, check_output
from ddim_interp.keyframes import decode_keyframes, find_keyframes
from ddim_interp.model import Model, Plan
from ddim_interp.production import Attempt, Product
from ddim_interp.resume import is_finished
from ddim_interp.sinks import check_sink, contact_sheet, open_sink, write_picture
from ddim_interp.sources import check_sources, fingerprint

__all__ = ["PicturesOrder"]


@dataclass(frozen=True)
class PicturesOrder:
    """Pictures to be drawn.

    Args:
        sources: `seed:N`, or latent files.
        out: A `.png`, on which several pictures make a sheet; or a film or a folder of PNGs.
        plan: How to walk the noise axis.
        columns: Columns of the sheet; about as many as rows if None.
    """

    sources: Sequence[StrPath]
    out: StrPath
    plan: Plan = field(default_factory=Plan)
    columns: int | None = None

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be made, before a model is loaded."""
        check_sources(self.sources)
        if self._is_sheet:
            check_output(self.out, overwrite=replace)
        else:
            check_sink(self.out, overwrite=replace)

    def describe(self, model: Model) -> dict[str, Any]:
        """All that decides the pictures, besides the model."""
        return {
            "plan": self.plan.describe(),
            "sources": [fingerprint(source) for source in self.sources],
            "columns": self.columns,
        }

    def make(self, attempt: Attempt) -> Product:
        """Decode, write."""
        pipe, size = attempt.pipe, attempt.batch_size
        model = pipe.model
        found = find_keyframes(model, self.sources, self.plan, size)
        attempt.tell(found)
        counted = CountCalls(model.denoiser)
        recipe = {
            "tool": "ddim_interp",
            "kind": "sample",
            **model.describe(),
            "plan": found.plan.describe(),
            "batch_size": size,
            "columns": self.columns,
            "sources": [keyframe.source for keyframe in found.each],
        }
        if not attempt.is_made(lambda: is_finished(self.out, recipe)):
            frames = decode_keyframes(
                model, found.each, found.plan, size, pipe.progress_bar, counted, attempt.keep
            )
            if self._is_sheet:
                across = self.columns or math.ceil(math.sqrt(len(found.each)))
                sheet = contact_sheet(list(frames), columns=across)
                write_picture(self.out, sheet, recipe=recipe, overwrite=attempt.overwrite)
            else:
                with open_sink(self.out, recipe=recipe, overwrite=attempt.overwrite) as sink:
                    for frame in frames:
                        sink.write(frame)
        facts = found.describe() | {"images": [keyframe.report() for keyframe in found.each]}
        return Product(model, found.nfe + counted.nfe, facts)

    @property
    def _is_sheet(self) -> bool:
        return str(self.out).lower().endswith(".png")
