"""How noisy is each timestep, and which configs may say so?"""

import json
import math
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from ddim_interp.errors import ModelError, ScheduleError
from ddim_interp.schedule import Level, NoiseSchedule, SchedulerConfig

LINEAR = NoiseSchedule.from_config({})
ZERO_SNR = NoiseSchedule.from_config({"rescale_betas_zero_snr": True})
SCHEDULES = {
    "linear": LINEAR,
    "scaled-linear": NoiseSchedule.from_config({"beta_schedule": "scaled_linear"}),
    "cosine": NoiseSchedule.from_config({"beta_schedule": "squaredcos_cap_v2"}),
    "zero-snr": ZERO_SNR,
    "hundred": NoiseSchedule.from_config({"num_train_timesteps": 100, "beta_end": 0.2}),
    "two": NoiseSchedule.from_config({"num_train_timesteps": 2}),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))


# The table


def test_the_linear_schedule_is_the_ddpm_papers() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(LINEAR.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)
    assert LINEAR.lowest.ratio == pytest.approx(0.01, rel=1e-3)
    assert LINEAR.highest.ratio == pytest.approx(157.4, rel=1e-3)


def test_the_cosine_schedule_follows_the_squared_cosine_of_nichol_and_dhariwal() -> None:
    angle = (np.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2
    expected = (np.cos(angle) ** 2 / np.cos(angle[0]) ** 2)[1:]
    # The last entry is where β is capped.
    table = SCHEDULES["cosine"].alphas_cumprod
    np.testing.assert_allclose(table[:-1], expected[:-1], rtol=1e-2, atol=1e-6)


def test_scaled_linear_betas_are_even_in_their_square_roots() -> None:
    alphas_cumprod = torch.tensor(SCHEDULES["scaled-linear"].alphas_cumprod).double()
    roots = (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).sqrt()
    assert torch.allclose(roots.diff(), roots.diff().mean(), rtol=0.1)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_trained_betas_are_taken_from_any_sequence(kind: Any) -> None:
    betas = [0.1, 0.2, 0.5]
    schedule = NoiseSchedule.from_config({"trained_betas": kind(betas), "num_train_timesteps": 3})
    assert schedule.alphas_cumprod == pytest.approx((0.9, 0.72, 0.36))


@every_schedule
def test_every_level_is_noisier_than_the_one_before(schedule: NoiseSchedule) -> None:
    levels = [schedule.level(t) for t in range(schedule.num_train_timesteps)]
    assert all(later.ratio > sooner.ratio for sooner, later in pairwise(levels))
    assert all(0 <= level.alpha_bar < 1 for level in levels)


def test_signal_and_noise_share_one_unit_of_variance() -> None:
    level = LINEAR.level(321)
    assert level.signal**2 + level.noise**2 == pytest.approx(1, abs=1e-15)
    assert level.ratio == level.noise / level.signal


@pytest.mark.parametrize(("to_one", "alpha_bar"), [(True, 1.0), (False, LINEAR.alphas_cumprod[0])])
def test_the_clean_end_is_one_or_the_first_entry(to_one: bool, alpha_bar: float) -> None:
    schedule = NoiseSchedule.from_config({"set_alpha_to_one": to_one})
    assert schedule.clean == Level(-1.0, alpha_bar)
    assert NoiseSchedule(LINEAR.alphas_cumprod).clean == Level(-1.0, 1.0)


def test_zero_snr_ends_in_pure_noise_and_keeps_the_first_level() -> None:
    assert ZERO_SNR.alphas_cumprod[0] == pytest.approx(LINEAR.alphas_cumprod[0], abs=1e-6)
    assert ZERO_SNR.level(999) == Level(999.0, 0.0)
    assert ZERO_SNR.level(999).ratio == math.inf
    assert ZERO_SNR.level(998.5).alpha_bar == 0.0


def test_the_highest_level_holds_some_signal() -> None:
    assert LINEAR.highest.timestep == 999
    assert ZERO_SNR.highest.timestep == 998
    assert ZERO_SNR.highest.alpha_bar > 0


# Between the entries


@every_schedule
@given(share=st.floats(0, 1))
def test_level_at_undoes_level(schedule: NoiseSchedule, share: float) -> None:
    timestep = share * schedule.highest.timestep
    level = schedule.level(timestep)
    found = schedule.level_at(level.ratio)
    assert found.timestep == pytest.approx(timestep, abs=1e-6)
    assert found.alpha_bar == pytest.approx(level.alpha_bar, rel=1e-9)


@every_schedule
@given(share=st.floats(0, 1))
def test_level_undoes_level_at(schedule: NoiseSchedule, share: float) -> None:
    low, high = schedule.lowest.ratio, schedule.highest.ratio
    ratio = low * (high / low) ** share
    level = schedule.level_at(ratio)
    assert level.ratio == pytest.approx(ratio, rel=1e-9)
    assert schedule.level(level.timestep).ratio == pytest.approx(ratio, rel=1e-6)


@every_schedule
def test_an_entry_is_found_at_its_own_timestep(schedule: NoiseSchedule) -> None:
    for t in range(int(schedule.highest.timestep) + 1):
        assert schedule.level_at(schedule.level(t).ratio).timestep == pytest.approx(t, abs=1e-6)


@pytest.mark.parametrize("timestep", [0.5, 400.25, 998.9])
def test_between_entries_log_sigma_is_linear(timestep: float) -> None:
    below, fraction = int(timestep), timestep % 1
    low, high = (math.log(LINEAR.level(t).ratio) for t in (below, below + 1))
    between = math.log(LINEAR.level(timestep).ratio)
    assert between == pytest.approx(low + fraction * (high - low), abs=1e-12)


@pytest.mark.parametrize("timestep", [-1, -0.001, 999.001, 1000, math.nan, math.inf])
def test_a_timestep_off_the_table_is_refused(timestep: float) -> None:
    with pytest.raises(ScheduleError, match="the network was trained on 0 to 999"):
        LINEAR.level(timestep)


@pytest.mark.parametrize("ratio", [-1, 0, 0.0099, 158, math.nan, math.inf])
def test_a_ratio_off_the_table_is_refused(ratio: float) -> None:
    with pytest.raises(ScheduleError, match=r"which runs from 0\.01 to 157"):
        LINEAR.level_at(ratio)


# Configs


def test_a_config_survives_json() -> None:
    config = SchedulerConfig.from_mapping(
        {"trained_betas": [0.1, 0.2], "num_train_timesteps": 2, "prediction_type": "sample"}
    )
    written = json.loads(json.dumps(config.to_dict()))
    assert written == config.to_dict()
    assert SchedulerConfig.from_mapping(written) == config


def test_keys_of_other_schedulers_are_left_alone() -> None:
    config = {"_class_name": "DDPMScheduler", "variance_type": "fixed_small", "clip_sample": False}
    assert SchedulerConfig.from_mapping(config) == SchedulerConfig(clip_sample=False)


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("num_train_timesteps", "1000", "must be a whole number"),
        ("num_train_timesteps", True, "must be a whole number"),
        ("num_train_timesteps", 1, "between 2 and 100000"),
        ("num_train_timesteps", 10**9, "between 2 and 100000"),
        ("steps_offset", 1000, "between 0 and num_train_timesteps − 1"),
        ("steps_offset", -1, "between 0 and num_train_timesteps − 1"),
        ("beta_start", 0.0, "a finite number above 0"),
        ("beta_start", 0.5, "between beta_start and 1"),
        ("beta_end", 1.0, "between beta_start and 1"),
        ("beta_end", math.nan, "a finite number above 0"),
        ("beta_schedule", "exponential", "one of linear, scaled_linear, squaredcos_cap_v2"),
        ("prediction_type", "flow_prediction", "one of epsilon, sample, v_prediction"),
        ("timestep_spacing", ["leading"], "one of leading, linspace, trailing"),
        ("clip_sample", "false", "true or false"),
        ("clip_sample_range", 10**400, "a finite number above 0"),
        ("dynamic_thresholding_ratio", 1.5, "at most 1"),
        ("trained_betas", [0.1, -0.1], "each is the share of variance"),
        ("trained_betas", "0.1", "each is the share of variance"),
        ("trained_betas", [], "the number of trained_betas, which is 0"),
        ("trained_betas", [0.1, 0.2], "the number of trained_betas, which is 2"),
    ],
)
def test_a_known_key_with_a_wrong_value_is_refused(key: str, value: Any, remedy: str) -> None:
    with pytest.raises(ModelError, match=remedy):
        SchedulerConfig.from_mapping({key: value})


def test_a_refusal_names_the_file_and_stays_one_line() -> None:
    with pytest.raises(ModelError, match=r"^cats\.json says") as refusal:
        SchedulerConfig.from_mapping({"beta_schedule": "linear\n" * 10_000}, "cats.json")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"beta_start": 1e-9}, id="a first level without noise"),
        pytest.param({"beta_start": 1e-30, "beta_end": 1e-29}, id="no noise at all"),
        pytest.param(
            {"beta_start": 1e-30, "beta_end": 1e-29, "rescale_betas_zero_snr": True},
            id="no noise, stretched",
        ),
        pytest.param({"num_train_timesteps": 20_000}, id="pure noise more than once"),
    ],
)
def test_betas_that_leave_levels_equally_noisy_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="check beta_start, beta_end and num_train_timesteps"):
        NoiseSchedule.from_config(config)


scalars = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, sys.float_info.max, 1e-320, 0, 1, 2])
    | st.text(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("key", SchedulerConfig().to_dict())
@settings(max_examples=50)
@given(value=anything)
def test_no_value_of_a_known_key_does_worse_than_be_refused(key: str, value: Any) -> None:
    try:
        schedule = NoiseSchedule.from_config({key: value})
    except ModelError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert schedule.level_at(schedule.highest.ratio).timestep <= schedule.highest.timestep
