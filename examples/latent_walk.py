"""Wander through what a model can draw: a smooth path through seeds, back to where it began."""

from ddim_interp import DDIMPipeline

SEEDS = range(6)
FRAMES_PER_SEED = 20
FILM = "walk.webp"

pipe = DDIMPipeline.from_pretrained()
walk = pipe.morph(
    [f"seed:{seed}" for seed in SEEDS], frames=FRAMES_PER_SEED * len(SEEDS), loop=True
)
walk.film(fps=24).save(FILM, overwrite=True)
