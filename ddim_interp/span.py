"""What the geometry has to know about some latents: their inner products.

Everything that lies between latents z_1 … z_n, on chords, great circles or splines, is a weighted
sum Σ w_i z_i of them. Angles and lengths of such sums follow from the n × n inner products alone.
So the geometry is done on weights, a handful of float64 numbers, and the latents themselves are
touched twice: to take the products and to add them up. The sums are made element by element, so
a frame does not depend on the batch it is computed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.shapes import Latents

__all__ = ["Span", "combine", "compass"]


@dataclass(frozen=True, eq=False)
class Span:
    """First and second moments of n latents, channel by channel; leading batch dimensions allowed.

    Args:
        mean: Mean of each channel, (..., n, C), float64.
        covariance: Covariance of the latents over the pixels of a channel, (..., C, n, n).
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> "Span":
        """Measure latents, (..., n, C, H, W), on the CPU in float64.

        Example:
            >>> Span.of(torch.eye(2).view(2, 1, 1, 2)).gram
            tensor([[0.5000, 0.0000],
                    [0.0000, 0.5000]], dtype=torch.float64)
        """
        x = latents.detach().to("cpu", torch.float64).flatten(-2)
        mean = x.mean(-1)
        centred = (x - mean[..., None]).movedim(-2, -3)
        return cls(mean, centred @ centred.mT / x.shape[-1])

    @property
    def gram(self) -> Tensor:
        """Inner products divided by the dimension d, (..., n, n): 1 on the diagonal is typical."""
        outer = self.mean.mT[..., :, None] * self.mean.mT[..., None, :]
        return (self.covariance + outer).mean(-3)

    @property
    def norms(self) -> Tensor:
        """Root mean square of each latent, |z_i| / √d, (..., n)."""
        return self.gram.diagonal(dim1=-2, dim2=-1).sqrt()


def combine(latents: Sequence[Tensor], weights: Tensor, gain: Tensor, shift: Tensor) -> Latents:
    """Add latents up: gain · Σ w_k z_k + shift, in float64, rounded once.

    Args:
        latents: n of them, each (C, H, W) or (F, C, H, W).
        weights: (F, n).
        gain: For each frame, or each channel of it, (F, 1) or (F, C).
        shift: Likewise.

    Returns: (F, C, H, W), in the dtype and on the device of the latents.
    """
    device, dtype = latents[0].device, latents[0].dtype
    # Apple's GPUs know no float64.
    precise = torch.float32 if device.type == "mps" else torch.float64
    weights, gain, shift = (part.to(device, precise) for part in (weights, gain, shift))
    shape = (len(weights), *latents[0].shape[-3:])
    total = torch.zeros(shape, dtype=precise, device=device)
    for k in weights.any(0).nonzero()[:, 0].tolist():
        total = total + weights[:, k, None, None, None] * latents[k].to(precise)
    return (gain[..., None, None] * total + shift[..., None, None]).to(dtype)


def compass(like: Tensor) -> Tensor:
    """A fixed direction in the space of one latent: which way to leave where all ways are equal.

    Args:
        like: Any tensor of latents; its last three dimensions, dtype and device are taken.
    """
    generator = torch.Generator("cpu").manual_seed(0x5EED_0F_A_DE70)
    shape = like.shape[-3:]
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu").to(like)
