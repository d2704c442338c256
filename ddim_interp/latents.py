"""Draw points of noise space, and say how typical a point is."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.shapes import Latents

__all__ = ["draw", "draw_like_diffusers", "latent_power"]

_LARGEST_SEED = 2**63 - 1


def draw(seeds: Sequence[int], shape: tuple[int, int, int]) -> Latents:
    """One latent per seed, z ~ N(0, I).

    Each seed has a generator of its own, on the CPU: seed 17 is one picture on any device, in any
    batch, and the same that diffusers draws for `torch.Generator("cpu").manual_seed(17)`.

    Args:
        seeds: Whole numbers in [0, 2⁶³).
        shape: (C, H, W).

    Returns: Latents, (N, C, H, W), float32, on the CPU.

    Raises:
        ArgumentError: A seed is out of range, or there is none.

    Example:
        >>> bool((draw([3, 17], (1, 8, 8))[1] == draw([17], (1, 8, 8))[0]).all())
        True
    """
    if not seeds:
        raise ArgumentError("No seeds were given; name at least one, such as 0.")
    for seed in seeds:
        if not 0 <= seed <= _LARGEST_SEED:
            raise ArgumentError(f"Seed {seed} is out of range; use 0 to {_LARGEST_SEED}.")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


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
