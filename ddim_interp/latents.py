"""Draw points of noise space, and say how typical a point is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from operator import index
from typing import Any

import torch
from torch import Generator, Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.shapes import Images, Latents

__all__ = [
    "LARGEST_SEED",
    "RINGS",
    "LatentStatistics",
    "draw",
    "draw_for",
    "draw_like_diffusers",
    "latent_power",
    "measure_latents",
    "neighbour_correlation",
    "patch_correlation",
    "radial_spectrum",
    "ring_powers",
    "white_noise",
]

LARGEST_SEED = 2**63 - 1
"""What torch's generators take."""

RINGS = (
    "in its mean",
    *(f"near {(band + 0.5) / 16:.2f} cycles a pixel" for band in range(8)),
    "beyond 0.5 cycles a pixel",
)
"""The rings of the frequency plane that `ring_powers` measures, in words: the mean, the bands of
`radial_spectrum`, and the corners beyond them. Every frequency is in one of them."""

_TINY = 1e-150  # its square is still a number


def draw(seeds: Sequence[int], shape: tuple[int, int, int]) -> Latents:
    """One latent per seed, z ~ N(0, I).

    Each seed has a generator of its own, on the CPU: seed 17 is one picture on any device, in any
    batch, and the same that diffusers draws for `torch.Generator("cpu").manual_seed(17)`.

    Args:
        seeds: Whole numbers in [0, 2⁶³), NumPy's too.
        shape: (C, H, W).

    Returns: Latents, (N, C, H, W), float32, on the CPU.

    Raises:
        ArgumentError: A seed is out of range or no whole number, or there is none.

    Example:
        >>> bool((draw([3, 17], (1, 8, 8))[1] == draw([17], (1, 8, 8))[0]).all())
        True
    """
    if not len(seeds):
        raise ArgumentError("No seeds were given; name at least one, such as 0.")
    latents = []
    for seed in seeds:
        try:
            number = index(seed)
        except TypeError:
            raise ArgumentError(f"Seed {seed!r} is no whole number; use one such as 17.") from None
        if not 0 <= number <= LARGEST_SEED:
            raise ArgumentError(f"Seed {number} is out of range; use 0 to {LARGEST_SEED}.")
        generator = Generator("cpu").manual_seed(number)
        # Of another dtype, as torch.set_default_dtype may wish, it would be other noise.
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        latents.append(drawn)
    return torch.stack(latents)


def draw_for(images: Images, shape: tuple[int, int, int], seed: int = 0) -> Latents:
    """Noise that is each picture's own: the same on any device, in any batch.

    Args:
        images: Pictures, (N, …), whose pixels are the seeds.
        shape: (C, H, W) of the noise.
        seed: Another number, another draw.

    Returns: Noise, (N, C, H, W), float32, on the CPU.

    Example:
        >>> black, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
        >>> both = draw_for(torch.cat([black, white]), (3, 8, 8))
        >>> bool((both[1] == draw_for(white, (3, 8, 8))[0]).all()), bool((both[0] == both[1]).all())
        (True, False)
    """
    pixels = [image.contiguous().numpy().tobytes() for image in images.float().cpu()]
    salt = str(seed).encode() if seed else b""
    return draw([int(sha256(each + salt).hexdigest()[:15], 16) for each in pixels], shape)


def draw_like_diffusers(
    shape: tuple[int, ...],
    generator: Generator | Sequence[Generator] | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Noise of a batch, drawn in diffusers' order: all at once, or picture by picture from a list.

    A CPU generator draws on the CPU whatever the device.

    Raises:
        ArgumentError: The list of generators is not as long as the batch.
    """
    if generator is None or isinstance(generator, Generator):
        source = generator.device if generator is not None else device
        return torch.randn(shape, generator=generator, device=source, dtype=dtype).to(device)
    if len(generator) != shape[0]:
        raise ArgumentError(
            f"{len(generator)} generators were given for a batch of {shape[0]}; "
            "give one for each picture."
        )
    single = (1, *shape[1:])
    return torch.cat([draw_like_diffusers(single, each, device, dtype) for each in generator])


def latent_power(latents: Latents) -> Tensor:
    """|z|² / d for each latent, (N,): 1 ± √(2/d) for points of N(0, I).

    The first thing to look at in an inverted latent. Below 1 the inversion lost noise, and pictures
    between two such latents come out bleached; above 1 it overshot.
    """
    return latents.flatten(1).double().square().mean(1)


@dataclass(frozen=True)
class LatentStatistics:
    """How a latent differs from white noise, z ~ N(0, I).

    Args:
        power: |z|² / d; 1 for white noise.
        mean: Mean of its entries; 0.
        kurtosis: Excess kurtosis of its entries; 0. Above, a few entries are far too large.
        neighbour_correlation: Of entries one pixel apart; 0.
        patch_correlation: Of the most alike places of an 8×8 patch; small. See `patch_correlation`.
        spectrum: Power in bands of spatial frequency, coarse to fine; 1 in each.
        rings: Power in each of `RINGS`, in units of the whole latent's; 1. See `ring_powers`.
        ring_deviations: How unlike white noise that is, in standard deviations; 0 ± 1.
    """

    power: float
    mean: float
    kurtosis: float
    neighbour_correlation: float
    patch_correlation: float
    spectrum: tuple[float, ...]
    rings: tuple[float, ...]
    ring_deviations: tuple[float, ...]


def measure_latents(latents: Latents) -> tuple[LatentStatistics, ...]:
    """Compare each latent with white noise.

    Args:
        latents: (N, C, H, W).

    Example:
        >>> (noise,) = measure_latents(draw([0], (3, 64, 64)))
        >>> round(noise.power, 1), abs(noise.kurtosis) < 0.1
        (1.0, True)
    """
    z = latents.double()
    mean = z.flatten(1).mean(1)
    centred = z.flatten(1) - mean[:, None]
    variance = centred.square().mean(1).clamp(min=_TINY)
    kurtosis = centred.pow(4).mean(1) / variance.square() - 3
    columns = (
        latent_power(z).tolist(),
        mean.tolist(),
        kurtosis.tolist(),
        neighbour_correlation(z).tolist(),
        patch_correlation(z).tolist(),
        map(tuple, radial_spectrum(z).tolist()),
        *(map(tuple, column.tolist()) for column in ring_powers(z)),
    )
    return tuple(LatentStatistics(*row) for row in zip(*columns, strict=True))


def neighbour_correlation(latents: Latents) -> Tensor:
    """Correlation of entries beside and below one another, for each latent, (N,)."""
    z = latents.double()
    z = z - z.mean((1, 2, 3), keepdim=True)
    beside = (z[..., 1:] * z[..., :-1]).mean((1, 2, 3))
    below = (z[..., 1:, :] * z[..., :-1, :]).mean((1, 2, 3))
    return (beside + below) / 2 / z.square().mean((1, 2, 3)).clamp(min=_TINY)


def patch_correlation(latents: Latents, side: int = 8, top: int = 20) -> Tensor:
    """Mean of the `top` largest |correlations| between places of a patch, for each latent, (N,).

    Every place of a side×side patch is a variable; the patches of the latent, half overlapping, of
    every channel, are its observations. Few observations are alike by chance, so that white noise
    scores the higher the smaller it is: compare with `white_noise`. Inversions leave the picture's
    plain areas in the latent, where neighbours then move together.

    Args:
        latents: (N, C, H, W).
        side: Of the patches.
        top: Pairs of places to average over.

    References:
        Staniszewski et al. (2024), There and back again, arXiv:2410.23530; with the patches of
        many latents for observations, where here they are one latent's.
    """
    side = min(side, *latents.shape[2:])
    stride = max(1, side // 2)
    first, second = torch.triu_indices(side**2, side**2, offset=1)
    scores = []
    for z in latents.double():
        patches = z.unfold(1, side, stride).unfold(2, side, stride).reshape(-1, side**2)
        patches = patches - patches.mean(0)
        covariance = patches.T @ patches
        spread = covariance.diagonal().clamp(min=_TINY).sqrt()
        pairs = (covariance / spread[:, None] / spread)[first, second].abs()
        scores.append(pairs.topk(min(top, len(pairs))).values.mean())
    return torch.stack(scores)


def radial_spectrum(latents: Latents, bands: int = 8) -> Tensor:
    """Power by spatial frequency, coarse to fine, for each latent, (N, bands); white noise has 1.

    The bands are even in |frequency| up to half a cycle a pixel; what lies beyond, in the corners
    of the plane, is left out, and so is the mean.
    """
    power, ring = _plane(latents, bands)
    band = ring - 1  # −1 is the mean
    members = [band == number for number in range(bands)]
    # A tiny latent may have no frequency in a band; then there is nothing unlike white noise.
    return torch.stack(
        [power[:, m].mean(1) if m.any() else torch.ones_like(power[:, 0, 0]) for m in members], 1
    )


def ring_powers(latents: Latents) -> tuple[Tensor, Tensor]:
    """What colour is this noise? Power in each of `RINGS`, for each latent, and how odd it is.

    The Fourier coefficients of white noise are independent and equally loud. So the energy E of a
    ring of ν of them (a frequency and its mirror image are two, in every channel) and E' of the ν'
    others are independent χ² sums at every size, and their means compare as Fisher's F does. The
    cube root of a χ² is nearly Gaussian, and so is then

        ((1 − 2/9ν') a − (1 − 2/9ν) b) / √((2/9ν') a² + (2/9ν) b²),    a³ = E/ν,  b³ = E'/ν'

    Loudness cancels: it is judged by itself. A ring without a frequency, as tiny latents have, and
    one that holds them all, are as white noise's.

    Args:
        latents: (N, C, H, W).

    Returns: Power, (N, 10), in units of the whole latent's, 1 for white noise; and its distance
        from 1, (N, 10), in standard deviations. Beyond 4.4 of them lies any ring of one latent in
        ten thousand, or of fewer in small ones (simulated: 8 to 64 pixels, 1 to 4 channels).

    References:
        Wilson & Hilferty (1931), The distribution of chi-square, PNAS 17 (the cube root).
        Paulson (1942), An approximate normalization of the analysis of variance distribution,
        Annals of Mathematical Statistics 13 (the quotient).

    Example:
        >>> noise = draw([0], (3, 64, 64))
        >>> bool(ring_powers(noise)[1].abs().max() < 4.4)
        True
        >>> ratio, deviations = ring_powers(noise + 0.1)  # a mean of 0.1: what is drawn is paler
        >>> bool(ratio[0, 0] > 10), deviations.abs().argmax().item()
        (True, 0)
    """
    power, ring = _plane(latents, bands := len(RINGS) - 2)
    channels = latents.shape[1]
    place = ring.clamp(max=bands + 1).flatten()
    energy = power.new_zeros(len(power), len(RINGS))
    energy = energy.index_add(1, place, channels * power.flatten(1))
    count = channels * torch.bincount(place, minlength=len(RINGS)).to(power)
    rest, others = energy.sum(1, keepdim=True) - energy, count.sum() - count
    judged = (count > 0) & (others > 0) & (energy.sum(1, keepdim=True) > _TINY)
    count, others = count.clamp(min=1), others.clamp(min=1)
    a, b = (energy / count).pow(1 / 3), (rest.clamp(min=0) / others).pow(1 / 3)
    u, v = 2 / (9 * count), 2 / (9 * others)
    deviations = ((1 - v) * a - (1 - u) * b) / (v * a.square() + u * b.square()).sqrt()
    ratio = energy / count / power.mean((1, 2))[:, None]
    return torch.where(judged, ratio, 1.0), torch.where(judged, deviations, 0.0)


def _plane(latents: Latents, bands: int) -> tuple[Tensor, Tensor]:
    """Power at every frequency, mean over channels, (N, H, W), and the ring that it is in, (H, W):
    0 is the mean, 1 to `bands` the bands, and what is beyond lies in the corners."""
    height, width = latents.shape[2:]
    device = latents.device
    y, x = torch.fft.fftfreq(height, device=device), torch.fft.fftfreq(width, device=device)
    ring = (torch.hypot(y[:, None], x) * 2 * bands).ceil().long()
    return torch.fft.fft2(latents.double(), norm="ortho").abs().square().mean(1), ring


@lru_cache
def white_noise(shape: tuple[int, int, int], draws: int = 8) -> LatentStatistics:
    """What white noise itself scores at a size (C, H, W), on average: small latents score higher.

    Example:
        >>> small, large = (white_noise((3, side, side)) for side in (16, 64))
        >>> small.patch_correlation > 2 * large.patch_correlation
        True
    """
    scores = [asdict(score) for score in measure_latents(draw(range(draws), shape))]
    columns = {name: [score[name] for score in scores] for name in scores[0]}

    def mean(values: list[Any]) -> Any:
        if isinstance(values[0], tuple):
            return tuple(sum(column) / draws for column in zip(*values, strict=True))
        return sum(values) / draws

    return LatentStatistics(**{name: mean(values) for name, values in columns.items()})
