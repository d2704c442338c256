"""Many films: what a table may say, that one failure stops nothing, that a batch goes on."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from ddim_interp import DDIMPipeline, Plan, Style
from ddim_interp.batch import (
    Crew,
    Inline,
    Maker,
    Outcome,
    Tally,
    Task,
    make_all,
    open_ledger,
    read_table,
)
from ddim_interp.batch.cluster import our_signals
from ddim_interp.batch.crew import _Worker, share_out
from ddim_interp.cli.batch import FORMATS
from ddim_interp.cli.film import film_parameters
from ddim_interp.errors import (
    ArgumentError,
    BusyError,
    ModelError,
    OutputError,
    StorageError,
    TableError,
)
from ddim_interp.production.film import FilmOrder

FAST = ("--steps", "3", "--frames", "4", "--format", "webp", "--upscale", "1")
OPTIONS = film_parameters()


def table_of(folder, text, name="films.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- what a table may say ----


def test_a_row_of_keyframes_is_a_film(tmp_path):
    table = table_of(tmp_path, 'apple.png,pear.png\n\n seed:3 , "b, c.png",z.safetensors#2\n')
    first, second = read_table(table)
    assert first.sources == (str(tmp_path / "apple.png"), str(tmp_path / "pear.png"))
    assert first.name == "apple__pear" and (first.line, second.line) == (1, 3)
    files = (str(tmp_path / "b, c.png"), str(tmp_path / "z.safetensors#2"))
    assert second.sources == ("seed:3", *files)
    assert second.name == "seed3__b__c__z-2"


def test_a_file_of_latents_is_a_film_and_semicolons_may_be_in_names(tmp_path):
    first, second = read_table(table_of(tmp_path, "a;b.png,c.png\nz.safetensors\n"))
    assert first.sources == (str(tmp_path / "a;b.png"), str(tmp_path / "c.png"))
    assert second.sources == (str(tmp_path / "z.safetensors"),)


def test_rows_may_end_as_they_did_on_old_macintoshes(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\rseed:1,seed:2\rseed:3,seed:4\r")
    assert [row.name for row in read_table(tmp_path / "t.csv")] == ["seed1__seed2", "seed3__seed4"]


def test_titles_name_the_film_and_its_options(tmp_path):
    text = "From;To;Name;--Frames;Per leg\na.png;b.png;one;9;\nseed:1;seed:2;;;yes\n"
    first, second = read_table(table_of(tmp_path, "\ufeff" + text), OPTIONS)
    assert (first.name, first.wishes) == ("one", {"frames": "9"})
    assert (second.name, second.wishes) == ("seed1__seed2", {"per_leg": "yes"})


def test_json_says_the_same(tmp_path):
    rows = [
        {"keyframes": ["a.png", "b.png"], "name": "one", "frames": 9},
        {"keyframes": ["seed:1", "seed:2"], "per-leg": True, "hold": [1, 2], "loop": None},
    ]
    text = "\n".join(map(json.dumps, rows))
    first, second = read_table(table_of(tmp_path, text, "films.jsonl"), OPTIONS)
    assert (first.name, first.wishes) == ("one", {"frames": 9})
    assert second.wishes == {"per_leg": True, "hold": [1, 2]}


def test_films_that_would_be_called_the_same_get_names_of_their_own(tmp_path):
    rows = ["x/1.png,x/2.png", "y/1.png,y/2.png", "a.png,b.png"]
    found = read_table(table_of(tmp_path, "\n".join(rows)))
    names = [row.name for row in found]
    assert len(set(names)) == 3 and names[2] == "a__b"
    assert all(name.startswith("1__2-") for name in names[:2])
    turned = read_table(table_of(tmp_path, "\n".join(rows[::-1])))
    assert [row.name for row in turned] == names[::-1], "a name does not depend on the others"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2))
def test_no_name_leaves_the_folder(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("tables")
    text = json.dumps({"keyframes": [f"{cell}.png" for cell in cells]})
    try:
        (row,) = read_table(table_of(folder, text, "t.jsonl"))
    except TableError as refused:
        assert "\n" not in str(refused)
        return
    assert Path(row.name).name == row.name and row.name not in (".", "..", "")
    assert len(os.fsencode(row.name)) <= 200 and row.name.isprintable()


def test_a_name_is_short_enough_for_any_file_system(tmp_path):
    cells = [f"{40 * '漢'}{i}.png" for i in range(3)]
    (row,) = read_table(table_of(tmp_path, ",".join(cells)))
    assert row.name.startswith("漢") and 190 < len(row.name.encode()) <= 200


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.csv", "", "asks for no film"),
        ("t.csv", "a,b\n", "asks for no film"),
        ("t.csv", "a.png\n", "has 1 keyframes"),
        ("t.csv", "z.safetensors#2\n", "line 1, has 1 keyframes"),
        ("t.csv", "a.png,b.png\na.png,b.png\n", "two films"),
        ("t.csv", "a.png,b.png\nseed:1,seed:x\n", "line 2: .* names no seed"),
        ("t.csv", "a,b,a\n1.png,2.png,3.png\n", "two columns 'a'"),
        ("t.csv", "a,b,frame\n1.png,2.png,9\n", "call it 'frames'"),
        ("t.csv", "a,b,no-dither\n1.png,2.png,yes\n", "call it 'dither'"),
        ("t.csv", "a,b\n1.png,2.png,3.png\n", "3 cells for 2 titles"),
        ("t.csv", 'a.png,"b.png\n', "is no CSV"),
        ("t.csv", "a,b,name\n1.png,2.png,../x\n", "letters, digits"),
        ("t.csv", f"a,b,name\n1.png,2.png,{101 * 'x'}\n", "at most 100"),
        ("t.csv", f"a,b,name\n1.png,2.png,{67 * '漢'}\n", "in 200 bytes"),
        ("t.csv", "a,b,name\n1.png,2.png,x\n3.png,4.png,X\n", "two films"),
        ("t.jsonl", "\n[1]\n", "line 2, .*{…} is expected"),
        ("t.jsonl", '{"keyframes": "a.png"}\n', "no list of keyframes"),
        ("t.jsonl", '{"keyframes": ["a.png", "b.png"], "name": 3}\n', "give text"),
        ("t.jsonl", '{"keyframes": ["a.png", "b.png"], "framse": 3}\n', "did you mean 'frames'"),
        ("t.jsonl", '{"keyframes": ["a", "b"], "keyframes": []}\n', "twice"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, name, text, words):
    with pytest.raises(TableError, match=words) as refused:
        read_table(table_of(tmp_path, text, name), OPTIONS)
    assert "\n" not in str(refused.value)


def test_the_example_is_a_table():
    rows = read_table(Path(__file__).parents[1] / "examples" / "pairs.csv", OPTIONS)
    assert [row.name for row in rows] == ["first", "plum__lemon", "seed10__orange"]
    assert [row.wishes for row in rows] == [{}, {"loop": "yes"}, {"frames": "45"}]
    files = [source for row in rows for source in row.sources if not source.startswith("seed:")]
    assert len(files) == 5 and all(Path(file).is_file() for file in files)


def test_a_table_that_would_fill_the_memory_is_refused(tmp_path):
    path = table_of(tmp_path, "a.png,b.png\n")
    os.truncate(path, 64_000_001)
    with pytest.raises(TableError, match="larger than 64 MB; split it"):
        read_table(path)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("äpfel.png,b.png".encode("utf-16"))
    with pytest.raises(TableError, match="UTF-8"):
        read_table(tmp_path / "t.csv")


# ---- the command ----


@pytest.fixture
def batch(call, tiny_folder, tmp_path):
    def batch(table, *more):
        return call("batch", table, "-o", tmp_path / "films", "--model", tiny_folder, *FAST, *more)

    return batch


def test_a_batch_makes_the_films_that_morph_makes(batch, call, tiny_folder, pictures, tmp_path):
    rows = f"a,b,frames,loop\n{pictures[0]},{pictures[1]},,\nseed:1,seed:2,6,yes\n"
    code, out, err = batch(table_of(tmp_path, rows))
    films = [tmp_path / "films" / name for name in ("disc__ring.webp", "seed1__seed2.webp")]
    assert (code, out.splitlines()) == (0, list(map(str, films)))
    assert err.startswith("2 made, 0 found, 0 failed") and err.count("\n") == 1
    alone = tmp_path / "alone.webp"
    for film, more in zip(films, ((*pictures,), ("seed:1", "seed:2", "--loop")), strict=True):
        length = ("--frames", "6") if "--loop" in more else ()
        fast = (*FAST[:4], *FAST[6:], *length)
        assert call("morph", *more, "-o", alone, "--model", tiny_folder, *fast)[0] == 0
        assert alone.read_bytes() == film.read_bytes()
        alone.unlink()
    entries = lines(tmp_path / "films" / "results.jsonl")
    assert [entry["frames"] for entry in entries] == [4, 6]
    assert {"nfe", "keyframes", "seconds", "model", "outputs", "sha256"} <= entries[0].keys()
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == [
        "disc__ring.webp", "results.jsonl", "seed1__seed2.webp",
    ]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_a_film_may_have_any_format(call, tiny_folder, tmp_path, form):
    table = table_of(tmp_path, "seed:1,seed:2\n")
    fast = ("--model", tiny_folder, "--steps", "2", "--frames", "3", "--format", form)
    assert call("batch", table, "-o", tmp_path / "films", *fast)[0] == 0
    suffix = "" if form == "folder" else f".{form}"
    assert (tmp_path / "films" / f"seed1__seed2{suffix}").exists()


def test_a_film_that_fails_stops_no_other(batch, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    rows = f"seed:1,gone.png\n{broken},seed:2\nseed:1,z.safetensors\nseed:1,seed:2\n"
    code, out, err = batch(table_of(tmp_path, rows))
    assert code == 1 and out.splitlines() == [str(tmp_path / "films" / "seed1__seed2.webp")]
    failures = lines(tmp_path / "films" / "failures.jsonl")
    assert {each["name"]: each["exit_code"] for each in failures} == {
        "seed1__gone": 66, "broken__seed2": 65, "seed1__z": 66,
    }  # fmt: skip
    assert all(each["error"] in err for each in failures)
    assert failures[-1]["keyframes"] and err.endswith("failures.jsonl\n")


def test_a_batch_goes_on_and_makes_nothing_twice(batch, refused, pictures, tmp_path):
    table = table_of(tmp_path, f"seed:1,seed:2\n{pictures[0]},gone.png\n")
    assert batch(table)[0] == 1
    refused(batch(table), 73, "--resume", "--overwrite")
    (tmp_path / "gone.png").write_bytes(pictures[1].read_bytes())
    code, out, _ = batch(table, "--resume", "--json")
    report = json.loads(out)
    assert (code, report["made"], report["found"], report["failed"]) == (0, 1, 1, 0)
    assert len(report["outputs"]) == report["films"] == 2 and report["failures"] is None
    assert not (tmp_path / "films" / "failures.jsonl").exists()
    assert json.loads(batch(table, "--resume", "--json")[1])["nfe"] == 0


def test_a_film_that_somebody_has_changed_is_not_found(batch, tmp_path):
    table = table_of(tmp_path, "seed:1,seed:2\n")
    assert batch(table)[0] == 0
    film = tmp_path / "films" / "seed1__seed2.webp"
    whole = film.read_bytes()
    at = len(whole) // 3
    film.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])  # its recipe is whole
    code, _, err = batch(table, "--resume")
    assert code == 1 and "not as it was made" in err
    assert batch(table, "--resume", "--overwrite")[0] == 0 and film.read_bytes() == whole
    assert json.loads(batch(table, "--resume", "--overwrite", "--json")[1])["found"] == 1


def stopped_at_a_frame(batch, table, monkeypatch):
    """What is noted of a batch that is stopped in its first film that has frames."""

    class Stopped(BaseException):
        pass

    def stop(self, frame):
        raise Stopped

    with monkeypatch.context() as broken, pytest.raises(Stopped) as stopped:
        broken.setattr("ddim_interp.sinks.film.FrameSink.write", stop)
        batch(table)
    return stopped.value.__notes__


def test_a_batch_that_is_stopped_says_one_way_to_go_on(batch, tmp_path, monkeypatch):
    table = table_of(tmp_path, "seed:1,gone.png\nseed:1,seed:2\n")
    assert stopped_at_a_frame(batch, table, monkeypatch) == [
        "0 made, 0 found, 1 failed; the same command with --resume goes on from there."
    ]


def test_a_batch_that_is_begun_anew_goes_on_from_nothing(batch, tmp_path, monkeypatch):
    table = table_of(tmp_path, "seed:1,seed:2\n")
    folder = tmp_path / "films"

    assert stopped_at_a_frame(batch, table, monkeypatch) == [
        "What was done is kept; the same command goes on from there."
    ]
    assert list(folder.glob(".*.work"))
    (folder / ".ended-by.json").write_text('{"seed1__seed2": 3}')
    assert batch(table, "--overwrite", "--steps", "2")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["results.jsonl", "seed1__seed2.webp"]


def test_a_batch_that_has_moved_is_told_from_here(batch, tmp_path, monkeypatch):
    table = table_of(tmp_path, "seed:1,seed:2\n")
    assert batch(table)[0] == 0
    (tmp_path / "films").rename(tmp_path / "moved")
    (tmp_path / "films").symlink_to("moved")
    results = tmp_path / "films" / "results.jsonl"
    results.write_text(results.read_text().replace(str(tmp_path), "/elsewhere"))
    found = json.loads(batch(table, "--resume", "--json")[1])
    assert found["found"] == 1
    assert found["outputs"] == [str(tmp_path / "films" / "seed1__seed2.webp")]


def test_how_real_a_film_is_can_be_asked_later(batch, tmp_path):
    table = table_of(tmp_path, "seed:1,seed:2\n")
    assert batch(table)[0] == 0
    assert batch(table, "--resume", "--realism")[0] == 0
    (entry,) = lines(tmp_path / "films" / "results.jsonl")
    assert "realism" in entry
    assert json.loads(batch(table, "--resume", "--realism", "--json")[1])["found"] == 1


def test_no_film_replaces_what_another_is_made_of(call, refused, tiny_folder, pictures, tmp_path):
    for picture in pictures:
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    table = table_of(tmp_path, "a,b,name\nseed:1,ring.png,disc\ndisc.png,seed:2,other\n")
    fast = ("--model", tiny_folder, "--steps", "2", "--frames", "3", "--format", "png")
    result = call("batch", table, "-o", tmp_path, *fast, "--overwrite")
    refused(result, 2, "would replace", "disc.png", "choose")
    assert (tmp_path / "disc.png").read_bytes() == pictures[0].read_bytes()


@pytest.mark.parametrize("change", ["film", "gone", "picture", "option", "line"])
def test_what_has_changed_is_made_anew(batch, pictures, tmp_path, change):
    own = tmp_path / "own.png"
    own.write_bytes(pictures[0].read_bytes())
    table = table_of(tmp_path, "own.png,seed:2\nseed:3,seed:4\n")
    assert batch(table)[0] == 0
    film, results = tmp_path / "films" / "own__seed2.webp", tmp_path / "films" / "results.jsonl"
    more = ("--resume",)
    if change == "gone":
        film.unlink()
    elif change == "picture":
        own.write_bytes(pictures[1].read_bytes())
        more = ("--overwrite",)
    elif change == "option":
        more = ("--resume", "--steps", "2")
    elif change == "line":
        first, second = results.read_bytes().splitlines(keepends=True)
        results.write_bytes(second + first[:-40])
    elif change == "film":
        film.write_bytes(film.read_bytes()[:-1])
    code, out, _ = batch(table, *more, "--json")
    report = json.loads(out)
    if change in ("film", "option"):  # something else stands there: it is not replaced unasked
        assert code == 1 and report["failed"] == (1 if change == "film" else 2)
        assert "exists" in lines(tmp_path / "films" / "failures.jsonl")[0]["error"]
    else:
        assert code == 0 and len(lines(results)) == 2
        assert report["found"] == (0 if change == "picture" else 1)


def test_parts_make_together_what_one_run_makes(batch, tmp_path):
    table = table_of(tmp_path, "".join(f"seed:{i},seed:{i + 1}\n" for i in range(5)))
    folder = tmp_path / "films"
    assert batch(table)[0] == 0
    alone = {film.name: film.read_bytes() for film in folder.glob("*.webp")}
    folder.rename(tmp_path / "alone")

    made = [json.loads(batch(table, "--part", f"{k}/2", "--json")[1]) for k in (1, 2)]
    assert [part["films"] for part in made] == [3, 2]
    assert {film.name: film.read_bytes() for film in folder.glob("*.webp")} == alone
    names = [[line["name"] for line in lines(Path(part["results"]))] for part in made]
    assert names == [["seed0__seed1", "seed2__seed3", "seed4__seed5"],
                     ["seed1__seed2", "seed3__seed4"]]  # fmt: skip
    again = json.loads(batch(table, "--part", "2/2", "--resume", "--json")[1])
    assert (again["made"], again["found"]) == (0, 2)

    (folder / "seed3__seed4.webp").unlink()
    whole = json.loads(batch(table, "--resume", "--json")[1])
    assert (whole["made"], whole["found"]) == (1, 4)
    assert {film.name: film.read_bytes() for film in folder.glob("*.webp")} == alone
    entries = lines(folder / "results.jsonl")
    assert {entry["name"] for entry in entries} == {name.removesuffix(".webp") for name in alone}
    assert len(entries) == 5


def test_parts_stay_out_of_each_other_s_way(batch, refused, tmp_path):
    table = table_of(tmp_path, "seed:1,gone.png\nseed:1,seed:2\n")
    folder = tmp_path / "films"
    with open_ledger(folder, part=(2, 2)) as other:
        result = batch(table, "--part", "2/2", "--resume")
        refused(result, 75, "results.2-of-2.jsonl")
        assert batch(table, "--part", "1/2")[0] == 1
        other.ends.write_text('{"seed1__seed2": 3}')  # it ended three runs
    assert [line["name"] for line in lines(folder / "failures.1-of-2.jsonl")] == ["seed1__gone"]
    assert batch(table, "--part", "1/2", "--resume")[0] == 1
    assert batch(table, "--part", "2/2", "--resume")[0] == 1
    assert "3 runs" in lines(folder / "failures.2-of-2.jsonl")[0]["error"]
    refused(batch(table, "--part", "1/2"), 73, "holds a batch already")
    for part in ("0/2", "3/2", "1", "1/0", "-1/2", "1/2/3", "a/b"):
        refused(batch(table, "--part", part), 2, "no part")


def test_options_that_cannot_be_meant_are_refused_before_anything_is_made(batch, refused, tmp_path):
    table = table_of(tmp_path, "a,b,frames\nseed:1,seed:2,many\n")
    refused(batch(table), 65, "line 2", "frames = 'many'")
    table = table_of(tmp_path, "seed:1,seed:2\n")
    refused(batch(table, "--pace", "uniform", "--frames", "1"), 2, "no film")
    refused(batch(table, "--timeout", "3"), 2, "--workers")
    refused(batch(table, "--workers", "2", "--device", "cpu:0"), 2, "CUDA_VISIBLE_DEVICES")
    refused(batch(tmp_path / "none.csv"), 66, "not there")
    refused(batch(table, "--model", tmp_path / "no"), 66, "no folder")
    assert not list((tmp_path / "films").glob("*.webp"))


def test_a_batch_that_cannot_begin_says_why_and_no_more(batch, refused, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    result = batch(table_of(tmp_path, "seed:1,seed:2\n"), "--workers", "2")
    refused(result, 2, "or do without --workers.")
    assert "--resume" not in result[2]


def test_a_batch_of_failures_ends_early_if_that_is_wished(batch, tmp_path):
    rows = "".join(f"seed:{i},gone.png\n" for i in range(5))
    code, _, err = batch(table_of(tmp_path, rows), "--max-failures", "1")
    assert code == 1 and "0 made, 0 found, 2 failed" in err


def test_a_killed_batch_goes_on(tiny_folder, tmp_path):
    rows = "".join(f"seed:{i},seed:{i + 1}\n" for i in range(12))
    table = table_of(tmp_path, rows)
    out = tmp_path / "films"
    arguments = ["batch", table, "-o", out, "--model", tiny_folder, *FAST]
    command = [sys.executable, "-m", "ddim_interp", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        run.stdout.readline()
        run.kill()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, found = (int(words.split()[0]) for words in done.stderr.split(", ")[:2])
    assert made + found == 12 and found >= 1
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted([*(f"seed{i}__seed{i + 1}.webp" for i in range(12)), "results.jsonl"])


def test_a_film_made_in_another_precision_is_another(tiny_folder, tmp_path):
    task = film(tmp_path, "a")
    made = Maker(partial(load, tiny_folder, "bf16")).make(task)
    again = replace(task, entry=made.entry)
    assert Maker(partial(load, tiny_folder, "bf16")).make(again).found
    refused = Maker(partial(load, tiny_folder)).make(again)
    assert refused.failed and "exists" in refused.entry["error"]
    anew = Maker(partial(load, tiny_folder), overwrite=True).make(again)
    assert not anew.found and not anew.failed


# ---- who makes them ----


def film(folder, name, *sources):
    order = FilmOrder(sources or ("seed:1", "seed:2"), folder / f"{name}.webp", upscale=1)
    return Task(name, replace(order, plan=Plan(3), style=Style(frames=4)))


def load(folder, dtype="fp32"):
    pipe = DDIMPipeline.from_pretrained(folder, device="cpu", dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@dataclass
class Odd(Maker):
    """A maker that stumbles over some names."""

    def make(self, task):
        if "deadly" in task.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "endless" in task.name:
            os.kill(os.getpid(), signal.SIGSTOP)
        if "listeners" in task.name:
            return Outcome({"name": task.name, "at": _listeners()})
        return super().make(task)


def _listeners():
    """The addresses at which Ray's processes, our ancestors' kin, listen."""
    family = psutil.Process().parent().parent()
    found = []
    for process in [family, *family.children(recursive=True)]:
        with suppress(psutil.Error):  # it has just ended
            found += process.net_connections()
    return [each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN]


@pytest.fixture
def seen_by_workers(monkeypatch):
    """This module, which processes of Ray are to import."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(Path(__file__).parent)]))


def test_workers_survive_their_films_and_make_the_same_bytes(
    tiny_folder, tmp_path, seen_by_workers
):
    maker = Odd(partial(load, tiny_folder))
    names = ["one", "deadly", "two", "listeners", "endless", "three"]
    tasks = [film(tmp_path, name) for name in names]
    with open_ledger(tmp_path) as ledger:
        crew = Crew(maker, workers=2, gpu=False, tries=2, patience=10)
        outcomes = {outcome.name: outcome for outcome in make_all(tasks, crew, ledger)}
    assert set(outcomes) == set(names)
    assert {name for name, outcome in outcomes.items() if outcome.failed} == {"deadly", "endless"}
    assert "died" in outcomes["deadly"].entry["error"]
    assert "10 seconds" in outcomes["endless"].entry["error"]
    addresses = outcomes["listeners"].entry["at"]
    assert len(addresses) > 3
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    (alone,) = Inline(Maker(partial(load, tiny_folder)), tmp_path / "ends").run(
        [film(tmp_path, "alone")]
    )
    assert not alone.failed
    for name in ("one", "two", "three"):
        whole = (tmp_path / "alone.webp").read_bytes()
        assert (tmp_path / f"{name}.webp").read_bytes() == whole


@dataclass(frozen=True)
class Repainted(FilmOrder):
    """A film of a picture that somebody changes while it is being made."""

    def make(self, attempt):
        made = super().make(attempt)
        Image.new("RGB", (16, 16), "red").save(self.sources[0])
        return made


def test_a_film_is_known_by_what_it_was_made_of(tiny_folder, tmp_path):
    picture = tmp_path / "own.png"
    Image.new("RGB", (16, 16), "blue").save(picture)
    order = film(tmp_path, "one", str(picture), "seed:2").order
    maker = Maker(partial(load, tiny_folder), overwrite=True)
    first = maker.make(Task("one", Repainted(**vars(order))))
    again = maker.make(Task("one", order, first.entry))
    assert not first.failed and not again.failed
    assert not again.found and again.entry["sha256"] != first.entry["sha256"]
    assert maker.make(Task("one", order, again.entry)).found


def _no_model():
    raise ModelError("There is none; give one.")


def test_without_a_model_no_film_has_failed(tmp_path, seen_by_workers):
    for engine in (
        Crew(Maker(_no_model), 1, gpu=False),
        Inline(Maker(_no_model), tmp_path / "ends"),
    ):
        with open_ledger(tmp_path) as ledger, pytest.raises(ModelError, match="There is none"):
            list(make_all([film(tmp_path, "one")], engine, ledger))
        assert not ledger.failures.exists()


def test_a_worker_without_room_keeps_no_film(tiny_folder, tmp_path, seen_by_workers, monkeypatch):
    all_cores = lambda machines, *_: (2, machines[0]["CPU"], 0)  # noqa: E731
    monkeypatch.setattr("ddim_interp.batch.crew.share_out", all_cores)
    crew = Crew(Maker(partial(load, tiny_folder)), 2, gpu=False, patience=60)
    outcomes = list(crew.run([film(tmp_path, "one"), film(tmp_path, "two")]))
    assert [outcome.failed for outcome in outcomes] == [False, False]


def test_names_of_files_are_meant_from_where_the_batch_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    _Worker(Maker(_no_model), tmp_path)
    assert Path.cwd() == tmp_path
    _Worker(Maker(_no_model), tmp_path / "only on the other machine")
    assert Path.cwd() == tmp_path


def test_a_signal_that_ray_has_taken_is_given_back():
    class Stopped(BaseException):
        pass

    def stop(number, frame):
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped), our_signals():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_process():
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_as_they_begin_are_given_up(tmp_path, seen_by_workers):
    with pytest.raises(BusyError, match="2 workers died as they began"):
        list(Crew(Maker(_end_process), 1, gpu=False, tries=2).run([film(tmp_path, "one")]))


def test_a_film_that_ends_every_run_is_left_out_in_the_end(tiny_folder, tmp_path, seen_by_workers):
    script = (
        "from test_batch import *\n"
        f"folder, model = Path({str(tmp_path)!r}), Path({str(tiny_folder)!r})\n"
        "tasks = [film(folder, name) for name in ('one', 'deadly', 'two')]\n"
        "with open_ledger(folder, resume=True) as ledger:\n"
        "    engine = Inline(Odd(partial(load, model)), ledger.ends, tries=2)\n"
        "    for outcome in make_all(tasks, engine, ledger):\n"
        "        print(outcome.name, outcome.failed, outcome.found)\n"
    )
    run = partial(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True)
    assert [run().returncode for _ in range(2)] == [-signal.SIGKILL] * 2
    last = run()
    assert last.stdout.splitlines() == ["one False True", "deadly True False", "two False False"]
    assert "2 runs ended" in (tmp_path / "failures.jsonl").read_text()


def test_a_disk_that_refuses_everything_ends_the_batch(tmp_path, monkeypatch):
    made = []

    def refuse(self, task):
        made.append(task.name)
        raise StorageError("No room; make some.")

    monkeypatch.setattr(Maker, "_made", refuse)
    tasks = [film(tmp_path, f"film{i}") for i in range(9)]
    with open_ledger(tmp_path) as ledger, pytest.raises(StorageError):
        list(make_all(tasks, Inline(Maker(lambda: None), ledger.ends), ledger))
    assert len(made) == Maker.patience


def test_a_batch_has_one_user(tmp_path):
    with open_ledger(tmp_path), pytest.raises(BusyError), open_ledger(tmp_path):
        pass


def test_a_folder_that_is_a_file_holds_no_batch(tmp_path):
    (tmp_path / "films").write_text("")
    with pytest.raises(OutputError, match="is a file"), open_ledger(tmp_path / "films"):
        pass


@pytest.mark.parametrize(
    ("machines", "workers", "gpu", "wanted"),
    [
        ([{"CPU": 8}], None, None, (1, 8, 0)),
        ([{"CPU": 8}], 3, None, (3, 2, 0)),
        ([{"CPU": 2}], 5, False, (5, 0.3333, 0)),
        ([{"CPU": 16, "GPU": 4}], None, None, (4, 4, 1)),
        ([{"CPU": 16, "GPU": 1}], 2, True, (2, 8, 0.5)),
        ([{"CPU": 16, "GPU": 2}], 3, True, (3, 5, 0.5)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}], None, None, (4, 4, 1)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 2}], 3, False, (3, 4, 0)),
    ],
)
def test_cores_and_gpus_are_shared_out(machines, workers, gpu, wanted):
    assert share_out(machines, workers, gpu) == wanted


def test_there_must_be_gpus_to_share_out():
    with pytest.raises(ArgumentError, match="no GPU"):
        share_out([{"CPU": 8}], None, True)


def test_a_ray_that_would_listen_to_everybody_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(ArgumentError, match="import it later"):
        list(Crew(Maker(_no_model), 1).run([film(tmp_path, "one")]))


def test_without_ray_workers_are_refused_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"ddim_interp\[batch\]"):
        list(Crew(Maker(_no_model), 1).run([film(tmp_path, "one")]))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "localhost:port", "[::1]:99999"])
def test_a_cluster_that_does_not_answer_is_not_waited_for(address, tmp_path):
    with pytest.raises(ArgumentError, match="No cluster of Ray answers"):
        list(Crew(Maker(_no_model), 1, address=address).run([film(tmp_path, "one")]))


def test_a_tally_counts_each_film_once():
    outcomes = [
        Outcome({"name": "a", "nfe": 5}),
        Outcome({"name": "b", "nfe": 7}, found=True),
        Outcome({"name": "c", "nfe": 2}, good=False),
        Outcome.failure("d", (), BusyError("no")),
    ]
    tally = Tally()
    for outcome in outcomes:
        tally = tally.plus(outcome)
    assert tally == Tally(made=2, found=1, failed=1, bad=1, nfe=7)
