"""The example pictures are what examples/paint.py paints."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
FRUIT = ("apple", "pear", "orange", "plum", "strawberry", "lemon")


def committed(name: str) -> np.ndarray:
    with Image.open(EXAMPLES / "images" / f"{name}.png") as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", FRUIT)
def test_a_fruit_lies_whole_above_its_half_on_cream_paper(name: str) -> None:
    picture = committed(name)
    assert picture.shape == (512, 512, 3)
    paper = np.median(picture[:, :30], (0, 1))
    assert paper == pytest.approx([253, 245, 221], abs=4)
    painted = np.abs(picture - paper).sum(2) > 60
    whole, half = painted[:256].mean(), painted[256:].mean()
    assert whole > half > 0.1
    assert painted[:, :30].mean() < 0.01


def test_painting_again_gives_the_committed_picture() -> None:
    program = runpy.run_path(str(EXAMPLES / "paint.py"))
    assert tuple(program["FRUIT"]) == FRUIT
    apart = np.abs(np.asarray(program["paint"]("orange")).astype(int) - committed("orange"))
    # another processor may round a sine differently, which a pixel at an edge can show
    assert (apart > 1).mean() < 1e-3
