"""A film through keyframes, into a file or a folder: what `ddim-interp morph` makes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ddim_interp.denoiser import CountCalls
from ddim_interp.files import StrPath
from ddim_interp.model import Model, Plan
from ddim_interp.pace import UNEVEN
from ddim_interp.perceptual import find_metric
from ddim_interp.production import Attempt, Product
from ddim_interp.repair import check_repair
from ddim_interp.resume import is_finished
from ddim_interp.sinks import check_sink, default_upscale, open_sink
from ddim_interp.sources import check_sources, count_keyframes, fingerprint
from ddim_interp.speedometer import Speedometer, Speeds
from ddim_interp.style import Style

__all__ = ["FilmOrder", "uneven"]


@dataclass(frozen=True)
class FilmOrder:
    """A film to be made.

    Args:
        sources: Pictures, latent files or `seed:N`, two or more.
        out: The film; its suffix chooses the format.
        plan: How to walk the noise axis.
        style: How the film moves.
        fps: Frames a second.
        upscale: By which whole factor frames are enlarged; by their size if None.
        repair: What is done to the latents of pictures; a name from `REPAIRS`.
        realism: Whether to say how real its middles are, for some evaluations more.
    """

    sources: Sequence[StrPath]
    out: StrPath
    plan: Plan = field(default_factory=Plan)
    style: Style = field(default_factory=Style)
    fps: float = 30.0
    upscale: int | None = None
    repair: str | None = None
    realism: bool = False

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be made, before a model is loaded."""
        check_sources(self.sources)
        self.style.check(count_keyframes(self.sources))
        if self.repair is not None:
            check_repair(self.repair)
        check_sink(
            self.out,
            fps=self.fps,
            frame_count=self.style.frames,
            upscale=self.upscale or 1,
            overwrite=replace,
        )

    def describe(self, model: Model) -> dict[str, Any]:
        """All that decides the film, besides the model."""
        return {
            "plan": self.plan.describe(),
            "style": asdict(self.style),
            "keyframes": [fingerprint(source) for source in self.sources],
            **self.look(model),
        }

    def make(self, attempt: Attempt) -> Product:
        """Invert, draw, write."""
        pipe = attempt.pipe
        film = pipe.morph(
            self.sources,
            plan=self.plan,
            batch_size=attempt.batch_size,
            style=self.style,
            keep=attempt.keep,
            repair=self.repair,
        )
        attempt.tell(film.found)
        for keyframe in film.keyframes:
            if keyframe.certificate:
                attempt.say(f"{keyframe.source}: {keyframe.certificate.verdict}")
        counted = CountCalls(film.model.for_frames)
        look = self.look(film.model)
        recipe = {**film.recipe(), **look}
        meter = Speedometer(find_metric(self.style.metric))
        if not attempt.is_made(lambda: is_finished(self.out, recipe)):
            with open_sink(
                self.out,
                fps=self.fps,
                frame_count=self.style.frames,
                recipe=recipe,
                upscale=look["upscale"],
                overwrite=attempt.overwrite,
            ) as sink:
                for frame in meter(film.draw(counted, pipe.progress_bar)):
                    sink.write(frame)
        speeds = meter.speeds(closed=self.style.loop or self.style.boomerang)
        if speeds and (words := uneven(speeds, self.style, film.model.dtype)):
            attempt.say(words)
        facts = {
            "frames": self.style.frames,
            **film.found.describe(),
            "keyframes": film.report(),
            "pace": speeds and {"metric": self.style.metric, **asdict(speeds)},
        }
        if self.realism:
            facts["realism"] = [round(score, 4) for score in film.realism(counted)]
        good = all(keyframe.good for keyframe in film.keyframes)
        return Product(film.model, film.nfe + counted.nfe, facts, good)

    def look(self, model: Model) -> dict[str, Any]:
        """What its file says of it, besides what the morph says."""
        # A full picture, with its square put back, is as large as the user wants to see it.
        upscale = self.upscale or (
            1 if self.style.paste else default_upscale(*model.picture_shape[1:])
        )
        return {"fps": self.fps, "upscale": upscale, "repair": self.repair}


def uneven(speeds: Speeds, style: Style, dtype: str) -> str | None:
    """What to say of a film that was to be even and is not; nothing of any other.

    Example:
        >>> uneven(Speeds(50.0, 0.2, 2.1), Style(pace="perceptual"), "")
        'The largest step is 2.1 times the mean: two pictures turn into each other at once.'
    """
    meant = style.pace == "perceptual" and style.ease == "linear" and not style.times
    if not meant or speeds.largest_over_mean < UNEVEN:
        return None
    words = (
        f"The largest step is {speeds.largest_over_mean:.1f} times the mean: two pictures turn "
        "into each other at once."
    )
    coarse = dtype.endswith("16")  # asked for; float32 is gone over to where it was not
    return f"{words} --dtype fp32 tells their frames apart better." if coarse else words
