"""What lies between two latents, or between many?

A latent of d independent N(0, 1) numbers has a length of √d, give or take 0.7: the network has seen
nothing else. Half-way along the straight line between two of them the length is √(d / 2), and
pictures turn grey. So a blend is two decisions: along which lines to walk, chords or great circles,
and which statistics of the ends to give back to what is found there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.geometry import Flat, Geometry, Sphere, mean, walk
from ddim_interp.shapes import Latents
from ddim_interp.span import Span, combine, compass

__all__ = [
    "BLENDS",
    "Blend",
    "Mix",
    "Restore",
    "adain",
    "as_is",
    "find_blend",
    "keep_channels",
    "keep_norm",
    "keep_variance",
    "lerp",
    "lol",
    "nlerp",
    "slerp",
    "truncate",
]

Mix: TypeAlias = Callable[[Tensor], Tensor]
"""Interpolates a statistic of the latents, (..., n) or (..., n, C), to frames: (F,) or (F, C)."""

Restore: TypeAlias = Callable[[Span, Tensor, Mix], tuple[Tensor, Tensor]]
"""From the weights of frames, (F, n), to the gain and shift that correct them, (F, 1) or (F, C)."""


@dataclass(frozen=True)
class Blend:
    """A rule for what lies between latents.

        z = gain · Σ_k w_k z_k + shift,     w from the geometry, gain and shift from `restore`

    Called with two batches of latents it is the interpolation between them; `mean` takes any
    number of corners. Fractions outside [0, 1] extrapolate: the line goes on, while norms and
    other statistics stay those of the nearer end.

    Args:
        geometry: Which lines: `Flat` (chords) or `Sphere` (great circles).
        restore: Which statistics of the ends are given back: none (`as_is`), `keep_norm`,
            `keep_variance`, `keep_channels`.

    References:
        Shoemake (1985), Animating rotation with quaternion curves, SIGGRAPH (slerp).
        White (2016), Sampling generative networks, arXiv:1609.04468 (slerp of latents).
        Bodin et al. (2024), Linear combinations of latents in generative models: subspaces and
        beyond, arXiv:2408.08558 (lol).
        Huang & Belongie (2017), Arbitrary style transfer in real-time with adaptive instance
        normalization, arXiv:1703.06868; Zhang et al. (2024), DiffMorpher, arXiv:2312.07409 (adain).

    Example:
        >>> east, north = torch.tensor([[3.0, 0.0], [0.0, 3.0]]).view(2, 1, 1, 1, 2)
        >>> slerp(east, north, torch.tensor([1 / 3])).flatten()
        tensor([2.5981, 1.5000])
        >>> lerp(east, north, torch.tensor([1 / 3])).flatten()
        tensor([2., 1.])
    """

    geometry: Callable[[Span], Geometry]
    restore: Restore

    def __call__(self, start: Latents, end: Latents, fraction: Tensor) -> Latents:
        """Blend pair by pair.

        Args:
            start: Latents to leave from, (B, C, H, W).
            end: Latents to arrive at, (B, C, H, W).
            fraction: How far along each pair is, (B,). 0 gives `start`, 1 gives `end`, exactly.

        Returns: (B, C, H, W), in the dtype of `start`; angles and sums are computed in float64.
        """
        latents = (start, end, compass(start).expand_as(start))
        span = Span.of(torch.stack(latents, dim=1))
        fraction = fraction.to("cpu", torch.float64)
        geometry = self.geometry(span)
        start_point, end_point = (geometry.place(w.expand(len(start), 3)) for w in _units(3)[:2])
        weights = walk(geometry, start_point, end_point, fraction[:, None])
        within = fraction.clamp(0, 1)

        def mix(statistic: Tensor) -> Tensor:
            f = within.view(-1, *[1] * (statistic.ndim - 2))
            return (1 - f) * statistic[:, 0] + f * statistic[:, 1]

        blended = combine(latents, weights, *self.restore(span, weights, mix))
        fraction = fraction[:, None, None, None]
        at_start, at_end = ((fraction == bound).to(start.device) for bound in (0, 1))
        return torch.where(at_start, start, torch.where(at_end, end, blended))

    def mean(self, corners: Latents, weights: Tensor) -> Latents:
        """Blend n corners at once, whatever their order: Karcher's mean, or a weighted sum.

        Args:
            corners: (n, C, H, W).
            weights: How much of each corner each frame holds, (F, n); rows are scaled to add up
                to 1. A row with a single entry gives that corner, exactly.

        Returns: (F, C, H, W), in the dtype of `corners`.

        Raises:
            ArgumentError: The weights of a frame add up to nothing.

        Example:
            >>> corners = 2 * torch.eye(4).view(4, 1, 2, 2)
            >>> slerp.mean(corners, torch.ones(1, 4)).flatten()
            tensor([1., 1., 1., 1.])
        """
        return self.carry(corners, corners, weights)

    def carry(self, corners: Latents, members: Tensor, weights: Tensor) -> Tensor:
        """Send other tensors along: what `mean` of the corners makes of `members`.

        A solver that remembers more of a corner than its latent needs all of it moved alike.

        Args:
            corners: (n, C, H, W).
            members: One for each corner, (n, C, H, W).
            weights: As in `mean`, (F, n).

        Returns: (F, C, H, W), in the dtype of `members`.

        Raises:
            ArgumentError: The weights of a frame add up to nothing.
        """
        weights = weights.to("cpu", torch.float64)
        total = weights.sum(1, keepdim=True)
        if not bool((total > 1e-9).all()):
            raise ArgumentError(
                f"The weights of frame {int(total.argmin())} add up to {float(total.min()):g}, so "
                "they name no point between the corners; give weights with a positive sum."
            )
        weights = weights / total
        span = Span.of(torch.stack((*corners, compass(corners))))
        geometry = self.geometry(span)
        points = geometry.place(_units(len(corners) + 1)[:-1])
        combined = mean(geometry, points, weights)
        shares = torch.nn.functional.pad(weights.clamp(min=0), (0, 1))
        shares = shares / shares.sum(1, keepdim=True)
        gain, shift = self.restore(span, combined, lambda statistic: shares @ statistic)
        frames = combine((*members, compass(members)), combined, gain, shift)
        most, heaviest = weights.max(1)
        alone = (weights.abs().sum(1) - most < 1e-12).to(members.device)
        nearest = members[heaviest.to(members.device)]
        return torch.where(alone[:, None, None, None], nearest, frames)


def _units(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def _quotient(wanted: Tensor, found: Tensor) -> Tensor:
    """wanted / found; 1 where there is nothing to scale."""
    return torch.where(found > 1e-12, wanted / found.clamp(min=1e-12), 1)


def _norm(gram: Tensor, weights: Tensor) -> Tensor:
    squared = ((weights[..., None, :] @ gram)[..., 0, :] * weights).sum(-1)
    return squared.clamp(min=0).sqrt()


def as_is(span: Span, weights: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Leave the sum as it is; on the sphere that is a direction, of length √d."""
    return torch.ones_like(weights[:, :1]), torch.zeros_like(weights[:, :1])


def keep_norm(span: Span, weights: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Give back the length, interpolated between those of the latents."""
    gain = _quotient(mix(span.norms), _norm(span.gram, weights))[:, None]
    return gain, torch.zeros_like(gain)


def keep_variance(span: Span, weights: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Divide by √(wᵀ R w), R the correlations: a combination of N(0, I) latents is N(0, I) again.

    With R = I this is the published rule, √Σ w², which holds for independent latents; latents from
    inversion are not.
    """
    scale = span.norms[..., :, None] * span.norms[..., None, :]
    correlations = torch.where(scale > 0, span.gram / scale, 0)
    diagonal = correlations.diagonal(dim1=-2, dim2=-1)
    diagonal.fill_(1)
    gain = _quotient(torch.ones(()), _norm(correlations, weights))[:, None]
    return gain, torch.zeros_like(gain)


def keep_channels(span: Span, weights: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Give back each channel's mean and standard deviation, interpolated between the latents'."""
    found_mean = (weights[..., None, :] @ span.mean)[..., 0, :]
    found_std = _norm(span.covariance, weights[:, None])
    stds = span.covariance.diagonal(dim1=-2, dim2=-1).mT.sqrt()
    gain = _quotient(mix(stds), found_std)
    return gain, mix(span.mean) - gain * found_mean


slerp = Blend(Sphere, keep_norm)
"""Great circles; a norm that both ends share is kept, different norms are interpolated."""

lerp = Blend(Flat, as_is)
"""Chords. Half-way between independent latents only half the variance is left."""

nlerp = Blend(Flat, keep_norm)
"""Chords, pushed out to the interpolated norm: slerp's curve, faster in the middle."""

lol = Blend(Flat, keep_variance)
"""Chords, scaled so that a combination of Gaussian latents is Gaussian, correlated or not."""

adain = Blend(Sphere, keep_channels)
"""Great circles, then every channel's mean and spread interpolated between those of the ends."""

BLENDS: dict[str, Blend] = {
    "slerp": slerp,
    "lerp": lerp,
    "nlerp": nlerp,
    "lol": lol,
    "adain": adain,
}
"""Blends by name; the command line's choices come from here.

NoiseDiffusion's mix (Zheng et al. 2024, arXiv:2403.08840) is not among them: it adds the pictures
themselves to the latents and clamps the sum, so that no end of it is exact.
"""


def find_blend(name: str) -> Blend:
    """The blend of that name.

    Raises:
        ArgumentError: There is none.
    """
    if name not in BLENDS:
        raise ArgumentError(f"No blend is called {name!r}; choose one of {', '.join(BLENDS)}.")
    return BLENDS[name]


def truncate(latents: Latents, temperature: float, centre: Tensor | None = None) -> Latents:
    """Pull latents towards a centre: temperature 0 is the centre, 1 leaves them, 2 doubles them.

        z ↦ c + τ (z − c)

    Below 1, samples become more alike and more typical; above, more extreme.

    Args:
        latents: (N, C, H, W).
        temperature: τ, at least 0.
        centre: c, (C, H, W); the origin, the mode of the prior, when not given.

    Raises:
        ArgumentError: The temperature is negative or not finite.

    References:
        Kingma & Dhariwal (2018), Glow, arXiv:1807.03039, §6 (temperature).

    Example:
        >>> truncate(torch.full((1, 1, 1, 1), 2.0), 0.5).item()
        1.0
    """
    if not 0 <= temperature < float("inf"):
        raise ArgumentError(
            f"A temperature of {temperature:g} would turn latents inside out; use 0 (all alike) "
            "to 1 (as drawn), or a little more."
        )
    if centre is None:
        return temperature * latents
    return torch.lerp(centre.to(latents).expand_as(latents), latents, temperature)
