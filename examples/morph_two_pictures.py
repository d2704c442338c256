"""Glide from one of your pictures into another, and save the film."""

from pathlib import Path

from ddim_interp import DDIMPipeline

IMAGES = Path(__file__).parent / "images"
FIRST, SECOND = IMAGES / "apple.png", IMAGES / "pear.png"
FRAMES = 60
FILM = "morph.mp4"  # the suffix chooses the format

pipe = DDIMPipeline.from_pretrained()
morph = pipe.morph([FIRST, SECOND], frames=FRAMES, ease="ease-in-out")
for keyframe in morph.keyframes:
    print(f"{keyframe.source}: {keyframe.certificate.verdict}")
morph.film(fps=30).save(FILM, overwrite=True)
