"""Blends: what lies between two latents, or many."""

import math
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.geometry import Flat, Geometry, Sphere
from ddim_interp.interpolate import (
    BLENDS,
    Blend,
    Restore,
    adain,
    find_blend,
    keep_channels,
    keep_norm,
    keep_variance,
    lerp,
    lol,
    nlerp,
    slerp,
    truncate,
)
from ddim_interp.span import Span

every_blend = pytest.mark.parametrize("blend", BLENDS.values(), ids=BLENDS.keys())
FRACTIONS = torch.linspace(0, 1, 9, dtype=torch.float64)


def draw(count: int, seed: int, dtype: torch.dtype = torch.float64, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64).to(dtype)


def along(blend: Blend, start: Tensor, end: Tensor, fractions: Tensor = FRACTIONS) -> Tensor:
    """One pair of (C, H, W), at many fractions."""
    count = len(fractions)
    return blend(start.expand(count, -1, -1, -1), end.expand(count, -1, -1, -1), fractions)


def norms(latents: Tensor) -> Tensor:
    return latents.flatten(1).norm(dim=1)


@every_blend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ends_are_exact(blend: Blend, dtype: torch.dtype) -> None:
    start, end = draw(5, 1, dtype), draw(5, 2, dtype)
    assert torch.equal(blend(start, end, torch.zeros(5)), start)
    assert torch.equal(blend(start, end, torch.ones(5)), end)


@every_blend
def test_each_pair_has_its_own_fraction(blend: Blend) -> None:
    start, end = draw(9, 1), draw(9, 2)
    together = blend(start, end, FRACTIONS)
    for i, fraction in enumerate(FRACTIONS):
        alone = blend(start[i : i + 1], end[i : i + 1], fraction[None])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@every_blend
def test_swapped_ends_give_the_way_back(blend: Blend) -> None:
    start, end = draw(2, 1)
    torch.testing.assert_close(
        along(blend, start, end), along(blend, end, start, 1 - FRACTIONS), rtol=1e-12, atol=1e-12
    )


@every_blend
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_equal_latents_stand_still(blend: Blend, dtype: torch.dtype) -> None:
    start = draw(1, 1, dtype)[0]
    assert torch.equal(along(blend, start, start), start.expand(9, -1, -1, -1))


def test_slerp_is_shoemakes_formula() -> None:
    start, end = draw(2, 4)
    end = end * start.norm() / end.norm()
    theta = torch.arccos((start * end).sum() / start.norm() ** 2)
    for fraction, found in zip(FRACTIONS, along(slerp, start, end), strict=True):
        expected = (
            torch.sin((1 - fraction) * theta) * start + torch.sin(fraction * theta) * end
        ) / torch.sin(theta)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_lerp_is_a_straight_line() -> None:
    start, end = draw(2, 4)
    torch.testing.assert_close(
        along(lerp, start, end), torch.lerp(start, end, FRACTIONS[:, None, None, None])
    )


@pytest.mark.parametrize("blend", [slerp, nlerp, lol], ids=["slerp", "nlerp", "lol"])
@pytest.mark.parametrize("cosine", [-0.999, -0.5, 0.0, 0.5, 0.999, 1 - 1e-12])
def test_a_shared_norm_is_kept(blend: Blend, cosine: float) -> None:
    start, other = draw(2, 5)
    other -= (other * start).sum() / start.norm() ** 2 * start
    end = cosine * start + math.sqrt(1 - cosine**2) * other * start.norm() / other.norm()
    torch.testing.assert_close(
        norms(along(blend, start, end)), start.norm().expand(9), rtol=1e-9, atol=0
    )


def test_different_norms_are_interpolated() -> None:
    start, end = draw(2, 6)
    end = 3 * end
    expected = torch.lerp(start.norm(), end.norm(), FRACTIONS)
    torch.testing.assert_close(norms(along(slerp, start, end)), expected)
    torch.testing.assert_close(norms(along(nlerp, start, end)), expected)


def test_lerp_loses_half_the_variance_and_slerp_none() -> None:
    start, end = draw(2, 7, side=64)
    half = torch.tensor([0.5])
    assert along(lerp, start, end, half).square().mean().item() == pytest.approx(0.5, abs=0.03)
    assert along(slerp, start, end, half).square().mean().item() == pytest.approx(1.0, abs=0.03)


def test_slerp_is_computed_in_double_precision() -> None:
    start, end = draw(2, 8, torch.float16)
    exact = along(slerp, start.double(), end.double())
    assert torch.equal(along(slerp, start, end), exact.half())


@every_blend
def test_two_thousand_pairs_of_every_kind_stay_finite(blend: Blend) -> None:
    start = draw(2000, 9, torch.float32, side=4)
    end = draw(2000, 10, torch.float32, side=4)
    end[0:200] = start[0:200]
    end[200:400] = -start[200:400]
    end[400:600] = start[400:600] * 3
    end[600:800] = start[600:800] * (1 + 1e-7 * end[600:800])
    end[800:1000] = -start[800:1000] * (1 + 1e-5 * end[800:1000])
    end[1000:1100] = 0
    start[1050:1150] = 0
    end[1150:1200] *= 1e-20
    end[1200:1250] *= 1e15
    start[1250:1300], end[1250:1300] = 1.0, -1.0  # constant planes
    for fraction in (0.25, 0.5, 0.999):
        blended = blend(start, end, torch.full((2000,), fraction))
        assert bool(torch.isfinite(blended).all())


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-6, 3e-4])
def test_slerp_between_antipodes_goes_round_by_one_fixed_way(gap: float) -> None:
    start, other = draw(2, 11)
    end = -start + gap * other
    fractions = torch.linspace(0, 1, 101, dtype=torch.float64)
    way = along(slerp, start, end, fractions)
    assert torch.equal(way, along(slerp, start, end, fractions))
    steps = norms(way.diff(dim=0))
    torch.testing.assert_close(norms(way), start.norm().expand(101), rtol=1e-3, atol=0)
    torch.testing.assert_close(steps, steps.mean().expand(100), rtol=0.02, atol=0)


def test_slerp_from_nothing_grows_straight() -> None:
    _, end = draw(2, 12)
    torch.testing.assert_close(
        along(slerp, torch.zeros_like(end), end), FRACTIONS[:, None, None, None] * end
    )


def test_slerp_beyond_its_ends_stays_on_the_great_circle() -> None:
    start, end = draw(2, 13)
    end = end * start.norm() / end.norm()
    beyond = along(slerp, start, end, torch.tensor([1.5]))[0]
    assert beyond.norm().item() == pytest.approx(start.norm().item())
    back = along(slerp, start, beyond, torch.tensor([2 / 3], dtype=torch.float64))[0]
    torch.testing.assert_close(back, end)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.8])
def test_lol_of_correlated_gaussians_is_gaussian(correlation: float) -> None:
    start, other = draw(2, 14, side=128)
    end = correlation * start + math.sqrt(1 - correlation**2) * other
    half = along(lol, start, end, torch.tensor([0.5]))
    assert half.square().mean().item() == pytest.approx(1.0, abs=0.02)


def test_lol_of_independent_latents_is_the_published_rule() -> None:
    start, end = draw(2, 15, side=128)
    w = torch.tensor([0.7, 0.3]).double()
    published = (w[0] * start + w[1] * end) / w.square().sum().sqrt()
    found = along(lol, start, end, w[1:])[0]
    torch.testing.assert_close(found, published, rtol=0.02, atol=0.02)


def test_adain_interpolates_every_channels_mean_and_spread() -> None:
    start, end = draw(2, 16)
    end = end * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1) + torch.arange(3).view(3, 1, 1)
    blended = along(adain, start, end).flatten(2)
    f = FRACTIONS[:, None]
    for statistic in (lambda x: x.mean(-1), lambda x: x.std(-1, correction=0)):
        expected = (1 - f) * statistic(start.flatten(1)) + f * statistic(end.flatten(1))
        torch.testing.assert_close(statistic(blended), expected)


@every_blend
def test_mean_of_one_corner_is_that_corner(blend: Blend) -> None:
    corners = draw(4, 17, torch.float32)
    assert torch.equal(blend.mean(corners, 3 * torch.eye(4)), corners)


@every_blend
def test_mean_of_two_corners_is_the_blend_between_them(blend: Blend) -> None:
    corners = draw(2, 18) * torch.tensor([1.0, 1.3]).view(2, 1, 1, 1)
    shares = torch.stack([1 - FRACTIONS, FRACTIONS], dim=1)
    torch.testing.assert_close(blend.mean(corners, shares), along(blend, *corners))


@every_blend
def test_mean_does_not_depend_on_the_order_of_corners(blend: Blend) -> None:
    corners, weights = draw(3, 19), torch.tensor([[0.2, 0.3, 0.5]])
    first = blend.mean(corners, weights)
    for order in map(list, permutations(range(3))):
        torch.testing.assert_close(blend.mean(corners[order], weights[:, order]), first)


def test_a_negative_weight_turns_away_and_has_no_share_in_the_length() -> None:
    corners = draw(2, 18) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    beyond = slerp.mean(corners, torch.tensor([[1.3, -0.3]]))
    torch.testing.assert_close(norms(beyond), norms(corners[:1]))
    assert (beyond * corners[1]).sum() < (corners[:1] * corners[1]).sum(), "farther from the other"


@every_blend
def test_mean_of_opposite_corners_is_finite(blend: Blend) -> None:
    corner = draw(1, 20)
    corners = torch.cat([corner, -corner, corner, 0 * corner])
    assert bool(torch.isfinite(blend.mean(corners, torch.rand(8, 4))).all())


def test_karchers_mean_of_opposites_is_half_way_round() -> None:
    corner = draw(1, 21)
    corners = torch.cat([corner, -corner])
    expected = slerp(corner, -corner, torch.tensor([0.5]))
    torch.testing.assert_close(slerp.mean(corners, torch.ones(1, 2)), expected)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [-1.0, 0.0], [math.nan, 1.0]])
def test_weights_that_add_up_to_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(ArgumentError, match="positive sum"):
        slerp.mean(draw(2, 22), torch.tensor([weights]))


def test_temperature_scales_towards_the_centre() -> None:
    latents, centre = draw(2, 23), draw(1, 24)[0]
    assert torch.equal(truncate(latents, 1.0), latents)
    torch.testing.assert_close(truncate(latents, 0.7), 0.7 * latents)
    torch.testing.assert_close(truncate(latents, 0.0, centre), centre.expand(2, -1, -1, -1))
    torch.testing.assert_close(truncate(latents, 0.5, centre), (latents + centre) / 2)


@pytest.mark.parametrize("temperature", [-0.1, math.inf, math.nan])
def test_a_temperature_that_cannot_be_is_refused(temperature: float) -> None:
    with pytest.raises(ArgumentError, match="use 0"):
        truncate(draw(1, 25), temperature)


@pytest.mark.parametrize("geometry", [Flat, Sphere])
@pytest.mark.parametrize("restore", [keep_norm, keep_variance, keep_channels])
def test_any_geometry_goes_with_any_restoration(
    geometry: Callable[[Span], Geometry], restore: Restore
) -> None:
    blend, (start, end) = Blend(geometry, restore), draw(2, 26)
    way = along(blend, start, end, torch.linspace(0, 1, 1001))
    steps = norms(way.diff(dim=0))
    assert torch.equal(way[0], start) and torch.equal(way[-1], end)
    assert float(steps.max()) < 3 * float(steps.mean())  # the exact ends join on without a jump


def test_an_unknown_blend_is_refused_with_the_known_ones() -> None:
    assert find_blend("slerp") is slerp
    with pytest.raises(ArgumentError, match="choose one of slerp, lerp"):
        find_blend("slurp")
