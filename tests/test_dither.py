"""A picture is given the noise of t = 0 on the way up, and rid of it on the way down."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.images import to_frames
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.keyframes import find_keyframes, join_states
from ddim_interp.latent_file import read_latents, write_latents
from ddim_interp.latents import draw, draw_for, radial_spectrum
from ddim_interp.model import Model, Plan
from ddim_interp.repair import repair_inversion
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import SOLVERS, PairSolver, make_solver
from ddim_interp.verbs import Pipeline

SCHEDULE = NoiseSchedule.from_config({})
FLOOR = SCHEDULE.level(0).ratio  # σ̄ of t = 0
PLAIN = Model(GaussianDenoiser(variance=FLOOR**2), SCHEDULE, (3, 32, 32), "plain")
"""A model of pictures whose detail is as faint as the noise of t = 0."""

PICTURES = FLOOR * draw([1, 2, 3], PLAIN.shape)
WITH, WITHOUT = Plan(steps=20), Plan(steps=20, dither=False)


@pytest.fixture(scope="module")
def dithered():
    return invert_images(PLAIN, PICTURES, WITH)


# ---- truth ----


@pytest.mark.parametrize(("plan", "power"), [(WITH, 1.0), (WITHOUT, 0.5)])
def test_without_it_what_a_model_should_know_looks_too_quiet(plan, power):
    """The model's pictures at t = 0 have variance v + σ̄_0², and clean ones v, half of that."""
    found = invert_images(PLAIN, PICTURES, plan)
    for certificate in found.certificates:
        assert certificate.latent_power == pytest.approx(power, rel=0.06)


def test_it_is_the_noise_of_the_level_inversion_starts_from(dithered):
    dither = dithered.state.dither
    assert dither.square().mean().sqrt() == pytest.approx(SCHEDULE.level(0).noise, rel=0.02)
    assert (radial_spectrum(dither / SCHEDULE.level(0).noise) - 1).abs().max() < 0.3, "white"


# ---- law ----


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_it_costs_the_round_trip_nothing(solver):
    if solver in ("edict", "o-belm", "bdia"):  # their own error is there with it and without
        plans = [replace(plan, solver=solver, spacing="leading") for plan in (WITH, WITHOUT)]
    else:
        plans = [replace(plan, solver=solver) for plan in (WITH, WITHOUT)]
    mse, without = (
        invert_images(PLAIN, PICTURES, plan).certificates[0].roundtrip_mse for plan in plans
    )
    assert mse <= max(3 * without, 2e-6)


def test_a_picture_has_the_same_noise_in_any_batch(dithered):
    alone = invert_images(PLAIN, PICTURES[1:2], WITH)
    assert torch.equal(alone.state.dither, dithered.state.dither[1:2])
    noise = draw_for(PICTURES, PLAIN.shape)
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(draw_for(PICTURES.double(), PLAIN.shape), noise), "whatever the precision"


def test_another_seed_is_another_latent_of_the_same_picture(dithered):
    other = invert_images(PLAIN, PICTURES, replace(WITH, seed=5))
    assert (other.latents - dithered.latents).abs().max() > 0.1
    assert all(certificate.roundtrip_max_level == 0 for certificate in other.certificates)
    again = invert_images(PLAIN, PICTURES, replace(WITH, seed=5))
    assert torch.equal(other.latents, again.latents)
    assert torch.equal(draw_for(PICTURES, PLAIN.shape, 0), draw_for(PICTURES, PLAIN.shape))
    undithered = [invert_images(PLAIN, PICTURES, replace(WITHOUT, seed=s)).latents for s in (0, 5)]
    assert torch.equal(*undithered), "there is nothing to draw"


def test_a_seed_is_a_film_of_its_own_and_stands_in_its_recipe(
    call, tiny_folder, pictures, tmp_path
):
    films = {}
    for seed in (None, 0, 3):
        out = tmp_path / f"{seed}.png"
        said = () if seed is None else ("--seed", seed)
        fast = ("--model", tiny_folder, "--steps", "4", "--frames", "3", *said)
        assert call("morph", *pictures, "-o", out, *fast)[0] == 0
        assert json.loads(call("info", out, "--json")[1])["plan"]["seed"] == (seed or 0)
        with Image.open(out) as strip:
            films[seed] = np.asarray(strip)
    assert (films[None] == films[0]).all() and (films[3] != films[0]).any()


@pytest.mark.parametrize("command", ["morph", "invert", "grid"])
def test_a_seed_of_no_noise_is_refused(refused, call, tiny_folder, pictures, tmp_path, command):
    sources = [*pictures, *pictures] if command == "grid" else pictures
    out = tmp_path / ("z.safetensors" if command == "invert" else "out.png")
    said = ("--model", tiny_folder, "--seed", "3", "--no-dither")
    refused(call(command, *sources, "-o", out, *said), 2, "--seed", "--no-dither")


def test_a_state_is_decoded_as_what_it_is_whatever_the_plan_is_called(dithered):
    """`auto` finds pairs, and walks them as such; others take a pair's first half, and all take the
    noise off again."""
    assert dithered.plan.solver == "leapfrog" and dithered.state.memory
    as_found = sample_latents(PLAIN, dithered.state, dithered.plan)
    by_auto = sample_latents(PLAIN, dithered.state, replace(dithered.plan, solver="auto"))
    assert torch.equal(by_auto, as_found)
    half = replace(dithered.state, memory=())
    for solver in ("dpmpp-2m", "ddim"):
        plan = replace(dithered.plan, solver=solver)
        whole = sample_latents(PLAIN, dithered.state, plan)
        assert torch.equal(whole, sample_latents(PLAIN, half, plan))
        noisy = sample_latents(PLAIN, half.x, plan)
        assert torch.allclose(noisy - whole, dithered.state.dither, atol=1e-6)


def test_what_is_decoded_is_the_picture_and_not_its_noise(dithered):
    decoded = sample_latents(PLAIN, dithered.state, dithered.plan)
    assert (decoded - PICTURES).abs().max() < 1 / 255
    noisy = sample_latents(PLAIN, replace(dithered.state, dither=None), dithered.plan)
    assert torch.allclose(noisy - decoded, dithered.state.dither, atol=1e-6)


def test_seeds_among_pictures_have_none(dithered):
    plain = replace(dithered.state, dither=None)
    both = join_states([dithered.state, plain])
    assert torch.equal(both.dither[:3], dithered.state.dither) and not both.dither[3:].any()
    assert join_states([plain, plain]).dither is None


@pytest.mark.parametrize(("name", "keeps"), [("renormalise", True), ("forward-1", False)])
def test_a_repair_keeps_it_unless_it_draws_noise_of_its_own(dithered, name, keeps):
    after = repair_inversion(PLAIN, dithered, name)
    assert (after.state.dither is not None) is keeps


def test_a_pair_keeps_its_other_half_and_its_noise():
    plan = replace(WITH, solver="leapfrog")
    found = invert_images(PLAIN, PICTURES, plan)
    assert isinstance(make_solver("leapfrog", SCHEDULE), PairSolver)
    assert len(found.state.memory) == 1 and found.state.dither is not None


# ---- files and films ----


@pytest.fixture
def filed(dithered, tmp_path):
    path = tmp_path / "z.safetensors"
    write_latents(path, dithered.state, PLAIN, dithered.plan)
    return path


def test_a_latent_file_keeps_it(dithered, filed):
    state = read_latents(filed, PLAIN).state
    assert torch.equal(state.dither, dithered.state.dither)
    again = sample_latents(PLAIN, state, dithered.plan)
    assert (again - PICTURES).abs().max() < 1 / 255
    (one,) = find_keyframes(PLAIN, [f"{filed}#2"], WITH, 4).each
    assert torch.equal(one.state.dither, dithered.state.dither[2:])


def test_a_film_of_latents_from_a_file_ends_on_their_pictures(filed):
    wanted = to_frames(PICTURES)
    for raw in (False, True):
        frames = list(Pipeline(PLAIN).morph([filed], frames=5, raw=raw).draw())
        for at in (0, 2, 4):
            np.testing.assert_allclose(frames[at].astype(int), wanted[at // 2], atol=1)


def test_a_sheet_hung_on_latents_from_a_file_has_their_pictures_in_its_corners(filed):
    from ddim_interp.sheet import PictureGrid

    found = find_keyframes(PLAIN, [filed], WITH, 4)
    cells = list(PictureGrid(PLAIN, found, rows=3).draw())
    for at, frame in zip((0, 3, 5), to_frames(PICTURES), strict=True):
        np.testing.assert_allclose(cells[at].astype(int), frame, atol=1)


def test_between_keyframes_a_sheet_takes_no_noise_off(dithered, filed):
    """Nobody knows which: even where all corners are one picture."""
    from ddim_interp.sheet import PictureGrid

    found = find_keyframes(PLAIN, [f"{filed}#0"] * 4, WITH, 4)
    corner, *_ = cells = [cell.astype(int) for cell in PictureGrid(PLAIN, found, 3, 3).draw()]
    noisy = to_frames(sample_latents(PLAIN, replace(dithered.state, dither=None), dithered.plan))
    np.testing.assert_allclose(cells[4], noisy[0], atol=1)
    assert np.abs(cells[4] - corner).mean() > 0.5


def test_the_command_line_can_do_without(call, tiny_folder, pictures, tmp_path):
    kept = {}
    for option in ("--dither", "--no-dither"):
        z = tmp_path / f"{option}.safetensors"
        common = ("--model", tiny_folder, "--steps", "4", option)
        assert call("invert", pictures[0], "-o", z, *common)[0] == 0
        kept[option] = read_latents(z)
        assert json.loads(call("info", z, "--json")[1])["plan"]["dither"] is (option == "--dither")
    assert kept["--dither"].state.dither is not None and kept["--no-dither"].state.dither is None
    sheet = tmp_path / "sheet.png"
    code, _, _ = call(
        "sample",
        "--latents",
        tmp_path / "--dither.safetensors",
        "-o",
        sheet,
        "--model",
        tiny_folder,
    )
    with Image.open(sheet) as drawn:
        assert code == 0 and drawn.size == (16, 16)


def test_what_the_model_drew_itself_is_given_none(call, tiny_folder):
    common = ("--model", tiny_folder, "--steps", "4", "--method", "dpmpp-exact", "--json")
    powers = [
        json.loads(call("check", option, *common)[1])["table"][0]["latent_power"]
        for option in ("--dither", "--no-dither")
    ]
    assert powers[0] == powers[1]
