"""Measure speed and write the tables of docs/speed.md; `make bench` runs it, for half an hour.

python docs/write_speed.py
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import torch
from marks import renew, table

from ddim_interp import DDIMPipeline, Plan
from ddim_interp.bench.configs import CONFIGS
from ddim_interp.checks import compare
from ddim_interp.hub import EMBEDDED
from ddim_interp.images import from_frames
from ddim_interp.inversion import sample_latents

PAGE = Path(__file__).with_name("speed.md")
ROOT = Path(__file__).parents[1]
PAIR = [str(ROOT / "examples" / "images" / name) for name in ("apple.png", "pear.png")]
ROUNDS = 3
COMMAND = [sys.executable, "-m", "ddim_interp"]
SOME = (12, 24, 36, 48)  # of 60 frames, those compared with 1000 steps


def bench(*options: str) -> dict:
    """What `ddim-interp bench` says."""
    print("bench", *options, file=sys.stderr)
    command = [*COMMAND, "bench", "--json", *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def forwards(rows: list[dict]) -> str:
    """Of every network, all contestants."""
    return table(
        "| network × batch | contestant | s | GFLOP/s | of the peak | times diffusers | gap |",
        [
            f"| {r['network']} × {r['batch']} | {r['who']} | {r['seconds']:.3f} | "
            f"{r['flops'] / r['seconds'] / 1e9:.0f} | {r['share']:.0%} of {r['peak'] / 1e9:.0f} | "
            f"{r['speedup']:.2f} | {r['gap']:.0e} |"
            for r in rows
        ],
    )


def same_steps(rows: list[dict]) -> str:
    """The same film, step by step as diffusers draws it."""
    return table(
        "| 60 frames, seed to seed | steps | s | evaluations | times diffusers | least like |",
        [
            f"| {r['who']} | {r['steps']} | {r['seconds']:.1f} | {r['nfe']} | {r['speedup']:.1f} | "
            + (f"{r['psnr']:.1f} dB |" if r["psnr"] else "the same |")
            for r in rows
        ],
    )


def growth(rows: list[dict]) -> str:
    """What grows, and what that costs."""
    return table(
        "| what grows | to | s | evaluations |",
        [f"| {g['what']} | {g['amount']} | {g['seconds']:.2f} | {g['nfe']} |" for g in rows],
    )


def programs(rows: list[dict]) -> str:
    """Programs, as they are started."""
    return table(
        "| program | s | MB at most |",
        [f"| {p['what']} | {p['seconds']:.2f} | {p['megabytes']:.0f} |" for p in rows],
    )


def timed(*command: str) -> float:
    """Seconds of a process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


@torch.inference_mode()
def film() -> str:
    """The whole morph against the script with diffusers: time in turns, then fidelity."""
    print("films", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        kept = str(Path(folder) / "peer.npz")
        peer = [sys.executable, str(ROOT / "tests" / "peer_film.py"), str(EMBEDDED), *PAIR]
        ours = [*COMMAND, "morph", *PAIR, "--overwrite", "-o", str(Path(folder) / "ours.mp4")]
        timed(*ours)  # from here on its inversions are remembered
        seconds: dict[str, list[float]] = {"peer": [], "ours": [], "again": [], "quick": []}
        for _ in range(ROUNDS):
            seconds["peer"].append(timed(*peer, str(Path(folder) / "peer.mp4"), kept))
            seconds["ours"].append(timed(*ours, "--no-cache"))
            seconds["again"].append(timed(*ours))
            seconds["quick"].append(timed(*ours, "--quick", "--no-cache"))
        theirs = np.load(kept)
    pipe = DDIMPipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    model, limit = pipe.model, Plan(1000)
    found = {}
    for who, plan, tolerance in (("ours", Plan(), 1.0), ("quick", Plan.quick(), 2.0)):
        morph = pipe.morph(PAIR, raw=True, plan=plan, tolerance=tolerance)
        drawn = from_frames(np.stack(list(morph.draw()))[list(SOME)])
        latents = morph.path(morph.times[list(SOME)])
        found[who] = compare(sample_latents(model, latents, limit), drawn)
    frames = from_frames(theirs["frames"][list(SOME)])
    latents = torch.from_numpy(theirs["latents"][list(SOME)])
    found["peer"] = compare(sample_latents(model, latents, limit), frames)
    ends = compare(torch.from_numpy(theirs["pair"]), from_frames(theirs["frames"][[0, -1]]))
    took = {name: median(each) for name, each in seconds.items()}
    psnr = {name: sum(f.psnr for f in each) / len(each) for name, each in found.items()}
    worst = max(end.max_level for end in ends)
    return table(
        "| 60 frames, apple to pear | s | times as fast | PSNR to 1000 steps | ends |",
        [
            f"| diffusers' script | {took['peer']:.1f} | 1 | {psnr['peer']:.1f} dB | "
            f"off by up to {worst} levels |",
            f"| `ddim-interp morph` | {took['ours']:.1f} | {took['peer'] / took['ours']:.1f} | "
            f"{psnr['ours']:.1f} dB | exact |",
            f"| the same pictures once more | {took['again']:.1f} | "
            f"{took['peer'] / took['again']:.1f} | {psnr['ours']:.1f} dB | exact |",
            f"| `ddim-interp morph --quick` | {took['quick']:.1f} | "
            f"{took['peer'] / took['quick']:.1f} | {psnr['quick']:.1f} dB | exact |",
        ],
    )


if __name__ == "__main__":
    many = "--rounds", str(2 * ROUNDS + 1)
    own = bench("--peer", "--growth", "--processes", *many)
    rows = own["forwards"]
    films = bench("--peer", "--films", "--rounds", "2")["films"]
    for name in CONFIGS:
        rows += bench("--peer", "--config", name, *many)["forwards"]
    machine = own["machine"]
    renew(
        PAGE,
        machine=f"{date.today():%d %B %Y}; {machine['device']}, {machine['threads']} threads; "
        f"Python "
        f"{machine['python']}, torch {machine['torch']}, diffusers {version('diffusers')}.",
        forwards=forwards(rows),
        steps=same_steps(films),
        growth=growth(own["growth"]),
        programs=programs([*own["start"], *own["memory"]]),
        film=film(),
    )
