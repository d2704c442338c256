"""What every test may lean on: a fixed thread count, the same random cases in every run."""

import os
import sys

import pytest
import torch
from broken_runs import Nursery
from campaigns import Workshop, make_pictures, make_smallest_model, make_tiny_model
from hypothesis import settings

from ddim_interp.allocator import keep_large_blocks

os.environ["DDIM_INTERP_CACHE"] = "off"  # what one test inverts, no other may find done

settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")


LONGEST = ("test_two_networks", "test_kernels", "test_notebooks", "test_batch", "test_faults")


def pytest_collection_modifyitems(items):
    """Files that take longest come first, so that all workers have something to do to the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums depend on how threads split them, and the tests themselves run side by side.

    Memory is kept as the program keeps it.
    """
    torch.set_num_threads(1)
    keep_large_blocks()


@pytest.fixture(scope="session")
def pipe():
    """The embedded model, in float32, without a progress bar."""
    from ddim_interp import DDIMPipeline

    pipe = DDIMPipeline.from_pretrained(device="cpu", dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder: random weights, 16×16, a few kilobytes, quick to run."""
    return make_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    """That model, ready for work."""
    from ddim_interp import DDIMPipeline

    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Two small pictures that no model has seen: a disc and a ring on cream."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    radius = np.hypot(x, y)[..., None]
    cream, red, green = np.array([240, 228, 200]), np.array([180, 40, 30]), np.array([90, 140, 50])
    soft = lambda inside: 1 / (1 + np.exp(-30 * inside))  # noqa: E731
    disc = cream + (red - cream) * soft(0.6 - radius)
    ring = cream + (green - cream) * soft(0.2 - np.abs(radius - 0.5))
    paths = []
    for name, pixels in (("disc.png", disc), ("ring.png", ring)):
        Image.fromarray(pixels.round().astype(np.uint8)).save(folder / name)
        paths.append(folder / name)
    return paths


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Where runs of the program are broken."""
    folder = tmp_path_factory.mktemp("shop")
    with Nursery() as nursery:
        yield Workshop(nursery, make_smallest_model(folder), make_pictures(folder), folder)


@pytest.fixture
def call(monkeypatch, capsys):
    """The program in this process, which has torch already: code, stdout, stderr."""
    from ddim_interp.cli import _run

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ddim-interp", *map(str, arguments)])
        code = _run()
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def refused():
    """One line on stderr with these words, nothing on stdout, this exit code."""

    def refused(result, code, *words):
        got, out, err = result
        assert got == code, err
        assert out == ""
        assert err.startswith("ddim-interp: ") and err.count("\n") == 1, err
        assert "Traceback" not in err
        for word in words:
            assert word in err

    return refused
