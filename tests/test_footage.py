"""What was kept to the bit comes back to the bit, in the order in which it was drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim_interp.errors import ArgumentError, ImageError, InputMissingError
from ddim_interp.footage import open_footage
from ddim_interp.sinks import open_sink, read_recipe

FAITHFUL = ["film", "film.apng", "film.webp"]


def noise(frames, height=6, width=10):
    return np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), np.uint8)


def written(path, frames, **how):
    with open_sink(path, **how) as sink:
        for frame in frames:
            sink.write(frame)
    return path


@pytest.fixture
def film(tmp_path):
    """Twelve frames, so that ten comes after nine, and two that are equal."""
    frames = noise(12)
    frames[5] = frames[4]
    recipe = {"kind": "morph", "fps": 25.0, "upscale": 2}
    return frames, written(tmp_path / "frames", frames, fps=25, recipe=recipe)


@pytest.mark.parametrize("name", FAITHFUL)
def test_a_film_goes_from_format_to_format_to_the_bit(call, film, tmp_path, name):
    frames, source = film
    assert call("encode", source, "-o", tmp_path / name)[0] == 0
    again = open_footage(tmp_path / name)
    assert again.frames == 12 and again.fps == 25
    assert (np.stack(list(again.draw())) == frames).all()
    # ... and from there: the same bytes as straight from the folder, but for what it comes from.
    assert call("encode", tmp_path / name, "-o", tmp_path / "twice.apng")[0] == 0
    assert (np.stack(list(open_footage(tmp_path / "twice.apng").draw())) == frames).all()


def test_the_recipe_goes_with_the_film_and_says_what_has_changed(call, film, tmp_path):
    out = tmp_path / "film.mp4"
    code, text, _ = call("encode", film[1], "-o", out, "--fps", "12.5", "--upscale", 3, "--json")
    assert code == 0
    report = json.loads(text)
    assert report["outputs"] == [str(out)] and report["frames"] == 12 and report["fps"] == 12.5
    assert read_recipe(out) == {
        "kind": "morph",
        "fps": 12.5,
        "upscale": 6,
        "encoded_from": "frames",
    }


@pytest.mark.parametrize(("here", "named"), [("", "."), ("inner", "..")])
def test_a_film_is_called_by_its_name_however_it_is_named(call, film, here, named, monkeypatch):
    (film[1] / "inner").mkdir()
    monkeypatch.chdir(film[1] / here)
    out = film[1].parent / "film.webp"
    assert call("encode", named, "-o", out)[0] == 0
    assert read_recipe(out)["encoded_from"] == "frames"


def test_a_film_that_is_encoded_later_is_the_film(call, tiny_folder, pictures, tmp_path):
    how = ("--model", tiny_folder, "--steps", 4, "--frames", 5)
    for out in ("frames", "film.gif"):
        assert call("morph", *pictures, "-o", tmp_path / out, "--upscale", 2, *how)[0] == 0
    assert call("encode", tmp_path / "frames", "-o", tmp_path / "later.gif")[0] == 0
    before, after = (list(moving(tmp_path / name)) for name in ("film.gif", "later.gif"))
    assert len(before) == 5 and all((a == b).all() for a, b in zip(before, after, strict=True))
    recipe = read_recipe(tmp_path / "later.gif")
    assert recipe.pop("encoded_from") == "frames" and recipe == read_recipe(tmp_path / "film.gif")


def moving(path):
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            yield np.asarray(image.convert("RGB"))


def test_pictures_of_any_kind_are_taken_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 1, 33):
        grey = Image.new("L", (4, 4), number)
        grey.save(tmp_path / f"take 7 - {number}.{'bmp' if number > 9 else 'PNG'}")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_text("not a frame")
    footage = open_footage(tmp_path)
    assert [int(frame[0, 0, 0]) for frame in footage.draw()] == [1, 2, 10, 33]
    assert footage.recipe is None and footage.told(24, 2) is None and footage.fps == 30


def test_equal_frames_stay_apart(film, tmp_path):
    for name in FAITHFUL[1:]:
        written(tmp_path / name, [film[0][0]] * 3)
        assert open_footage(tmp_path / name).frames == 3


@pytest.mark.parametrize("once", [True, False])
def test_a_film_may_play_once(call, film, tmp_path, once):
    out = tmp_path / "film.gif"
    assert call("encode", film[1], "-o", out, *["--once"] * once)[0] == 0
    with Image.open(out) as image:
        assert ("loop" in image.info) != once


@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.gif", "strip.png", "text.apng"])
def test_what_is_no_faithful_film_is_refused(refused, call, film, tmp_path, name):
    path = tmp_path / name
    if name == "text.apng":
        path.write_text("frames were here")
    else:
        written(path, film[0], frame_count=12)
    refused(call("encode", path, "-o", tmp_path / "out.gif"), 65, name, "give a")
    assert not (tmp_path / "out.gif").exists()


def test_a_folder_with_no_frames_or_of_two_sizes_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="holds no pictures"):
        open_footage(tmp_path)
    with pytest.raises(InputMissingError):
        open_footage(tmp_path / "nowhere")
    for number, side in enumerate((4, 4, 5)):
        Image.new("RGB", (side, 4)).save(tmp_path / f"{number}.png")
    with pytest.raises(ImageError, match=r"2\.png is 4×5, the frames before it are 4×4"):
        list(open_footage(tmp_path).draw())


@pytest.mark.parametrize("name", FAITHFUL[1:])
def test_a_film_that_ends_too_soon_leaves_nothing(refused, call, film, tmp_path, name):
    whole = written(tmp_path / name, noise(40, 24, 24))
    cut = tmp_path / f"cut-{name}"
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle:] = bytes(len(data) - middle)  # a file of its length, whose end never arrived
    cut.write_bytes(data)
    refused(call("encode", cut, "-o", tmp_path / "out.apng"), 65)
    assert not [p for p in tmp_path.iterdir() if "out.apng" in p.name]


def test_a_film_is_not_written_over_itself(refused, call, film, tmp_path):
    source: Path = film[1]
    refused(call("encode", source, "-o", source, "--overwrite"), 2, "is the input")
    inside = tmp_path / "outer"
    inside.mkdir()
    shutil.move(source, inside / "frames")
    refused(call("encode", inside / "frames", "-o", inside, "--overwrite"), 73)
    assert len(list((inside / "frames").glob("*.png"))) == 12


def test_a_name_that_cannot_be_is_found_before_a_frame_is_read(refused, call, film, tmp_path):
    (film[1] / "frame_000000.png").write_bytes(b"")  # which reading would trip over
    for out, code in (("film.mkv", 2), ("-", 2), ("nowhere/film.gif", 73)):
        refused(call("encode", film[1], "-o", tmp_path / out), code)
    refused(call("encode", film[1], "-o", tmp_path / "film.gif", "--fps", "0"), 2)
