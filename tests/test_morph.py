"""The main job: films that start and end on the user's own pictures."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from ddim_interp import Plan, Style
from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError, InputMissingError, PathError
from ddim_interp.images import from_frames, open_image
from ddim_interp.pace import distances, unevenness
from ddim_interp.perceptual import perceive
from ddim_interp.realism import denoising_errors
from ddim_interp.solver import DDIM, ImplicitEquation

FAST = Plan(steps=6, solver=DDIM(equation=ImplicitEquation(passes=6, tolerance=1e-4)))


def draw(pipe, keyframes, plan=FAST, batch_size=None, **style):
    return list(pipe.morph(keyframes, plan=plan, batch_size=batch_size, **style).draw())


def test_the_ends_are_the_users_own_pictures(tiny, pictures):
    frames = draw(tiny, pictures, frames=7)
    assert len(frames) == 7
    for frame, path in zip((frames[0], frames[-1]), pictures, strict=True):
        np.testing.assert_array_equal(frame, open_image(path, 16).frame)


def test_a_picture_that_is_open_already_is_a_keyframe_like_its_file(tiny, pictures):
    opened = replace(open_image(pictures[0], 16), name="mine.png")
    film = tiny.morph([opened, "seed:1"], plan=FAST, frames=4)
    assert [keyframe.source for keyframe in film.keyframes] == ["mine.png", "seed:1"]
    named = tiny.morph([pictures[0], "seed:1"], plan=FAST, frames=4)
    np.testing.assert_array_equal(list(film.draw()), list(named.draw()))
    with pytest.raises(ArgumentError, match="no full picture"):
        tiny.morph([opened, opened], plan=FAST, frames=4, paste=True)


def test_raw_ends_are_what_the_latents_decode_to(tiny, pictures):
    film = tiny.morph(pictures, plan=FAST, frames=3, raw=True)
    decoded = tiny.sample(film.keyframes[0].state, plan=FAST).images[0]
    np.testing.assert_array_equal(next(film.draw()), np.asarray(decoded))


@pytest.mark.parametrize("solver", ["adams", "dpmpp-2m", "ddim"])
def test_a_pairs_other_half_is_left_aside_by_a_solver_of_single_latents(tiny, pictures, solver):
    pair = tiny.morph(pictures, plan=Plan(steps=6, solver="leapfrog"), frames=3, raw=True)
    single = Plan(steps=6, solver=solver)
    film = replace(pair, found=replace(pair.found, plan=single))
    decoded = tiny.sample(film.keyframes[0].state, plan=single).images[0]
    np.testing.assert_array_equal(next(film.draw()), np.asarray(decoded))


def test_what_the_inversion_missed_is_faded_near_the_ends_and_gone_in_the_middle(tiny, pictures):
    naive = Plan(steps=6, solver=DDIM(equation=ImplicitEquation(passes=1), warm=False))
    corrected, raw = (
        draw(tiny, pictures, naive, frames=21, raw=raw, tolerance=0) for raw in (False, True)
    )
    added = [(a != b).mean() for a, b in zip(corrected, raw, strict=True)]
    assert min(added[:4]) > 0.1, "the naive inversion misses; there is something to fade"
    assert max(added[8:13]) == 0


def test_reversed_keyframes_give_the_reversed_film(tiny):
    there = draw(tiny, ["seed:1", "seed:2"], frames=8, batch_size=1)
    back = draw(tiny, ["seed:2", "seed:1"], frames=8, batch_size=1)
    for a, b in zip(there, reversed(back), strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_equal_keyframes_stand_still(tiny):
    frames = draw(tiny, ["seed:4", "seed:4"], frames=6)
    assert all(np.abs(frame.astype(int) - frames[0]).max() <= 1 for frame in frames)


@pytest.mark.parametrize("solver", ["leapfrog", "bdia", "edict"])
def test_pairs_of_pictures_and_seeds_blend(tiny, pictures, solver):
    frames = draw(tiny, [pictures[0], "seed:1"], Plan(steps=6, solver=solver), frames=5)
    np.testing.assert_array_equal(frames[0], open_image(pictures[0], 16).frame)
    assert len(frames) == 5


def test_a_loop_comes_back_without_a_doubled_frame(tiny):
    film = tiny.morph(["seed:1", "seed:2", "seed:3"], plan=FAST, frames=9, loop=True)
    assert film.times[0] == 0 and film.times[-1] < 1
    frames = list(film.draw())
    seam = np.abs(frames[-1].astype(float) - frames[0]).mean()
    steps = [np.abs(a.astype(float) - b).mean() for a, b in pairwise(frames)]
    assert 0 < seam < 3 * max(steps)


def test_a_boomerang_plays_its_frames_twice_and_draws_them_once(tiny):
    film = tiny.morph(["seed:1", "seed:2"], plan=FAST, frames=10, boomerang=True)
    counted = CountCalls(film.model.for_frames)
    frames = list(film.draw(counted))
    assert len(frames) == 10 and counted.nfe == 6 * 6
    for there, back in zip(frames[1:5], reversed(frames[6:]), strict=True):
        np.testing.assert_array_equal(there, back)


def test_a_rest_costs_nothing(tiny):
    film = tiny.morph(["seed:1", "seed:2"], plan=FAST, frames=10, hold=3)
    counted = CountCalls(film.model.for_frames)
    frames = list(film.draw(counted))
    assert len(frames) == 10 and counted.nfe == 6 * 4
    assert all((frame == frames[0]).all() for frame in frames[:4])


def test_perceptual_pace_takes_even_steps(tiny, pictures):
    def unevenness_of(**style):
        frames = draw(tiny, pictures, frames=13, **style)
        return unevenness(distances(perceive(from_frames(np.array(frames)))))

    assert unevenness_of(pace="perceptual") < min(1.35, unevenness_of())


def test_perceptual_pace_keeps_ends_rests_and_the_way_back(tiny, pictures):
    frames = draw(tiny, pictures, frames=12, pace="perceptual", boomerang=True, hold=1)
    assert len(frames) == 12
    np.testing.assert_array_equal(frames[0], open_image(pictures[0], 16).frame)
    np.testing.assert_array_equal(frames[0], frames[1])
    assert any((frame == open_image(pictures[1], 16).frame).all() for frame in frames)
    np.testing.assert_array_equal(frames[2], frames[-1])


def test_two_runs_give_the_same_frames(tiny, pictures):
    first, second = (draw(tiny, [*pictures, "seed:3"], frames=9) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_batch_changes_no_frame_by_more_than_a_level(tiny):
    one, many = (draw(tiny, ["seed:1", "seed:2"], frames=9, batch_size=size) for size in (1, 8))
    assert np.abs(np.array(one, int) - np.array(many, int)).max() <= 1


def test_evaluations_are_counted_exactly(tiny):
    film = tiny.morph(["seed:1", "seed:2"], plan=FAST, frames=5)
    counted = CountCalls(film.model.for_frames)
    assert film.nfe == 0
    assert len(list(film.draw(counted))) == 5
    assert counted.nfe == 5 * 6


@pytest.mark.parametrize(
    ("way", "seeds"),
    [("straight", ["seed:3"]), ("loop", ["seed:3"]), ("boomerang", ["seed:3"]), ("beside", [])],
)
def test_at_pictures_the_film_knows_what_the_network_says(tiny, pictures, way, seeds):
    style = {way: True} if way in ("loop", "boomerang") else {}
    films, costs = [], []
    for take in (True, False):
        film = tiny.morph([*pictures, *seeds], plan=Plan(steps=6), frames=40, tolerance=4, **style)
        if not take:
            each = tuple(replace(keyframe, notes=None) for keyframe in film.keyframes)
            film = replace(film, found=replace(film.found, each=each))
        counted = CountCalls(film.model.for_frames)
        films.append(np.array(list(film.draw(counted)), int))
        costs.append(counted.nfe)
    assert costs[0] < costs[1]
    apart = np.sqrt(np.square(films[0] - films[1]).mean((1, 2, 3)))
    assert apart.max() < 2 * 4  # each may be off by the tolerance


def test_raw_ends_cost_nothing(tiny, pictures):
    film = tiny.morph(pictures, plan=Plan(steps=6), frames=3, raw=True)
    counted = CountCalls(film.model.for_frames)
    frames = list(film.draw(counted))
    alone = CountCalls(film.model.for_frames)
    assert len(list(replace(film, style=replace(film.style, tolerance=0)).draw(alone))) == 3
    assert 3 * counted.nfe == alone.nfe
    for frame, keyframe in zip((frames[0], frames[-1]), film.keyframes, strict=True):
        decoded = tiny.sample(keyframe.state, plan=film.plan).images[0]
        assert np.abs(frame - np.asarray(decoded, int)).max() <= 1


def test_nothing_is_noted_that_nobody_will_ask_for(tiny, pictures):
    film = tiny.morph(pictures, plan=Plan(steps=6), frames=3, tolerance=0)
    assert film.keyframes[0].notes is None
    assert tiny.invert(pictures[0]).notes is None


def test_frames_stream(tiny):
    for tolerance, at_once in ((0.0, 2), (0.5, 1)):  # the first of families comes by itself
        film = tiny.morph(
            ["seed:1", "seed:2"], plan=FAST, frames=1000, batch_size=2, tolerance=tolerance
        )
        counted = CountCalls(film.model.for_frames)
        next(film.draw(counted))
        assert counted.nfe == at_once * 6


def test_the_recipe_names_no_folder(tiny, pictures):
    recipe = tiny.morph(pictures, plan=FAST, frames=3).recipe()
    assert recipe["keyframes"][0]["source"] == "disc.png"
    assert str(Path(pictures[0]).parent) not in str(recipe)


@pytest.mark.parametrize(
    ("keyframes", "error", "remedy"),
    [
        (["seed:1"], PathError, "add a picture"),
        ("seed:1", PathError, "add a picture"),
        ([], ArgumentError, "name at least one"),
        (["seed:1", "seed:-2"], ArgumentError, "write seed:7"),
        (["seed:1", "seed:99999999999999999999"], ArgumentError, "use seed:0 to"),
        (["seed:1", "seed:" + "9" * 5000], ArgumentError, "use seed:0 to"),
        (["seed:1", "no-such.png"], InputMissingError, "no-such.png"),
    ],
)
def test_keyframes_that_cannot_be_meant_are_refused(tiny, keyframes, error, remedy):
    with pytest.raises(error, match=remedy):
        tiny.morph(keyframes, plan=FAST)


@pytest.mark.parametrize(
    ("style", "remedy"),
    [
        ({"frames": 1}, "ask for 2"),
        ({"blend": "mash"}, "choose one of slerp"),
        ({"ease": "wobble"}, "linear"),
        ({"hold": -1}, "0 frames or more"),
        ({"loop": True, "boomerang": True}, "choose either"),
        ({"frames": 7, "boomerang": True}, "ask for 8"),
    ],
)
def test_a_style_that_cannot_be_meant_is_refused(style, remedy):
    with pytest.raises(ArgumentError, match=remedy):
        Style(**style).check()


def test_the_middles_of_the_embedded_model_are_pictures(pipe):
    """No frame is noise or grey: neighbouring pixels agree, and there is contrast."""
    plan = Plan(steps=10)
    frames = np.array(draw(pipe, ["seed:0", "seed:1"], plan=plan, frames=4), float) / 255
    across = np.abs(np.diff(frames, axis=2)).mean((1, 2, 3))
    spread = frames.std((1, 2, 3))
    assert (across < 0.5 * spread).all(), "pixels of noise differ from their neighbours by 1.1 σ"
    assert (spread > 0.03).all(), "a grey frame has no contrast"


def test_a_real_inversion_certifies_itself(pipe, pictures):
    film = pipe.morph(pictures, plan=Plan(steps=8), frames=2)
    for keyframe in film.keyframes:
        assert keyframe.certificate.roundtrip_mse < 1e-5
        assert keyframe.certificate.roundtrip_max_level <= 3
        assert torch.isfinite(keyframe.state.x).all()


def test_keyframes_are_there_at_their_times(tiny, pictures):
    film = tiny.morph([*pictures, "seed:1"], plan=FAST, frames=9, times=(0, 2, 8))
    assert film.times[2] == film.path.knots[1] == 0.25
    np.testing.assert_array_equal(list(film.draw())[2], open_image(pictures[1], 16).frame)


def test_an_even_pace_keeps_to_the_times_of_keyframes(tiny, pictures):
    style = {"frames": 9, "times": (0, 2, 8), "pace": "perceptual"}
    frames = draw(tiny, [*pictures, "seed:1"], **style)
    np.testing.assert_array_equal(frames[2], open_image(pictures[1], 16).frame)


def test_each_keyframe_has_its_own_rest(tiny):
    film = tiny.morph(["seed:1", "seed:2", "seed:3"], plan=FAST, frames=9, hold=(0, 3, 1))
    _, counts = film.times.unique_consecutive(return_counts=True)
    assert counts.tolist() == [1, 1, 4, 1, 2]
    style = Style(frames=10, boomerang=True, hold=(0, 0, 2))
    film = tiny.morph(["seed:1", "seed:2", "seed:3"], plan=FAST, style=style)
    assert len(film.times) == 10


def test_easing_may_shape_every_leg(tiny):
    keyframes = ["seed:1", "seed:2", "seed:3"]
    whole, legs = (
        tiny.morph(keyframes, plan=FAST, frames=17, ease="smoothstep", per_leg=per_leg).times.diff()
        for per_leg in (False, True)
    )
    assert whole[8] > 5 * whole[0] and legs[8] < 0.5 * legs[4], "it slows down at the keyframe"


def test_realism_compares_middles_with_the_ends(tiny):
    film = tiny.morph(["seed:1", "seed:1", "seed:2"], plan=FAST, frames=4, loop=True)
    same, there, back = film.realism()
    assert same == pytest.approx(1, abs=0.02), "between equal ends nothing changes"
    assert there == pytest.approx(back, rel=0.05), "both legs join the same two pictures"


def test_a_style_is_given_once(tiny):
    with pytest.raises(ArgumentError, match="frames were given, and the style says that already"):
        tiny.morph(["seed:1", "seed:2"], style=Style(), frames=3)


def test_realism_takes_no_more_pictures_at_once_than_the_film(tiny, pictures):
    film = tiny.morph([*pictures, "seed:1"], plan=FAST, frames=4, batch_size=2)
    largest = 0

    def watched(x, level):
        nonlocal largest
        largest = max(largest, len(x))
        return film.model.for_frames(x, level)

    film.realism(watched)
    assert largest == 2


def test_a_loop_through_two_pictures_draws_each_of_its_pictures_once(tiny, pictures):
    film = tiny.morph(pictures, plan=FAST, frames=12, loop=True, tolerance=0.0)
    counted = CountCalls(film.model.for_frames)
    frames = list(film.draw(counted))
    assert counted.nfe == 5 * FAST.steps, "five pictures lie between the two"
    for there, back in zip(frames[1:6], reversed(frames[7:]), strict=True):
        np.testing.assert_array_equal(there, back)
    alone = [next(film._rendering.frames([u], early=False)) for u in film.times.tolist()]
    np.testing.assert_allclose(np.stack(frames).astype(int), np.stack(alone), atol=1)


@pytest.mark.parametrize("loop", [False, True])
def test_each_leg_is_as_real_as_its_own_ends(tiny, pictures, loop):
    keyframes, frames = ["seed:1", *pictures], 6 if loop else 5
    film = tiny.morph(keyframes, plan=FAST, frames=frames, loop=loop, raw=True, tolerance=0)
    errors = denoising_errors(tiny.model, from_frames(np.array(list(film.draw()))))
    ends = errors[::2] if not loop else torch.cat([errors[::2], errors[:1]])
    wanted = (errors[1::2] / ((ends[1:] + ends[:-1]) / 2)).mean(1)
    assert film.realism() == pytest.approx(wanted.tolist(), rel=0.01)
