"""How does a film's time grow with what is asked for?"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from PIL import Image

from ddim_interp.bench.race import wait_for
from ddim_interp.denoiser import CountCalls
from ddim_interp.images import to_frames
from ddim_interp.inversion import sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Plan
from ddim_interp.verbs import Pipeline

__all__ = ["Growth", "measure_growth"]

_FRAMES, _STEPS, _KEYFRAMES, _SIDES = (15, 60, 240), (5, 10, 20), (2, 4, 8), (0.5, 1, 2)


@dataclass(frozen=True)
class Growth:
    """One film, of a series in which one thing grows.

    Args:
        what: What grows: frames, steps, keyframes (pictures, inverted) or resolution.
        amount: How much of it.
        seconds: For all, from pictures or seeds to frames.
        nfe: Network evaluations, counted per picture.
    """

    what: str
    amount: int
    seconds: float
    nfe: int


def measure_growth(pipe: Pipeline, plan: Plan) -> Iterator[Growth]:
    """Make small films, each series with one thing growing and all else standing still.

    Args:
        pipe: The model.
        plan: How to walk; its steps are 5 where they do not grow, which changes no proportion.
            Where it leaves the solver open, pictures are inverted by the first that would be
            tried: what it takes to find another has nothing to do with their number.
    """
    few = replace(plan, steps=_STEPS[0])
    seeds = ["seed:0", "seed:1"]
    yield from (_film(pipe, seeds, few, n, "frames", n) for n in _FRAMES)
    yield from (_film(pipe, seeds, replace(plan, steps=n), 8, "steps", n) for n in _STEPS)
    drawn = sample_latents(pipe.model, draw(range(_KEYFRAMES[-1]), pipe.model.shape), few)
    pictures = [Image.fromarray(frame) for frame in to_frames(drawn)]
    first = few.candidates()[0]
    yield from (_film(pipe, pictures[:n], first, 8, "keyframes", n) for n in _KEYFRAMES)
    channels, height, width = pipe.model.shape
    for factor in _SIDES:
        shape = (channels, int(height * factor), int(width * factor))
        sized = Pipeline(replace(pipe.model, shape=shape))
        sized.set_progress_bar_config(disable=True)
        yield _film(sized, seeds, few, 8, "resolution", shape[1])


def _film(
    pipe: Pipeline,
    keyframes: list[str] | list[Image.Image],
    plan: Plan,
    frames: int,
    what: str,
    amount: int,
) -> Growth:
    started = time.perf_counter()
    film = pipe.morph(keyframes, plan=plan, frames=frames)
    counted = CountCalls(film.model.for_frames)
    for _ in film.draw(counted):
        pass
    wait_for(torch.device(film.model.device))
    return Growth(what, amount, time.perf_counter() - started, film.nfe + counted.nfe)
