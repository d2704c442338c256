"""Whatever fails under a run, it ends as documented, and nothing incomplete stands anywhere."""

import errno
import io
import json
import threading

import pytest
import torch
from campaigns import (
    Workshop,
    break_batches,
    can_have_disks,
    cap_memory,
    content,
    draw_long_films,
    fail_calls,
    fetch_together,
    fill_disk,
    limit_files,
    repeat,
    run_out_of_memory,
    small_disk,
    spoil_latents,
    spoil_numbers,
    try_names,
)

from ddim_interp.errors import BusyError, StorageError
from ddim_interp.memory import halve_until_it_fits, ran_out_of_memory
from ddim_interp.progress import bar
from ddim_interp.spool import Spool


@pytest.mark.parametrize(
    ("suffix", "more", "number"),
    [
        (".mp4", (), 12),
        ("z.safetensors", (), 18),
        (".gif", ("--resume",), 18),
        ("grid.png", ("--resume",), 9),
        ("sheet.png", (), 9),
    ],
    ids=["morph", "invert", "morph --resume", "grid --resume", "sample"],
)
def test_any_system_call_may_fail(
    shop: Workshop, suffix: str, more: tuple[str, ...], number: int
) -> None:
    tally = fail_calls(shop, suffix, number, *more)
    assert tally.good and tally.clean > number / 2, tally


@pytest.mark.parametrize("error", [5, 28, 4], ids=["EIO", "ENOSPC", "EINTR"])
@pytest.mark.parametrize("name", ["open", "fstat"])
def test_a_lock_that_cannot_be_made_leaves_nothing(shop: Workshop, name: str, error: int) -> None:
    for fail_at in range(1, 9):
        out = shop.place("z.safetensors")
        outcome = shop.run(out, fail_at=fail_at, errno=error)
        if outcome.failed == name:
            assert outcome.code in (66, 73, 74) and not list(out.parent.iterdir())
            break
    else:
        pytest.fail(f"no {name} among the first calls")


def test_a_disk_without_room_is_told_and_gone_on_with(shop: Workshop) -> None:
    tally = limit_files(shop, ".mp4", 3)
    assert tally.good and tally.clean == 3, tally


def test_where_memory_runs_out_batches_are_halved_and_the_film_says_so(shop: Workshop) -> None:
    tally = run_out_of_memory(shop, 3)
    assert tally.good and tally.passed == 3 and tally.clean == 1, tally
    out = shop.place(".gif")
    shop.run(out, oom_above=2)
    recipe = shop.nursery.run("info", out, "--json").out
    assert json.loads(recipe)["batch_size"] == 2


def test_a_run_that_halved_its_batches_resumes_to_the_same_bytes(shop: Workshop) -> None:
    whole, out = shop.place(".gif"), shop.place(".gif")
    calls = shop.run(whole, "--resume", oom_above=2).calls
    shop.run(out, "--resume", oom_above=2, kill_at=calls // 2)
    assert shop.run(out, "--resume", oom_above=2).code == 0
    assert content(out) == content(whole)


def test_inversion_halves_its_batches_too(shop: Workshop) -> None:
    outcome = shop.run(shop.place("z.safetensors"), "--json", oom_above=1)
    assert outcome.code == 0 and json.loads(outcome.out)["batch_size"] == 1
    refused = shop.run(shop.place("z.safetensors"), oom_above=0)
    assert refused.code == 75 and refused.clean


def test_a_capped_address_space_is_no_crash(shop: Workshop) -> None:
    tally = cap_memory(shop, 3)
    assert tally.good and tally.tried == 3, tally


def test_a_bar_starts_no_thread() -> None:
    before = threading.active_count()
    assert list(bar([1, 2], 2, "counting", disable=True)) == [1, 2]
    assert list(bar([1, 2], 2, "counting", file=io.StringIO())) == [1, 2]
    assert threading.active_count() == before


def test_memory_does_not_grow_with_the_film(shop: Workshop) -> None:
    tally = draw_long_films(shop, 200)
    assert tally.good and tally.passed == 3, tally


def test_nan_from_the_network_never_reaches_a_film(shop: Workshop) -> None:
    tally = spoil_numbers(shop, 18)
    assert tally.good, tally


def test_runs_that_fetch_one_model_together_all_get_it(shop: Workshop) -> None:
    tally = fetch_together(shop, rounds=1, runs=8)
    assert tally.good and tally.passed == 8, tally


def test_the_same_command_gives_the_same_bytes(shop: Workshop) -> None:
    tally = repeat(shop, 2)
    assert tally.good and tally.passed == 2, tally


@pytest.mark.skipif(not can_have_disks(), reason="only root can have disks of its own")
def test_a_full_disk_is_told_and_gone_on_with(shop: Workshop) -> None:
    tally = fill_disk(shop, ".mp4", 6)
    assert tally.good and tally.clean > 0 and tally.resumed == 6, tally


@pytest.mark.skipif(not can_have_disks(), reason="only root can have disks of its own")
@pytest.mark.parametrize("name", ["film.gif", "z.safetensors", "sheet.png", "grid.png", "a.html"])
def test_only_the_output_s_folder_need_be_writable(shop: Workshop, name: str) -> None:
    place = shop.place(name)
    with small_disk(place.parent, 2**20) as change:
        change("ro")
        out = shop.place(name)
        closed = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "HF_HOME"), str(place.parent))
        outcome = shop.run(out, environment=closed)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        refused = shop.run(place)
        assert refused.code == 73 and refused.clean and "read-only" in refused.err
        assert refused.forwards == 0, "found before the model is at work"


def test_where_nothing_temporary_can_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.TemporaryFile", nowhere)
    with pytest.raises(StorageError, match=r"No usable temporary .* set TMPDIR"):
        Spool()


def test_names_that_mean_something_elsewhere_are_names_here(shop: Workshop) -> None:
    tally = try_names(shop, 24)
    assert tally.good and tally.tried == 24, tally


def test_damaged_latents_are_refused_or_harmless(shop: Workshop) -> None:
    tally = spoil_latents(shop, 100)
    assert tally.good and tally.clean > 50, tally


def test_a_model_that_is_not_there_leaves_nothing(shop: Workshop) -> None:
    out = shop.place(".gif")
    (shop.folder / "empty").mkdir()
    for model, code in (("empty", 78), ("gone", 66)):
        command = ("morph", "seed:1", "seed:2", "-o", out, "--model", shop.folder / model)
        outcome = shop.nursery.run(*command)
        assert outcome.clean and outcome.code == code and not list(out.parent.iterdir())


# ---- memory ----


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("could not create a primitive"),  # oneDNN under a capped address space
        RuntimeError("[enforce fail a"),
        RuntimeError("unable to mmap 50500 bytes from file <a>: Cannot allocate memory (12)"),
        SystemError("error return without exception set"),
        SystemError("<built-in function empty> returned NULL without setting an exception"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_of_running_out_of_memory_is_known(error: BaseException) -> None:
    assert ran_out_of_memory(error)
    with pytest.raises(BusyError, match="one picture at a time"):
        halve_until_it_fits(lambda size: (_ for _ in ()).throw(error), 1)


def test_pytorch_s_own_refusal_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert ran_out_of_memory(caught.value)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 12, 16, 31])
def test_a_batch_is_halved_at_most_log2_times(batch_size: int) -> None:
    tried: list[int] = []

    def work(size: int) -> None:
        tried.append(size)
        raise MemoryError

    with pytest.raises(BusyError):
        halve_until_it_fits(work, batch_size)
    assert tried[0] == batch_size and tried[-1] == 1
    assert len(tried) == batch_size.bit_length()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("size mismatch"),
        SystemError("bad argument to internal function"),
        OSError(errno.ENOSPC, "No space left on device", "out of memory.png"),
        ValueError("out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_not_tried_again(error: Exception) -> None:
    tried: list[int] = []

    def work(size: int) -> None:
        tried.append(size)
        raise error

    with pytest.raises(type(error)):
        halve_until_it_fits(work, 8)
    assert tried == [8]


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_a_broken_batch_goes_on_to_the_same_films(shop: Workshop, how: str) -> None:
    tally = break_batches(shop, 7, how)
    assert tally.good and tally.resumed == tally.identical == 7, tally
