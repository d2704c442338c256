"""Every output says how it was made, in words that harm neither who gave it nor who reads it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddim_interp.errors import ArgumentError, ImageError, InputMissingError
from ddim_interp.recipe import MAX_RECIPE_BYTES, from_xmp, pack, printable, to_xmp, unpack
from ddim_interp.sinks import SINKS, open_sink, read_recipe, write_picture

RECIPE = {
    "command": "morph",
    "seed": 7,
    "keyframes": [{"source": 'café <&> ]]> "quoted".png', "crop": [0, 0, 64, 64]}],
    "eta": 0.0,
    "loop": None,
    "nested": {"deep": [True, [1e-9]]},
}


def write(path: Path, recipe: Any) -> Path:
    with open_sink(path, frame_count=2, recipe=recipe) as sink:
        for grey in 10, 200:
            sink.write(np.full((16, 17, 3), grey, np.uint8))
    return path


@pytest.mark.parametrize("suffix", SINKS)
def test_a_recipe_comes_back_from_every_format(suffix: str, tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path / f"film{suffix}", RECIPE)) == RECIPE


@pytest.mark.parametrize("suffix", SINKS)
def test_a_long_recipe_comes_back_from_every_format(suffix: str, tmp_path: Path) -> None:
    recipe = {"seeds": list(range(100_000))}
    assert read_recipe(write(tmp_path / f"film{suffix}", json.dumps(recipe))) == recipe


def test_the_kind_of_file_is_told_by_its_content(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", RECIPE).rename(tmp_path / "film.gif")
    assert read_recipe(tmp_path / "film.gif") == RECIPE


def test_every_picture_of_a_folder_carries_the_recipe(tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path / "film", RECIPE) / "frame_000001.png") == RECIPE


@pytest.mark.parametrize("suffix", SINKS)
def test_a_film_without_a_recipe_says_so(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"film{suffix}", None)
    with pytest.raises(ImageError, match="carries no recipe"):
        read_recipe(path)


def test_a_picture_of_somebody_else_has_no_recipe(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif", comment=b"made with love")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("seed 7")
    with pytest.raises(ImageError, match="is not JSON"):
        read_recipe(tmp_path / "a.gif")
    for name in "a.jpg", "a.txt":
        with pytest.raises(ImageError, match="give an output of ddim_interp"):
            read_recipe(tmp_path / name)
    with pytest.raises(InputMissingError):
        read_recipe(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/home/mia/cats", "cats"),
        ("~/cats/", "cats"),
        (r"C:\Users\mia\cats", "cats"),
        (r"\\server\mia\cats", "cats"),
        ("file:///home/mia/cats", "cats"),
        ("google/ddpm-cat-256", "google/ddpm-cat-256"),
    ],
)
def test_no_folder_of_the_maker_is_handed_on(path: str, base: str) -> None:
    packed = pack({"model": path, "keyframes": [{"source": path}], path: 1})
    assert unpack(packed) == {"model": base, "keyframes": [{"source": base}], base: 1}


def test_packing_is_one_line_of_ascii_and_idempotent() -> None:
    packed = pack(RECIPE)
    assert packed.isascii() and packed.isprintable()
    assert pack(packed) == packed
    assert from_xmp(to_xmp(packed)) == packed


@pytest.mark.parametrize(
    "recipe",
    [
        [1],
        "[1]",
        "not json",
        {1: 2},
        {"a": {3}},
        {"a": float("nan")},
        {"a": b"bytes"},
        {"a": "x" * MAX_RECIPE_BYTES},
    ],
    ids=["list", "JSON list", "text", "number key", "set", "nan", "bytes", "long"],
)
def test_what_is_no_recipe_is_refused_before_any_frame(recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="recipe"):
        write(tmp_path / "film.gif", recipe)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '"text"',
        '{"a": NaN}',
        '{"a": [1e999]}',
        "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"a": ' + "9" * 10_000 + "}",
        b"\xff\xfe{",
        b"{}" + b" " * MAX_RECIPE_BYTES,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_recipes_are_refused(text: str | bytes) -> None:
    with pytest.raises(ImageError, match="recipe in the file"):
        unpack(text)


def test_a_recipe_cannot_steer_the_terminal_of_who_reads_it() -> None:
    steer = "\x1b]0;owned\x07\x9b31m\r\n\u202etxt.exe\u2066\x00\x7f"
    clean = unpack(json.dumps({steer: [steer, {"a": steer}]}))
    assert clean == {"]0;owned31mtxt.exe": ["]0;owned31mtxt.exe", {"a": "]0;owned31mtxt.exe"}]}
    assert printable("Ünïcödé 水彩") == "Ünïcödé 水彩"


def mutants(data: bytes, number: int, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for _ in range(number):
        mutant = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            mutant[place] = rng.integers(256)
        yield bytes(mutant[: rng.integers(1, 2 * len(data))])


@pytest.mark.parametrize("suffix", [s for s in SINKS if s])
def test_a_damaged_film_gives_its_recipe_or_one_error(suffix: str, tmp_path: Path) -> None:
    data = write(tmp_path / f"film{suffix}", RECIPE).read_bytes()
    refused = 0
    for mutant in mutants(data, 60, seed=len(suffix)):
        (tmp_path / "mutant").write_bytes(mutant)
        try:
            assert isinstance(read_recipe(tmp_path / "mutant"), dict)
        except ImageError as error:
            refused += 1
            assert str(error).isprintable()
    assert refused > 0


def test_a_recipe_that_claims_a_huge_size_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8), recipe=RECIPE)
    data = bytearray((tmp_path / "a.png").read_bytes())
    start = data.index(b"iTXt")
    data[start - 4 : start] = struct.pack(">I", 2**31 - 1)
    (tmp_path / "b.png").write_bytes(data)
    with pytest.raises(ImageError):
        read_recipe(tmp_path / "b.png")


@pytest.mark.parametrize("more", [0, 1])
def test_no_more_than_is_allowed_is_read_of_a_folder_s_recipe(more: int, tmp_path: Path) -> None:
    folder = write(tmp_path / "film", {"a": 1})
    (folder / "recipe.json").write_bytes(b'{"a":1}'.ljust(MAX_RECIPE_BYTES + more))
    if not more:
        assert read_recipe(folder) == {"a": 1}
    else:
        with pytest.raises(ImageError, match="bytes long, more than"):
            read_recipe(folder)
