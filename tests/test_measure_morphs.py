"""The measure of morphs, on small pictures: what it counts and what it cannot miss."""

import importlib
from pathlib import Path

import measure_morphs as measure
import pytest
import torch

from ddim_interp import Plan, draw, open_image
from ddim_interp.perceptual import perceive

FAST = Plan(steps=6, solver="leapfrog")


def test_pairs_are_drawn_alike_every_time(pictures):
    folder = Path(pictures[0]).parent
    (folder / "val").mkdir(exist_ok=True)
    for path in pictures:
        (folder / "val" / Path(path).name).write_bytes(Path(path).read_bytes())
    assert measure.chosen(folder, 1) == measure.chosen(folder, 2)[:1]


def test_every_way_gives_a_middle_for_each_pair(tiny, pictures, monkeypatch):
    images = torch.stack([open_image(path, 16).pixels for path in pictures])
    ways = dict(measure.middles(tiny.model, images, FAST, 2))
    assert all(frames.shape == images.shape for frames in ways.values())
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "docs")
    assert ways.keys() == importlib.import_module("write_morphs").WAYS.keys()

    def see(images):
        return perceive(images)[:, ::32].double()  # of all of them the distance takes seconds

    table = measure.measure_middles(tiny.model, ways.items(), see, see(images))
    assert table["own samples"]["realism"] == pytest.approx(1, abs=1e-3)
    assert table["the pictures themselves"]["frechet"] == pytest.approx(0, abs=1e-3)


def test_films_of_every_pair_are_measured(tiny, pictures):
    told = measure.measure_pace(
        tiny.model, pictures, FAST, 9, {"lab": perceive}, {"structure": measure.structure}
    )
    assert told["films"] == 2 and told["ratio"]["lowest"] >= 1
    for pace in ("uniform", "perceptual"):
        assert told[pace]["ends"] == 2, "ends are the pictures, to the bit"
        assert told[pace]["evaluations"]["lowest"] > 0
    assert told["perceptual"]["pdv"]["median"] < told["uniform"]["pdv"]["median"]
    assert told["agreement"].keys() == {"lab on structure"}


def test_equal_pictures_have_equal_structure():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    same, other = measure.structure(torch.cat([image, image, -image]))
    assert same < 1e-3 < other


def test_mid_block_features_have_unit_length_everywhere(tiny):
    see = measure.MidBlock(tiny.unet, tiny.model.schedule, 0.2)
    vectors = see(draw([0, 1], (3, 16, 16)).clamp(-1, 1))
    places = vectors.square().sum(1)
    torch.testing.assert_close(places, places.round(), atol=1e-3, rtol=0)
    assert (vectors[0] - vectors[1]).norm() > 0.01
    assert not tiny.unet.mid_block._forward_hooks, "it leaves no hook behind"
