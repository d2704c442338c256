"""Pictures, latents and seeds in one noise space; a certificate is of what decodes them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ddim_interp import Plan
from ddim_interp.denoiser import CountCalls, GaussianDenoiser
from ddim_interp.errors import ArgumentError
from ddim_interp.images import to_frames, to_pil
from ddim_interp.keep import Kept
from ddim_interp.keyframes import find_keyframes, join_states
from ddim_interp.latent_file import source_note, write_latents
from ddim_interp.latents import draw
from ddim_interp.model import Model
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import AUTO, AUTO_SAMPLER, BDIA, State
from ddim_interp.verbs import Pipeline

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(variance=0.33), SCHEDULE, (3, 8, 8), "gauss", "abc123")
PICTURE = torch.linspace(-1, 1, 192).view(1, 3, 8, 8)
FOUND = Plan(8, solver="leapfrog")


@pytest.fixture
def filed(tmp_path):
    """A picture's latent, with its certificate."""

    def write(plan=FOUND):
        inversion = Pipeline(MODEL).invert(PICTURE, plan=plan)
        notes = [source_note("a.png", "", (), inversion.certificates[0])]
        write_latents(
            tmp_path / "z.safetensors", inversion.state, MODEL, plan, notes, overwrite=True
        )
        return tmp_path / "z.safetensors"

    return write


def test_a_certificate_holds_for_the_walk_it_was_made_on(filed):
    (same,) = find_keyframes(MODEL, [filed()], FOUND, 4).each
    assert same.certificate and same.good and "exactly" in same.verdict
    (auto,) = find_keyframes(MODEL, [filed()], replace(FOUND, solver="auto"), 4).each
    assert auto.certificate == same.certificate


@pytest.mark.parametrize("other", [{"steps": 4}, {"spacing": "focus"}, {"solver": "adams"}])
def test_and_for_no_other(filed, other):
    (keyframe,) = find_keyframes(MODEL, [filed()], replace(FOUND, **other), 4).each
    assert keyframe.certificate is None and not keyframe.good
    assert keyframe.report()["roundtrip_mse"] is None
    assert "found by leapfrog in 8 steps of log-snr" in keyframe.verdict


def test_a_latent_that_a_file_does_not_hold_is_refused(filed):
    (whole,) = find_keyframes(MODEL, [filed()], FOUND, 4).each
    (named,) = find_keyframes(MODEL, [f"{filed()}#0"], FOUND, 4).each
    assert torch.equal(named.state.x, whole.state.x)
    with pytest.raises(ArgumentError, match="#1 is not among them"):
        find_keyframes(MODEL, [f"{filed()}#1"], FOUND, 4)


def test_latents_of_a_solver_that_was_made_by_hand_are_decoded_by_it(filed):
    plan = Plan(8, solver=BDIA(gamma=0.5))
    (keyframe,) = find_keyframes(MODEL, [filed(plan)], plan, 4).each
    back = Pipeline(MODEL).sample(keyframe.state, plan=plan, output_type="pt").images
    assert keyframe.certificate and (2 * back - 1 - PICTURE).abs().max() < 1 / 255
    (other,) = find_keyframes(MODEL, [filed(plan)], Plan(8, solver=BDIA(gamma=0.9)), 4).each
    assert other.certificate is None and "found by BDIA(gamma=0.5)" in other.verdict


def test_a_seed_is_one_picture_wherever_it_is_drawn():
    pipe, plan = Pipeline(MODEL), Plan(6)
    found = find_keyframes(MODEL, ["seed:3", "seed:4"], plan, 4)
    assert found.plan.solver == AUTO_SAMPLER
    drawn = [np.asarray(image) for image in pipe.sample(seeds=[3, 4], plan=plan).images]
    film = list(pipe.morph(["seed:3", "seed:4"], plan=plan, frames=2, tolerance=0.0).draw())
    for frame, picture in zip(film, drawn, strict=True):
        np.testing.assert_array_equal(frame, picture)


def test_evaluations_for_seeds_are_counted():
    counted = CountCalls(MODEL.denoiser)
    found = find_keyframes(
        replace(MODEL, denoiser=counted), ["seed:3", "seed:4"], Plan(6, solver="leapfrog"), 4
    )
    assert found.nfe == counted.nfe == 2


def gaussian(height: int, width: int) -> Model:
    return Model(GaussianDenoiser(variance=0.25), SCHEDULE, (3, height, width), "gauss")


def picture() -> Image.Image:
    return to_pil(to_frames(0.2 * draw([1], (3, 16, 32))))[0]


def test_evaluations_for_pictures_are_counted_over_batches_and_trials() -> None:
    counted = CountCalls(GaussianDenoiser(variance=0.25))
    model = replace(gaussian(8, 8), denoiser=counted)
    found = find_keyframes(model, [picture(), picture()], Plan(4), batch_size=1)
    assert found.nfe == counted.nfe and found.plan.solver in AUTO


class Memory:
    """Remembers all that was done."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}

    def __call__(self, name: str, make: Callable[[], Kept]) -> Kept:
        return self.kept[name] if name in self.kept else self.kept.setdefault(name, make())


def test_what_was_remembered_without_notes_is_no_answer_where_they_are_wanted() -> None:
    keep, plan = Memory(), Plan(steps=4, solver="leapfrog")
    for wanted in (False, True, False):
        (one,) = find_keyframes(
            gaussian(8, 8), [picture()], plan, 1, keep=keep, take_notes=wanted
        ).each
        assert (one.notes is not None) == wanted
    assert len(keep.kept) == 2


def test_another_crop_of_a_picture_is_another_picture() -> None:
    keep, plan = Memory(), Plan(steps=4, solver="dpmpp-exact")
    for shape in ((8, 8), (8, 16)):
        (one,) = find_keyframes(gaussian(*shape), [picture()], plan, 1, keep=keep).each
        assert one.state.x.shape == (1, 3, *shape)


def test_a_solver_is_chosen_by_what_comes_back_before_a_repair() -> None:
    model, plan = gaussian(8, 8), Plan(steps=8)
    plain, repaired = (
        find_keyframes(model, [picture()], plan, 1, repair=repair) for repair in (None, "channels")
    )
    faithful = [found.each[0].certificate.faithful for found in (plain, repaired)]  # type: ignore[union-attr]
    assert faithful == [True, False], "the repair costs the picture"
    assert repaired.plan == plain.plan and repaired.passed_over == plain.passed_over


def test_a_pair_and_a_latent_alone_do_not_join() -> None:
    x, level = torch.zeros(1, 3, 4, 4), SCHEDULE.level(999)
    alone, pair = State(x, level), State(x, level, ((SCHEDULE.level(900), x),))
    assert len(join_states([pair, pair]).memory) == 1
    for states in ([alone, pair], [pair, alone]):
        with pytest.raises(ArgumentError, match="different solvers"):
            join_states(states)
