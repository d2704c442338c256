"""The face is diffusers' DDIMScheduler: same timesteps, same steps, same noise, whole trajectories.

The network of these tests is the exact denoiser of Gaussian pictures, so that trajectories behave
as a trained model's do: they end at pictures, some of whose pixels a clamp reaches.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.latents import draw, draw_like_diffusers
from ddim_interp.schedule import Level
from ddim_interp.scheduler import DDIMInverseScheduler, DDIMScheduler

diffusers = pytest.importorskip("diffusers")
torch_utils = pytest.importorskip("diffusers.utils.torch_utils")

Network: TypeAlias = Callable[[Tensor, int], Tensor]

SHAPE = (2, 3, 8, 8)
STEPS = (10, 20, 50)
SPACINGS = ("leading", "linspace", "trailing")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "scaled-linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "trained-betas": {"trained_betas": np.geomspace(1e-4, 0.03, 1000)},
    "zero-snr": {"rescale_betas_zero_snr": True},
    "stable-diffusion": {"set_alpha_to_one": False, "steps_offset": 1},
    "narrow-clip": {"clip_sample_range": 0.6},
    "thresholding": {
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.9,
        "sample_max_value": 1.5,
    },
}


def gaussian_network(config: dict[str, Any]) -> Network:
    """What a network trained on Gaussian pictures with this config returns: a line in x."""
    alphas_cumprod = diffusers.DDIMScheduler(**config).alphas_cumprod.tolist()
    denoiser = GaussianDenoiser(torch.linspace(-1.2, 1.2, SHAPE[-1]), variance=0.2)

    @functools.cache
    def line(timestep: int) -> tuple[Tensor, Tensor]:
        t = Level(timestep, alphas_cumprod[timestep])

        def output(x: Tensor) -> Tensor:
            x_0, eps = denoiser(x, t)
            v = t.signal * eps - t.noise * x_0
            outputs = {"epsilon": eps, "sample": x_0, "v_prediction": v}
            return outputs[config.get("prediction_type", "epsilon")].float()

        zero = torch.zeros(SHAPE[-1], dtype=torch.float64)
        return output(zero + 1) - output(zero), output(zero)

    def network(x: Tensor, timestep: int) -> Tensor:
        slope, intercept = line(timestep)
        return torch.addcmul(intercept, slope, x)

    return network


def sampled(
    scheduler: Any, network: Network, steps: int, generators: Any = None, **how: Any
) -> tuple[Tensor, Tensor]:
    """x after every step of a run, and the x_0 predicted on the way, (steps, N, C, H, W) each."""
    generators = generators or Generator().manual_seed(0)
    x = torch_utils.randn_tensor(SHAPE, generators)
    scheduler.set_timesteps(steps)
    outputs = []
    for t in scheduler.timesteps.tolist():
        outputs.append(scheduler.step(network(x, t), t, x, generator=generators, **how))
        x = outputs[-1].prev_sample
    return (
        torch.stack([output.prev_sample for output in outputs]),
        torch.stack([output.pred_original_sample for output in outputs]),
    )


def assert_same_run(config: dict[str, Any], steps: int, **how: Any) -> None:
    """Every image, finished or on the way, agrees to 1e-5; and no run is of NaN, or all white."""
    network = gaussian_network(config)
    ours, our_x_0 = sampled(DDIMScheduler(**config), network, steps, **how)
    theirs, their_x_0 = sampled(diffusers.DDIMScheduler(**config), network, steps, **how)
    assert_close(ours / 2, theirs / 2, rtol=0, atol=1e-5, msg=lambda text: f"S={steps}: {text}")
    assert_close(our_x_0[-1] / 2, their_x_0[-1] / 2, rtol=0, atol=1e-5)
    inside = (ours[-1].abs() < 1).float().mean()
    assert inside > 0.3


# Where ᾱ = 0, an ε is no prediction: dividing by √ᾱ gives NaN. And there diffusers' η = 1 takes the
# square root of what rounding makes less than zero (at S = 10).
def has_an_answer(option: str, spacing: str, prediction: str, eta: float) -> bool:
    reaches_zero_snr = option == "zero-snr" and spacing != "leading"
    return not (reaches_zero_snr and (prediction == "epsilon" or eta == 1))


RUNS = [
    pytest.param(*run, clip, id="-".join([*map(str, run), "clip" if clip else "free"]))
    for option in OPTIONS
    for spacing in SPACINGS
    for prediction in PREDICTIONS
    for eta in (0.0, 0.5, 1.0)
    for clip in (True, False)
    if has_an_answer(*(run := (option, spacing, prediction, eta)))
]


@pytest.mark.parametrize(("option", "spacing", "prediction", "eta", "clip"), RUNS)
def test_trajectories_are_those_of_diffusers(
    option: str, spacing: str, prediction: str, eta: float, clip: bool
) -> None:
    config = OPTIONS[option] | {
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "clip_sample": clip,
    }
    for steps in STEPS:
        assert_same_run(config, steps, eta=eta)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("option", ["defaults", "narrow-clip", "thresholding"])
def test_eps_is_derived_again_from_a_clipped_x_0_as_in_diffusers(
    option: str, prediction: str, eta: float
) -> None:
    config = OPTIONS[option] | {"prediction_type": prediction}
    for steps in STEPS:
        assert_same_run(config, steps, eta=eta, use_clipped_model_output=True)


@pytest.mark.parametrize("steps", [2, 3, 30, 300, 600, 1000])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_odd_step_counts_give_the_trajectories_of_diffusers(spacing: str, steps: int) -> None:
    config = {"timestep_spacing": spacing, "clip_sample": False}
    network = gaussian_network(config)
    ours, _ = sampled(DDIMScheduler(**config), network, steps)
    theirs, _ = sampled(diffusers.DDIMScheduler(**config), network, steps)
    assert_close(ours / 2, theirs / 2, rtol=0, atol=1e-5)


def test_a_zero_snr_run_with_full_noise_ends_where_diffusers_gives_nan() -> None:
    config = OPTIONS["zero-snr"] | {
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    }
    network = gaussian_network(config)
    theirs, _ = sampled(diffusers.DDIMScheduler(**config), network, steps=10, eta=1.0)
    ours, _ = sampled(DDIMScheduler(**config), network, steps=10, eta=1.0)
    assert theirs.isnan().any()
    assert ours.isfinite().all()


@pytest.mark.parametrize("option", OPTIONS)
def test_the_table_is_that_of_diffusers_bit_for_bit(option: str) -> None:
    ours, theirs = DDIMScheduler(**OPTIONS[option]), diffusers.DDIMScheduler(**OPTIONS[option])
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    assert torch.equal(ours.final_alpha_cumprod, theirs.final_alpha_cumprod)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    assert ours.init_noise_sigma == theirs.init_noise_sigma
    assert (ours.order, len(ours)) == (theirs.order, len(theirs))


@pytest.mark.parametrize("total", [50, 250, 1000])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_are_those_of_diffusers_for_every_step_count(spacing: str, total: int) -> None:
    config = {"timestep_spacing": spacing, "num_train_timesteps": total}
    ours, theirs = DDIMScheduler(**config), diffusers.DDIMScheduler(**config)
    for steps in range(1, total + 1):
        ours.set_timesteps(steps)
        theirs.set_timesteps(steps)
        # Rounding gives diffusers' trailing spacing an entry too many now and then, off the table.
        *_, beyond = [*theirs.timesteps.tolist(), -1][: steps + 1]
        assert ours.timesteps.dtype == theirs.timesteps.dtype
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()[:steps], steps
        assert beyond == -1


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("option", ["defaults", "scaled-linear", "cosine", "stable-diffusion"])
def test_inverse_trajectories_are_those_of_diffusers(
    option: str, spacing: str, prediction: str, clip: bool
) -> None:
    config = OPTIONS[option] | {
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "clip_sample": clip,
    }
    if prediction == "sample":
        config["set_alpha_to_one"] = False  # from ᾱ = 1, (x − x_0) / √(1−ᾱ) is 0 / 0
    network = gaussian_network(config)
    for steps in STEPS:
        walked = []
        for scheduler in (DDIMInverseScheduler(**config), diffusers.DDIMInverseScheduler(**config)):
            scheduler.set_timesteps(steps)
            x = 0.5 * draw([1, 2], SHAPE[1:])
            for t in scheduler.timesteps.tolist():
                x = scheduler.step(network(x, t), t, x).prev_sample
            walked.append(x)
        assert_close(*walked, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_inverse_timesteps_are_those_of_diffusers(spacing: str) -> None:
    ours = DDIMInverseScheduler(timestep_spacing=spacing)
    theirs = diffusers.DDIMInverseScheduler(timestep_spacing=spacing)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    for steps in (1, 10, 20, 30, 50, 300, 999, 1000):
        ours.set_timesteps(steps)
        theirs.set_timesteps(steps)
        assert torch.equal(ours.timesteps, theirs.timesteps)


def generators(kind: str) -> Any:
    if kind == "list":
        return [Generator().manual_seed(seed) for seed in range(SHAPE[0])]
    return Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("kind", ["one", "list"])
def test_noise_is_that_of_diffusers(kind: str, dtype: torch.dtype) -> None:
    device = torch.device("cpu")
    ours = draw_like_diffusers(SHAPE, generators(kind), device, dtype)
    assert torch.equal(ours, torch_utils.randn_tensor(SHAPE, generators(kind), device, dtype))


def test_without_a_generator_noise_comes_from_the_global_one_as_in_diffusers() -> None:
    torch.manual_seed(5)
    ours = draw_like_diffusers(SHAPE)
    torch.manual_seed(5)
    assert torch.equal(ours, torch_utils.randn_tensor(SHAPE))


@pytest.mark.parametrize("seed", [0, 17, 2**40])
def test_a_seed_is_the_same_latent_as_in_diffusers(seed: int) -> None:
    theirs = torch_utils.randn_tensor((1, 3, 8, 8), Generator("cpu").manual_seed(seed))
    assert torch.equal(draw([3, seed], (3, 8, 8))[1:], theirs)


def test_a_list_of_generators_gives_each_picture_its_own_noise_at_every_step() -> None:
    network = gaussian_network({})
    ours, _ = sampled(DDIMScheduler(), network, 10, generators("list"), eta=1.0)
    theirs, _ = sampled(diffusers.DDIMScheduler(), network, 10, generators("list"), eta=1.0)
    assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_noise_can_be_given_instead_of_a_generator() -> None:
    x, output, z = draw([0, 1, 2], (3, 8, 8))[:, None]
    steps = []
    for scheduler in (DDIMScheduler(), diffusers.DDIMScheduler()):
        scheduler.set_timesteps(10)
        t = scheduler.timesteps[3]  # a tensor, as in diffusers' own loop
        steps.append(scheduler.step(output, t, x, eta=0.7, variance_noise=z, return_dict=False))
    assert_close(steps[0], steps[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("timesteps", [[0, 500, 999], [250]], ids=["one each", "one for all"])
@pytest.mark.parametrize("method", ["add_noise", "get_velocity"])
def test_training_targets_are_those_of_diffusers(method: str, timesteps: list[int]) -> None:
    pictures, noise = draw([0, 1, 2], (3, 8, 8)), draw([3, 4, 5], (3, 8, 8))
    ours, theirs = (
        getattr(scheduler, method)(pictures, noise, torch.tensor(timesteps))
        for scheduler in (DDIMScheduler(), diffusers.DDIMScheduler())
    )
    assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("peer", ["DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_another_schedulers_config_is_read_as_diffusers_reads_it(peer: str) -> None:
    foreign = getattr(diffusers, peer)(beta_schedule="scaled_linear", beta_end=0.012).config
    network = gaussian_network({"beta_schedule": "scaled_linear", "beta_end": 0.012})
    ours, _ = sampled(DDIMScheduler.from_config(foreign), network, 20)
    theirs, _ = sampled(diffusers.DDIMScheduler.from_config(foreign), network, 20)
    assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("option", OPTIONS)
def test_configs_travel_to_diffusers_and_back(option: str, tmp_path: Path) -> None:
    ours = DDIMScheduler(**OPTIONS[option])
    ours.save_pretrained(tmp_path / "ours")
    theirs = diffusers.DDIMScheduler.from_pretrained(tmp_path / "ours")
    assert torch.equal(theirs.alphas_cumprod, ours.alphas_cumprod)
    theirs.save_pretrained(tmp_path / "theirs")
    assert DDIMScheduler.from_pretrained(tmp_path / "theirs").config == ours.config


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_betas_and_positional_options_are_diffusers(schedule: str) -> None:
    values = (500, 0.001, 0.03, schedule)
    theirs, ours = diffusers.DDIMScheduler(*values), DDIMScheduler(*values)
    assert_close(ours.betas, theirs.betas, rtol=1e-4, atol=1e-6)
    assert dict(ours.config).items() <= dict(theirs.config).items()
