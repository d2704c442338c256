"""Frames that are drawn in several looks share what the network said."""

from dataclasses import replace

import numpy as np
import pytest

from ddim_interp import morph as morph_module
from ddim_interp.denoiser import CountCalls
from ddim_interp.model import Plan
from ddim_interp.notebook import Notebook


class KeepsSome:
    """Remembers work, and stops before a number of pieces of it."""

    def __init__(self, stop=10**6):
        self.kept, self.stop = {}, stop

    def __call__(self, name, make):
        if name not in self.kept:
            if len(self.kept) == self.stop:
                raise KeyboardInterrupt
            self.kept[name] = make()
        return self.kept[name]


@pytest.fixture
def film(tiny, pictures):
    return tiny.morph(
        [*pictures, "seed:3"], plan=Plan(steps=8), frames=80, tolerance=2.0, pace="perceptual"
    )


def draw(film):
    counted = CountCalls(film.model.for_frames)
    return np.array(list(film.draw(counted)), int), counted.nfe


def test_later_looks_ask_less_and_see_the_same(film, monkeypatch):
    """Where each look were for itself, the second would cost what the first one did."""
    shared = {}

    def drawing(notebook):
        costs, frames = [], {}
        rendering = film._rendering
        for places in (film.times[::2].tolist(), film.times[1::2].tolist()):
            counted = CountCalls(film.model.for_frames)
            look = replace(rendering, denoiser=counted, notebook=notebook)
            frames |= dict(zip(places, look.frames(places, early=False), strict=True))
            costs.append(counted.nfe)
        return costs, np.array([frames[u] for u in film.times.tolist()], int)

    with Notebook() as notebook:
        shared, together = drawing(notebook)
    alone, apart = drawing(None)
    assert shared[0] == alone[0]
    assert shared[1] < 0.7 * alone[1]
    exact = replace(film, style=replace(film.style, tolerance=0.0, pace="uniform"))
    truth, _ = draw(exact)

    def miss(frames):
        return np.sqrt(np.square(frames - truth).mean((1, 2, 3))).max()

    assert miss(together) < max(2.0, 1.5 * miss(apart))


def test_the_film_asks_less_for_its_notebook(film, monkeypatch):
    frames, cost = draw(film)
    monkeypatch.setattr(morph_module, "Notebook", lambda: Notebook(room=0))
    others, alone = draw(film)
    assert frames.shape == others.shape and cost < 0.9 * alone


@pytest.mark.parametrize("stop", [1, 2])
def test_what_was_said_is_kept_with_the_frames_and_the_film_goes_on_the_same(film, stop):
    whole, cost = draw(film)
    interrupted = KeepsSome(stop)
    with pytest.raises(KeyboardInterrupt):
        draw(replace(film, keep=interrupted))
    interrupted.stop = 10**6
    again, rest = draw(replace(film, keep=interrupted))
    np.testing.assert_array_equal(again, whole)
    assert 0 < rest < cost
    _, nothing = draw(replace(film, keep=interrupted))
    assert nothing == 0


def test_at_a_uniform_pace_nothing_is_noted(film):
    keep = KeepsSome()
    draw(replace(film, style=replace(film.style, pace="uniform"), keep=keep))
    assert {name for kept in keep.kept.values() for name in kept.tensors} == {"frames"}
