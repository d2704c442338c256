"""How different two pictures look."""

import pytest
import torch
from torch import Tensor

from ddim_interp.perceptual import lab, perceive


def plain(*rgb: int) -> Tensor:
    return (torch.tensor(rgb).float() / 127.5 - 1).view(1, 3, 1, 1)


def distance(first: Tensor, second: Tensor) -> float:
    return float((perceive(first) - perceive(second)).norm())


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((119, 119, 119), (50.03, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((3, 2, 1), (0.587, 0.122, 0.470)),  # by hand: where both curves are straight
    ],
)
def test_lab_agrees_with_published_values(
    rgb: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    torch.testing.assert_close(
        lab(plain(*rgb)).flatten(), torch.tensor(expected).float(), rtol=0, atol=0.05
    )


@pytest.mark.parametrize("side", [8, 32, 48, 100])
def test_plain_pictures_are_as_far_apart_as_their_colours(side: int) -> None:
    red, blue = (plain(*rgb).expand(1, 3, side, side) for rgb in ((255, 0, 0), (0, 0, 255)))
    expected = (lab(plain(255, 0, 0)) - lab(plain(0, 0, 255))).norm().item()
    assert distance(red, blue) == pytest.approx(expected, rel=1e-4)


def test_a_shape_moved_far_differs_more_than_one_moved_a_little() -> None:
    def square(left: int) -> Tensor:
        picture = torch.ones(1, 3, 64, 64)
        picture[..., 24:40, left : left + 16] = -1
        return picture

    near, middle, far = (distance(square(8), square(8 + shift)) for shift in (1, 4, 16))
    assert 0 < near < middle < far


def test_fine_noise_counts_for_less_than_a_change_of_light() -> None:
    grey = torch.zeros(1, 3, 64, 64)
    checker = 0.2 * (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).mul(2).sub(1)
    assert distance(grey, grey + checker) < 0.2 * distance(grey, grey + 0.2)


def test_a_grey_picture_is_seen_as_its_colour_copy() -> None:
    grey = torch.rand(2, 1, 16, 16) * 2 - 1
    assert torch.equal(perceive(grey), perceive(grey.expand(2, 3, 16, 16)))


def test_values_out_of_range_are_seen_as_they_are_shown() -> None:
    wild = 3 * torch.randn(1, 3, 16, 16)
    assert torch.equal(perceive(wild), perceive(wild.clamp(-1, 1)))


def test_colours_do_not_depend_on_torchs_default_dtype() -> None:
    red = plain(255, 0, 0)
    expected = perceive(red)
    try:
        torch.set_default_dtype(torch.float64)
        seen = perceive(red)
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen.dtype == torch.float32 and torch.equal(seen, expected)
