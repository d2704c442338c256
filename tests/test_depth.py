"""Partial depth: latents that still hold the coarse picture."""

import json

import pytest

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError, ScheduleError
from ddim_interp.grid import SPACINGS
from ddim_interp.inversion import invert_images
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(variance=0.25), SCHEDULE, (3, 8, 8), "gauss")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("depth", [0.1, 0.6, 1.0])
def test_a_grid_starts_at_its_depth_and_keeps_its_levels(spacing, depth):
    grid, _ = Plan(steps=10, spacing=spacing, depth=depth).walk(SCHEDULE)
    assert 0.7 * depth * 1000 <= grid[0].timestep <= depth * 1000 - 1
    for level in grid:
        assert level == pytest.approx(SCHEDULE.level(level.timestep))


def test_full_depth_is_the_whole_axis():
    assert Plan(depth=1.0).walk(SCHEDULE)[0][0] == SCHEDULE.highest


@pytest.mark.parametrize("depth", [0.0, -1.0, 1.01, float("nan")])
def test_a_depth_that_cannot_be_meant_is_refused(depth):
    with pytest.raises(ArgumentError, match="more than 0"):
        Plan(depth=depth).walk(SCHEDULE)


def test_a_depth_that_leaves_too_few_levels_says_so():
    Plan(steps=10, depth=0.01).walk(SCHEDULE)
    with pytest.raises(ScheduleError, match=r"depth=0\.01 leaves 10 levels of 1000.* go deeper"):
        Plan(steps=12, depth=0.01).walk(SCHEDULE)
    with pytest.raises(ScheduleError, match="use 1 to 10"):
        Plan(steps=0, depth=0.01).walk(SCHEDULE)


def test_shallow_latents_come_back_and_still_hold_the_picture():
    pictures = 0.5 * draw([1, 2], MODEL.shape)
    likeness = []
    for depth in (0.1, 0.4, 1.0):
        inversion = invert_images(MODEL, pictures, Plan(depth=depth))
        assert all(certificate.faithful for certificate in inversion.certificates)
        assert inversion.certificates[0].alpha_bar == inversion.state.level.alpha_bar
        likeness.append(inversion.state.level.signal)
    assert likeness == sorted(likeness, reverse=True)
    assert "still holds" in invert_images(MODEL, pictures, Plan(depth=0.4)).certificates[0].verdict


def test_one_latent_is_worth_another_at_its_own_depth_only(call, tiny_folder, pictures, tmp_path):
    z, film = tmp_path / "z.safetensors", tmp_path / "film.png"
    common = ("--model", tiny_folder, "--steps", "4", "--json")
    assert call("invert", *pictures, "-o", z, "--depth", "0.6", *common)[0] == 0
    morph = ("morph", z, "-o", film, "--frames", "3", *common)
    code, out, _ = call(*morph)  # as they were found
    assert code == 0 and json.loads(out)["plan"]["depth"] == 0.6
    code, _, err = call(*morph, "--depth", "1", "--overwrite")
    assert code == 65 and "--depth" in err and "599" in err and err.count("\n") == 1
    code, out, _ = call("info", z, "--json")
    assert json.loads(out)["plan"]["depth"] == 0.6
    assert "still holds" in json.loads(out)["sources"][0]["verdict"]


def test_a_seed_is_refused_short_of_pure_noise(call, tiny_folder, pictures, tmp_path):
    film = tmp_path / "film.png"
    arguments = ("morph", pictures[0], "seed:1", "-o", film, "--depth", "0.5")
    code, out, err = call(*arguments, "--model", tiny_folder, "--steps", "4")
    assert (code, out, film.exists()) == (2, "", False)
    assert "seed:1 is pure noise" in err and err.count("\n") == 1
