"""Did it work? The certificate tells the truth about round trips and latents."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from statistics import NormalDist

import pytest
import torch
from torch import Generator

from ddim_interp.checks import FALSE_ALARMS, Certificate, Fidelity, certify, compare
from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.inversion import invert_images
from ddim_interp.latents import (
    RINGS,
    draw,
    measure_latents,
    neighbour_correlation,
    patch_correlation,
    radial_spectrum,
    ring_powers,
    white_noise,
)
from ddim_interp.model import Model, Plan
from ddim_interp.schedule import NoiseSchedule

SHAPE = (3, 64, 64)
SCHEDULE = NoiseSchedule.from_config({})
GREY = torch.zeros(1, *SHAPE)
NOISE = draw([5], SHAPE)


def shades(side: int = 64) -> dict[str, torch.Tensor]:
    """Pictures nobody would choose, (3, side, side), in [−1, 1]."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    window = torch.full((side, side), 0.9)
    window[: side // 8] = -0.6
    for row in range(side // 4, side - 2, 4):
        window[row, 2 : 4 + (row * 7) % (side - 6)] = -0.9
    flat = {
        "black": torch.full((side, side), -1.0),
        "white": torch.ones(side, side),
        "checkerboard": ((x + y) % 2) * 2.0 - 1,
        "screenshot": window,
    }
    colour = {name: picture.expand(3, -1, -1).clone() for name, picture in flat.items()}
    static = torch.rand(3, side, side, generator=Generator().manual_seed(0)) * 2 - 1
    return {**colour, "static": static}


def coloured(latents: torch.Tensor, loudness: Callable[[torch.Tensor], torch.Tensor]):
    """As loud as before, but `loudness` times as loud at each frequency, in cycles a pixel."""
    y, x = (torch.fft.fftfreq(side, dtype=torch.float64) for side in latents.shape[2:])
    gain = loudness(torch.hypot(y[:, None], x)).double().sqrt()
    z = torch.fft.ifft2(gain * torch.fft.fft2(latents.double())).real
    return (z * (latents.square().mean() / z.square().mean()).sqrt()).float()


def blurred(latents: torch.Tensor) -> torch.Tensor:
    """The same power, but neighbours move together."""
    soft = torch.nn.functional.avg_pool2d(latents, 7, stride=1, padding=3)
    return soft / soft.square().mean().sqrt()


# ---- what latents are measured by ----


def test_white_noise_measures_as_white_noise():
    (z,) = measure_latents(draw([3], (3, 64, 64)))
    white = white_noise((3, 64, 64))
    d = 3 * 64 * 64
    assert abs(z.power - 1) < 4 * (2 / d) ** 0.5 and abs(z.mean) < 4 / d**0.5
    assert abs(z.kurtosis) < 4 * (24 / d) ** 0.5
    assert abs(z.neighbour_correlation) < 4 / d**0.5
    assert 0.5 < z.patch_correlation / white.patch_correlation < 1.5
    assert all(0.7 < band < 1.3 for band in z.spectrum)


def test_the_spectrum_adds_up_to_the_power():
    """Parseval, for a latent without power in the corners of the plane or at the mean."""
    x = torch.arange(32) / 32
    wave = (2 * math.pi * 5 * x).cos() * 2**0.5
    z = wave.expand(1, 1, 32, 32)
    spectrum = radial_spectrum(z)[0]
    assert spectrum.argmax() == 2, "5 cycles in 32 pixels are in the third of eight bands"
    assert (spectrum > 1e-9).sum() == 1


def test_the_mean_is_in_no_band_and_the_finest_wave_in_the_last():
    assert radial_spectrum(torch.full((1, 1, 16, 16), 3.0)).abs().max() < 1e-9
    finest = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16)
    assert radial_spectrum(finest)[0].nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 8, 8), (3, 9, 20), (1, 32, 32)])
def test_white_noise_is_called_coloured_as_seldom_as_is_said(shape):
    """Not at the rate that is used, of which no quick test could tell, but by the same rule."""
    rate, count = 0.05, 4000
    limit = NormalDist().inv_cdf(1 - rate / 2 / len(RINGS))
    _, deviations = ring_powers(torch.randn((count, *shape), generator=Generator().manual_seed(2)))
    alarms = (deviations.abs() > limit).any(1).double().mean().item()
    chance = (rate / count) ** 0.5
    assert rate / 2 < alarms < rate + 4 * chance
    assert deviations[:, -2].std() == pytest.approx(1, abs=0.05), "and each ring is on its scale"
    assert FALSE_ALARMS == pytest.approx(1e-4), "which docs/how-to/inversion.md says"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 20), (2, 5, 1), (2, 1, 1)])
def test_the_rings_hold_all_there_is(shape):
    """Parseval: the mean of their powers is 1, each counted by how white noise fills it."""
    noise = torch.randn((2000, *shape), generator=Generator().manual_seed(3)).double()
    wide = torch.fft.fft2(noise).abs().square().mean((0, 1))
    y, x = (torch.fft.fftfreq(side) for side in shape[1:])
    ring = (torch.hypot(y[:, None], x) * 16).ceil().clamp(max=9)
    share = torch.stack([(wide * (ring == k)).sum() for k in range(10)]) / wide.sum()
    z = coloured(draw([3], shape), lambda f: 1 + f) + 0.2
    assert (ring_powers(z)[0][0] * share).sum().item() == pytest.approx(1, abs=0.05)


def test_colour_does_not_see_the_loudness():
    quiet, loud = ring_powers(NOISE), ring_powers(9 * NOISE)
    assert torch.allclose(quiet[0], loud[0]) and torch.allclose(quiet[1], loud[1])


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 20, 12)])
def test_patches_are_correlated_as_their_definition_says(shape):
    z = draw([4], shape) + 2  # what all patches share is no likeness
    corners = [(y, x) for y in range(0, shape[1] - 7, 4) for x in range(0, shape[2] - 7, 4)]
    patches = [c[y : y + 8, x : x + 8].flatten() for c in z[0].double() for y, x in corners]
    pairs = torch.corrcoef(torch.stack(patches).T).triu(1).abs().flatten()
    assert patch_correlation(z).item() == pytest.approx(pairs.topk(20).values.mean().item())


def test_patches_find_what_moves_together():
    ramp = torch.linspace(-1, 1, 64)[:, None].expand(64, 64)
    same = draw([1], (3, 1, 1)) + ramp
    assert patch_correlation(same).item() == pytest.approx(1)
    assert neighbour_correlation(same).item() > 0.9
    white = white_noise(SHAPE).patch_correlation
    assert patch_correlation(blurred(NOISE)).item() > 3 * white


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_correlations_do_not_see_the_scale(scale):
    for measure in (neighbour_correlation, patch_correlation):
        assert torch.allclose(measure(scale * NOISE), measure(NOISE))


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 4), (3, 8, 8), (1, 9, 20), (3, 33, 65)])
@pytest.mark.parametrize("kind", ["noise", "constant", "zero", "huge"])
def test_no_latent_measures_as_nan(shape, kind):
    z = {"noise": draw([0], shape)[0], "constant": torch.ones(shape), "zero": torch.zeros(shape)}
    latent = z.get(kind, 1e18 * z["noise"])[None]
    (score,) = measure_latents(latent)
    numbers = [v if isinstance(v, tuple) else (v,) for v in vars(score).values()]
    assert all(math.isfinite(x) for x in chain(*numbers)), score


# ---- what the certificate says ----


def bent(z: torch.Tensor, power: float) -> torch.Tensor:
    """White still and as loud, but with more large entries, or fewer."""
    z = z.sign() * z.abs() ** power
    return z / z.square().mean().sqrt()


def verdict(difference: float = 0.0, z: torch.Tensor = NOISE) -> Certificate:
    (certificate,) = certify(GREY, GREY + difference, z)
    return certificate


def test_equal_pictures_from_white_noise_are_good():
    certificate = verdict()
    assert certificate.good and certificate.psnr == math.inf
    assert certificate.verdict == "the picture comes back exactly; its latent is typical noise"


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128])
def test_noise_is_typical_at_any_size(side):
    z = draw(range(100, 120), (3, side, side))
    blank = torch.zeros_like(z)
    certificates = certify(blank, blank, z)
    assert {certificate.grade for certificate in certificates} == {"typical"}
    whiteness = sum(certificate.whiteness for certificate in certificates) / len(z)
    assert whiteness == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_a_blurred_latent_is_far_at_any_size(side):
    z = blurred(draw([1], (3, side, side)))
    blank = torch.zeros_like(z)
    (certificate,) = certify(blank, blank, z)
    assert certificate.grade == "far" and "not white" in certificate.verdict


@pytest.mark.parametrize(
    ("certificate", "grade", "word"),
    [
        (verdict(z=0.95 * NOISE), "unusual", "too quiet"),
        (verdict(z=1.05 * NOISE), "unusual", "too loud"),
        (verdict(z=0.8 * NOISE), "far", "too quiet"),
        (verdict(z=1.2 * NOISE), "far", "too loud"),
        (verdict(z=blurred(NOISE)), "far", "not white"),
        (verdict(z=bent(NOISE, 1.3)), "unusual", "outlines stand in it"),
        (verdict(z=bent(NOISE, 0.7)), "unusual", "lacks large entries"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_is_wrong_with_a_latent_is_said(certificate, grade, word):
    assert certificate.grade == grade and certificate.good == (grade != "far")
    assert word in certificate.verdict


COLOURS = {
    "pink": (lambda f: f.clamp(min=1 / 64) ** -0.4, "× the power of noise near 0.03 cycles"),
    "blue": (lambda f: f.clamp(min=1 / 64) ** 0.4, "× the power of noise near 0.09 cycles"),
    "no coarse": (lambda f: f > 1 / 16, "(0.00 × the power of noise near 0.03 cycles"),
    "no band": (lambda f: ~((f > 0.25) & (f <= 0.3125)), "(0.00 × the power of noise near 0.28"),
    "no corners": (lambda f: f <= 0.5, "(0.00 × the power of noise beyond 0.5 cycles"),
    "off zero": (lambda f: 1 + 40 * (f == 0), "× the power of noise in its mean"),
}


@pytest.mark.parametrize("colour", COLOURS)
def test_a_coloured_latent_is_not_typical(colour):
    loudness, words = COLOURS[colour]
    certificate = verdict(z=coloured(NOISE, loudness))
    assert certificate.grade == "unusual" and words in certificate.verdict
    assert certificate.whiteness < 2, "which nothing else finds"


def test_a_mean_nearer_to_zero_than_chance_is_nothing_odd():
    z = draw([0], (24, 32, 32))
    still = z - z.mean((2, 3), keepdim=True)
    (certificate,) = certify(torch.zeros_like(z), torch.zeros_like(z), still)
    assert certificate.ring_deviations[0] < -5 and certificate.grade == "typical"


def test_a_picture_that_does_not_come_back_is_never_good():
    assert not verdict(0.1).good and "does not come back" in verdict(0.1).verdict
    repaired = replace(verdict(0.1), repair_cost=0.1)  # no number of steps would mend that
    assert "more steps" in verdict(0.1).verdict and "more steps" not in repaired.verdict


def test_only_a_faithful_round_trip_is_good():
    eight_bits = 2 / 255
    assert verdict(0.4 * eight_bits).faithful and verdict(0.4 * eight_bits).roundtrip_max_level == 0
    assert verdict(2.5 * eight_bits).faithful, "40.2 dB"
    assert not verdict(2.6 * eight_bits).faithful, "39.8 dB"


def test_a_latent_that_still_holds_the_picture_is_not_called_noise():
    (half,) = certify(GREY, GREY, 0.5 * NOISE, level=SCHEDULE.level(300))
    assert half.good and "still holds" in half.verdict and "typical" not in half.verdict


def test_mse_and_levels_are_of_what_a_screen_shows():
    white = torch.ones(1, 3, 4, 4)
    assert compare(white, white + 1)[0] == compare(white, white)[0], "beyond white is white"
    (black_on_white,) = compare(white, -white)
    assert (black_on_white.mse, black_on_white.max_level, black_on_white.psnr) == (1.0, 255, 0.0)


def test_what_is_no_number_is_not_equal():
    broken = torch.zeros(1, 3, 4, 4)
    broken[0, 0, 0, 0] = math.nan
    (there,) = compare(torch.zeros(1, 3, 4, 4), broken)
    assert there.max_level == 255 and not there.faithful and there.mse > 0
    unknown = Fidelity(math.nan, 255)
    assert math.isnan(unknown.psnr) and not unknown.faithful


def test_each_picture_has_its_own_certificate():
    pictures = torch.zeros(3, *SHAPE)
    decoded = pictures + torch.tensor([0.0, 0.016, 0.2]).view(3, 1, 1, 1)
    residuals = [torch.tensor([1e-7, 2e-7, 3e-7])] * 2
    certificates = certify(pictures, decoded, draw([1, 2, 3], SHAPE), residuals, torch.ones(3))
    assert [c.roundtrip_max_level for c in certificates] == [0, 2, 26]
    assert certificates[1].residuals == pytest.approx((2e-7, 2e-7))


def test_an_inversion_of_gaussian_data_is_certified_as_what_it_is():
    """Pictures drawn from the model's own distribution come from white noise."""
    model = Model(GaussianDenoiser(variance=0.25), SCHEDULE, SHAPE, "gauss")
    own = invert_images(model, 0.5 * draw([7, 8], SHAPE), Plan(steps=60))
    assert all(
        abs(c.latent_power - 1) < 0.1 and not c.neighbour_correlation > 0.05
        for c in own.certificates
    )
    foreign = invert_images(model, torch.stack([*shades().values()]), Plan(steps=20))
    for name, certificate in zip(shades(), foreign.certificates, strict=True):
        assert certificate.faithful, name
        assert not certificate.good and "far from what the model" in certificate.verdict, name


def test_pictures_nobody_would_choose_end_with_a_verdict(tiny_folder):
    from ddim_interp import DDIMPipeline

    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    inversion = pipe.invert(torch.stack([*shades(16).values()]), plan=Plan(steps=6))
    for certificate in inversion.certificates:
        numbers = [v for v in vars(certificate).values() if isinstance(v, float)]
        assert all(map(math.isfinite, [*numbers, *certificate.spectrum, *certificate.residuals]))
        assert certificate.verdict.startswith("the picture")


def test_a_certificate_is_plain_data():
    assert replace(verdict(), nfe=3.0).nfe == 3.0
    assert all(isinstance(x, float) for x in verdict().spectrum)


def test_a_picture_between_two_levels_is_not_off_by_one_for_the_smallest_error():
    between = torch.full((1, 3, 4, 4), 0.5 / 255 - 1)  # half a level above black
    assert compare(between - 1e-6, between + 1e-6)[0].max_level == 0
