"""Whatever is made, it is made in the same way: claimed, halved until it fits, gone on with."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaigns import Workshop, content
from PIL import Image

from ddim_interp import DDIMPipeline
from ddim_interp.errors import ArgumentError, BusyError, OutputError
from ddim_interp.files import claim
from ddim_interp.model import Plan
from ddim_interp.production import Attempt, produce
from ddim_interp.production.film import FilmOrder, uneven
from ddim_interp.production.grid import GridOrder
from ddim_interp.production.latents import LatentsOrder
from ddim_interp.production.pictures import PicturesOrder
from ddim_interp.speedometer import Speeds
from ddim_interp.style import Style

ALL = ["film.gif", "z.safetensors", "sheet.png", "grid.png", "report.html"]
RESUMED = ALL[:-1]


@pytest.mark.parametrize("name", ALL)
def test_an_output_that_is_being_made_is_left_alone(shop: Workshop, name: str) -> None:
    out = shop.place(name)
    with claim(out):
        refused = shop.run(out)
    assert (refused.code, refused.err.count("\n")) == (75, 1)
    assert "being made by another run" in refused.err and not list(out.parent.iterdir())


@pytest.mark.parametrize("name", ALL)
def test_batches_are_halved_until_they_fit(shop: Workshop, name: str) -> None:
    outcome = shop.run(shop.place(name), "--json", oom_above=1)
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["batch_size"] == 1
    out = shop.place(name)
    refused = shop.run(out, oom_above=0)
    assert refused.code == 75 and refused.clean and not list(out.parent.iterdir())


@pytest.mark.parametrize("name", ALL)
def test_every_document_begins_alike(shop: Workshop, name: str) -> None:
    out = shop.place(name)
    document = json.loads(shop.run(out, "--json").out)
    assert document["outputs"] == [str(out)] and document["model"] == "small"
    assert document["nfe"] > 0 and document["seconds"] > 0
    assert document["batch_size"] == 4 and document["retries"] == 0


@pytest.mark.parametrize("name", RESUMED)
def test_a_killed_run_is_gone_on_with(shop: Workshop, name: str) -> None:
    whole = shop.place(name)
    unbroken = shop.run(whole, "--resume")
    out = shop.place(name)
    shop.run(out, "--resume", kill_at=unbroken.calls * 3 // 4)
    resumed = shop.run(out, "--resume")
    assert resumed.code == 0 and resumed.forwards < unbroken.forwards
    assert content(out) == content(whole) and list(out.parent.iterdir()) == [out]
    again = shop.run(out, "--resume")
    assert again.code == 0, "what is made needs no second making"
    assert shop.run(out).code == 73, "without --resume it is in the way"


def load(folder: Path, dtype: str = "fp32", **options: Any) -> DDIMPipeline:
    pipe = DDIMPipeline.from_pretrained(folder, device="cpu", dtype=dtype, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def interrupted(pipe: DDIMPipeline) -> DDIMPipeline:
    """The same, stopped when it has drawn one of several batches."""

    def stop(items: Any, total: int, doing: str) -> Iterator[Any]:
        for item in items:
            yield item
            if doing == "drawing":
                raise KeyboardInterrupt

    pipe.progress_bar = stop  # type: ignore[method-assign]
    return pipe


def test_another_class_is_another_film(tmp_path: Path) -> None:
    from ddim_interp import DDIMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), num_class_embeds=3, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    DDIMPipeline(unet, DDIMScheduler(), class_label=0).save_pretrained(tmp_path / "classes")
    order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", Plan(2), Style(frames=4))
    first = interrupted(load(tmp_path / "classes", class_label=0))
    with pytest.raises(KeyboardInterrupt):
        produce(order, lambda: first, batch_size=2, resume=True)
    with pytest.raises(ValueError, match=r"another model \('classes \(class 0\)'"):
        produce(order, lambda: load(tmp_path / "classes", class_label=1), batch_size=2, resume=True)


def test_another_repair_is_another_film(
    tiny_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    order = FilmOrder((pictures[0], "seed:2"), tmp_path / "film.gif", Plan(2), Style(frames=4))
    produce(order, lambda: load(tiny_folder), resume=True)
    with pytest.raises(OSError, match="exists"):
        produce(replace(order, repair="renormalise"), lambda: load(tiny_folder), resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"style": Style(frames=5)}, "another frames (4, now 5)"),
        ({"fps": 12.0}, "another fps (30.0, now 12.0)"),
        ({"upscale": 3}, "another upscale (16, now 3)"),
    ],
)
def test_what_is_there_and_was_made_otherwise_is_told_before_anything_is_inverted(
    tiny_folder: Path, pictures: list[Path], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    order = FilmOrder((pictures[0], "seed:2"), tmp_path / "film.gif", Plan(2), Style(frames=4))
    produce(order, lambda: load(tiny_folder), resume=True)
    pipe = load(tiny_folder)
    pipe.watch_by(lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match=re.escape(words)) as refused:
        produce(replace(order, **change), lambda: pipe, resume=True)
    assert not hasattr(refused.value, "__notes__"), "there is nothing to go on with"
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
    assert produce(order, lambda: load(tiny_folder), resume=True).facts["frames"] == 4


def test_another_keyframe_is_told_before_anything_is_inverted(
    tiny_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out, taken = tmp_path / "film.apng", tmp_path / "taken.png"
    taken.write_bytes(pictures[0].read_bytes())
    order = FilmOrder((taken, "seed:2"), out, Plan(2), Style(frames=4), upscale=1)
    produce(order, lambda: load(tiny_folder), resume=True)
    pipe = load(tiny_folder)
    pipe.watch_by(lambda *_: pytest.fail("it began"))

    def refusal(**change: Any) -> str:
        with pytest.raises(OutputError) as refused:
            produce(replace(order, **change), lambda: pipe, resume=True)
        assert not hasattr(refused.value, "__notes__"), "there is nothing to go on with"
        return str(refused.value)

    assert "another keyframe ('seed:2', now 'seed:3')" in refusal(sources=(taken, "seed:3"))
    assert "another keyframe ('taken.png', now 'seed:3')" in refusal(sources=("seed:3", "seed:2"))
    other = refusal(sources=(pictures[1], "seed:2"))
    assert f"another keyframe ('taken.png', now '{pictures[1].name}')" in other
    taken.write_bytes(pictures[1].read_bytes())
    assert "another keyframe ('taken.png', which has changed since)" in refusal()


def test_a_film_that_was_encoded_is_told_before_anything_is_inverted(
    tiny_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    from ddim_interp.footage import open_footage
    from ddim_interp.sinks import open_sink

    order = FilmOrder(
        (pictures[0], "seed:2"), tmp_path / "film.apng", Plan(2), Style(frames=4), upscale=1
    )
    produce(order, lambda: load(tiny_folder))
    footage = open_footage(tmp_path / "film.apng")
    again = tmp_path / "again.apng"
    with open_sink(again, fps=30.0, recipe=footage.told(30.0, 1)) as sink:
        for frame in footage.draw():
            sink.write(frame)
    pipe = load(tiny_folder)
    pipe.watch_by(lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError, match=r"exists, and was encoded from 'film\.apng'"):
        produce(replace(order, out=again), lambda: pipe, resume=True)


def test_no_film_is_begun_in_one_precision_and_ended_in_another(
    tiny_folder: Path, tmp_path: Path
) -> None:
    order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", Plan(2), Style(frames=4))
    with pytest.raises(KeyboardInterrupt):
        produce(order, lambda: interrupted(load(tiny_folder, "bf16")), batch_size=2, resume=True)
    with pytest.raises(ArgumentError, match=r"another precision \('bfloat16', now 'float32'\)"):
        produce(order, lambda: load(tiny_folder), batch_size=2, resume=True, allow_drift=True)
    produce(order, lambda: load(tiny_folder, "bf16"), batch_size=2, resume=True)


def test_a_film_in_the_precision_asked_for_is_not_the_one_in_another(
    tiny_folder: Path, tmp_path: Path
) -> None:
    order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", Plan(2), Style(frames=4))
    sheet = PicturesOrder(("seed:1", "seed:2"), tmp_path / "sheet.png", Plan(2))
    corners = GridOrder(("seed:1", "seed:2", "seed:3"), tmp_path / "grid.png", Plan(2))
    for each in (order, sheet, corners):
        produce(each, lambda: load(tiny_folder, "bf16"), resume=True)
        nfe = produce(each, lambda: load(tiny_folder, "bf16"), resume=True).nfe
        with pytest.raises(OSError, match="exists"):
            produce(each, lambda: load(tiny_folder), resume=True)
        produce(each, lambda: load(tiny_folder), resume=True, overwrite=True)
        assert nfe == 0, "what is made needs no second making"


def test_a_film_is_made_anew_where_that_is_said_though_it_stands_there(
    tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.gif"
    order = FilmOrder(("seed:1", "seed:2"), out, Plan(2), Style(frames=4))
    produce(order, lambda: load(tiny_folder))
    whole = out.read_bytes()
    marked = whole + b"as it was found"  # behind its end, where no reader looks
    out.write_bytes(marked)
    for overwrite, wanted in ((False, marked), (True, whole)):
        produce(order, lambda: load(tiny_folder), resume=True, overwrite=overwrite)
        assert out.read_bytes() == wanted


def test_a_boomerang_changes_as_much_on_its_way_back(tiny_folder: Path, tmp_path: Path) -> None:
    def path_length(style: Style) -> float:
        order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", Plan(2), style)
        pace = produce(order, lambda: load(tiny_folder), overwrite=True).facts["pace"]
        return float(pace["path_length"])

    there = path_length(Style(frames=4))
    assert path_length(Style(frames=6, boomerang=True)) == pytest.approx(2 * there) and there > 0


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_a_sheet_is_about_square_and_never_higher_than_wide(
    count: int, tiny_folder: Path, tmp_path: Path
) -> None:
    sources = [f"seed:{seed}" for seed in range(count)]
    order = PicturesOrder(sources, tmp_path / "sheet.png", Plan(2, solver="dpmpp-2m"))
    produce(order, lambda: load(tiny_folder))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height <= sheet.width < sheet.height + 2 * 17


def test_an_order_is_judged_before_anything_is_loaded(tmp_path: Path) -> None:
    order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", style=Style(frames=1))
    with pytest.raises(ValueError, match="frames=1"):
        produce(order, lambda: pytest.fail("the model was loaded"))
    with claim(tmp_path / "film.gif"), pytest.raises(BusyError):
        produce(replace(order, style=Style()), lambda: pytest.fail("the model was loaded"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold": (1, 2, 3)},
        {"times": (0.0, 1.0, 2.0)},
        {"times": (0.0, float("nan"))},
        {"times": (1.0, 0.0)},
        {"hold": 30, "frames": 50},
    ],
    ids=str,
)
def test_a_film_that_cannot_be_is_refused_before_anything_is_loaded(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", style=Style(**wrong))
    with pytest.raises(ValueError, match=r"keyframes|keyframe to the next"):
        produce(order, lambda: pytest.fail("the model was loaded"))
    alone = replace(order, sources=("seed:1",), style=Style())
    with pytest.raises(ValueError, match="needs at least 2 keyframes, got 1"):
        produce(alone, lambda: pytest.fail("the model was loaded"))


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 1}, {"across": 3}, {"columns": 1}, {"rows": 10**5, "columns": 10**5}],
    ids=str,
)
def test_a_grid_that_cannot_be_is_refused_before_anything_is_loaded(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    order = GridOrder([f"seed:{n}" for n in range(4)], tmp_path / "grid.png", **wrong)
    with pytest.raises(ValueError, match=r"at least 2 x 2|at least 2 × 2|do not fill|more than"):
        produce(order, lambda: pytest.fail("the model was loaded"))


@pytest.mark.parametrize(
    ("source", "out", "says"),
    [
        ("a.png", "a.png", "is the input"),
        ("a.png", "sub/../a.png", "is the input"),
        ("link.png", "a.png", "is the input"),
        ("frames/frame_000000.png", "frames", "holds the input"),
    ],
)
def test_an_output_never_replaces_its_own_input(
    source: str, out: str, says: str, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "frames").mkdir()
    for name in ("a.png", "frames/frame_000000.png"):
        (tmp_path / name).write_bytes(pictures[0].read_bytes())
    (tmp_path / "link.png").symlink_to("a.png")
    order = FilmOrder(("seed:1", tmp_path / source), tmp_path / out, Plan(2), Style(frames=4))
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(ArgumentError, match=f"{says} .*{Path(source).name}.*another name"):
            produce(order, lambda: pytest.fail("the model was loaded"), **how)


def test_a_latent_file_is_not_replaced_by_one_of_its_latents(
    tiny_folder: Path, tmp_path: Path
) -> None:
    z = tmp_path / "z.safetensors"
    produce(LatentsOrder(("seed:1",), z, Plan(2)), lambda: load(tiny_folder))
    order = LatentsOrder((f"{z}#0",), z, Plan(2))
    with pytest.raises(ArgumentError, match=r"is the input .*z.safetensors"):
        produce(order, lambda: pytest.fail("the model was loaded"), overwrite=True)


def test_an_order_can_be_made_by_hand(tiny_folder: Path, tmp_path: Path) -> None:
    order = FilmOrder(("seed:1", "seed:2"), tmp_path / "film.gif", Plan(2), Style(frames=4))
    by_hand = order.make(Attempt(load(tiny_folder), 2))
    first = (tmp_path / "film.gif").read_bytes()
    document = produce(order, lambda: load(tiny_folder), batch_size=2, overwrite=True).document
    assert (tmp_path / "film.gif").read_bytes() == first
    assert document.items() >= by_hand.facts.items()


@pytest.mark.parametrize(
    ("largest", "style", "says"),
    [
        (2.1, {"pace": "perceptual"}, "2.1 times the mean"),
        (1.2, {"pace": "perceptual"}, None),
        (2.1, {}, None),
        (2.1, {"pace": "perceptual", "ease": "smoothstep"}, None),
        (2.1, {"pace": "perceptual", "times": (0.0, 1.0)}, None),
    ],
)
def test_a_film_that_was_to_be_even_and_is_not_says_so(
    largest: float, style: dict[str, Any], says: str | None
) -> None:
    precisions = ("", "float32", "bfloat16", "float16")
    words = [uneven(Speeds(50.0, 0.2, largest), Style(**style), dtype) for dtype in precisions]
    if says is None:
        assert words == 4 * [None]
    else:
        plain, same, *advice = map(str, words)
        assert says in plain == same and "dtype" not in plain
        assert all(words.startswith(plain) and "--dtype fp32" in words for words in advice)
