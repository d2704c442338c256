"""Points of noise space: one for each seed, wherever it is drawn."""

import numpy as np
import pytest
import torch
from torch import Generator

from ddim_interp.errors import ArgumentError
from ddim_interp.latents import draw, draw_for, draw_like_diffusers, latent_power
from ddim_interp.span import compass

SHAPE = (3, 16, 16)


@pytest.mark.parametrize("batch", [[17], [17, 3], [3, 17], [5, 17, 17, 0], list(range(40))])
def test_a_seed_is_one_latent_in_any_batch(batch: list[int]) -> None:
    (alone,) = draw([17], SHAPE)
    for seed, latent in zip(batch, draw(batch, SHAPE), strict=True):
        assert torch.equal(latent, alone) == (seed == 17)


def test_drawing_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.randn(4)
    torch.manual_seed(0)
    draw([1, 2, 3], SHAPE)
    assert torch.equal(torch.randn(4), expected)


def test_a_seed_is_what_a_cpu_generator_of_that_seed_draws() -> None:
    generator = Generator("cpu").manual_seed(2**63 - 1)
    assert torch.equal(draw([2**63 - 1], SHAPE), draw_like_diffusers((1, *SHAPE), generator))


def test_noise_is_the_same_whatever_torchs_defaults_are() -> None:
    seventeen, grey = draw([17], SHAPE), torch.zeros(1, *SHAPE)
    own, way = draw_for(grey, SHAPE), compass(seventeen)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        again = draw([17], SHAPE), draw_for(grey, SHAPE), compass(seventeen)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for before, after in zip((seventeen, own, way), again, strict=True):
        assert after.dtype == torch.float32 and torch.equal(before, after)


def test_a_seed_out_of_numpy_is_a_seed() -> None:
    assert torch.equal(draw(np.arange(2, 4), SHAPE), draw([2, 3], SHAPE))
    with pytest.raises(ArgumentError, match=r"1\.5 is no whole number"):
        draw([1.5], SHAPE)  # type: ignore[list-item]


def test_a_list_of_generators_draws_picture_by_picture() -> None:
    generators = [Generator().manual_seed(seed) for seed in (4, 2)]
    assert torch.equal(draw_like_diffusers((2, *SHAPE), generators), draw([4, 2], SHAPE))


def test_one_generator_draws_the_batch_at_once() -> None:
    both = draw_like_diffusers((2, *SHAPE), Generator().manual_seed(4))
    assert torch.equal(both, torch.randn(2, *SHAPE, generator=Generator().manual_seed(4)))


def test_noise_has_the_power_of_noise() -> None:
    power = latent_power(draw(range(32), SHAPE))
    assert power.shape == (32,)
    d = 3 * 16 * 16
    assert (power - 1).abs().max() < 5 * (2 / d) ** 0.5
    assert power.mean().item() == pytest.approx(1, abs=5 * (2 / (32 * d)) ** 0.5)


def test_power_is_quadratic() -> None:
    z = draw([0, 1], SHAPE)
    assert torch.allclose(latent_power(3 * z), 9 * latent_power(z))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ArgumentError, match=rf"Seed {seed} is out of range; use 0 to {2**63 - 1}"):
        draw([0, seed], SHAPE)


def test_no_seed_at_all_is_refused() -> None:
    with pytest.raises(ArgumentError, match="name at least one"):
        draw([], SHAPE)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_of_generators_must_match_the_batch(count: int) -> None:
    with pytest.raises(ArgumentError, match="for a batch of 2; give one for each picture"):
        draw_like_diffusers((2, *SHAPE), [Generator() for _ in range(count)])
