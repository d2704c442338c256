"""Use any diffusers checkpoint: a name on the Hub, or a folder.

python examples/hub_model.py google/ddpm-ema-church-256
python examples/hub_model.py path/to/a/folder
"""

import sys

from ddim_interp import DDIMPipeline, Plan

SEEDS = (0, 1)
STEPS = 20
FRAMES = 30
FILM = "model.mp4"

source = sys.argv[1] if len(sys.argv) > 1 else None  # None is the model in the package
pipe = DDIMPipeline.from_pretrained(source)
print(f"{pipe.name}: {' × '.join(map(str, pipe.model.shape))}, {pipe.dtype} on {pipe.device}")
morph = pipe.morph([f"seed:{seed}" for seed in SEEDS], plan=Plan(STEPS), frames=FRAMES)
morph.film(fps=15).save(FILM, overwrite=True)
