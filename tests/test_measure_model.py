"""The measure of a model of fruit, and the squares it is taken on, against what is known."""

from pathlib import Path

import measure_model as measure
import numpy as np
import prepare_fruit as prepare
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Generator

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.schedule import NoiseSchedule

PAPER = (235, 225, 200)


def test_frechet_of_a_set_with_itself_is_nothing() -> None:
    a = torch.randn(200, 5, generator=Generator().manual_seed(0), dtype=torch.float64)
    assert measure.frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_of_moved_and_stretched_gaussians_is_the_closed_form() -> None:
    b = torch.randn(500, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    stretched = (b - b.mean(0)) * 3 + b.mean(0) + 2  # Σ = 9 Σ', μ = μ' + 2
    spread = b.T.cov().trace().item()
    wanted = (4 * 2**2 + (3 - 1) ** 2 * spread) / spread
    assert measure.frechet(stretched, b) == pytest.approx(wanted, rel=1e-6)


def test_the_error_of_the_exact_denoiser_is_the_variance_it_cannot_know() -> None:
    schedule, variance = NoiseSchedule.from_config({}), 0.25
    x_0 = variance**0.5 * torch.randn(64, 3, 32, 32, generator=Generator().manual_seed(1))
    errors = measure.v_errors(GaussianDenoiser(0.0, variance), schedule, x_0)
    for timestep, error in errors.items():
        alpha_bar = schedule.level(timestep).alpha_bar
        # Of v given x_t: (Var x_0|x_t) / (1 − ᾱ), as v is (√ᾱ x_t − x_0) / √(1−ᾱ).
        assert error == pytest.approx(variance / (alpha_bar * variance + 1 - alpha_bar), rel=0.02)


def test_the_nearest_picture_is_found_in_the_mirror_too() -> None:
    train = torch.rand(20, 3, 64, 64, generator=Generator().manual_seed(2)) * 2 - 1
    distances, rows = measure.nearest(train[[3, 7]].flip(3), train)
    assert rows.tolist() == [3, 7]
    assert distances.max() < 1e-3


def test_the_judge_is_the_same_when_trained_again_and_when_read_back(tmp_path: Path) -> None:
    pictures = torch.rand(12, 3, 72, 72, generator=Generator().manual_seed(3)) * 2 - 1
    genera = ["Malus", "Pyrus"] * 6
    (tmp_path / "other").mkdir()
    judges = [
        measure.judge_of(folder, pictures, genera, epochs=6)
        for folder in (tmp_path, tmp_path / "other", tmp_path)
    ]
    x = torch.zeros(1, 3, 64, 64)
    features = [judge.features(x) for judge in judges]
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])


def sheet(*ellipses: tuple[int, int, int, int], fill: tuple[int, int, int]) -> Image.Image:
    """A sheet of paper in a black scan frame, with ellipses painted on it."""
    image = Image.new("RGB", (130, 194), (10, 10, 10))
    brush = ImageDraw.Draw(image)
    brush.rectangle((3, 3, 126, 190), fill=PAPER)
    for box in ellipses:
        brush.ellipse(box, fill=fill)
    return image


def test_the_square_lies_around_the_paint() -> None:
    square = prepare.crop(sheet((30, 110, 90, 170), fill=(200, 30, 30)), 72)
    red = np.asarray(square, int)[..., 0] - np.asarray(square, int)[..., 2] > 100
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert square.size == (72, 72)
    assert rows.mean() == pytest.approx(35.5, abs=2)
    assert columns.mean() == pytest.approx(35.5, abs=2)
    assert np.asarray(square).min() > 20  # nothing of the frame


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(sheet(fill=PAPER), id="empty sheet"),
        pytest.param(Image.new("RGB", (130, 194), (60, 60, 60)), id="dark mount"),
        pytest.param(Image.new("RGB", (300, 120), PAPER), id="landscape"),
    ],
)
def test_a_sheet_without_paint_has_no_square(image: Image.Image) -> None:
    assert prepare.crop(image, 72) is None


@pytest.mark.parametrize(
    ("fill", "size", "fruit"),
    [
        pytest.param((200, 30, 30), 30, True, id="apple"),
        pytest.param((40, 45, 35), 30, True, id="avocado"),
        pytest.param((40, 40, 40), 8, False, id="ink"),
    ],
)
def test_ink_is_no_fruit(fill: tuple[int, int, int], size: int, fruit: bool) -> None:
    square = Image.new("RGB", (72, 72), PAPER)
    ImageDraw.Draw(square).ellipse((36 - size, 36 - size, 36 + size, 36 + size), fill=fill)
    assert prepare.is_fruit(square) is fruit
