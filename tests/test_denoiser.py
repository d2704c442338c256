"""What is picture and what is noise in x_t?"""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.testing import assert_close

from ddim_interp.denoiser import (
    CountCalls,
    Denoiser,
    Fallback,
    GaussianDenoiser,
    InBatches,
    NetworkDenoiser,
    Prediction,
    add_noise,
    among,
    grain_of,
    predict_eps,
    predict_x0,
    split_output,
)
from ddim_interp.errors import ArgumentError
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.model import Model
from ddim_interp.schedule import Level, NoiseSchedule, PredictionType
from ddim_interp.trajectory import last, sample

SCHEDULE = NoiseSchedule.from_config({})
LEVELS = [SCHEDULE.level(t) for t in (0, 1, 250.5, 500, 998, 999)]
every_level = pytest.mark.parametrize("t", LEVELS, ids=lambda t: f"t={t.timestep:g}")
PREDICTIONS: tuple[PredictionType, ...] = ("epsilon", "sample", "v_prediction")

pixels = st.floats(-4, 4)
levels = st.integers(0, 999).map(SCHEDULE.level)


def number(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def said(x_0: Tensor, eps: Tensor, t: Level, prediction_type: PredictionType) -> Tensor:
    """What a perfect network returns."""
    v = t.signal * eps - t.noise * x_0
    return {"epsilon": eps, "sample": x_0, "v_prediction": v}[prediction_type]


# Picture and noise


@given(x_0=pixels, eps=pixels, t=levels)
def test_predictions_undo_the_noising(x_0: float, eps: float, t: Level) -> None:
    x_t = add_noise(number(x_0), number(eps), t)
    assert_close(predict_x0(x_t, number(eps), t), number(x_0), rtol=0, atol=1e-12)
    assert_close(predict_eps(x_t, number(x_0), t), number(eps), rtol=0, atol=1e-12)


@given(x_t=pixels, eps=pixels, t=levels)
def test_the_noising_undoes_predictions(x_t: float, eps: float, t: Level) -> None:
    x_0 = predict_x0(number(x_t), number(eps), t)
    assert_close(add_noise(x_0, number(eps), t), number(x_t), rtol=0, atol=1e-12)
    assert_close(predict_eps(number(x_t), x_0, t), number(eps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@given(x_0=pixels, eps=pixels, t=levels)
def test_every_prediction_type_splits_x_t_into_the_same_halves(
    prediction_type: PredictionType, x_0: float, eps: float, t: Level
) -> None:
    x_t = add_noise(number(x_0), number(eps), t)
    output = said(number(x_0), number(eps), t, prediction_type)
    split = split_output(output, x_t, t, prediction_type)
    assert_close(split, Prediction(number(x_0), number(eps)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_pure_noise_is_split_without_dividing_by_its_missing_signal(
    prediction_type: PredictionType,
) -> None:
    pure = Level(999.0, 0.0)
    x_0, eps = draw([0, 1], (3, 8, 8)).split(1)
    split = split_output(said(x_0, eps, pure, prediction_type), eps, pure, prediction_type)
    assert_close(split, Prediction(x_0, eps))


# Networks


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@every_level
def test_a_network_is_asked_at_its_timestep_and_its_answer_split(
    t: Level, prediction_type: PredictionType
) -> None:
    x_0, eps = draw([0, 1, 2, 3], (3, 8, 8)).double().split(2)
    asked: list[Tensor] = []

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        asked.append(timestep)
        return said(x_0, eps, t, prediction_type)

    split = NetworkDenoiser(network, prediction_type)(add_noise(x_0, eps, t), t)
    assert_close(split, Prediction(x_0, eps), rtol=0, atol=1e-12)
    assert_close(asked, [torch.tensor([t.timestep, t.timestep], dtype=torch.float32)])


def test_an_output_object_is_opened() -> None:
    x = draw([0], (3, 8, 8))
    denoiser = NetworkDenoiser(lambda x, timestep: SimpleNamespace(sample=2 * x))
    assert torch.equal(denoiser(x, LEVELS[2]).eps, 2 * x)


def test_channels_that_predict_the_variance_are_left_out() -> None:
    x = draw([0], (3, 8, 8))
    denoiser = NetworkDenoiser(lambda x, timestep: torch.cat([x, torch.full_like(x, 9)], dim=1))
    assert torch.equal(denoiser(x, LEVELS[2]).eps, x)


@pytest.mark.parametrize("network", [lambda x, t: x[:, :1], lambda x, t: x[:1]])
def test_a_prediction_of_another_shape_is_not_spread_over_the_pictures(network) -> None:
    with pytest.raises(ArgumentError, match=r"for x_t of \(2, 3, 4, 4\); it must return"):
        NetworkDenoiser(network)(torch.zeros(2, 3, 4, 4), Level(500.0, 0.5))


def test_a_network_of_low_precision_leaves_the_state_at_its_own() -> None:
    met: list[torch.dtype] = []

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        met.extend([x.dtype, timestep.dtype])
        return x

    split = NetworkDenoiser(network, dtype=torch.bfloat16)(draw([0], (3, 8, 8)).double(), LEVELS[2])
    assert met == [torch.bfloat16, torch.float32]
    assert split.x_0.dtype == split.eps.dtype == torch.float64


# Gaussian data


@every_level
def test_the_gaussian_denoiser_is_the_mean_of_what_could_have_been(t: Level) -> None:
    mean, variance = 0.3, 0.25
    x_0 = mean + variance**0.5 * torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    eps = torch.randn(400_000, generator=torch.Generator().manual_seed(1))
    x_t = add_noise(x_0, eps, t)
    guess, _ = GaussianDenoiser(mean, variance)(x_t, t)
    # The conditional mean is the one guess whose error no function of x_t explains.
    error = guess - x_0
    for explanation in (torch.ones_like(x_t), x_t, x_t**2):
        assert abs((error * explanation).mean()) < 5e-3


@every_level
def test_the_gaussian_denoisers_halves_make_up_x_t(t: Level) -> None:
    x_t = draw([0], (3, 8, 8)).double()
    split = GaussianDenoiser(0.3, 0.25)(x_t, t)
    assert_close(add_noise(*split, t), x_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variance", [0.01, 0.25, 1.0, 4.0])
def test_the_flow_solves_the_probability_flow_equation(variance: float) -> None:
    """dx̄/dσ̄ = ε, by central differences of the closed form."""
    denoiser = GaussianDenoiser(0.3, variance)
    t, x_t = SCHEDULE.level(500), draw([0], (3, 8, 8)).double()

    def flowed(s: Level) -> Tensor:
        return denoiser.flow(x_t, t, s) / s.signal

    above, below = SCHEDULE.level(500.01), SCHEDULE.level(499.99)
    slope = (flowed(above) - flowed(below)) / (above.ratio - below.ratio)
    assert_close(slope, denoiser(x_t, t).eps, rtol=0, atol=1e-6)


def test_the_flow_there_and_back_is_no_move() -> None:
    mean, variance = torch.linspace(-1, 1, 8).double(), torch.linspace(0.1, 2, 8).double()
    denoiser, x = GaussianDenoiser(mean, variance), draw([0], (3, 8, 8)).double()
    low, high = SCHEDULE.lowest, SCHEDULE.highest
    assert_close(denoiser.flow(x, low, low), x)
    assert_close(denoiser.flow(denoiser.flow(x, low, high), high, low), x, rtol=0, atol=1e-11)


def test_the_flow_carries_pure_noise_to_the_data() -> None:
    pure, clean, z = Level(999.0, 0.0), Level(-1.0, 1.0), draw([0], (3, 8, 8))
    assert_close(GaussianDenoiser(0.3, 0.25).flow(z, pure, clean), 0.3 + 0.5 * z)


# Cost


def test_calls_are_counted_in_pictures() -> None:
    model = CountCalls(GaussianDenoiser())
    for count in (1, 4):
        model(torch.zeros(count, 3, 8, 8), LEVELS[2])
    assert model.nfe == 5


def test_who_asks_for_some_of_some_pictures_is_charged_for_those() -> None:
    model = CountCalls(GaussianDenoiser())
    some = among(among(model, torch.tensor([2, 3])), torch.tensor([1]))
    some(torch.zeros(1, 3, 8, 8), LEVELS[2])
    assert model.spent(4).tolist() == [0, 0, 0, 1]


@every_level
@pytest.mark.parametrize(
    "denoiser",
    [
        GaussianDenoiser(),
        NetworkDenoiser(lambda x, t: x),
        CountCalls(GaussianDenoiser()),
        InBatches(GaussianDenoiser(), 2),
        Fallback(GaussianDenoiser(), GaussianDenoiser()),
    ],
    ids=lambda denoiser: type(denoiser).__name__,
)
def test_the_halves_of_every_denoiser_add_up_to_what_it_was_given(
    denoiser: Denoiser, t: Level
) -> None:
    x_t = draw([1, 2, 3], (3, 8, 8)).double()
    assert_close(add_noise(*denoiser(x_t, t), t), x_t)


# ---- falling back ----


class Overflowing:
    """Answers like the exact denoiser, but NaN for pictures that are too bright."""

    def __init__(self, exact):
        self.exact = exact

    def __call__(self, x_t, t):
        bright = (x_t.flatten(1).amax(1) > 10)[:, None, None, None]
        return Prediction(*(torch.where(bright, torch.nan, half) for half in self.exact(x_t, t)))


def test_only_the_pictures_that_failed_are_asked_for_again():
    exact, level = GaussianDenoiser(mean=0.3, variance=0.5), Level(500.0, 0.5)
    x = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 20.0, 1.0, -3.0, 11.0)])
    again = CountCalls(exact)
    model = Fallback(Overflowing(exact), again)
    for mine, true in zip(model(x, level), exact(x, level), strict=True):
        assert torch.equal(mine, true)
    assert model.retries == again.nfe == 2
    model(x[:1], level)
    assert model.retries == again.nfe == 2, "a finite answer is not asked for again"


@pytest.mark.parametrize("half", ["x_0", "eps"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_one_broken_half_is_enough_to_ask_again(half, value):
    exact, level, x = GaussianDenoiser(), Level(500.0, 0.5), torch.ones(2, 1, 1, 1)
    spoilt = exact(x, level)._replace(**{half: torch.tensor([0.0, value]).view(2, 1, 1, 1)})
    found = Fallback(lambda *_: spoilt, exact)(x, level)
    assert_close(getattr(found, half)[1], getattr(exact(x, level), half)[1])


def test_a_draft_that_fails_leaves_no_nan_in_a_walk():
    exact = GaussianDenoiser()
    model = Model(exact, SCHEDULE, (3, 4, 4), draft=Overflowing(exact))
    grid = make_grid(SCHEDULE, 5)
    x_T = torch.cat([torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 30.0)])
    with_draft, without = (last(sample(d, x_T, grid)).x for d in (model.for_frames, exact))
    assert torch.equal(with_draft, without)
    assert model.retries == 5


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 4.0, 30.0])
def test_grain_is_what_rounding_does_to_the_picture(prediction_type, ratio):
    t = Level(500.0, 1 / (1 + ratio**2))
    generator = torch.Generator().manual_seed(0)
    x_t, output = torch.randn(2, 4, 3, 16, 16, generator=generator)

    def x_0(told):
        return NetworkDenoiser(lambda *_: told, prediction_type)(x_t, t).x_0

    moved = (x_0(output.bfloat16().float()) - x_0(output)).square().mean().sqrt().item()
    grain = NetworkDenoiser(lambda *_: output, prediction_type, torch.bfloat16).grain(t)
    assert grain / 8 < moved < grain


def test_frames_have_the_grain_of_their_draft():
    t = Level(500.0, 0.2)
    exact = NetworkDenoiser(lambda x, _: x, "v_prediction")
    draft = NetworkDenoiser(lambda x, _: x, "v_prediction", torch.float16)
    assert grain_of(Fallback(draft, exact), t) == draft.grain(t) > grain_of(exact, t) > 0
    assert grain_of(CountCalls(draft), t) == torch.finfo(torch.float32).eps * t.ratio
