"""The noise schedules of training programs are written down as they were trained with."""

import pytest

from ddim_interp.convert.hints import Hints
from ddim_interp.convert.schedules import scheduler_config
from ddim_interp.errors import ModelError
from ddim_interp.schedule import NoiseSchedule


@pytest.mark.parametrize("total", [100, 1000, 4000])
def test_a_linear_schedule_ends_in_the_same_noise_however_many_its_steps(total):
    config = scheduler_config(Hints(timesteps=total), "a model")
    assert config.beta_start == pytest.approx(0.1 / total)
    assert config.beta_end == pytest.approx(20 / total)
    assert NoiseSchedule.from_config(config.to_dict()).num_train_timesteps == total


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_network_told_rescaled_timesteps_gets_the_levels_it_was_told(kind):
    whole = {"timesteps": 4000, "noise_schedule": kind}
    every, told = (
        NoiseSchedule.from_config(scheduler_config(Hints(**hints), "a model").to_dict())
        for hints in (whole, {**whole, "rescale_timesteps": True})
    )
    assert (every.num_train_timesteps, told.num_train_timesteps) == (4000, 1000)
    for t in (0, 1, 400, 900):
        assert told.level(t).log_snr == pytest.approx(every.level(4 * t).log_snr, abs=1e-3)


def test_betas_that_are_named_are_taken_as_they_are():
    config = scheduler_config(Hints(timesteps=200, beta_start=0.001, beta_end=0.03), "a model")
    assert (config.beta_start, config.beta_end) == (0.001, 0.03)


def test_timesteps_between_whole_numbers_cannot_be_written_down():
    with pytest.raises(ModelError, match="do not fall on whole numbers"):
        scheduler_config(Hints(timesteps=1500, rescale_timesteps=True), "a model")
