"""How does a timestep, a single number, become the vector that steers every layer?

First it is spread over many coordinates by one of three projections, then an MLP mixes them.
Projections work in float32 whatever the network's dtype is: a timestep of 999.5 has no bfloat16.
"""

import math
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.unet.config import UNetConfig

__all__ = ["Fourier", "Learned", "Positional", "TimestepEmbedding", "time_projection"]


class Positional(nn.Module):
    """Sines and cosines of the timestep over a ladder of wavelengths from 2π to 20000π.

        sin(ω_i t), cos(ω_i t),   ω_i = 10000^(-i / (channels/2 - shift))

    Neighbouring timesteps differ little, in every coordinate, and so fractional ones are as good.

    Args:
        channels: Length of the vector; an odd one ends in a zero.
        shift: Shortens the ladder: 1 makes its last step 1/10000 exactly.
        cosines_first: Cosines before sines.

    References:
        Vaswani et al. (2017), Attention is all you need, arXiv:1706.03762, section 3.5.
        Ho et al. (2020), Denoising diffusion probabilistic models, arXiv:2006.11239.
    """

    def __init__(self, channels: int, shift: float, cosines_first: bool) -> None:
        super().__init__()
        self.channels = channels
        self.shift = shift
        self.cosines_first = cosines_first

    def forward(self, t: Tensor) -> Tensor:
        """Spread timesteps, (N,) float32, to (N, channels)."""
        half = self.channels // 2
        ladder = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t[:, None] * torch.exp(ladder / (half - self.shift))  # in this order, as trained
        waves = (angles.cos(), angles.sin()) if self.cosines_first else (angles.sin(), angles.cos())
        return F.pad(torch.cat(waves, dim=1), (0, self.channels % 2))


class Fourier(nn.Module):
    """Sines and cosines of log t at random frequencies that were drawn once and saved.

        sin(2π w_i log t), cos(2π w_i log t),   w_i ~ N(0, 16²)

    For networks whose "timestep" is a noise level σ > 0 spanning orders of magnitude. Frequencies
    stay as exact as they were in a network that is cast to half precision: angles reach hundreds of
    turns, and there a rounded frequency would be another one.

    Args:
        frequencies: Number of frequencies; the vector is twice as long.

    References:
        Tancik et al. (2020), Fourier features, arXiv:2006.10739; Song et al. (2021), Score-based
        generative modeling through stochastic differential equations, arXiv:2011.13456.
    """

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.channels = 2 * frequencies
        self.weight = nn.Parameter(16 * torch.randn(frequencies), requires_grad=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.weight.detach()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight.dtype.itemsize < exact.dtype.itemsize:
            self.weight.data = exact.to(self.weight.device)
        return self

    def forward(self, t: Tensor) -> Tensor:
        """Spread noise levels, (N,) float32, to (N, channels)."""
        angles = t.log()[:, None] * self.weight * (2 * math.pi)
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class Learned(nn.Embedding):
    """A table with one row a timestep; between two rows, their mixture.

    Args:
        timesteps: Rows.
        channels: Length of the vector.
    """

    def __init__(self, timesteps: int, channels: int) -> None:
        super().__init__(timesteps, channels)
        self.channels = channels

    def forward(self, t: Tensor) -> Tensor:
        """Look timesteps up, (N,) float32 in [0, rows - 1], to (N, channels)."""
        row = t.floor().long()
        after = (row + 1).clamp(max=self.num_embeddings - 1)
        fraction = (t - t.floor()).to(self.weight.dtype)
        return torch.lerp(super().forward(row), super().forward(after), fraction[:, None])


def time_projection(config: UNetConfig) -> Positional | Fourier | Learned:
    """Build the projection that a config asks for."""
    channels = config.block_out_channels[0]
    if config.time_embedding_type == "fourier":
        return Fourier(channels)
    if config.time_embedding_type == "learned":
        return Learned(config.num_train_timesteps or 0, channels)
    return Positional(channels, config.freq_shift, config.flip_sin_to_cos)


class TimestepEmbedding(nn.Module):
    """The MLP after a projection: linear, SiLU, linear.

    Args:
        channels: Length of the projection's vector.
        out_channels: Length of the embedding.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)

    def forward(self, projected: Tensor) -> Tensor:
        """Mix, (N, channels) to (N, out_channels), in the dtype of the weights."""
        x = self.linear_1(projected.to(self.linear_1.weight.dtype))
        emb: Tensor = self.linear_2(F.silu(x))
        return emb
