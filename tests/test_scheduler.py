"""The diffusers face without diffusers: what it promises, saves and refuses.

That its steps are diffusers' own is shown in test_parity_scheduler and test_goldens.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError, InputMissingError, ModelError, ScheduleError
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.scheduler import DDIMInverseScheduler, DDIMScheduler, DDIMSchedulerOutput
from ddim_interp.trajectory import last, sample

SHAPE = (3, 8, 8)
GAUSSIAN = GaussianDenoiser(mean=0.3, variance=0.25)
both = pytest.mark.parametrize("face", [DDIMScheduler, DDIMInverseScheduler])


def ready(steps: int = 10, **options: Any) -> DDIMScheduler:
    scheduler = DDIMScheduler(**options)
    scheduler.set_timesteps(steps)
    return scheduler


# Law


@pytest.mark.parametrize("steps", [10, 20, 50])  # that divide 1000: diffusers stays on the grid
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_face_walks_as_the_core_does(spacing: str, steps: int) -> None:
    scheduler = ready(steps, clip_sample=False, timestep_spacing=spacing)
    grid = make_grid(scheduler.schedule, steps, spacing, end=scheduler.schedule.clean)
    x = z = draw([0, 1], SHAPE).double()
    for t, level in zip(scheduler.timesteps, grid, strict=False):
        x = scheduler.step(GAUSSIAN(x, level).eps, t, x).prev_sample
    assert_close(x, last(sample(GAUSSIAN, z, grid)).x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_inverse_face_visits_the_same_timesteps_in_reverse(spacing: str) -> None:
    inverse = DDIMInverseScheduler(timestep_spacing=spacing)
    for steps in (1, 7, 50, 1000):
        inverse.set_timesteps(steps)
        down = ready(steps, timestep_spacing=spacing).timesteps
        assert torch.equal(inverse.timesteps, down.flip(0))


def test_an_inverse_step_with_the_same_noise_undoes_a_step() -> None:
    down, up = ready(50, clip_sample=False), DDIMInverseScheduler(clip_sample=False)
    up.set_timesteps(50)
    x, eps = draw([0, 1], SHAPE).double().split(1)
    for t in down.timesteps:
        there = down.step(eps, t, x).prev_sample
        assert_close(up.step(eps, t, there).prev_sample, x, rtol=0, atol=1e-5)


@both
def test_a_step_returns_names_or_a_tuple(face: Any) -> None:
    x, eps = draw([0, 1], SHAPE).split(1)
    scheduler = face()
    scheduler.set_timesteps(10)
    named = scheduler.step(eps, 500, x)
    assert isinstance(named, DDIMSchedulerOutput)
    prev_sample, x_0 = scheduler.step(eps, 500, x, return_dict=False)
    assert torch.equal(named.prev_sample, prev_sample)
    assert torch.equal(named.pred_original_sample, x_0)
    assert x_0.abs().max() <= 1


def test_a_generator_makes_noise_repeatable() -> None:
    x, eps = draw([0, 1], SHAPE).split(1)
    steps = [
        ready().step(eps, 500, x, eta=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(steps[0].prev_sample, steps[1].prev_sample)
    assert not torch.equal(steps[0].prev_sample, steps[2].prev_sample)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_step_keeps_the_dtype(dtype: torch.dtype) -> None:
    x, eps = draw([0, 1], SHAPE).to(dtype).split(1)
    step = ready(thresholding=dtype == torch.float64).step(eps, 500, x, eta=0.5)
    assert step.prev_sample.dtype == step.pred_original_sample.dtype == dtype


@pytest.fixture
def default_dtype() -> Iterator[Callable[[torch.dtype], None]]:
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_torchs_defaults_do_not_matter(
    face: Any, dtype: torch.dtype, default_dtype: Callable[[torch.dtype], None]
) -> None:
    x, eps = draw([0, 1], SHAPE).split(1)
    scheduler = face()
    scheduler.set_timesteps(10)
    wanted = scheduler.step(eps, 500, x).prev_sample
    with torch.device("meta"):
        assert torch.equal(scheduler.step(eps, 500, x).prev_sample, wanted)
    default_dtype(dtype)
    assert torch.equal(scheduler.step(eps, 500, x).prev_sample, wanted)
    assert DDIMScheduler(set_alpha_to_one=False).final_alpha_cumprod == torch.tensor(
        0.9999, dtype=torch.float32
    )


def test_samples_are_fed_to_the_network_as_they_are() -> None:
    x = draw([0], SHAPE)
    assert DDIMScheduler().scale_model_input(x, 500) is x


# Configs


def test_a_scheduler_survives_its_folder(tmp_path: Path) -> None:
    options = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    DDIMScheduler(**options).save_pretrained(tmp_path / "model" / "scheduler")
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler")
    assert scheduler.config == SchedulerConfig(**options)


def test_overrides_win_over_the_folder_and_over_another_config(tmp_path: Path) -> None:
    DDIMScheduler(clip_sample=True).save_pretrained(tmp_path)
    assert not DDIMScheduler.from_pretrained(tmp_path, clip_sample=False).config.clip_sample
    assert not DDIMScheduler.from_config({}, clip_sample=False).config.clip_sample
    config = DDIMScheduler(clip_sample=False).config
    assert DDIMInverseScheduler.from_config(config, steps_offset=1).config.steps_offset == 1


def test_a_ddpm_checkpoints_own_config_serves() -> None:
    ddpm = {"_class_name": "DDPMScheduler", "variance_type": "fixed_large", "clip_sample": False}
    assert DDIMScheduler.from_config(ddpm).config == SchedulerConfig(clip_sample=False)


def test_what_diffusers_marks_as_defaulted_takes_our_default() -> None:
    pndm = {"set_alpha_to_one": False, "_use_default_values": ["set_alpha_to_one"]}
    assert DDIMScheduler.from_config(pndm).config.set_alpha_to_one


# Refusals


@both
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_step_count_off_the_table_is_refused(face: Any, steps: int) -> None:
    with pytest.raises(ScheduleError, match="use 1 to 1000"):
        face().set_timesteps(steps)


@both
def test_an_unknown_option_is_refused_with_the_known_ones(face: Any) -> None:
    with pytest.raises(ArgumentError, match=r"has no option 'beta_stop'; it knows beta_end, "):
        face(beta_stop=0.02)
    with pytest.raises(ArgumentError, match=r"has no option 'beta_stop'; it knows beta_end, "):
        face.from_config({}, beta_stop=0.02)


@both
def test_an_option_of_the_wrong_type_is_refused(face: Any) -> None:
    with pytest.raises(ModelError, match=f"{face.__name__} says clip_sample='no'; it must be true"):
        face(clip_sample="no")


@both
def test_a_step_before_set_timesteps_is_refused(face: Any) -> None:
    with pytest.raises(ArgumentError, match=r"call set_timesteps\(50\) first"):
        face().step(torch.zeros(1, *SHAPE), 500, torch.zeros(1, *SHAPE))


def test_a_timestep_off_the_table_is_refused() -> None:
    with pytest.raises(ScheduleError, match="the network was trained on 0 to 999"):
        ready().step(torch.zeros(1, *SHAPE), 1000, torch.zeros(1, *SHAPE))


@both
def test_an_offset_that_leads_off_the_table_is_refused(face: Any) -> None:
    with pytest.raises(ScheduleError, match="use fewer steps, or steps_offset=0"):
        face(steps_offset=1).set_timesteps(1000)


def test_linspace_is_not_inverted_by_the_face() -> None:
    with pytest.raises(ArgumentError, match=r"use 'leading' or 'trailing', or pipe\.invert"):
        DDIMInverseScheduler(timestep_spacing="linspace").set_timesteps(10)


def test_a_list_of_generators_must_match_the_batch() -> None:
    x = torch.zeros(2, *SHAPE)
    with pytest.raises(ArgumentError, match="give one for each picture"):
        ready().step(x, 500, x, eta=1.0, generator=[torch.Generator()])


def test_a_folder_without_a_config_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"scheduler_config\.json"):
        DDIMScheduler.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"beta_end": NaN}', '{"clip_sample": 1}'])
def test_a_folder_with_a_broken_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "scheduler_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"scheduler_config\.json"):
        DDIMScheduler.from_pretrained(tmp_path)


def test_a_saved_config_is_json_that_others_read(tmp_path: Path) -> None:
    DDIMScheduler(num_train_timesteps=2, trained_betas=(0.1, 0.2)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert config["_class_name"] == "DDIMScheduler"
    assert config["trained_betas"] == [0.1, 0.2]


def test_options_can_be_given_in_diffusers_order():
    assert (
        DDIMScheduler(100, 1e-3).config
        == DDIMScheduler(beta_start=1e-3, num_train_timesteps=100).config
    )
    with pytest.raises(ArgumentError, match="beta_start was given twice"):
        DDIMScheduler(100, 1e-3, beta_start=1e-3)
    with pytest.raises(ArgumentError, match="16 options were given in order, and there are 15"):
        DDIMScheduler(*range(16))


def test_a_config_is_a_mapping_as_well():
    config = DDIMScheduler(beta_schedule="scaled_linear").config
    assert config["beta_schedule"] == config.get("beta_schedule") == config.beta_schedule
    assert {**config} == config.to_dict() and "eta" not in config and config.get("eta", 1) == 1
    with pytest.raises(KeyError):
        config["from_mapping"]


def test_what_a_scheduler_prints_is_what_is_not_as_ever():
    assert repr(DDIMScheduler()) == "DDIMScheduler()"
    assert repr(DDIMScheduler(clip_sample=False)) == "DDIMScheduler(clip_sample=False)"
    assert len(repr(DDIMScheduler().schedule)) < 80


def test_a_models_own_scheduler_is_found(tiny_folder):
    direct = DDIMScheduler.from_pretrained(tiny_folder, subfolder="scheduler")
    assert DDIMScheduler.from_pretrained(tiny_folder).config == direct.config
    assert DDIMScheduler.from_pretrained(tiny_folder, steps_offset=1).config.steps_offset == 1
