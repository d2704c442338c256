"""An inversion is proved by what it decodes to, and the proof is not paid for twice."""

import pytest
import torch

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(variance=0.25), SCHEDULE, (3, 8, 8), "gauss")
PICTURES = 0.5 * draw([1, 2], MODEL.shape)
STEPS = 10


@pytest.mark.parametrize(
    ("solver", "solved", "decoding"),
    [
        pytest.param("heun", 0, 2 * STEPS, id="nothing to solve"),
        pytest.param("ddim", STEPS, STEPS, id="an equation a step"),
        pytest.param("leapfrog", 0, STEPS - 1, id="a pair"),
        pytest.param("dpmpp-exact", 1, 0, id="decoded already, to close it"),
    ],
)
def test_what_the_latents_decode_to_is_walked_once(solver, solved, decoding):
    found = invert_images(MODEL, PICTURES, Plan(STEPS, solver=solver))
    assert torch.equal(found.decoded, sample_latents(MODEL, found.state, found.plan))
    assert torch.equal(found.latents, found.state.x)
    inverting = sum(certificate.nfe for certificate in found.certificates)
    assert found.nfe == inverting + decoding * len(PICTURES)
    for certificate in found.certificates:
        assert len(certificate.residuals) == solved
