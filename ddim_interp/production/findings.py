"""What checks find of a model and pictures, as figures and perhaps a page: `ddim-interp check`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ddim_interp.consistency import check_model
from ddim_interp.denoiser import CountCalls, InBatches
from ddim_interp.errors import ArgumentError
from ddim_interp.files import StrPath, check_output, shown, write_bytes
from ddim_interp.images import open_image
from ddim_interp.inversion import sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.production import Attempt, Product
from ddim_interp.repair import price_repairs
from ddim_interp.shapes import Images, Latents
from ddim_interp.sources import check_sources, fingerprint
from ddim_interp.watch import Watch

__all__ = ["FindingsOrder"]


@dataclass(frozen=True)
class FindingsOrder:
    """Checks to be run.

    Args:
        sources: Pictures; without any, those that the model draws from `seeds`.
        out: A page to write it all to, `.html`; none if None.
        steps: Numbers of steps, rising.
        methods: Names from `SOLVERS`; the last is what the verdict is about.
        spacing: How steps are laid.
        seeds: Noise to take there and back.
        repairs: Whether to say what repairs of the latents would cost.
        dither: Whether pictures are given the noise of t = 0; see `Plan`. What the model draws
            itself has it.
    """

    sources: Sequence[StrPath] = ()
    out: StrPath | None = None
    steps: Sequence[int] = (10, 20, 50, 100)
    methods: Sequence[str] = ("ddim-naive", "auto")
    spacing: str = "log-snr"
    seeds: Sequence[int] = (0, 1)
    repairs: bool = False
    dither: bool = True

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be made, before a model is loaded."""
        check_sources(self.sources)
        if self.out is not None:
            if not str(self.out).lower().endswith((".html", ".htm")):
                raise ArgumentError(
                    f"A report is a web page, and {shown(self.out)} is no .html; name it so."
                )
            check_output(self.out, overwrite=replace)

    def describe(self, model: Model) -> dict[str, Any]:
        """All that decides the figures, besides the model."""
        return {**asdict(self), "sources": [fingerprint(source) for source in self.sources]}

    @torch.inference_mode()
    def make(self, attempt: Attempt) -> Product:
        """Take pictures and noise there and back; write the page, if there is to be one."""
        watch = attempt.pipe.progress_bar
        model = attempt.pipe.model
        plan = Plan(spacing=self.spacing, dither=self.dither and bool(self.sources))
        counted = CountCalls(model.denoiser)
        careful = replace(model, denoiser=InBatches(counted, attempt.batch_size))
        latents = draw(self.seeds, model.shape)
        names, pictures = self._pictures(careful, latents, plan, watch)
        found = check_model(
            careful,
            pictures,
            latents,
            plan,
            steps=self.steps,
            methods=self.methods,
            watch=watch,
        )
        facts = found.describe(names) | {"spacing": self.spacing, "repairs": []}
        if self.repairs:
            prices = price_repairs(careful, found.inversion, watch=watch)
            facts["repairs"] = [asdict(price) for price in prices]
        if self.out is not None:
            from ddim_interp.report import render_report  # heavy, and not always wanted

            page = render_report({"model": model.name, **facts}, found)
            write_bytes(self.out, page.encode(), overwrite=attempt.overwrite)
        return Product(model, counted.nfe, facts, found.good)

    def _pictures(
        self, model: Model, latents: Latents, plan: Plan, watch: Watch
    ) -> tuple[list[str], Images]:
        """What to take there and back, and what to call it."""
        if not self.sources:
            drawn = sample_latents(model, latents, plan, watch)
            return [f"seed:{seed}" for seed in self.seeds], drawn.clamp(-1, 1)
        channels, *size = model.picture_shape
        opened = [
            open_image(source, (size[0], size[1]), channels=channels) for source in self.sources
        ]
        pixels = torch.stack([picture.pixels for picture in opened])
        return [picture.name for picture in opened], pixels
