"""Which solver draws frames nearest to the limit of many steps, for how many evaluations?

    python examples/measure_frames.py examples/images/*.png            solvers and grids
    python examples/measure_frames.py examples/images/*.png --reuse    deep features used twice
    python examples/measure_frames.py examples/images/*.png --together frames that share work

Latents are those of seeds, and those half-way between neighbours of the ring of pictures given. For
each solver and grid: PSNR of what it decodes them to, against 80 steps of Heun's method from the
same latents, median and worst, in dB. A Markdown table goes to stdout.

With --reuse, every second step runs the outer half of the network only, on what the deep half said
the step before (Ma et al. 2024, DeepCache, arXiv:2312.00858), and counts as the share of operations
that it takes. Compare with as many whole evaluations.

With --together, films of 60 frames from each picture to the next are drawn at several tolerances
(see `refinement`), and compared with the same films drawn frame by frame: PSNR, median and worst,
without those that are equal in 8 bits, and the worst frame's difference, root mean square.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddim_interp import DDIMPipeline, Model, Plan, draw
from ddim_interp.allocator import keep_large_blocks
from ddim_interp.checks import compare
from ddim_interp.denoiser import CountCalls
from ddim_interp.images import from_frames
from ddim_interp.interpolate import slerp
from ddim_interp.inversion import sample_latents

LIMIT = Plan(80, "log-snr", "heun")
PLANS = (
    Plan(50, "leading", "ddim"),
    Plan(50, "log-snr", "ddim"),
    Plan(20, "log-snr", "ddim"),
    Plan(10, "log-snr", "heun"),
    *(Plan(steps, spacing, "leapfrog") for steps in (16, 20) for spacing in ("log-snr", "karras")),
    *(Plan(steps, "log-snr", "dpmpp-2m") for steps in (10, 12, 14, 15, 16, 20)),
    Plan(15, "karras", "dpmpp-2m"),
    Plan(15, "leading", "dpmpp-2m"),
    *(Plan(steps, "log-snr", "adams") for steps in (12, 16, 20)),
    *(Plan(steps, "focus", "adams") for steps in (10, 12, 16, 20)),
)
FRAMES = 60
TOLERANCES = (0.0, 0.5, 1.0)  # in 8-bit levels


def psnr(pictures: Tensor, others: Tensor) -> str:
    values = sorted(each.psnr for each in compare(pictures, others))
    return f"{values[len(values) // 2]:.1f}, {values[0]:.1f}"


def decode(model: Model, latents: Tensor, plan: Plan) -> tuple[Tensor, float]:
    counted = CountCalls(model.denoiser)
    pictures = [sample_latents(model, z, plan, denoiser=counted) for z in latents.split(16)]
    return torch.cat(pictures), counted.nfe / len(latents)


@contextmanager
def reused(unet: nn.Module, depth: int) -> Iterator[float]:
    """Keep what the up blocks below `depth` said for one more step; yields what a step then costs.

    The kept blocks are run and not listened to: this measures pictures, and not time.
    """
    cost = 1 - deep_share(unet, depth) / 2
    block, steps, kept = unet.up_blocks[-1 - depth], count(), []

    def answer(module: nn.Module, inputs: object, output: object) -> object:
        if next(steps) % 2 == 0:
            kept[:] = [output]
        return kept[0]

    handle = block.register_forward_hook(answer)
    try:
        yield cost
    finally:
        handle.remove()


@torch.no_grad()
def deep_share(unet: nn.Module, depth: int) -> float:
    """The share of operations below the outermost `depth` levels."""
    side = unet.config.sample_size
    with FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, unet.config.in_channels, side, side), torch.zeros(1))
    operations = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}
    name = type(unet).__name__
    deep = [f"{name}.down_blocks.{i}" for i in range(depth, len(unet.down_blocks))]
    deep += [f"{name}.up_blocks.{i}" for i in range(len(unet.up_blocks) - depth)]
    deep.append(f"{name}.mid_block")
    return sum(operations[each] for each in deep) / operations[name]


def together(pipe: DDIMPipeline, pictures: list[Path]) -> None:
    """Films of each picture and the next."""
    print("| tolerance | evaluations a frame | from frames drawn alone, dB | worst, levels |")
    print("|---:|---:|---:|---:|")
    pairs = list(zip(pictures, pictures[1:] + pictures[:1], strict=True))
    alone: list[np.ndarray] = []
    for tolerance in TOLERANCES:
        frames, cost = films(pipe, pairs, tolerance)
        alone = alone or frames
        found = compare(*(from_frames(np.stack(each)) for each in (frames, alone)))
        decibels = sorted(each.psnr for each in found if each.mse)
        score = f"{median(decibels):.1f}, {decibels[0]:.1f}" if decibels else "exact"
        off = 255 * math.sqrt(max(each.mse for each in found))
        print(f"| {tolerance:g} | {cost:.1f} | {score} | {off:.1f} |", flush=True)


def films(
    pipe: DDIMPipeline, pairs: list[tuple[Path, Path]], tolerance: float
) -> tuple[list[np.ndarray], float]:
    """Their frames, and how many evaluations each took."""
    counted = CountCalls(pipe.model.for_frames)
    frames: list[np.ndarray] = []
    for pair in pairs:
        film = pipe.morph(pair, frames=FRAMES, tolerance=tolerance)
        frames += film.draw(counted)
    return frames, counted.nfe / len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+", help="two or more")
    parser.add_argument("--seeds", type=int, default=16, help="how many")
    parser.add_argument(
        "--model", help="a folder or org/name; the model in the package if not given"
    )
    parser.add_argument("--reuse", action="store_true", help="use deep features twice")
    parser.add_argument("--together", action="store_true", help="let neighbours share work")
    options = parser.parse_args()
    if len(options.pictures) < 2:
        sys.exit("Nothing lies between one picture and itself; give two or more.")
    keep_large_blocks()
    pipe = DDIMPipeline.from_pretrained(options.model, dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    if options.together:
        together(pipe, options.pictures)
        return
    model = pipe.model
    found = pipe.invert(options.pictures, plan=Plan(20, solver="trapezoid")).latents
    middles = slerp(found, found.roll(-1, 0), torch.full((len(found),), 0.5))
    kinds = (draw(range(options.seeds), model.shape), middles)
    limits = [decode(model, latents, LIMIT)[0] for latents in kinds]
    print("| solver | spacing | evaluations | seeds, dB | half-way, dB |")
    print("|---|---|---:|---:|---:|")

    def row(plan: Plan, what: str, cost: float = 1.0) -> None:
        drawn = [decode(model, latents, plan) for latents in kinds]
        scores = [psnr(x, limit) for (x, _), limit in zip(drawn, limits, strict=True)]
        print(f"| `{plan.solver}` | {what} | {cost * drawn[0][1]:.0f} | {' | '.join(scores)} |")

    if not options.reuse:
        for plan in PLANS:
            row(plan, plan.spacing)
        return
    for depth in (1, 2):
        for steps in (16, 20, 30):
            with reused(pipe.unet, depth) as cost:
                what = f"log-snr, {steps} steps, below level {depth} every second"
                row(Plan(steps, "log-snr", "dpmpp-2m"), what, cost)


if __name__ == "__main__":
    main()
