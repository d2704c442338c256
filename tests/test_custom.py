"""Anything that takes a picture and a timestep is a model; what does not fit is told at once."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ddim_interp import Model, NoiseSchedule, Pipeline, Plan, as_denoiser
from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.inversion import invert_images
from ddim_interp.schedule import Level

SCHEDULE = NoiseSchedule.from_config({"beta_schedule": "squaredcos_cap_v2"})
KINDS = ("epsilon", "sample", "v_prediction")


def gaussian(kind: str, variance: float = 0.1, mean: float = -0.5) -> Any:
    """The exact network for Gaussian data, as somebody else might have trained it."""
    truth = GaussianDenoiser(mean, variance)

    def network(x_t: Tensor, timestep: Tensor) -> Tensor:
        rows = []
        for x, t in zip(x_t, timestep.tolist(), strict=True):
            level = SCHEDULE.level(t)
            x_0, eps = truth(x[None].double(), level)
            v = level.signal * eps - level.noise * x_0
            rows.append({"epsilon": eps, "sample": x_0, "v_prediction": v}[kind])
        return torch.cat(rows).to(x_t.dtype)

    return network


@pytest.fixture
def digits() -> list[Image.Image]:
    """Two grey pictures of 28×28: a bar and a ring."""
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    bar = np.exp(-30 * x**2)
    ring = np.exp(-30 * (np.hypot(x, y) - 0.6) ** 2)
    return [Image.fromarray((255 * p).round().astype(np.uint8)) for p in (bar, ring)]


@pytest.mark.parametrize("kind", KINDS)
def test_grey_pictures_of_28_pixels_are_inverted_and_morphed(
    kind: Any, digits: list[Image.Image]
) -> None:
    model = as_denoiser(gaussian(kind), SCHEDULE, shape=(1, 28, 28), prediction_type=kind)
    pipe = Pipeline(model)
    inversion = pipe.invert(digits, plan=Plan(steps=8))
    assert all(certificate.roundtrip_mse < 1e-6 for certificate in inversion.certificates)
    film = pipe.morph([*digits, "seed:3"], plan=Plan(steps=8), frames=5)
    frames = list(film.draw())
    assert [frame.shape for frame in frames] == [(28, 28, 3)] * 5
    for frame, digit in zip((frames[0], frames[2]), digits, strict=True):
        assert np.array_equal(frame[..., 0], np.asarray(digit))
    assert film.recipe()["model"] == "custom"


def test_samples_are_those_of_the_exact_denoiser() -> None:
    truth = Model(GaussianDenoiser(-0.5, 0.1), SCHEDULE, (1, 12, 20))
    models = (truth, as_denoiser(gaussian("epsilon"), SCHEDULE, shape=(1, 12, 20)))
    images = [
        Pipeline(model).sample(seeds=[0, 5], plan=Plan(steps=9), output_type="pt").images
        for model in models
    ]
    assert images[0].shape == (2, 1, 12, 20)
    assert (images[0] - images[1]).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 5, 9), (3, 7, 4), (12, 3, 3)])
def test_tensors_may_have_any_shape(shape: tuple[int, int, int]) -> None:
    model = as_denoiser(gaussian("epsilon"), SCHEDULE, shape=shape)
    x_0 = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)) * 0.3
    assert (invert_images(model, x_0, Plan(steps=6)).decoded - x_0).abs().max() < 1e-3


def test_learned_variances_and_objects_with_a_sample_are_understood() -> None:
    plain = gaussian("epsilon")
    wide = lambda x, t: SimpleNamespace(sample=torch.cat([plain(x, t), x], dim=1))  # noqa: E731
    x, t = torch.randn(1, 3, 4, 4), Level(500.0, SCHEDULE.level(500).alpha_bar)
    models = [as_denoiser(fn, SCHEDULE, shape=(3, 4, 4)) for fn in (plain, wide)]
    assert torch.equal(*(model.denoiser(x, t).eps for model in models))


def test_a_schedule_may_be_given_as_a_config() -> None:
    model = as_denoiser(lambda x, t: x, {"num_train_timesteps": 50}, shape=(1, 2, 2))
    assert model.schedule.num_train_timesteps == 50


class Table(nn.Module):
    """Takes whole timesteps, as many small networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(1000, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.rows(t)[..., None, None]


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (lambda x: x, "wrap it so that it takes these"),
        (Table(), r"takes whole timesteps only .* t.round\(\).long\(\)"),
        (lambda x, t: x[:, :1], r"returned \(2, 1, 4, 4\) .* must return \(2, 3, 4, 4\)"),
        (lambda x, t: x.flatten(1), r"returned \(2, 48\)"),
        (lambda x, t: (x / 2).squeeze(0), r"returned \(3, 4, 4\) for a single picture"),
        (lambda x, t: x.mul_(0.5), "changed x_t itself"),
        (lambda x, t: [x], "returned a list"),
        (lambda x, t: x.long(), "returned torch.int64"),
        (lambda x, t: x / (t * 0)[:, None, None, None], "NaN or infinity"),
        (nn.Sequential(nn.Dropout(0.5)), "wrap it"),
        (lambda x, t: nn.functional.dropout(x, 0.5), "evaluation mode"),
        (lambda x, t: x - x.mean(0, keepdim=True), "evaluation mode"),
        (lambda x, t: nn.functional.conv2d(x, torch.ones(3, 1, 3, 3)), "RuntimeError: Given"),
    ],
    ids=lambda value: None,
)
def test_a_function_that_does_not_fit_is_refused_in_one_line(fn: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as refusal:
        as_denoiser(fn, {}, shape=(3, 4, 4))
    assert "\n" not in str(refusal.value)


def test_whole_timesteps_work_as_the_message_says() -> None:
    table = Table()
    model = as_denoiser(lambda x, t: table(x, t.round().long()), {}, shape=(3, 4, 4))
    assert Pipeline(model).sample(seeds=[1], plan=Plan(4, "trailing")).images[0].size == (4, 4)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"shape": (3, 4)}, ArgumentError, "no .channels, height, width."),
        ({"shape": (0, 4, 4)}, ArgumentError, "no .channels, height, width."),
        ({"prediction_type": "score"}, ArgumentError, "choose one of epsilon"),
        ({"schedule": {"beta_schedule": "wild"}}, ModelError, "beta_schedule"),
        ({"device": "abacus"}, ArgumentError, "cannot be used"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    settings: dict[str, Any] = {"schedule": {}, "shape": (3, 4, 4)} | options
    with pytest.raises(error, match=says):
        as_denoiser(lambda x, t: x, settings.pop("schedule"), **settings)
