"""Whatever fails under a run, it ends as documented, and nothing incomplete stands anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from broken_runs import Nursery
from soak import (
    Workshop,
    cap_memory,
    content,
    draw_long_films,
    fail_calls,
    fill_disk,
    repeat,
    run_out_of_memory,
    spoil_numbers,
)

from ddim_interp.errors import BusyError
from ddim_interp.memory import halve_until_it_fits, ran_out_of_memory


@pytest.fixture(scope="module")
def shop(
    tiny_folder: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    with Nursery() as nursery:
        yield Workshop(nursery, tiny_folder, pictures, tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize(
    ("suffix", "more", "number"),
    [(".mp4", (), 8), (".safetensors", (), 18), (".gif", ("--resume",), 6)],
    ids=["morph", "invert", "morph --resume"],
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
        out = shop.place(".safetensors")
        outcome = shop.run(out, fail_at=fail_at, errno=error)
        if outcome.failed == name:
            assert outcome.code in (66, 73, 74) and not list(out.parent.iterdir())
            break
    else:
        pytest.fail(f"no {name} among the first calls")


def test_a_disk_without_room_is_told_and_gone_on_with(shop: Workshop) -> None:
    tally = fill_disk(shop, ".mp4", 3)
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
    outcome = shop.run(shop.place(".safetensors"), "--json", oom_above=1)
    assert outcome.code == 0 and json.loads(outcome.out)["batch_size"] == 1
    refused = shop.run(shop.place(".safetensors"), oom_above=0)
    assert refused.code == 75 and refused.clean


def test_a_capped_address_space_is_no_crash(shop: Workshop) -> None:
    tally = cap_memory(shop, 3)
    assert tally.good and tally.clean > 0, tally


def test_memory_does_not_grow_with_the_film(shop: Workshop) -> None:
    tally = draw_long_films(shop, 200)
    assert tally.good and tally.passed == 3, tally


def test_nan_from_the_network_never_reaches_a_film(shop: Workshop) -> None:
    tally = spoil_numbers(shop, 3)
    assert tally.good, tally


def test_the_same_command_gives_the_same_bytes(shop: Workshop) -> None:
    tally = repeat(shop, 2)
    assert tally.good and tally.passed == 2, tally


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


def test_other_errors_are_not_tried_again() -> None:
    tried: list[int] = []

    def work(size: int) -> None:
        tried.append(size)
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        halve_until_it_fits(work, 8)
    assert tried == [8]
