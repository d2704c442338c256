"""`info` reads files that anybody may have made; each case here once broke it, or might."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaigns import Workshop, spoil_films

from ddim_interp.cli import cli
from ddim_interp.errors import DdimInterpError, ModelError
from ddim_interp.sinks import write_picture
from ddim_interp.sinks.png import HEADER_BYTES, chunk, encode_png
from ddim_interp.strict_json import parse_object


def carrying(recipe: str, path: Path) -> Path:
    """A PNG with this text for a recipe, whatever it is."""
    png = encode_png(np.zeros((2, 2, 3), np.uint8))
    text = chunk(b"iTXt", b"ddim_interp" + bytes(5) + recipe.encode("utf-8", "surrogatepass"))
    path.write_bytes(png[:HEADER_BYTES] + text + png[HEADER_BYTES:])
    return path


def info(path: Path, *more: str) -> str:
    """What `ddim-interp info` prints: characters that print, and lines."""
    said = io.StringIO()
    with redirect_stdout(said):
        cli.main(["info", str(path), *more], standalone_mode=False)
    text = said.getvalue()
    assert text.replace("\n", "").isprintable()
    text.encode()
    return text


READ = {
    "a list of this and that": '{"keyframes": [{"a": 1}, 5, "x", null, [1]]}',
    "lists in lists": '{"a": [[{"b": 1}], [[[]]]]}',
    "empty objects": '{"a": [{}], "b": {}, "": 1}',
    "a long number": '{"a": ' + "9" * 4000 + "}",
    "half a character": '{"a": "\\ud800\\udc00 \\ud800"}',
    "control characters": '{"a\\u0000": "\\u001b[31m\\u202e"}',
    "a name of many lines": '{"a\\nb": {"c\\r": ["\\n"]}}',
}

REFUSED = {
    "infinity": '{"a": Infinity}',
    "a number without end": '{"a": 1e999}',
    "a list without end": '{"a": ' + "[" * 500 + "]" * 500 + "}",
    "objects without end": '{"a": ' * 300 + "1" + "}" * 300,
    "lists of objects without end": '{"a": [' * 280 + "1" + "]}" * 280,
    "one level too many": '{"a": ' * 33 + "1" + "}" * 33,
}


@pytest.mark.parametrize("recipe", READ.values(), ids=READ)
def test_a_strange_recipe_is_shown(recipe: str, tmp_path: Path) -> None:
    path = carrying(recipe, tmp_path / "a.png")
    assert info(path)
    assert isinstance(json.loads(info(path, "--json")), dict)


@pytest.mark.parametrize("recipe", REFUSED.values(), ids=REFUSED)
def test_a_hostile_recipe_is_refused_in_one_line(recipe: str, tmp_path: Path) -> None:
    path = carrying(recipe, tmp_path / "a.png")
    for more in ((), ("--json",)):
        with pytest.raises(DdimInterpError) as caught:
            info(path, *more)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 250, 400, 900, 100_000])
def test_json_of_any_depth_is_read_or_refused(depth: int) -> None:
    data = b'{"a":' * depth + b"1" + b"}" * depth
    if depth < 32:
        assert parse_object(data, "config.json")
    else:
        with pytest.raises(ModelError, match="nested too deep"):
            parse_object(data, "config.json")


def test_info_of_a_damaged_output_is_a_recipe_or_one_line(shop: Workshop) -> None:
    tally = spoil_films(shop, 420)  # sixty of each format
    assert tally.good and tally.tried == 420, tally


def values(rng: np.random.Generator, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = rng.integers(0, 6 if depth < 4 else 4)
    if kind == 4:
        return [values(rng, depth + 1) for _ in range(rng.integers(0, 4))]
    if kind == 5:
        return {str(i): values(rng, depth + 1) for i in range(rng.integers(0, 4))}
    plain: tuple[Any, ...] = (None, True, float(rng.normal()), "tëxt\x1b\n")
    return plain[kind]


def recipes() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(200):
        yield {key: values(rng) for key in ("kind", "plan", "keyframes")}


def test_info_shows_every_fact_of_any_recipe(tmp_path: Path) -> None:
    for recipe in recipes():
        path = carrying(json.dumps(recipe), tmp_path / "a.png")
        text = info(path)
        assert all(key in text for key in recipe)


def test_a_folder_s_recipe_is_a_stranger_s_too(tmp_path: Path) -> None:
    write_picture(tmp_path / "frame_000000.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "recipe.json").write_text('{"a": [' * 280 + "1" + "]}" * 280)
    with pytest.raises(DdimInterpError, match="nested too deep"):
        info(tmp_path)
