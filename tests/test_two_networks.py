"""What is promised of solvers holds for two trained networks that have little in common.

One is the model in the package, 64×64, which predicts v; the other `assets/sprout32`, 32×32, which
predicts ε. Both see paintings that neither was trained on.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddim_interp import DDIMPipeline, Plan, draw
from ddim_interp.images import open_image
from ddim_interp.inversion import invert_images, sample_latents

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", params=["embedded", "sprout32"])
def model(request, pipe):
    if request.param == "embedded":
        return pipe.model
    folder = ROOT / "tests" / "assets" / "sprout32"
    return DDIMPipeline.from_pretrained(folder, device="cpu", dtype="fp32").model


@pytest.fixture(scope="module")
def paintings(model):
    files = [ROOT / "examples" / "images" / name for name in ("apple.png", "plum.png")]
    return torch.stack([open_image(file, model.shape[1:]).pixels for file in files])


def worst(inversion):
    return max(each.roundtrip_mse for each in inversion.certificates)


@pytest.mark.parametrize("steps", [10, 15])
def test_auto_gives_the_pictures_back_exactly(model, paintings, steps):
    found = invert_images(model, paintings, Plan(steps))
    assert [each.roundtrip_max_level for each in found.certificates] == [0, 0]
    assert worst(found) <= 1e-6
    assert all(each.good for each in found.certificates)


def test_naive_inversion_does_not(model, paintings):
    assert worst(invert_images(model, paintings, Plan(20, solver="ddim-naive"))) > 1e-3


def test_a_closed_walk_finds_the_noise_that_a_picture_was_drawn_from(model):
    z, plan = draw([0], model.shape), Plan(15, solver="dpmpp-exact", dither=False)
    found = invert_images(model, sample_latents(model, z, plan), plan)
    explicit = invert_images(model, found.images, replace(plan, solver="dpmpp-2m"))
    error, before = ((each.latents - z).square().mean() for each in (found, explicit))
    assert error < 1e-5 and error < before / 100


def test_solvers_of_second_order_agree_on_the_latents_and_the_first_does_not(model, paintings):
    powers = {
        name: invert_images(model, paintings[:1], Plan(20, solver=name)).latents.square().mean()
        for name in ("trapezoid", "dpmpp-exact", "ddim-naive")
    }
    assert abs(powers["dpmpp-exact"] / powers["trapezoid"] - 1) < 0.05
    assert abs(powers["ddim-naive"] / powers["trapezoid"] - 1) > 0.05


def test_a_picture_with_the_noise_of_its_level_is_typical(model, paintings):
    """Without that noise the model in the package takes both for less than they are."""
    with_it, without = (
        [each.latent_power for each in invert_images(model, paintings, plan).certificates]
        for plan in (Plan(15, solver="leapfrog", dither=dither) for dither in (True, False))
    )
    assert all(after > before for after, before in zip(with_it, without, strict=True))
    if model.shape[-1] == 64:
        assert min(with_it) > 0.95 > max(without)
