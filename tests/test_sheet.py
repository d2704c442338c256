"""Grids between four corners: the corners are the user's own, and no axis comes first."""

import numpy as np
import pytest

from ddim_interp import DDIMPipeline, Plan
from ddim_interp.errors import ArgumentError, PathError
from ddim_interp.images import open_image
from ddim_interp.keyframes import decode_keyframes, find_keyframes
from ddim_interp.sheet import PictureGrid

PLAN = Plan(steps=3)


@pytest.fixture(scope="module")
def model(tiny_folder):
    return DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32").model


def cells(model, sources, **options):
    return list(PictureGrid(model, find_keyframes(model, sources, PLAN, 4), **options).draw())


def test_the_corners_are_the_users_own_pictures(model, pictures):
    a, b = pictures
    drawn = cells(model, [a, "seed:1", "seed:2", b], rows=3, columns=4)
    assert len(drawn) == 12
    np.testing.assert_array_equal(drawn[0], open_image(a, 16).frame)
    np.testing.assert_array_equal(drawn[-1], open_image(b, 16).frame)


def test_raw_corners_are_what_their_latents_decode_to(model, pictures):
    naive = Plan(steps=3, solver="ddim-naive")
    found = find_keyframes(model, [pictures[0], "seed:1", "seed:2", pictures[1]], naive, 4)
    raw, own = (list(PictureGrid(model, found, 2, 2, raw=raw).draw()) for raw in (True, False))
    decoded = list(decode_keyframes(model, found.each, found.plan, 4))
    np.testing.assert_allclose(np.array(raw, int), np.array(decoded, int), atol=1)
    assert (raw[0] != own[0]).any() and (raw[3] != own[3]).any()


def test_swapping_the_axes_transposes_the_grid(model):
    upright = np.array(cells(model, ["seed:1", "seed:2", "seed:3", "seed:4"], rows=3, columns=3))
    swapped = np.array(cells(model, ["seed:1", "seed:3", "seed:2", "seed:4"], rows=3, columns=3))
    upright = upright.reshape(3, 3, *upright.shape[1:]).swapaxes(0, 1)
    swapped = swapped.reshape(3, 3, *swapped.shape[1:])
    assert np.abs(upright.astype(int) - swapped).max() <= 1


def test_three_keyframes_make_a_triangle(model, pictures):
    a, b = pictures
    found = find_keyframes(model, [a, b, "seed:1"], PLAN, 4)
    triangle = PictureGrid(model, found, rows=4)
    drawn = list(triangle.draw())
    assert triangle.layout.cells == [1, 2, 3, 4] and len(drawn) == 10
    np.testing.assert_array_equal(drawn[0], open_image(a, 16).frame)
    np.testing.assert_array_equal(drawn[6], open_image(b, 16).frame)
    turned = PictureGrid(model, find_keyframes(model, ["seed:1", a, b], PLAN, 4), rows=4)
    middle = list(turned.draw())[4]
    assert np.abs(middle.astype(int) - drawn[4]).max() <= 1, "no corner comes first"
    np.testing.assert_allclose(triangle.layout.weights[4], 1 / 3)


@pytest.mark.parametrize(
    ("sources", "options", "error", "remedy"),
    [
        (["seed:1", "seed:2", "seed:3"], {"across": 2}, ArgumentError, "four corners"),
        (["seed:1", "seed:2", "seed:3"], {"rows": 1}, ArgumentError, "two rows"),
        (["seed:1", "seed:2", "seed:3"], {"columns": 3}, ArgumentError, "no columns"),
        (["seed:1", "seed:2"], {}, PathError, "2 × 2"),
        (["seed:1", "seed:2", "seed:3", "seed:4"], {"rows": 1}, ArgumentError, "at least 2 × 2"),
    ],
)
def test_what_is_no_grid_is_refused(model, sources, options, error, remedy):
    with pytest.raises(error, match=remedy):
        cells(model, sources, **options)


@pytest.mark.parametrize("solver", ["leapfrog", "edict"])
def test_a_grid_of_pairs_keeps_its_corners(model, pictures, solver):
    plan = Plan(steps=4, solver=solver)
    sources = [*pictures, "seed:1", "seed:2"]
    found = find_keyframes(model, sources, plan, 4)
    exact, raw = (list(PictureGrid(model, found, 3, 3, raw=raw).draw()) for raw in (False, True))
    decoded = list(decode_keyframes(model, found.each, plan, 4))
    for place, path, back in zip((0, 2), pictures, decoded, strict=False):
        np.testing.assert_array_equal(exact[place], open_image(path, 16).frame)
        assert np.abs(raw[place].astype(int) - back).max() <= 1, "the whole pair is there"
    np.testing.assert_array_equal(exact[4], raw[4])
