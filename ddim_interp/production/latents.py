"""Pictures as latents, with their certificates, in a file: what `ddim-interp invert` makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ddim_interp.files import StrPath, check_output
from ddim_interp.keyframes import find_keyframes, join_states, note_of
from ddim_interp.latent_file import (
    check_latents_name,
    describe_latents,
    read_latents_recipe,
    write_latents,
)
from ddim_interp.model import Model, Plan
from ddim_interp.production import Attempt, Product
from ddim_interp.repair import check_repair
from ddim_interp.resume import is_finished
from ddim_interp.sources import check_sources, fingerprint

__all__ = ["LatentsOrder"]


@dataclass(frozen=True)
class LatentsOrder:
    """A latent file to be made.

    Args:
        sources: Pictures, mostly; latents and `seed:N` are taken along.
        out: The file, `.safetensors`.
        plan: How to walk the noise axis.
        repair: What is done to the latents of pictures; a name from `REPAIRS`.
    """

    sources: Sequence[StrPath]
    out: StrPath
    plan: Plan = field(default_factory=Plan)
    repair: str | None = None

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be made, before a model is loaded."""
        check_latents_name(self.out)
        check_sources(self.sources)
        if self.repair is not None:
            check_repair(self.repair)
        check_output(self.out, overwrite=replace)

    def describe(self, model: Model) -> dict[str, Any]:
        """All that decides the latents, besides the model."""
        return {
            "plan": self.plan.describe(),
            "images": [fingerprint(source) for source in self.sources],
            "repair": self.repair,
        }

    def make(self, attempt: Attempt) -> Product:
        """Invert, decode to see, write."""
        model = attempt.pipe.model
        found = find_keyframes(
            model,
            self.sources,
            self.plan,
            attempt.batch_size,
            attempt.pipe.progress_bar,
            attempt.keep,
            self.repair,
        )
        attempt.tell(found)
        state = join_states([keyframe.state for keyframe in found.each])
        notes = [note_of(keyframe, self.repair) for keyframe in found.each]
        recipe = describe_latents(state, model, found.plan, notes)
        if not attempt.is_made(lambda: is_finished(self.out, recipe, read_latents_recipe)):
            write_latents(self.out, state, model, found.plan, notes, overwrite=attempt.overwrite)
        facts = found.describe() | {"images": [keyframe.report() for keyframe in found.each]}
        return Product(model, found.nfe, facts, all(keyframe.good for keyframe in found.each))
