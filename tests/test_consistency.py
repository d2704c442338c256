"""The checks of a whole model measure what they say they do."""

import math
import time
from dataclasses import dataclass, replace

import pytest
import torch

from ddim_interp.checks import Certificate, Fidelity, compare
from ddim_interp.consistency import RoundTrip, check_model
from ddim_interp.denoiser import GaussianDenoiser, NetworkDenoiser, Prediction
from ddim_interp.errors import NonFiniteError
from ddim_interp.grid import make_grid
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.path import KeyframePath
from ddim_interp.schedule import Level, NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
GAUSSIAN = Model(GaussianDenoiser(variance=0.25), SCHEDULE, (3, 8, 8), "gauss")
NOISE = draw([1, 2], GAUSSIAN.shape)


def check(method, steps=(8,), plan=Plan()):  # noqa: B008 (immutable)
    return check_model(GAUSSIAN, 0.5 * NOISE, NOISE, plan, steps=steps, methods=(method,))


@pytest.mark.parametrize("dither", [True, False])
def test_noise_comes_back_from_its_pictures_without_more_noise(dither):
    (trip,) = check("dpmpp-exact", plan=Plan(dither=dither)).table
    assert trip.latent_mse < 1e-6


def test_standing_still_is_judged_by_the_worst_picture_on_the_way():
    plan = Plan(steps=8, solver="ddim-naive", dither=False)
    drawn = sample_latents(GAUSSIAN, NOISE, plan)
    again = invert_images(GAUSSIAN, drawn, plan).state.x
    path = KeyframePath(torch.stack([NOISE[0], again[0]]))
    between = sample_latents(GAUSSIAN, path(torch.tensor([0.25, 0.5, 0.75])), plan)
    moved = [each.mse for each in compare(between, drawn[:1].expand_as(between))]
    standing = check("ddim-naive", plan=plan).standing
    assert standing.mse == pytest.approx(max(moved), rel=1e-4) and max(moved) > 1.1 * min(moved)


def test_twice_the_steps_are_compared_where_the_schedule_has_them():
    schedule = NoiseSchedule.from_config({"num_train_timesteps": 100, "beta_end": 0.2})
    model, solver = replace(GAUSSIAN, schedule=schedule), "dpmpp-2m"
    found = check_model(model, 0.5 * NOISE, NOISE, Plan(), steps=(4, 8, 100), methods=(solver,))
    assert [each.steps for each in found.doublings] == [4, 8]
    for each in found.doublings:
        once, twice = (
            sample_latents(model, NOISE[:1], Plan(steps=n * each.steps, solver=solver))
            for n in (1, 2)
        )
        assert each.fidelity.mse == pytest.approx(compare(once, twice)[0].mse, rel=1e-4)


def test_pictures_come_back_when_the_worst_of_them_does():
    """One that is lost among thirty that are not leaves a mean of more than 40 dB."""
    easy, hard = torch.zeros(30, *GAUSSIAN.shape), torch.full((1, *GAUSSIAN.shape), 0.15)
    found = check_model(
        *(GAUSSIAN, torch.cat([easy, hard]), NOISE, Plan(dither=False)),
        steps=(5, 60),
        methods=("ddim-naive",),
    )
    first, last = found.table
    assert first.fidelity.faithful and not first.faithful, "the mean says yes, and the worst no"
    assert last.faithful and "come back from 60 steps on" in found.verdict


def test_steps_that_fail_are_no_steps_that_suffice():
    """The network fails at a timestep that eight steps visit, and neither four nor twelve."""
    hole = Plan(steps=8).walk(SCHEDULE)[0][1].timestep

    def network(x, t):
        return x * (math.nan if abs(float(t[0]) - hole) < 1e-3 else 0.5)

    model = Model(NetworkDenoiser(network), SCHEDULE, GAUSSIAN.shape, "holes")
    grey = torch.zeros(1, *model.shape)
    found = check_model(model, grey, NOISE, Plan(), steps=(4, 8, 12), methods=("leapfrog",))
    assert [bool(trip.trouble) for trip in found.table] == [False, True, False]
    assert "come back from 12 steps on" in found.verdict
    assert all(each.steps != 8 != 2 * each.steps for each in found.doublings)


@dataclass(frozen=True)
class Spoilt:
    """Exact for N(0, 1/4), but at one level, where it says nothing."""

    level: Level

    def __call__(self, x_t, t):
        x_0, eps = GaussianDenoiser(variance=0.25)(x_t, t)
        return Prediction(x_0, eps * torch.nan if t == self.level else eps)


def test_a_row_that_fails_is_told_and_the_others_are_measured():
    model = replace(GAUSSIAN, denoiser=Spoilt(make_grid(SCHEDULE, 7)[3]))
    found = check_model(model, 0.5 * NOISE, NOISE, Plan(), steps=(4, 7, 9), methods=("heun",))
    assert ["NaN" in trip.trouble for trip in found.table] == [False, True, False]
    assert [each.steps for each in found.doublings] == [4, 9]
    document = found.describe(["a", "b"])
    failed, last = document["table"][1:]
    assert failed["trouble"] == found.table[1].trouble and last["trouble"] is None
    figures = ("mse", "psnr", "latent_power", "patch_correlation", "latent_mse")
    assert all(failed[name] is None and math.isfinite(last[name]) for name in figures)


def test_where_the_last_row_fails_there_is_nothing_to_say():
    model = replace(GAUSSIAN, denoiser=Spoilt(make_grid(SCHEDULE, 9)[3]))
    with pytest.raises(NonFiniteError, match="Step"):
        check_model(model, 0.5 * NOISE, NOISE, Plan(), steps=(4, 9), methods=("heun",))


def test_the_document_has_the_figures_that_were_found():
    started = time.perf_counter()
    found = check("heun", steps=(8, 16))
    spent = time.perf_counter() - started
    pictures = len(NOISE) + len(found.certificates)
    assert 0 < pictures * sum(trip.seconds for trip in found.table) <= spent
    document = found.describe(["a", "b"])
    for row, trip in zip(document["table"], found.table, strict=True):
        assert row["psnr"] == trip.fidelity.psnr == pytest.approx(-10 * math.log10(row["mse"]))
        told = {name: value for name, value in row.items() if name not in ("psnr", "trouble")}
        assert told == {name: pytest.approx(getattr(trip, name), abs=1e-4) for name in told}
    mean = sum(each.latent_power for each in found.certificates) / len(found.certificates)
    assert document["table"][-1]["latent_power"] == pytest.approx(mean)
    for told, certificate in zip(document["pictures"], found.certificates, strict=True):
        assert told["roundtrip_mse"] == certificate.roundtrip_mse
        assert (told["grade"], told["verdict"]) == (certificate.grade, certificate.verdict)


GOOD, BAD, FAILED = {"mse": 1e-9, "faithful": True}, {"mse": 1e-2}, {"trouble": "NaN"}


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((GOOD, GOOD, GOOD), "pictures come back from 10 steps on (heun)"),
        ((BAD, GOOD, GOOD), "pictures come back from 20 steps on (heun)"),
        ((GOOD, BAD, GOOD), "pictures come back from 40 steps on (heun)"),
        ((GOOD, FAILED, GOOD), "pictures come back from 40 steps on (heun)"),
        ((GOOD, GOOD, BAD), "pictures do not come back, not even in 40 steps"),
    ],
)
def test_the_verdict_names_the_steps_from_which_pictures_always_come_back(figures, words):
    rows = zip((10, 20, 40), figures, strict=True)
    others = [RoundTrip(40, "ddim-naive", mse=0.1)]
    table = (*(RoundTrip(steps, "heun", **found) for steps, found in rows), *others)
    found = replace(check("heun"), table=table)
    assert found.verdict.startswith(f"{words}; ")


def test_the_verdict_tells_of_latents_of_standing_still_and_of_doubling():
    found = check("heun", steps=(8,))
    typical = Certificate(0.0, 0, 1.0)
    three = (typical, replace(typical, latent_power=9.0), replace(typical, alpha_bar=0.5))
    inversion = replace(found.inversion, certificates=(*three, typical))
    still, moving = (
        replace(found, inversion=inversion, standing=Fidelity(mse, 9)) for mse in (1e-5, 1e-3)
    )
    noise = "2 of 4 latents typical, 1 of 4 latents far from what the model knows, 1 of 4 latents"
    assert f"; {noise} short of noise; " in still.verdict
    assert "stands still" in still.verdict and "moves (30.0 dB)" in moving.verdict
    assert "8 and 16 steps agree to" in still.verdict and "autoencoder" not in still.verdict
    assert "agree" not in replace(still, doublings=()).verdict
    lossy = tuple(replace(each, autoencoder_mse=1e-2) for each in inversion.certificates)
    lossy = replace(still, inversion=replace(inversion, certificates=lossy))
    assert lossy.verdict.endswith("; its autoencoder alone gives pictures back to 20.0 dB")
