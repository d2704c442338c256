"""A second film through the same pictures inverts nothing, and has the same bytes."""

import json
import os
import stat

import pytest
import torch
from click.testing import CliRunner

from ddim_interp.cli import cli
from ddim_interp.keep import Kept
from ddim_interp.latent_cache import LatentCache, latent_cache_folder

# One solver: what `auto` would try in vain is inverted, and remembered, once more for each.
FILM = ["--frames", "4", "--steps", "3", "--solver", "ddim", "--json", "--overwrite"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DDIM_INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latents"


@pytest.fixture
def inversions(monkeypatch):
    """Counts the pictures that are inverted."""
    from ddim_interp import keyframes

    counted = []
    invert = keyframes.invert_images
    monkeypatch.setattr(
        keyframes,
        "invert_images",
        lambda m, x, *rest, **how: counted.append(len(x)) or invert(m, x, *rest, **how),
    )
    return counted


def morph(model, out, pictures, *options):
    command = ["morph", *map(str, pictures), "-o", str(out), "--model", str(model)]
    result = CliRunner().invoke(cli, [*command, *FILM, *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), out.read_bytes()


def test_the_same_pictures_are_inverted_once(tiny_folder, tmp_path, pictures, folder, inversions):
    first = morph(tiny_folder, tmp_path / "a.apng", pictures)
    again = morph(tiny_folder, tmp_path / "a.apng", pictures)
    longer = morph(tiny_folder, tmp_path / "b.apng", pictures, "--ease", "smoothstep")
    assert inversions == [2]
    assert first[1] == again[1]
    assert first[0]["keyframes"] == again[0]["keyframes"] == longer[0]["keyframes"]


def test_a_remembered_film_is_the_one_made_without(tiny_folder, tmp_path, pictures, folder):
    kept = [morph(tiny_folder, tmp_path / "a.apng", pictures) for _ in range(2)][1]
    fresh = morph(tiny_folder, tmp_path / "a.apng", pictures, "--no-cache")
    assert kept[1] == fresh[1]


@pytest.mark.parametrize(
    "change",
    [["--steps", "4"], ["--solver", "heun-exact"], ["--batch-size", "1"], ["--dtype", "bf16"]],
    ids=lambda change: change[0],
)
def test_another_plan_is_another_inversion(
    tiny_folder, tmp_path, pictures, folder, inversions, change
):
    morph(tiny_folder, tmp_path / "a.apng", pictures)
    morph(tiny_folder, tmp_path / "a.apng", pictures, *change)
    assert sum(inversions) == 4


def test_other_pixels_under_the_same_name_are_inverted(
    tiny_folder, tmp_path, pictures, folder, inversions
):
    from PIL import Image, ImageOps

    mine = tmp_path / "mine.png"
    mine.write_bytes(pictures[0].read_bytes())
    morph(tiny_folder, tmp_path / "a.apng", [mine, pictures[1]])
    ImageOps.invert(Image.open(pictures[0])).save(mine)
    morph(tiny_folder, tmp_path / "a.apng", [mine, pictures[1]])
    assert inversions == [2, 2]


@pytest.mark.parametrize("off", ["variable", "option"])
def test_it_can_be_switched_off(tiny_folder, tmp_path, pictures, folder, monkeypatch, off):
    if off == "variable":
        monkeypatch.setenv("DDIM_INTERP_CACHE", "off")
        assert latent_cache_folder() is None
    morph(tiny_folder, tmp_path / "a.apng", pictures, *(["--no-cache"] if off == "option" else []))
    assert not folder.exists()


def entry(value=1.0):
    return Kept({"latents": torch.full((1, 3, 4, 4), value)}, "note")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_entry_is_replaced(tmp_path, damage):
    cache = LatentCache(tmp_path, {"plan": 1})
    cache("inversion-1", entry)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[-3] ^= 1
        path.write_bytes(data)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()
    made = []
    for _ in range(2):
        kept = cache("inversion-1", lambda: made.append(1) or entry())
        assert torch.equal(kept.tensors["latents"], entry().tensors["latents"])
    assert len(made) == (2 if damage == "folder" else 1)  # a folder is not ours to remove


def test_it_stays_within_its_bounds_and_keeps_what_was_used_last(tmp_path):
    cache = LatentCache(tmp_path, {})
    cache("inversion-0", entry)
    (path,) = tmp_path.iterdir()
    small = LatentCache(tmp_path, {}, most_bytes=3 * path.stat().st_size)
    for number in range(6):
        small(f"inversion-{number}", entry)
        for age, file in enumerate(sorted(tmp_path.iterdir(), key=lambda f: -f.stat().st_mtime_ns)):
            os.utime(file, (1e9 - age, 1e9 - age))  # clocks of file systems are coarse
        small("inversion-0", lambda: pytest.fail("what is used stays"))
    small("inversion-5", lambda: pytest.fail("what came last stays"))
    assert len(list(tmp_path.iterdir())) == 3


def test_only_inversions_are_remembered(tmp_path):
    LatentCache(tmp_path, {})("frames-1", entry)
    assert not list(tmp_path.iterdir())


def test_a_place_that_takes_nothing_stops_nobody(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    kept = LatentCache(blocked / "latents", {})("inversion-1", entry)
    assert kept.text == "note"


def test_what_is_remembered_is_the_users_own(tmp_path):
    LatentCache(tmp_path / "new", {})("inversion-1", entry)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) & 0o077 == 0
