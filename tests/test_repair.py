"""Repair makes latents typical, and says what that costs."""

import json

import pytest
import torch

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.latents import draw, measure_latents
from ddim_interp.model import Model, Plan
from ddim_interp.repair import REPAIRS, check_repair, diffuse, price_repairs, repair_inversion
from ddim_interp.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(variance=0.25), SCHEDULE, (3, 32, 32), "gauss")
PLAN = Plan(steps=20)
NAMES = ("renormalise", "channels", "forward-4")


@pytest.fixture(scope="module")
def before():
    """Two pictures too plain and too bright for the model."""
    pictures = 0.6 + 0.1 * draw([1, 2], MODEL.shape)
    return invert_images(MODEL, pictures, PLAN)


@pytest.mark.parametrize("name", NAMES)
def test_a_repair_says_what_it_costs(before, name):
    after = repair_inversion(MODEL, before, name)
    for new, old in zip(after.certificates, before.certificates, strict=True):
        assert new.repair_cost == new.roundtrip_mse - old.roundtrip_mse > 0
        assert "its repair added" in new.verdict and "repair" not in old.verdict
    paid = [sum(each.nfe for each in found.certificates) for found in (before, after)]
    decoding = len(before.images) * PLAN.steps
    assert paid[1] - paid[0] == after.nfe - before.nfe >= decoding
    decoded = sample_latents(MODEL, after.state, after.plan)
    assert torch.equal(decoded, after.decoded), "the certificate is of what will be seen"
    assert torch.equal(after.images, before.images)
    for certificate in after.certificates:  # what was walked anew was solved anew
        assert bool(certificate.residuals) is (name == "forward-4")


def test_renormalised_latents_have_the_length_of_noise(before):
    after = repair_inversion(MODEL, before, "renormalise")
    assert all(c.latent_power == pytest.approx(1) for c in after.certificates)
    flat = [state.x.flatten(1) for state in (before.state, after.state)]
    assert torch.cosine_similarity(*flat).min() > 1 - 1e-6, "the direction stays"


def test_repaired_channels_have_the_statistics_of_noise(before):
    z = repair_inversion(MODEL, before, "channels").state.x.double()
    assert torch.allclose(z.mean((2, 3)), torch.zeros(2, 3, dtype=z.dtype), atol=1e-6)
    assert torch.allclose(z.square().mean((2, 3)), torch.ones(2, 3, dtype=z.dtype), atol=1e-5)


def test_the_more_steps_are_drawn_the_whiter_and_the_dearer():
    plain = invert_images(MODEL, torch.full((1, *MODEL.shape), 0.3), PLAN)
    costs, powers = [], []
    for skipped in (2, 6, 10):
        (certificate,) = repair_inversion(MODEL, plain, f"forward-{skipped}").certificates
        costs.append(certificate.repair_cost)
        powers.append(certificate.spectrum[-1])
    assert costs == sorted(costs) and costs[0] > 0
    assert powers == sorted(powers), "a plain picture has no fine detail but what is drawn"


def test_two_repairs_cost_what_both_added(before):
    once = repair_inversion(MODEL, before, "renormalise")
    twice = repair_inversion(MODEL, once, "channels")
    for first, last in zip(before.certificates, twice.certificates, strict=True):
        added = last.roundtrip_mse - first.roundtrip_mse
        assert last.repair_cost == pytest.approx(added, rel=1e-9) and added != 0


def test_drawn_steps_are_the_same_for_a_picture_in_any_batch(before):
    both = repair_inversion(MODEL, before, "forward-3").state.x
    alone = invert_images(MODEL, before.images[1:], PLAN)
    again = repair_inversion(MODEL, alone, "forward-3").state.x
    assert torch.allclose(both[1:], again, atol=1e-5)
    assert not torch.allclose(both[:1], again, atol=0.1)


def test_diffusion_keeps_the_variance_of_noise():
    s, t = SCHEDULE.level(100), SCHEDULE.level(700)
    x_0, first, second = draw([1, 2, 3], (3, 64, 64))[:, None]
    x_s = s.signal * x_0 + s.noise * first
    (measured,) = measure_latents(diffuse(x_s, second, s, t))
    assert measured.power == pytest.approx(1, abs=0.05)
    assert torch.equal(diffuse(x_s, second, s, s), x_s)


def test_a_pair_is_repaired_as_a_pair(before):
    plan = Plan(steps=10, solver="bdia", spacing="leading")
    pair = invert_images(MODEL, before.images, plan)
    after = repair_inversion(MODEL, pair, "renormalise")
    ((_, new),), ((_, old),) = after.state.memory, pair.state.memory
    gain, others = (
        (a / b).flatten(1).median(1).values for a, b in ((after.state.x, pair.state.x), (new, old))
    )
    assert (
        torch.allclose(others, gain) and not torch.isclose(gain, gain.new_ones(()), rtol=0.01).any()
    )


@pytest.mark.parametrize("name", ["", "whiten", "forward", "forward-0", "forward--1", "forward-x"])
def test_what_is_no_repair_is_refused(name):
    with pytest.raises(ArgumentError, match="forward-2"):
        check_repair(name)


def test_every_repair_has_a_name_that_is_understood():
    for name in REPAIRS:
        check_repair(name.replace("K", "3"))


def test_a_walk_cannot_be_skipped_whole(before):
    with pytest.raises(ArgumentError, match="skip fewer"):
        repair_inversion(MODEL, before, "forward-20")


def test_prices_are_listed_with_no_repair_first(before):
    prices = price_repairs(MODEL, before, ("renormalise", "forward-2", "forward-20"))
    assert [price.name for price in prices] == ["none", "renormalise", "forward-2"]
    assert prices[0].mse < min(price.mse for price in prices[1:])
    assert prices[1].latent_power == pytest.approx(1)


# ---- on the command line ----


def test_repaired_latents_are_filed_with_their_price(call, tiny_folder, pictures, tmp_path):
    z = tmp_path / "z.safetensors"
    common = ("--model", tiny_folder, "--steps", "4")
    code, out, _ = call("invert", *pictures, "-o", z, "--repair", "renormalise", *common)
    assert code == 0 and out.count("its repair added") == 2
    code, out, _ = call("info", z, "--json")
    for source in json.loads(out)["sources"]:
        assert source["repair"] == "renormalise"
        assert source["certificate"]["repair_cost"] != 0
        assert source["certificate"]["latent_power"] == pytest.approx(1)
    assert call("morph", z, "-o", tmp_path / "film.png", "--frames", "3", *common)[0] == 0


def test_a_film_of_repaired_latents_still_ends_on_the_pictures(
    call, tiny_folder, pictures, tmp_path
):
    from PIL import Image

    folders = [tmp_path / "plain", tmp_path / "repaired"]
    for folder, repair in zip(folders, ((), ("--repair", "forward-2")), strict=True):
        arguments = ("morph", *pictures, "-o", folder, "--frames", "5", "--steps", "4", *repair)
        assert call(*arguments, "--model", tiny_folder, "--upscale", "1")[0] == 0
    for number, same in ((0, True), (2, False), (4, True)):
        one, other = (Image.open(f / f"frame_{number:06}.png").tobytes() for f in folders)
        assert (one == other) is same


def test_an_unknown_repair_is_one_line(call, tiny_folder, pictures, tmp_path):
    arguments = ("invert", pictures[0], "-o", tmp_path / "z.safetensors", "--repair", "pray")
    code, out, err = call(*arguments, "--model", tiny_folder)
    assert (code, out) == (2, "") and "forward-2" in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["invert", "morph"])
def test_strict_tells_a_bad_inversion_by_the_exit_code(call, tiny_folder, tmp_path, verb):
    from PIL import Image

    Image.new("RGB", (16, 16), "black").save(tmp_path / "black.png")
    out = tmp_path / {"invert": "z.safetensors", "morph": "film.png"}[verb]
    second = () if verb == "invert" else ("seed:1", "--frames", "3")
    arguments = (verb, tmp_path / "black.png", *second, "-o", out, "--model", tiny_folder)
    arguments += ("--solver", "ddim-naive")
    assert call(*arguments, "--steps", "4", "--strict", "-q")[0] == 1
    assert out.exists(), "a bad verdict is no reason to withhold the result"
    assert call(*arguments, "--steps", "4", "--overwrite", "-q")[0] == 0
    seeds = (verb, "seed:1", "seed:2", "-o", out, "--overwrite", "--model", tiny_folder)
    assert call(*seeds, *second[1:], "--steps", "4", "--strict", "-q")[0] == 0
