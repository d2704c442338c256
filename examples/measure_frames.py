"""Which solver draws frames nearest to the limit of many steps, for how many evaluations?

    python examples/measure_frames.py examples/images/*.png

Latents are those of seeds, and those half-way between neighbours of the ring of pictures given. For
each solver and grid: PSNR of what it decodes them to, against 80 steps of Heun's method from the
same latents, median and worst, in dB. A Markdown table goes to stdout.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from ddim_interp import DDIMPipeline, Model, Plan, draw
from ddim_interp.allocator import keep_large_blocks
from ddim_interp.checks import compare
from ddim_interp.denoiser import CountCalls
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
)


def psnr(pictures: Tensor, others: Tensor) -> str:
    values = sorted(each.psnr for each in compare(pictures, others))
    return f"{values[len(values) // 2]:.1f}, {values[0]:.1f}"


def decode(model: Model, latents: Tensor, plan: Plan) -> tuple[Tensor, float]:
    counted = CountCalls(model.denoiser)
    pictures = [sample_latents(model, z, plan, counted=counted) for z in latents.split(16)]
    return torch.cat(pictures), counted.nfe / len(latents)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="+", help="two or more")
    parser.add_argument("--seeds", type=int, default=16, help="how many")
    parser.add_argument(
        "--model", help="a folder or org/name; the model in the package if not given"
    )
    options = parser.parse_args()
    if len(options.pictures) < 2:
        sys.exit("Nothing lies between one picture and itself; give two or more.")
    keep_large_blocks()
    pipe = DDIMPipeline.from_pretrained(options.model, dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    model = pipe.model
    found = pipe.invert(options.pictures, plan=Plan(20, solver="trapezoid")).latents
    middles = slerp(found, found.roll(-1, 0), torch.full((len(found),), 0.5))
    kinds = (draw(range(options.seeds), model.shape), middles)
    limits = [decode(model, latents, LIMIT)[0] for latents in kinds]
    print("| solver | spacing | evaluations | seeds, dB | half-way, dB |")
    print("|---|---|---:|---:|---:|")
    for plan in PLANS:
        drawn = [decode(model, latents, plan) for latents in kinds]
        scores = [psnr(x, limit) for (x, _), limit in zip(drawn, limits, strict=True)]
        print(f"| `{plan.solver}` | {plan.spacing} | {drawn[0][1]:.0f} | {' | '.join(scores)} |")


if __name__ == "__main__":
    main()
