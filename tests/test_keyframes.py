"""Pictures, latents and seeds in one noise space; a certificate is of what decodes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddim_interp import Plan
from ddim_interp.denoiser import CountCalls, GaussianDenoiser
from ddim_interp.keyframes import find_keyframes
from ddim_interp.latent_file import source_note, write_latents
from ddim_interp.model import Model
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import AUTO_SAMPLER, BDIA
from ddim_interp.verbs import Pipeline

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(variance=0.33), SCHEDULE, (3, 8, 8), "gauss", "abc123")
PICTURE = torch.linspace(-1, 1, 192).view(1, 3, 8, 8)
FOUND = Plan(8, solver="leapfrog")


@pytest.fixture
def filed(tmp_path):
    """A picture's latent, with its certificate."""

    def write(plan=FOUND):
        inversion = Pipeline(MODEL).invert(PICTURE, plan=plan)
        notes = [source_note("a.png", "", (), inversion.certificates[0])]
        write_latents(
            tmp_path / "z.safetensors", inversion.state, MODEL, plan, notes, overwrite=True
        )
        return tmp_path / "z.safetensors"

    return write


def test_a_certificate_holds_for_the_walk_it_was_made_on(filed):
    (same,) = find_keyframes(MODEL, [filed()], FOUND, 4).each
    assert same.certificate and same.good and "exactly" in same.verdict
    (auto,) = find_keyframes(MODEL, [filed()], replace(FOUND, solver="auto"), 4).each
    assert auto.certificate == same.certificate


@pytest.mark.parametrize("other", [{"steps": 4}, {"spacing": "focus"}, {"solver": "adams"}])
def test_and_for_no_other(filed, other):
    (keyframe,) = find_keyframes(MODEL, [filed()], replace(FOUND, **other), 4).each
    assert keyframe.certificate is None and not keyframe.good
    assert keyframe.report()["roundtrip_mse"] is None
    assert "found by leapfrog in 8 steps of log-snr" in keyframe.verdict


def test_latents_of_a_solver_that_was_made_by_hand_are_decoded_by_it(filed):
    plan = Plan(8, solver=BDIA(gamma=0.5))
    (keyframe,) = find_keyframes(MODEL, [filed(plan)], plan, 4).each
    back = Pipeline(MODEL).sample(keyframe.state, plan=plan, output_type="pt").images
    assert keyframe.certificate and (2 * back - 1 - PICTURE).abs().max() < 1 / 255
    (other,) = find_keyframes(MODEL, [filed(plan)], Plan(8, solver=BDIA(gamma=0.9)), 4).each
    assert other.certificate is None and "found by BDIA(gamma=0.5)" in other.verdict


def test_a_seed_is_one_picture_wherever_it_is_drawn():
    pipe, plan = Pipeline(MODEL), Plan(6)
    found = find_keyframes(MODEL, ["seed:3", "seed:4"], plan, 4)
    assert found.plan.solver == AUTO_SAMPLER
    drawn = [np.asarray(image) for image in pipe.sample(seeds=[3, 4], plan=plan).images]
    film = list(pipe.morph(["seed:3", "seed:4"], plan=plan, frames=2, tolerance=0.0).draw())
    for frame, picture in zip(film, drawn, strict=True):
        np.testing.assert_array_equal(frame, picture)


def test_evaluations_for_seeds_are_counted():
    counted = CountCalls(MODEL.denoiser)
    found = find_keyframes(
        replace(MODEL, denoiser=counted), ["seed:3", "seed:4"], Plan(6, solver="leapfrog"), 4
    )
    assert found.nfe == counted.nfe == 2
