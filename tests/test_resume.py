"""An interrupted film, gone on with, has the bytes of an unbroken one."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from campaigns import Workshop, content, interrupt, kill_at_calls, kill_at_random, race

from ddim_interp.errors import ArgumentError, BusyError, OutputError
from ddim_interp.files import claim, sweep_orphans, work_folder
from ddim_interp.keep import Kept
from ddim_interp.kept_file import read_kept, write_kept
from ddim_interp.resume import WorkFolder, drop_work, is_finished, open_work
from ddim_interp.sinks import write_picture
from ddim_interp.tensors import read_header, write_tensors

FILM = {"plan": {"steps": 4}}
HERE = {"threads": 2}


# ---- whole runs ----


def test_killed_before_any_system_call_it_goes_on_to_the_same_bytes(shop: Workshop) -> None:
    for name in (".gif", "", "z.safetensors", "grid.png"):
        tally = kill_at_calls(shop, name, 5)
        assert tally.good and tally.resumed == 5, tally


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(shop: Workshop) -> None:
    for suffix in ("", ".mp4"):
        tally = kill_at_random(shop, suffix, 4)
        assert tally.good and tally.resumed == 4, tally


def test_stopped_by_a_signal_it_leaves_what_it_says(shop: Workshop) -> None:
    tally = interrupt(shop, ".gif", 8)
    assert tally.good and tally.tried == 8, tally


def test_of_two_runs_on_one_output_the_second_gives_way(shop: Workshop) -> None:
    assert race(shop, 5).good


def test_what_is_done_is_not_done_again(shop: Workshop) -> None:
    whole, out = shop.place(".gif"), shop.place(".gif")
    options = ("--resume", "--solver", "dpmpp-exact")  # dear to invert: there is much to be saved
    unbroken = shop.run(whole, *options)
    shop.run(out, *options, kill_at=unbroken.calls * 2 // 3)
    resumed = shop.run(out, *options)
    assert resumed.code == 0 and resumed.forwards < unbroken.forwards / 3
    assert content(out) == content(whole)


def test_a_film_that_is_done_is_not_an_error(shop: Workshop) -> None:
    out = shop.place(".gif")
    for _ in range(2):
        assert shop.run(out, "--resume").code == 0
    assert shop.run(out).code == 73, "without --resume it is"
    out.write_bytes(b"another film")
    assert shop.run(out, "--resume").code == 73
    assert out.read_bytes() == b"another film"


def test_a_stop_says_that_the_work_is_kept(shop: Workshop) -> None:
    out = shop.place(".gif")
    calls = shop.run(shop.place(".gif"), "--resume").calls
    for call in range(calls // 2, calls):  # a cache that cannot be written to stops nothing
        outcome = shop.run(out, "--resume", fail_at=call, errno=28)
        if outcome.code:
            break
        out.unlink()
    assert "the same command goes on from there" in outcome.err
    assert [path.suffix for path in out.parent.iterdir()] == [".work"]


def test_another_film_does_not_go_on_with_the_work_of_this_one(shop: Workshop) -> None:
    out = shop.place(".gif")
    calls = shop.run(shop.place(".gif"), "--resume").calls
    shop.run(out, "--resume", kill_at=calls // 2)
    for more, word in ((("--blend", "lerp"), "blend"), (("--fps", 10), "fps")):
        refused = shop.run(out, "--resume", *more)
        assert (refused.code, refused.err.count("\n")) == (2, 1) and word in refused.err
    drifted = shop.run(out, "--resume", threads=2)
    assert drifted.code == 2 and "--allow-drift" in drifted.err
    assert shop.run(out, "--resume", "--allow-drift", threads=2).code == 0
    assert list(out.parent.iterdir()) == [out]


def test_work_goes_when_its_film_is_made_without_resuming(shop: Workshop) -> None:
    out = shop.place(".gif")
    calls = shop.run(shop.place(".gif"), "--resume").calls
    shop.run(out, "--resume", kill_at=calls // 2)
    assert shop.run(out, "--blend", "lerp").code == 0, "another film of the same name"
    assert len(list(out.parent.iterdir())) == 2, "whose order has nothing to do with the work"
    assert shop.run(out, "--overwrite").code == 0
    assert list(out.parent.iterdir()) == [out]


def test_allowing_drift_without_resuming_is_no_wish(shop: Workshop) -> None:
    assert shop.run(shop.place(".gif"), "--allow-drift").code == 2


def test_a_perceptual_pace_and_a_boomerang_resume_too(shop: Workshop) -> None:
    for more in (("--pace", "perceptual"), ("--boomerang", "--hold", "1")):
        whole = shop.place(".gif")
        calls = shop.run(whole, "--resume", *more).calls
        out = shop.place(".gif")
        assert shop.run(out, "--resume", *more, kill_at=calls * 2 // 3).code == -signal.SIGKILL
        assert shop.run(out, "--resume", *more).code == 0
        assert content(out) == content(whole)


# ---- the work folder ----


def twice(number: int) -> Callable[[], Kept]:
    return lambda: Kept({"x": torch.full((2,), 2.0 * number)}, f"{number}")


def keep_and_fail(out: Path, *numbers: int, film: Any = FILM, **drift: bool) -> None:
    with pytest.raises(KeyboardInterrupt), open_work(out, film, HERE, **drift) as work:
        for number in numbers:
            work(f"batch-{number}", twice(number))
        raise KeyboardInterrupt


def folder_of(out: Path) -> Path:
    return next(out.parent.glob(".*.work"))


def never() -> Kept:
    pytest.fail("it was computed again")


def test_work_is_remembered_to_the_bit_until_the_end(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    keep_and_fail(out, 1, 2)
    with open_work(out, FILM, HERE) as work:
        assert work("batch-1", never).tensors["x"].tolist() == [2.0, 2.0]
        assert work("batch-2", never).text == "2"
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_before_anything_is_done_leaves_nothing(tmp_path: Path) -> None:
    keep_and_fail(tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "empty"])
def test_damaged_work_is_done_again(damage: str, tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    keep_and_fail(out, 1)
    file = folder_of(out) / "batch-1.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-2] ^= 1
    broken = {"cut": data[:-1], "flip": data, "foreign": b"{}", "empty": b""}[damage]
    file.write_bytes(broken)
    with open_work(out, FILM, HERE) as work:
        assert work("batch-1", twice(1)).tensors["x"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{", b'{"version": 1}', b"x" * 2_000_000])
def test_a_damaged_manifest_is_refused_in_one_line(manifest: bytes, tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    keep_and_fail(out, 1)
    (folder_of(out) / "manifest.json").write_bytes(manifest)
    with (
        pytest.raises((OutputError, ArgumentError)) as caught,
        open_work(out, FILM, HERE),
    ):
        pass
    assert str(caught.value).isprintable()


def test_the_difference_is_named(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    keep_and_fail(out, 1)
    with (
        pytest.raises(ArgumentError, match=r"another steps \(4, now 5\).*or remove that folder"),
        open_work(out, {"plan": {"steps": 5}}, HERE, allow_drift=True),
    ):
        pass
    with (
        pytest.raises(ArgumentError, match=r"another threads \(2, now 1\).*--allow-drift"),
        open_work(out, FILM, {"threads": 1}),
    ):
        pass
    with open_work(out, FILM, {"threads": 1}, allow_drift=True) as work:
        assert work("batch-1", never).text == "1"


@pytest.mark.parametrize("change", ["none", "order", "manifest", "stranger"])
def test_work_is_dropped_if_it_is_of_that_order_and_nothing_else(
    change: str, tmp_path: Path
) -> None:
    out = tmp_path / "film.gif"
    drop_work(out, lambda: pytest.fail("there is no work"))
    keep_and_fail(out, 1)
    if change == "manifest":
        (folder_of(out) / "manifest.json").write_bytes(b"{")
    elif change == "stranger":
        (folder_of(out) / "diary.txt").touch()
    drop_work(out, lambda: {"plan": {"steps": 5}} if change == "order" else FILM)
    assert bool(list(tmp_path.iterdir())) == (change != "none")
    if change == "stranger":
        assert (folder_of(out) / "diary.txt").exists()


@pytest.mark.parametrize(
    "other",
    [{"y": torch.ones(2, 3)}, {"x": torch.ones(3, 2)}, {"x": torch.ones(2, 3).view(torch.int32)}],
    ids=["name", "shape", "type"],
)
def test_the_same_bytes_of_another_name_shape_or_type_are_not_what_was_kept(
    other: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    write_kept(path, Kept({"x": torch.ones(2, 3)}, "note"))
    write_tensors(path, other, read_header(path).metadata, overwrite=True)
    assert read_kept(path) is None


def test_what_is_no_longer_said_of_an_order_is_named_too(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    keep_and_fail(out, 1, film={**FILM, "lens": "wide"})
    with pytest.raises(ArgumentError, match=r"another lens \('wide', now None\)"):
        keep_and_fail(out, 1)


def test_an_output_is_known_again_by_its_recipe_as_it_is_written(tmp_path: Path) -> None:
    out, recipe = tmp_path / "a.png", {"hold": (0, 1), "model": "/home/mia/models/cats"}
    assert not is_finished(out, recipe)
    write_picture(out, np.zeros((2, 2, 3), np.uint8), recipe=recipe)
    assert is_finished(out, recipe) and not is_finished(out, {**recipe, "hold": (0, 2)})


def test_films_of_long_names_have_folders_of_their_own(tmp_path: Path) -> None:
    for end in "ab":
        keep_and_fail(tmp_path / f"{'x' * 60}{end}.gif", 1, film={"name": end})
    assert len(list(tmp_path.iterdir())) == 2


def test_somebody_s_file_in_the_folder_is_never_removed(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    keep_and_fail(out, 1)
    (folder_of(out) / "diary.txt").touch()
    with pytest.raises(OutputError, match=r"diary\.txt, which is in the way"):
        with open_work(out, FILM, HERE):
            pass
    assert (folder_of(out) / "diary.txt").exists()


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    out, treasure = tmp_path / "film.gif", tmp_path / "treasure"
    keep_and_fail(out, 1)
    folder = folder_of(out)
    folder.rename(treasure)
    folder.symlink_to(treasure)
    with pytest.raises(OutputError, match="is in the way"), open_work(out, FILM, HERE):
        pass
    assert len(list(treasure.iterdir())) == 2


def test_work_keeps_every_dtype_and_shape(tmp_path: Path) -> None:
    made = {
        "frames": torch.arange(24, dtype=torch.uint8).reshape(2, 2, 2, 3),
        "latents": torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
        "memory.0": torch.ones(1, dtype=torch.float64) / 3,
        "sliced": torch.arange(12.0).reshape(3, 4).T,
    }
    work = WorkFolder(tmp_path, json.dumps({}))
    work("batch-0", lambda: Kept(made, "é"))
    kept = work("batch-0", never)
    assert kept.text == "é"
    for name, tensor in made.items():
        assert kept.tensors[name].dtype == tensor.dtype
        assert torch.equal(kept.tensors[name], tensor)


# ---- the claim ----


def test_an_output_is_claimed_once_and_freed_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    with claim(out):
        with pytest.raises(BusyError, match="being made by another run"), claim(out):
            pass
        with claim(tmp_path / "other.gif"):
            pass
        assert sweep_orphans(tmp_path) == 0, "a claim in use is no orphan"
    with claim(out):
        pass
    assert not list(tmp_path.iterdir())


def test_the_claim_of_a_dead_run_holds_nobody_up(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    code = (
        "import os, signal\nfrom ddim_interp.files import claim\n"
        f"with claim({os.fspath(out)!r}):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with claim(out):
        pass
    assert not list(tmp_path.iterdir())


def test_whoever_claims_an_output_clears_away_what_killed_runs_left(tmp_path: Path) -> None:
    orphan = tmp_path / ".grid.png.0123456789ab.part"
    orphan.write_bytes(b"half a picture")
    with claim(tmp_path / "grid.png"):
        assert not orphan.exists()


def test_a_work_folder_without_work_goes(tmp_path: Path) -> None:
    with pytest.raises(ValueError), work_folder(tmp_path / "a", re.compile("x")):
        raise ValueError
    assert not list(tmp_path.iterdir())
