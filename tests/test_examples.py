"""Every example runs, with small settings, in a folder of its own; and stays an example."""

import runpy
import sys
from pathlib import Path

import pytest

from ddim_interp.sinks import read_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = {  # with tests of their own
    "measure_frames.py",
    "measure_model.py",
    "measure_morphs.py",
    "muon.py",
    "paint.py",
    "prepare_fruit.py",
    "train_unet.py",
}

SMALL = {
    "morph_two_pictures.py": {"FRAMES = 60": "FRAMES = 4"},
    "latent_walk.py": {
        "SEEDS = range(6)": "SEEDS = range(2)",
        "FRAMES_PER_SEED = 20": "FRAMES_PER_SEED = 2",
    },
    "closed_loop.py": {
        'PICTURES = ("apple.png", "lemon.png", "plum.png", "strawberry.png")': (
            'PICTURES = ("apple.png", "lemon.png")'
        ),
        "FRAMES = 96": "FRAMES = 4",
    },
    "batch_of_a_folder.py": {
        "STEPS = 20": "STEPS = 2",
        "FRAMES = 30": "FRAMES = 2",
        'pictures = sorted(FOLDER.glob("*.png"))': 'pictures = sorted(FOLDER.glob("*.png"))[:3]',
    },
    "custom_denoiser.py": {"FRAMES = 30": "FRAMES = 4"},
    "hub_model.py": {"STEPS = 20": "STEPS = 2", "FRAMES = 30": "FRAMES = 4"},
}
FILMS = {
    "morph_two_pictures.py": ["morph.mp4"],
    "latent_walk.py": ["walk.webp"],
    "closed_loop.py": ["loop.gif"],
    "batch_of_a_folder.py": ["films/apple-lemon.mp4", "films/lemon-orange.mp4"],
    "custom_denoiser.py": ["linear.webp"],
    "hub_model.py": ["model.mp4"],
}


@pytest.fixture
def quick(monkeypatch):
    """Two steps where an example leaves the plan to the toolkit, and no progress bars."""
    from ddim_interp import DDIMPipeline, Plan

    monkeypatch.setattr(Plan.__init__, "__defaults__", (2, *Plan.__init__.__defaults__[1:]))
    monkeypatch.setattr(DDIMPipeline, "progress_bar", lambda self, items, total, doing="": items)


def test_every_example_is_run_or_tested_elsewhere():
    assert {path.name for path in EXAMPLES.glob("*.py")} == PROGRAMS | set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_it_runs_and_its_films_say_how_they_were_made(
    name, tmp_path, tiny_folder, quick, monkeypatch
):
    source = (EXAMPLES / name).read_text()
    for line, smaller in SMALL[name].items():
        assert source.count(f"\n{line}\n") == 1, f"{line!r} is not in {name}"
        source = source.replace(f"\n{line}\n", f"\n{smaller}\n")
    source = source.replace("Path(__file__).parent", f"Path({str(EXAMPLES)!r})")
    script = tmp_path / name
    script.write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", [name, *([str(tiny_folder)] if name == "hub_model.py" else [])]
    )
    runpy.run_path(str(script), run_name="__main__")
    for film in FILMS[name]:
        assert read_recipe(tmp_path / film)["kind"] == "morph"


@pytest.mark.parametrize("name", sorted(SMALL))
def test_it_is_short_with_constants_at_the_top(name):
    source = (EXAMPLES / name).read_text()
    assert len(source.splitlines()) <= 40
    assert "argparse" not in source and source.startswith('"""')
