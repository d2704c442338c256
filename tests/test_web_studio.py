"""What lies on the table is what the verbs would make of it, and what is asked for last."""

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddim_interp import Model, NoiseSchedule, Pipeline, Plan
from ddim_interp.denoiser import CountCalls, GaussianDenoiser
from ddim_interp.errors import ArgumentError, DdimInterpError, ImageError, InputMissingError
from ddim_interp.images import open_image
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.keyframes import find_keyframes
from ddim_interp.latent_file import read_latents
from ddim_interp.sheet import PictureGrid
from ddim_interp.sinks import read_recipe
from ddim_interp.sources import in_words
from ddim_interp.style import QUICK_TOLERANCE, Style
from ddim_interp.web.cards import plain_name
from ddim_interp.web.chart import SIDE, Chart
from ddim_interp.web.drawing import Drawing
from ddim_interp.web.keepsakes import FORMATS, Keepsakes
from ddim_interp.web.sketch import sketch_plan
from ddim_interp.web.studio import MOST_KEYFRAMES, SHEET, Setting, Studio
from ddim_interp.web.wish import FilmWish, command_line

GAUSSIAN = Model(
    GaussianDenoiser(variance=0.25), NoiseSchedule.from_config({}), (3, 8, 8), weights_sha256="g"
)
FEW = {"steps": 8}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with Studio(GAUSSIAN, tmp_path, Setting(FEW)) as studio:
        yield studio


def until(there: Callable[[], Any]) -> Any:
    """Wait for something; what it is."""
    deadline = time.monotonic() + 120
    while not (found := there()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def rest(studio: Studio) -> dict[str, Any]:
    """What lies there when all work is done."""
    until(lambda: not studio.describe()["working"])
    return studio.describe()


def frames(studio: Studio, kind: str = "frames") -> np.ndarray:
    film = rest(studio)["film"]
    return np.array([studio.frame(film["id"], kind, i) for i in range(film["count"])])


@pytest.mark.parametrize(
    "wish",
    [
        FilmWish(frames=9),
        FilmWish(frames=12, ending="loop", smooth=False),
        FilmWish(frames=12, ending="boomerang", blend="lerp"),
        FilmWish(frames=7, quick=True),
        FilmWish(frames=7, pace="perceptual"),
    ],
    ids=["plain", "loop", "boomerang", "quick", "even"],
)
def test_the_film_is_the_pipelines(studio: Studio, wish: FilmWish) -> None:
    studio.wish(wish)
    studio.add("seed:1", "seed:2", "seed:3")
    sources = ["seed:1", "seed:2", "seed:3"]
    plan = Plan.quick(**FEW) if wish.quick else Plan(**FEW)
    film = Pipeline(GAUSSIAN).morph(sources, plan=plan, style=wish.style)
    np.testing.assert_array_equal(frames(studio), list(film.draw()))


def test_a_quick_film_is_one_of_the_quick_tolerance() -> None:
    for quick, tolerance in ((True, QUICK_TOLERANCE), (False, Style().tolerance)):
        assert FilmWish(quick=quick).style.tolerance == tolerance
    assert QUICK_TOLERANCE > Style().tolerance


def test_a_film_is_sketched_before_it_is_drawn(tmp_path: Path) -> None:
    with Studio(GAUSSIAN, tmp_path, Setting({"steps": 30})) as studio:
        studio.wish(FilmWish(frames=6))
        studio.add("seed:1", "seed:2")
        drawn, sketch = frames(studio), frames(studio, "sketch")
    off = np.abs(drawn.astype(int) - sketch)
    assert 0 < off.max() <= 32, "a sketch is the same film, in fewer steps"


def test_a_pair_is_sketched_from_both_its_halves() -> None:
    plan = Plan(solver="leapfrog")
    pair = invert_images(GAUSSIAN, torch.linspace(-1, 1, 192).view(1, 3, 8, 8), plan).state

    def off(few: Plan) -> float:
        counted = CountCalls(GAUSSIAN.denoiser)
        drawn = sample_latents(GAUSSIAN, pair, few, denoiser=counted)
        assert counted.nfe <= 7
        return float((drawn - sample_latents(GAUSSIAN, pair, plan)).abs().mean())

    assert off(sketch_plan(GAUSSIAN, plan)) < off(Plan.quick(steps=7)) / 3


def test_what_is_asked_for_last_is_what_lies_there(studio: Studio) -> None:
    studio.add("seed:1", "seed:2")
    old = until(lambda: studio.describe()["film"])["id"]
    for count in (500, 400, 5):
        studio.wish(FilmWish(frames=count))
    now = rest(studio)
    assert now["film"]["count"] == now["film"]["ready"] == 5 and now["film"]["id"] != old
    assert studio.frame(old, "frames", 0) is None
    studio.wish(FilmWish(frames=5, fps=12))
    assert rest(studio)["film"]["id"] == now["film"]["id"], "its speed is not drawn"


def test_keyframes_are_moved_and_removed(studio: Studio, pictures: list[Path]) -> None:
    studio.wish(FilmWish(frames=5))
    studio.add("seed:1", *map(str, pictures))
    seed, disc, ring = (card["id"] for card in rest(studio)["keyframes"])
    studio.arrange([ring, seed])
    np.testing.assert_array_equal(frames(studio)[0], open_image(pictures[1], 8).frame)
    for wrong in ([ring, ring], [disc], ["../../etc/passwd"]):
        with pytest.raises(ArgumentError, match="not those on the page"):
            studio.arrange(wrong)
    studio.arrange([seed])
    assert rest(studio)["film"] is None
    studio.arrange([])
    assert rest(studio)["keyframes"] == []


def test_cards_say_what_the_command_line_says(studio: Studio, pictures: list[Path]) -> None:
    studio.add(str(pictures[0]), "seed:4")
    now = rest(studio)
    picture, seed = now["keyframes"]
    found = find_keyframes(GAUSSIAN, [pictures[0]], Plan(**FEW), 1)
    assert picture["verdict"] == found.each[0].verdict and picture["name"] == "disc.png"
    assert (seed["kind"], seed["verdict"], seed["pictured"]) == ("seed", None, True)
    assert now["walk"] == in_words(found.plan.describe())


def test_a_new_picture_costs_its_own_inversion_and_no_others(
    tmp_path: Path, pictures: list[Path]
) -> None:
    counted = CountCalls(GaussianDenoiser(variance=0.25))
    with Studio(replace(GAUSSIAN, denoiser=counted), tmp_path, Setting(FEW)) as studio:
        studio.add(str(pictures[0]))
        rest(studio)
        first = counted.nfe
        studio.add(str(pictures[1]))
        until(lambda: all(card["found"] for card in studio.describe()["keyframes"]))
        studio.arrange([])
        rest(studio)
        begun = counted.nfe
        studio.add(str(pictures[0]))
        rest(studio)
        assert counted.nfe == begun and first > 0, "it is remembered"


def test_an_upload_is_known_by_its_own_name(
    studio: Studio, pictures: list[Path], tmp_path: Path
) -> None:
    studio.upload(pictures[0], "../../a\x1b[31m'; rm -rf ~ #.png").result(60)
    studio.add("seed:1")
    now = rest(studio)
    name = "a[31m'; rm -rf ~ #.png"
    assert now["keyframes"][0]["name"] == name
    assert shlex.split(now["command"])[2:4] == [name, "seed:1"]
    text = tmp_path / "secret"
    text.write_text("no picture")
    with pytest.raises(ImageError, match=r"^x\.png holds text") as refused:
        studio.upload(text, "x.png").result(60)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.png", "a.png"),
        ("C:\\evil\\a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("", "picture"),
        ("..\\", "picture"),
        ("\x00\n\x1b", "picture"),
        ("\u202egnp.exe", "gnp.exe"),
        ("<b>.png", "<b>.png"),
        ("x" * 500, "x" * 120),
    ],
)
def test_a_name_from_the_page_is_plain(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_no_more_is_taken_than_the_table_holds(studio: Studio) -> None:
    studio.add(*(f"seed:{i}" for i in range(MOST_KEYFRAMES)))
    with pytest.raises(ArgumentError, match="remove some first"):
        studio.add_seed(99)
    assert len(studio.describe()["keyframes"]) == MOST_KEYFRAMES


def test_pictures_of_one_name_are_told_apart(studio: Studio, pictures: list[Path]) -> None:
    for path in (pictures[0], pictures[1], pictures[0], pictures[1]):
        studio.upload(path, "a b.png").result(60)
    now = studio.describe()
    names = ["a b.png", "a b (2).png"] * 2
    assert [card["name"] for card in now["keyframes"]] == names
    assert shlex.split(now["command"])[2:6] == names
    studio.arrange([card["id"] for card in now["keyframes"][1:2]])
    studio.upload(pictures[0], "a b.png").result(60)
    assert shlex.split(studio.describe()["command"])[2:4] == names[1::-1]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ([], "JSON object"),
        ({"frames": 601}, "2 to 600"),
        ({"frames": 1}, "2 to 600"),
        ({"frames": "60"}, "another kind"),
        ({"frames": True}, "another kind"),
        ({"frames": 60.5}, "another kind"),
        ({"fps": 0}, "1 to 60"),
        ({"blend": "/etc/passwd"}, "No blend"),
        ({"pace": "fast"}, "No pace"),
        ({"ending": "never"}, "No ending"),
        ({"frames": 61, "ending": "boomerang"}, "62"),
        ({"out": "/etc/passwd"}, "no choice"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused(given: Any, word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        FilmWish.parse(given)
    assert FilmWish.parse(FilmWish(frames=24).describe()) == FilmWish(frames=24)


def test_what_does_not_work_is_told_and_the_next_wish_does(tmp_path: Path) -> None:
    with Studio(GAUSSIAN, tmp_path, Setting({"depth": 0.5, **FEW})) as studio:
        studio.add("seed:1", "seed:2")
        assert "pure noise" in rest(studio)["trouble"]
        with pytest.raises(ArgumentError, match="pure noise"):
            studio.offer(0)
        studio.arrange([])
        assert rest(studio)["trouble"] is None


def test_a_bug_is_told_on_the_page_and_the_worker_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        """A denoiser that fails, until it is mended."""

        mended = False

        def __call__(self, x_t: Any, t: Any) -> Any:
            if not self.mended:
                raise TypeError("two\nlines")
            return GaussianDenoiser(variance=0.25)(x_t, t)

    denoiser = Broken()
    with Studio(replace(GAUSSIAN, denoiser=denoiser), tmp_path, Setting(FEW)) as studio:
        studio.add("seed:1")
        assert rest(studio)["trouble"] == "This should not happen: TypeError, two lines"
        assert "in __call__" in capsys.readouterr().err, "and where, in the terminal"
        studio.offer(0)
        assert not any(seed["pictured"] for seed in rest(studio)["seeds"])
        denoiser.mended = True
        studio.add("seed:2")
        assert rest(studio)["trouble"] is None and frames(studio).shape == (60, 8, 8, 3)


def test_the_trouble_of_what_nobody_wants_any_more_is_not_told(tmp_path: Path) -> None:
    class Slow:
        """A denoiser that fails at its first answer, long after it was asked."""

        asked, answer = threading.Event(), threading.Event()

        def __call__(self, x_t: Any, t: Any) -> Any:
            if not self.answer.is_set():
                self.asked.set()
                self.answer.wait(60)
                raise TypeError
            return GaussianDenoiser(variance=0.25)(x_t, t)

    denoiser = Slow()
    with Studio(replace(GAUSSIAN, denoiser=denoiser), tmp_path, Setting(FEW)) as studio:
        studio.add("seed:1", "seed:2")
        assert denoiser.asked.wait(60)
        studio.wish(FilmWish(frames=5))
        denoiser.answer.set()
        assert rest(studio)["trouble"] is None and frames(studio).shape == (5, 8, 8, 3)


def test_what_is_named_at_the_start_must_be_there(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        studio.add(str(tmp_path / "none.png"))
    with pytest.raises(DdimInterpError):
        studio.add(str(tmp_path / "none.safetensors"))


# ---- the map ----


def test_the_map_is_the_grids(studio: Studio, pictures: list[Path]) -> None:
    sources = [str(pictures[0]), "seed:1", "seed:2", str(pictures[1])]
    studio.add(*sources)
    now = rest(studio)
    assert now["map"]["corners"] == 4
    found = find_keyframes(GAUSSIAN, sources, Plan(**FEW), 1)
    cells = list(PictureGrid(GAUSSIAN, found, 3, 3).draw())
    for number, cell in enumerate(cells):
        frame = studio.look(number // 3 / 2, number % 3 / 2, fine=True).result(60)
        assert np.abs(frame.astype(int) - cell).max() <= 1
    with pytest.raises(ArgumentError, match="not on the map"):
        studio.look(1.5, 0, fine=False)


def test_three_keyframes_make_a_triangle_and_others_no_map(studio: Studio) -> None:
    studio.add("seed:1", "seed:2")
    assert rest(studio)["map"] is None
    with pytest.raises(ArgumentError, match="three or four"):
        studio.look(0.5, 0.5, fine=True)
    studio.add("seed:3")
    assert rest(studio)["map"]["corners"] == 3
    film = frames(studio)
    for (down, across), frame in zip([(0, 0.5), (1, 1)], [film[0], film[-1]], strict=True):
        seen = studio.look(down, across, fine=True).result(60)
        assert np.abs(seen.astype(int) - frame).max() <= 1


def test_a_point_of_the_map_is_taken_home(studio: Studio, pictures: list[Path]) -> None:
    studio.add("seed:1", str(pictures[0]), "seed:3")
    rest(studio)
    kept = studio.keep_point(0.5, 0.5).result(60)
    with Image.open(kept.path) as picture:
        seen = studio.look(0.5, 0.5, fine=True).result(60)
        np.testing.assert_array_equal(picture, seen)
    recipe = read_recipe(kept.path)
    assert (recipe["kind"], recipe["weights"]) == ("point", [0.5, 0.25, 0.25])
    assert [each["source"] for each in recipe["keyframes"]] == ["seed:1", "disc.png", "seed:3"]


def test_a_map_is_surveyed_and_stays_while_its_corners_do(studio: Studio) -> None:
    studio.add("seed:1", "seed:2", "seed:3", "seed:4")
    rest(studio)
    studio.survey()
    seen = rest(studio)["map"]
    assert seen["ready"] == SIDE**2
    assert studio.surveyed(seen["id"], 0) is not None
    assert studio.surveyed(seen["id"], SIDE**2) is None and studio.surveyed("x", 0) is None
    studio.add("seed:5")
    studio.wish(FilmWish(frames=4))
    assert rest(studio)["map"] == seen, "a fifth keyframe and other frames are none of its business"
    studio.wish(FilmWish(frames=4, blend="lerp"))
    assert rest(studio)["map"]["id"] != seen["id"]


def test_the_middle_of_the_survey_is_the_middle_of_the_map() -> None:
    found = find_keyframes(GAUSSIAN, [f"seed:{i}" for i in range(4)], Plan(**FEW), 1)
    chart = Chart(GAUSSIAN, found, "slerp")
    unwatched = lambda items, total, doing: items  # noqa: E731
    for _ in chart.draw(Plan(**FEW), unwatched):
        pass
    middle = chart.picture(0.5, 0.5, Plan(**FEW), unwatched)
    assert np.abs(chart.survey[SIDE**2 // 2].astype(int) - middle).max() <= 1


# ---- seeds ----


def test_seeds_on_offer_are_what_sample_draws(studio: Studio) -> None:
    studio.offer(5)
    now = rest(studio)
    assert [each["seed"] for each in now["seeds"]] == list(range(5, 5 + SHEET))
    assert all(each["pictured"] for each in now["seeds"])
    drawn = Pipeline(GAUSSIAN).sample(seeds=[7], plan=Plan.quick()).images[0]
    seen = studio.seed_picture(7)
    assert seen is not None and np.abs(seen.astype(int) - np.asarray(drawn)).max() <= 1
    studio.add_seed(7)
    (card,) = studio.describe()["keyframes"]
    assert card["pictured"], "it has been drawn"
    for wrong in (-1, 2**63):
        with pytest.raises(ArgumentError, match="no seed"):
            studio.add_seed(wrong)


# ---- to take home ----


@pytest.fixture
def tiny_studio(tiny: Any, tmp_path: Path) -> Iterator[Studio]:
    folder = tmp_path / "private"
    folder.mkdir()
    with Studio(tiny.model, folder, Setting({"steps": 4}, options={"--steps": 4})) as studio:
        studio.wish(FilmWish(frames=6))
        yield studio


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_taken_home_knows_how_it_was_made(tiny_studio: Studio, format: str) -> None:
    tiny_studio.add("seed:1", "seed:2")
    film = rest(tiny_studio)["film"]
    kept = tiny_studio.keep(format, 3).result(60)
    assert tiny_studio.keepsake(kept.id) == kept
    if format == "latents":
        assert len(read_latents(kept.path, tiny_studio.model).state.x) == 2
        return
    recipe = read_recipe(kept.path)
    assert [each["source"] for each in recipe["keyframes"]] == ["seed:1", "seed:2"]
    if format == "frame":
        with Image.open(kept.path) as picture:
            np.testing.assert_array_equal(picture, tiny_studio.frame(film["id"], "frames", 3))


def test_the_command_makes_the_same_film_to_the_bit(
    tiny_studio: Studio, tiny_folder: Path, tmp_path: Path, call: Any
) -> None:
    tiny_studio.wish(FilmWish(frames=6, fps=12, ending="loop", blend="nlerp"))
    tiny_studio.add("seed:1", "seed:2")
    rest(tiny_studio)
    kept = tiny_studio.keep("webp").result(60)
    film = tmp_path / "film.webp"
    words = shlex.split(tiny_studio.command(str(film)) or "")
    assert words[:2] == ["ddim-interp", "morph"]
    assert call(*words[1:], "--model", tiny_folder, "--dtype", "fp32", "-q")[0] == 0
    assert film.read_bytes() == kept.path.read_bytes()


def test_of_pictures_it_is_the_same_film_but_for_rounding(
    tiny_studio: Studio, tiny: Any, pictures: list[Path]
) -> None:
    """Here they are inverted one by one, there together."""
    sources = [*map(str, pictures), "seed:1"]
    tiny_studio.add(*sources)
    film = tiny.morph(sources, plan=Plan(steps=4), frames=6)
    assert np.abs(frames(tiny_studio).astype(int) - list(film.draw())).max() <= 1


def test_a_command_is_safe_to_paste(pictures: list[Path]) -> None:
    names = ["a b.png", "$(rm -rf ~).png", "`x`", "-o.png", "'\"\\", "é.png"]
    line = command_line(names, FilmWish(frames=8, quick=True), "f.mp4", {"--model": "a;b"})
    words = shlex.split(line)
    assert [word.removeprefix("./") for word in words[2:8]] == names and words[5] == "./-o.png"
    assert words[8:] == ["-o", "f.mp4", "--frames", "8", "--quick", "--model", "a;b"]


def test_only_the_last_few_files_are_kept(tiny_studio: Studio, tmp_path: Path) -> None:
    tiny_studio.add("seed:1", "seed:2")
    rest(tiny_studio)
    kept = [tiny_studio.keep("frame", i).result(60) for i in range(6)]
    assert tiny_studio.keepsake(kept[0].id) is None and not kept[0].path.exists()
    assert tiny_studio.keepsake(kept[-1].id) and kept[-1].path.exists()


@pytest.mark.parametrize(
    ("format", "word"),
    [
        ("exe", "nothing to take home"),
        ("../../x", "nothing to take home"),
        ("mp4", "not finished: 0 of 60"),
        ("frame", "not drawn"),
    ],
)
def test_what_cannot_be_taken_home_is_refused(
    studio: Studio, tmp_path: Path, format: str, word: str
) -> None:
    with pytest.raises(ArgumentError, match="no film yet"):
        studio.keep(format)
    drawing = Drawing(Pipeline(GAUSSIAN).morph(["seed:1", "seed:2"]))
    with pytest.raises(ArgumentError, match=word):
        Keepsakes(tmp_path).plan(format, drawing, 30, 0, lambda: None)
    drawing.close()
    assert drawing.frame("frames", 0) is None


def test_all_that_is_told_is_json(studio: Studio) -> None:
    studio.add("seed:1", "seed:2", "seed:3")
    assert json.loads(json.dumps(rest(studio), allow_nan=False)) == studio.describe()
