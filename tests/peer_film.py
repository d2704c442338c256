"""The film that one would write with diffusers: what `ddim-interp morph` is measured against.

python tests/peer_film.py MODEL_FOLDER A.png B.png OUT.mp4 [LATENTS.npz]

Its own inverse scheduler, 50 steps; slerp; 50 steps for every frame, 16 frames at once.
"""

import sys

import imageio.v3 as iio
import numpy as np
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, UNet2DModel
from PIL import Image

STEPS, FRAMES, BATCH = 50, 60, 16


def walk(unet, scheduler, x):
    """Apply the scheduler's steps."""
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t).sample, t, x).prev_sample
    return x


def slerp(a, b, u):
    """The great circle from a to b."""
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return (torch.sin((1 - u) * angle) * a + torch.sin(u * angle) * b) / torch.sin(angle)


def picture(path, side):
    """A picture, squared, in [−1, 1]."""
    image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image) / 127.5 - 1).float().permute(2, 0, 1)


@torch.inference_mode()
def main(model, first, last, out, kept=None):
    unet = UNet2DModel.from_pretrained(model, subfolder="unet").eval()
    forwards = DDIMScheduler.from_pretrained(model, subfolder="scheduler", clip_sample=False)
    backwards = DDIMInverseScheduler.from_config(forwards.config)
    side = unet.config.sample_size
    pair = torch.stack([picture(path, side) for path in (first, last)])
    a, b = walk(unet, backwards, pair)
    latents = torch.stack([slerp(a, b, u) for u in torch.linspace(0, 1, FRAMES)])
    images = torch.cat([walk(unet, forwards, part) for part in latents.split(BATCH)])
    frames = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    iio.imwrite(out, frames, fps=30, codec="libx264", plugin="pyav")
    if kept:
        np.savez(kept, latents=latents.numpy(), frames=frames, pair=pair.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
