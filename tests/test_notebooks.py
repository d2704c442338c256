"""Every notebook runs, with small settings; what is committed is current, small and public."""

import base64
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
assert _spec and _spec.loader
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

SMALL = {
    "01-sampling-and-eta": {
        "STEPS = (10, 20, 50, 100)": "STEPS = (1, 2, 3)",
        "ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)": "ETAS = (0.0, 1.0)",
    },
    "02-inversion": {
        "STEPS = 20": "STEPS = 3",
        'PICTURES = ("apple", "pear", "plum", "strawberry")': 'PICTURES = ("apple",)',
    },
    "03-interpolation": {
        "STEPS = 30": "STEPS = 2",
        "COLUMNS = 7": "COLUMNS = 2",
        "SIDE = 4": "SIDE = 2",
        "FRAMES = 16": "FRAMES = 4",
    },
    "04-exploring": {
        "STEPS = 30": "STEPS = 2",
        "AMOUNTS = (-0.3, -0.15, 0.0, 0.15, 0.3)": "AMOUNTS = (0.0, 0.1)",
        "POPULATION = 32": "POPULATION = 4",
        "FRAMES = 16": "FRAMES = 3",
    },
    "05-your-own-model": {"STEPS = 20": "STEPS = 2", "FRAMES = 8": "FRAMES = 2"},
}
PATHS = execute.notebooks()


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in read(path).cells for output in cell.get("outputs", ())]


def test_every_notebook_has_small_settings():
    assert sorted(SMALL) == [path.stem for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    notebook = read(path)
    execute.shrink(notebook, SMALL[path.stem])
    execute.execute(notebook)
    execute.tidy(notebook)
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", ()) if "data" in o]
    assert len(pictures) >= 3 and all(execute.STILLS & set(o["data"]) for o in pictures)


def test_a_setting_that_is_not_there_is_noticed():
    with pytest.raises(ValueError, match="not in list"):
        execute.shrink(read(PATHS[0]), {"STEPS = 1": "STEPS = 2"})


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_its_outputs_are_those_of_its_cells_and_of_the_embedded_model(path):
    notebook = read(path)
    made_from = notebook.metadata.get("ddim_interp", {}).get("source")
    assert made_from == execute.source_hash(notebook), "run: make notebooks"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_small_and_clean(path):
    assert path.stat().st_size < 1_000_000
    for output in outputs(path):
        assert output.output_type != "error" and output.get("name") != "stderr"
        for kind, data in output.get("data", {}).items():
            if kind in execute.STILLS:
                assert len(base64.b64decode(data)) < 150_000
    assert not re.search(r"/(?:home|root|tmp|work)/", path.read_text())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_was_run_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in read(path).cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_tidying_keeps_pictures_and_words_and_drops_bars_and_widgets():
    cell = nbformat.v4.new_code_cell(
        outputs=[
            nbformat.v4.new_output("stream", name="stderr", text="\r50%|#"),
            nbformat.v4.new_output("stream", name="stdout", text="words"),
            nbformat.v4.new_output(
                "display_data", data={"text/html": "<img>", "text/plain": "Reel", "image/jpeg": "x"}
            ),
        ]
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    execute.tidy(notebook)
    words, picture = notebook.cells[0].outputs
    assert words.text == "words"
    assert set(picture.data) == {"image/jpeg"}
