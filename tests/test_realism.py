"""A scale on which a model's own pictures score 1."""

import pytest
import torch

from ddim_interp import GaussianDenoiser, Model, NoiseSchedule, Plan, draw
from ddim_interp.denoiser import CountCalls
from ddim_interp.inversion import sample_latents
from ddim_interp.realism import RATIOS, Realism, denoising_errors

SHAPE = (1, 32, 32)
SCHEDULE = NoiseSchedule.from_config({})
VARIANCE = 0.1
WORLD = Model(GaussianDenoiser(variance=VARIANCE), SCHEDULE, SHAPE)


def pictures(deviation):
    return deviation * draw(range(100, 108), SHAPE)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_error_is_what_theory_says(power):
    """The exact denoiser of N(0, v) sees pictures of variance p·v:

    ε̂ − ε = σ x/(α²v + σ²) · α  −  α² v ε / (α²v + σ²),   so   e = α² (σ² p v + α² v²) / (α²v + σ²)²
    """
    found = denoising_errors(WORLD, pictures((power * VARIANCE) ** 0.5)).mean(0)
    for ratio, error in zip(RATIOS, found.tolist(), strict=True):
        t = SCHEDULE.level_at(ratio)
        a2, s2, v = t.alpha_bar, 1 - t.alpha_bar, VARIANCE
        theory = a2 * (s2 * power * v + a2 * v**2) / (a2 * v + s2) ** 2
        assert error == pytest.approx(theory, rel=0.08)


def test_typical_pictures_score_one_smooth_pictures_less_and_grainy_ones_more():
    scale = Realism.of_images(WORLD, VARIANCE**0.5 * draw(range(8), SHAPE))
    own, smooth, grainy = (
        scale(WORLD, pictures((p * VARIANCE) ** 0.5)).mean() for p in (1, 0.5, 2)
    )
    assert own == pytest.approx(1, abs=0.08)
    assert smooth < 0.85 and grainy > 1.3


def test_samples_are_their_own_scale():
    own = sample_latents(WORLD, draw([1], SHAPE), Plan(steps=4))
    assert Realism.of_samples(WORLD, Plan(steps=4), [1])(WORLD, own).item() == pytest.approx(1)


def test_it_costs_one_evaluation_a_level_and_repeats_itself():
    counted = CountCalls(WORLD.denoiser)
    first = denoising_errors(WORLD, pictures(0.3), counted)
    assert counted.nfe == 8 * len(RATIOS)
    assert torch.equal(first, denoising_errors(WORLD, pictures(0.3)))
    alone = denoising_errors(WORLD, pictures(0.3)[3:4])
    torch.testing.assert_close(alone, first[3:4])


def test_a_schedule_that_ends_early_is_asked_at_its_ends():
    short = NoiseSchedule((0.9, 0.5, 0.2), 1.0)
    model = Model(GaussianDenoiser(variance=VARIANCE), short, SHAPE)
    assert torch.isfinite(denoising_errors(model, pictures(0.3))).all()
