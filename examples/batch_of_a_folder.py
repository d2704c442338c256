"""Invert every picture of a folder once, keep the latents, and film each with the next.

The latents are read from their file, so trying other films costs no second inversion.
"""

from itertools import pairwise
from pathlib import Path

from ddim_interp import DDIMPipeline, Plan
from ddim_interp.latent_file import write_latents

FOLDER = Path(__file__).parent / "images"
OUT = Path("films")
STEPS = 20
FRAMES = 30

OUT.mkdir(exist_ok=True)
pipe = DDIMPipeline.from_pretrained()
plan = Plan(STEPS)
pictures = sorted(FOLDER.glob("*.png"))
inversion = pipe.invert(pictures, plan=plan)
print(inversion)

latents = OUT / "latents.safetensors"
write_latents(latents, inversion.state, pipe.model, plan, overwrite=True)
for (i, first), (j, second) in pairwise(enumerate(pictures)):
    morph = pipe.morph([f"{latents}#{i}", f"{latents}#{j}"], plan=plan, frames=FRAMES)
    print(morph.film(fps=30).save(OUT / f"{first.stem}-{second.stem}.mp4", overwrite=True))
