"""Figures published with diffusers' own tests, met without diffusers.

Each run is ten steps of DDIM with a network that returns x · t/(t+1), from a ramp of numbers.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from ddim_interp.schedule import NoiseSchedule
from ddim_interp.scheduler import DDIMInverseScheduler, DDIMScheduler
from ddim_interp.solver.ddim import ddpm_variance

V = {"prediction_type": "v_prediction"}
ALPHA_ONE = {"set_alpha_to_one": True, "beta_start": 0.01}
ALPHA_NOT_ONE = {"set_alpha_to_one": False, "beta_start": 0.01}


def four_images(ramp: Tensor) -> Tensor:
    """768 numbers as 4 images of 3×8×8, in the layout of the published tests."""
    return (ramp / len(ramp)).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def walked(scheduler: DDIMScheduler | DDIMInverseScheduler, x: Tensor, skip: int = 0) -> Tensor:
    for t in scheduler.timesteps[skip:]:
        x = scheduler.step(x * t / (t + 1), t, x).prev_sample
    return x


def assert_golden(x: Tensor, total: float, mean: float) -> None:
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)
    assert x.abs().mean().item() == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize(
    ("config", "total", "mean"),
    [
        pytest.param({}, 172.0067, 0.223967, id="epsilon"),
        pytest.param(V, 52.5302, 0.0684, id="v_prediction"),
        pytest.param(ALPHA_ONE, 149.8295, 0.1951, id="alpha one"),
        pytest.param(ALPHA_NOT_ONE, 149.0784, 0.1941, id="alpha not one"),
    ],
)
def test_a_run_of_the_scheduler_ends_at_the_published_sum(
    config: dict[str, Any], total: float, mean: float
) -> None:
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(10)
    assert_golden(walked(scheduler, four_images(torch.arange(768.0))), total, mean)


def test_a_run_from_a_noised_picture_ends_at_the_published_sum() -> None:
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    picture, noise = four_images(torch.arange(768.0)), four_images(torch.arange(768.0).flip(0))
    x = scheduler.add_noise(picture, noise, scheduler.timesteps[8:9])
    assert_golden(walked(scheduler, x, skip=8), 354.5418, 0.4616)


@pytest.mark.parametrize(
    ("config", "total", "mean"),
    [
        pytest.param({}, 671.6816, 0.8746, id="epsilon"),
        pytest.param(V, 1394.2185, 1.8154, id="v_prediction"),
        pytest.param(ALPHA_ONE, 539.9622, 0.7031, id="alpha one"),
        pytest.param(ALPHA_NOT_ONE, 542.6722, 0.7066, id="alpha not one"),
    ],
)
def test_a_run_of_the_inverse_scheduler_ends_at_the_published_sum(
    config: dict[str, Any], total: float, mean: float
) -> None:
    scheduler = DDIMInverseScheduler(**config)
    scheduler.set_timesteps(10)
    assert_golden(walked(scheduler, four_images(torch.arange(768.0))), total, mean)


@pytest.mark.parametrize(
    ("t", "s", "variance"),
    [(420, 400, 0.14771), (980, 960, 0.32460), (487, 486, 0.00979), (999, 998, 0.02)],
)
def test_the_variance_of_a_ddpm_step_is_the_published_one(t: int, s: int, variance: float) -> None:
    schedule = NoiseSchedule.from_config({})
    assert ddpm_variance(schedule.level(t), schedule.level(s)) == pytest.approx(variance, abs=1e-5)
