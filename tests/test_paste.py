"""The square goes back into the full picture: the user's pixels at keyframes, and no seam."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddim_interp import Plan
from ddim_interp.errors import ArgumentError
from ddim_interp.images import open_image
from ddim_interp.paste import Paste, soft_edge

BOX = (8, 0, 40, 32)  # the middle of a picture of 32 × 48
KNOTS = torch.tensor([0.0, 1.0], dtype=torch.float64)
FAST = Plan(steps=2, solver="leapfrog")


def full_pictures():
    """Two pictures with detail that a square of 16 × 16 cannot hold."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(2)]


def paste_of(wholes, **options):
    squares = [open_image(Image.fromarray(w), 16).frame for w in wholes]
    return Paste(wholes, squares, BOX, KNOTS, **options), squares


@pytest.mark.parametrize("feather", [0, 0.125, 0.5])
def test_at_a_keyframe_it_is_the_full_picture_to_the_bit(feather):
    wholes = full_pictures()
    paste, squares = paste_of(wholes, feather=feather)
    for whole, square, u in zip(wholes, squares, (0.0, 1.0), strict=True):
        np.testing.assert_array_equal(paste(square, u), whole)


def test_around_the_square_the_pictures_dissolve():
    wholes = [np.full((32, 48, 3), level, np.uint8) for level in (40, 240)]
    paste, squares = paste_of(wholes)
    frame = paste(squares[0], 0.25)
    assert (frame[:, :8] == 90).all() and (frame[:, 40:] == 90).all()
    assert (frame[16, 24] == 40).all(), "inside it is the morph's frame"


@pytest.mark.parametrize("feather", [0.1, 0.25])
def test_a_soft_edge_shows_no_seam(feather):
    """Black around a white square: no two neighbours differ by more than the ramp's own slope."""
    wholes = [np.zeros((64, 96, 3), np.uint8)] * 2
    white = np.full((16, 16, 3), 255, np.uint8)
    paste = Paste(wholes, [white, white], (16, 0, 80, 64), KNOTS, feather=feather)
    row = paste(white, 0.5)[32, :, 0].astype(int)
    assert row.min() == 0 and row.max() == 255
    assert np.abs(np.diff(row)).max() <= 255 * 1.5 / (feather * 64) + 1
    hard = Paste(wholes, [white, white], (16, 0, 80, 64), KNOTS, feather=0)
    assert np.abs(np.diff(hard(white, 0.5)[32, :, 0].astype(int))).max() == 255


def test_the_mask_has_edges_only_inside_the_picture():
    mask = soft_edge((8, 0, 40, 32), 32, 48, 0.25)
    assert mask[0, 16] == mask[-1, 16] == 1, "the square reaches the picture's upper border"
    assert mask[16, 0] < 0.1 and mask[16, -1] < 0.1
    torch.testing.assert_close(mask, mask.flip(0).flip(1))
    assert soft_edge((0, 0, 32, 32), 32, 32, 0.5).min() == 1


def test_frames_near_a_keyframe_are_near_its_picture():
    wholes = full_pictures()
    paste, squares = paste_of(wholes)
    off = [np.abs(paste(squares[0], u) - wholes[0].astype(float)).mean() for u in (0, 0.02, 0.2)]
    assert 0 == off[0] < off[1] < off[2] and off[1] < 3


def test_raw_squares_stay_as_they_were_drawn():
    wholes = full_pictures()
    grey = np.full((16, 16, 3), 128, np.uint8)
    frame = paste_of(wholes, raw=True, feather=0)[0](grey, 0.0)
    assert (frame[:, 8:40] == 128).all()
    np.testing.assert_array_equal(frame[:, :8], wholes[0][:, :8])


def test_a_film_of_full_pictures_keeps_them(tiny, pictures):
    film = tiny.morph(pictures, plan=FAST, frames=5, paste=True)
    frames = list(film.draw())
    for frame, path in zip((frames[0], frames[-1]), pictures, strict=True):
        with Image.open(path) as image:
            np.testing.assert_array_equal(frame, np.asarray(image))
    assert all(frame.shape == (48, 64, 3) for frame in frames)


def test_a_loop_of_full_pictures_at_an_even_pace(tiny, pictures):
    style = {"frames": 8, "paste": True, "loop": True, "pace": "perceptual"}
    frames = list(tiny.morph(pictures, plan=FAST, **style).draw())
    wholes = [np.asarray(Image.open(path)) for path in pictures]
    assert len(frames) == 8
    assert all(any((frame == whole).all() for frame in frames) for whole in wholes)


def test_what_has_no_full_picture_is_refused(tiny, pictures):
    with pytest.raises(ArgumentError, match="no full picture around seed:1"):
        tiny.morph([pictures[0], "seed:1"], plan=FAST, paste=True)


def test_pictures_of_two_sizes_are_refused(tiny, pictures):
    other = Image.new("RGB", (100, 50))
    with pytest.raises(ArgumentError, match=r"100×50 pixels, and disc.png 64×48"):
        tiny.morph([pictures[0], other], plan=FAST, paste=True)


def test_an_edge_wider_than_the_square_is_refused():
    with pytest.raises(ArgumentError, match=r"at most 0\.5"):
        Paste(full_pictures(), [], BOX, KNOTS, feather=0.6)


def test_all_edges_are_as_wide_as_the_share_of_the_shorter_side():
    mask = soft_edge((4, 4, 20, 12), 16, 24, 0.25)  # a quarter of eight
    assert ((mask == 1) == torch.nn.functional.pad(torch.ones(4, 12), (2, 2, 2, 2)).bool()).all()
