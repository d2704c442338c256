"""Four pictures in a loop without a seam, at an even pace to the eye, streamed to a file.

`Morph.draw` gives the frames one by one, so the film may be longer than the memory.
"""

from pathlib import Path

from ddim_interp import DDIMPipeline, open_sink

IMAGES = Path(__file__).parent / "images"
PICTURES = ("apple.png", "lemon.png", "plum.png", "strawberry.png")
FRAMES = 96
FILM = "loop.gif"

pipe = DDIMPipeline.from_pretrained()
morph = pipe.morph(
    [IMAGES / name for name in PICTURES], frames=FRAMES, loop=True, pace="perceptual"
)
with open_sink(FILM, fps=24, recipe=morph.recipe(), upscale=4, overwrite=True) as sink:
    for frame in pipe.progress_bar(morph.draw(), FRAMES, "drawing"):
        sink.write(frame)
