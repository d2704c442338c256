"""Morph with a denoiser of your own: here the exact one for Gaussian data, fitted to six pictures.

Anything that splits x_t into picture and noise will do; `as_denoiser` takes a network.
"""

from pathlib import Path

import torch

from ddim_interp import Model, NoiseSchedule, Pipeline, Prediction, open_image
from ddim_interp.denoiser import predict_eps

PICTURES = sorted((Path(__file__).parent / "images").glob("*.png"))
FRAMES = 30
FILM = "linear.webp"

images = torch.stack([open_image(path, 64).pixels for path in PICTURES])
mean, floor = images.mean(0), 0.01  # floor: variance in all directions in which they agree
_, scales, axes = torch.linalg.svd((images - mean).flatten(1), full_matrices=False)
variances = scales**2 / len(images)


def denoiser(x_t, t):
    """The mean of all pictures that x_t may be a noising of: linear in x_t."""
    gain, base = (t.signal * v / (t.alpha_bar * v + t.noise**2) for v in (variances + floor, floor))
    offset = (x_t - t.signal * mean).flatten(1)
    x_0 = mean + (base * offset + (offset @ axes.T * (gain - base)) @ axes).view_as(x_t)
    return Prediction(x_0, predict_eps(x_t, x_0, t))


model = Model(denoiser, NoiseSchedule.from_config({}), (3, 64, 64), name="gaussian")
Pipeline(model).morph(PICTURES[:2], frames=FRAMES).film().save(FILM, overwrite=True)
