"""The checks of a whole model measure what they say they do."""

import math

import pytest
import torch

from ddim_interp.checks import compare
from ddim_interp.consistency import check_model
from ddim_interp.denoiser import GaussianDenoiser, NetworkDenoiser
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.path import KeyframePath
from ddim_interp.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
GAUSSIAN = Model(GaussianDenoiser(variance=0.25), SCHEDULE, (3, 8, 8), "gauss")
NOISE = draw([1, 2], GAUSSIAN.shape)


def check(method, steps=(8,), plan=Plan()):  # noqa: B008 (immutable)
    return check_model(GAUSSIAN, 0.5 * NOISE, NOISE, plan, steps=steps, methods=(method,))


@pytest.mark.parametrize("dither", [True, False])
def test_noise_comes_back_from_its_pictures_without_more_noise(dither):
    (trip,) = check("dpmpp-exact", plan=Plan(dither=dither)).table
    assert trip.latent_mse < 1e-6


def test_standing_still_is_judged_by_the_worst_picture_on_the_way():
    plan = Plan(steps=8, solver="ddim-naive", dither=False)
    drawn = sample_latents(GAUSSIAN, NOISE, plan)
    again = invert_images(GAUSSIAN, drawn, plan).state.x
    path = KeyframePath(torch.stack([NOISE[0], again[0]]))
    between = sample_latents(GAUSSIAN, path(torch.tensor([0.25, 0.5, 0.75])), plan)
    moved = [each.mse for each in compare(between, drawn[:1].expand_as(between))]
    standing = check("ddim-naive", plan=plan).standing
    assert standing.mse == pytest.approx(max(moved), rel=1e-4) and max(moved) > 1.1 * min(moved)


def test_twice_the_steps_are_compared_where_the_schedule_has_them():
    found = check("dpmpp-2m", steps=(4, 8, 1000))
    assert [each.steps for each in found.doublings] == [4, 8]
    for each in found.doublings:
        once, twice = (
            sample_latents(GAUSSIAN, NOISE[:1], Plan(steps=n * each.steps, solver="dpmpp-2m"))
            for n in (1, 2)
        )
        assert each.fidelity.mse == pytest.approx(compare(once, twice)[0].mse, rel=1e-4)


def test_pictures_come_back_when_the_worst_of_them_does():
    """One that is lost among thirty that are not leaves a mean of more than 40 dB."""
    easy, hard = torch.zeros(30, *GAUSSIAN.shape), torch.full((1, *GAUSSIAN.shape), 0.15)
    found = check_model(
        *(GAUSSIAN, torch.cat([easy, hard]), NOISE, Plan(dither=False)),
        steps=(5, 60),
        methods=("ddim-naive",),
    )
    first, last = found.table
    assert first.fidelity.faithful and not first.faithful, "the mean says yes, and the worst no"
    assert last.faithful and "come back from 60 steps on" in found.verdict


def test_steps_that_fail_are_no_steps_that_suffice():
    """The network fails at a timestep that eight steps visit, and neither four nor twelve."""
    hole = Plan(steps=8).walk(SCHEDULE)[0][1].timestep

    def network(x, t):
        return x * (math.nan if abs(float(t[0]) - hole) < 1e-3 else 0.5)

    model = Model(NetworkDenoiser(network), SCHEDULE, GAUSSIAN.shape, "holes")
    grey = torch.zeros(1, *model.shape)
    found = check_model(model, grey, NOISE, Plan(), steps=(4, 8, 12), methods=("leapfrog",))
    assert [bool(trip.trouble) for trip in found.table] == [False, True, False]
    assert "come back from 12 steps on" in found.verdict
    assert all(each.steps != 8 != 2 * each.steps for each in found.doublings)
