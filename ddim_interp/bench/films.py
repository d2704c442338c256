"""The same film, drawn by the peer and by us: how long, how many looks, how much alike?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ddim_interp.bench.peer import check_peer_has, make_peer, make_peer_walk
from ddim_interp.bench.race import race
from ddim_interp.checks import compare
from ddim_interp.denoiser import CountCalls
from ddim_interp.images import from_frames, to_frames
from ddim_interp.model import Plan
from ddim_interp.morph import Morph
from ddim_interp.pipeline import DDIMPipeline
from ddim_interp.shapes import Frames
from ddim_interp.style import QUICK_TOLERANCE

__all__ = ["Film", "race_films"]

_ENDS = ["seed:0", "seed:1"]

_Drawn = tuple[Frames, int]
"""A film, and the evaluations it took."""


@dataclass(frozen=True)
class Film:
    """One contestant's film.

    Args:
        network: Of which network.
        who: The contestant: a peer, or ours and how it draws.
        frames: How many it has.
        steps: Of every frame's walk.
        seconds: Median of drawing it, from latents to 8-bit frames.
        nfe: Network evaluations, counted per picture.
        speedup: How many times faster than the first contestant.
        psnr: Of the first contestant's frame that is drawn least alike, in dB; None where all are
            the same.
    """

    network: str
    who: str
    frames: int
    steps: int
    seconds: float
    nfe: int
    speedup: float
    psnr: float | None


@torch.inference_mode()
def race_films(
    name: str,
    pipe: DDIMPipeline,
    *,
    batch: int,
    peers: Sequence[str] = (),
    dtype: torch.dtype = torch.float32,
    frames: int = 60,
    steps: int = 50,
    rounds: int = 3,
) -> list[Film]:
    """Draw a film between two seeds as most people would, and as we do, in turns.

    Everybody walks the same steps of DDIM from the same latents; we also take the few of
    `Plan.quick`. Nothing is inverted, encoded or written. The last of diffusers' steps goes from
    t = 0 to t = 0 where its schedule says so; we leave it out.

    Args:
        name: What the network is called in the table.
        pipe: Ours.
        batch: Pictures at once.
        peers: From `PEERS`, which come first: speedups and likeness are to the first contestant.
        dtype: Half precision of the tuned ones.
        frames: Frames of the film.
        steps: Steps of DDIM.
        rounds: How often each one runs.

    Raises:
        ArgumentError: The peer has no such network.
    """
    if peers:
        check_peer_has(name, pipe.unet)
    plan = Plan(steps, "leading", "ddim")
    morph = partial(pipe.morph, _ENDS, frames=frames, batch_size=batch)
    ours = {
        "ddim_interp, each frame alone": morph(plan=plan, tolerance=0.0),
        "ddim_interp": morph(plan=plan),
        "ddim_interp --quick": morph(plan=Plan.quick(), tolerance=QUICK_TOLERANCE),
    }
    first = next(iter(ours.values()))
    latents = pipe.model.place(first.path(first.times))
    draws: dict[str, Callable[[], _Drawn]] = {}
    for who in peers:
        weights = {key: value.float() for key, value in pipe.unet.state_dict().items()}
        network = make_peer(who, pipe.unet.config.to_dict(), weights, dtype)
        walk = make_peer_walk(network, pipe.scheduler.config.to_dict(), steps, batch)
        draws[who] = partial(_theirs, walk, latents, frames * steps)
    draws |= {who: partial(_ours, film) for who, film in ours.items()}
    drawn: dict[str, _Drawn] = {}
    runners = {who: partial(_keep, drawn, who, draw) for who, draw in draws.items()}
    seconds = race(runners, rounds, pipe.device)
    base = next(iter(runners))
    films = []
    for who, (pictures, nfe) in drawn.items():
        alike = compare(from_frames(drawn[base][0]), from_frames(pictures))
        worst = max(alike, key=lambda found: found.mse)
        films.append(
            Film(
                name,
                who,
                frames,
                len(ours[who].plan.walk(pipe.model.schedule)[0]) - 1 if who in ours else steps,
                seconds[who],
                nfe,
                seconds[base] / seconds[who],
                worst.psnr if worst.mse else None,
            )
        )
    return films


def _theirs(walk: Callable[[Tensor], Tensor], latents: Tensor, nfe: int) -> _Drawn:
    return to_frames(walk(latents)), nfe


def _ours(film: Morph) -> _Drawn:
    counted = CountCalls(film.model.for_frames)
    return np.stack(list(film.draw(counted))), counted.nfe


def _keep(drawn: dict[str, _Drawn], who: str, draw: Callable[[], _Drawn]) -> None:
    drawn[who] = draw()
