"""Frames that are drawn in several looks share what the network said."""

from dataclasses import replace

import numpy as np
import pytest

from ddim_interp import morph as morph_module
from ddim_interp.denoiser import CountCalls, Prediction, predict_eps
from ddim_interp.images import from_frames
from ddim_interp.latents import draw as draw_latents
from ddim_interp.model import Model, Plan
from ddim_interp.notebook import Notebook
from ddim_interp.pace import distances, unevenness
from ddim_interp.perceptual import perceive
from ddim_interp.pipeline import Pipeline
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.spool import Spool


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
            look = replace(rendering, counted=counted, notebook=notebook)
            frames |= dict(zip(places, look.frames(places, early=False), strict=True))
            costs.append(counted.nfe)
        return costs, np.array([frames[u] for u in film.times.tolist()], int)

    with Spool() as spool:
        shared, together = drawing(Notebook(spool))
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
    monkeypatch.setattr(morph_module, "Notebook", lambda spool: Notebook(spool, room=0))
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


PICTURE = 0.1 * draw_latents([5], (3, 8, 8))[0].sign()


class TwoPictures:
    """The exact denoiser for data that is one picture or its negative, blurred a little; what it
    sees is rounded first, to so many steps a unit."""

    def __init__(self, rounded=None):
        self.rounded, self.asked = rounded, 0

    def __call__(self, x_t, t):
        self.asked += len(x_t)
        x = (x_t * self.rounded).round() / self.rounded if self.rounded else x_t
        total = t.alpha_bar * 0.01 + 1 - t.alpha_bar
        lean = (t.signal * (x * PICTURE).flatten(1).sum(1) / total).tanh().view(-1, 1, 1, 1)
        x_0 = lean * PICTURE + t.signal * 0.01 * (x - t.signal * lean * PICTURE) / total
        return Prediction(x_0, predict_eps(x_t, x_0, t))


def film_between(seeds, denoiser, draft=None, **style):
    model = Model(denoiser, NoiseSchedule.from_config({}), (3, 8, 8), draft=draft)
    ends = [f"seed:{seed}" for seed in seeds]
    return Pipeline(model).morph(ends, plan=Plan(steps=10), frames=24, tolerance=0.5, **style)


def evenness(film):
    counted = CountCalls(film.model.for_frames)
    frames = np.array(list(film.draw(counted)))
    return unevenness(distances(perceive(from_frames(frames)))), counted.nfe


TURNS, STAYS = (3, 4), (1, 2)
"""Ends that are different pictures, and the same."""


def test_where_a_draft_cannot_tell_frames_apart_the_precise_network_does():
    precise, coarse = TwoPictures(), TwoPictures(rounded=2)
    uneven, _ = evenness(film_between(TURNS, TwoPictures(rounded=2), pace="perceptual"))
    even, count = evenness(film_between(TURNS, precise, coarse, pace="perceptual"))
    assert uneven > 2 and even < 1.4
    assert precise.asked > 0 and count == precise.asked + coarse.asked


@pytest.mark.parametrize(
    ("seeds", "style"), [(STAYS, {"pace": "perceptual"}), (TURNS, {}), (STAYS, {})]
)
def test_where_it_can_or_nobody_asked_for_an_even_film_it_is_not_asked(seeds, style):
    precise = TwoPictures()
    evenness(film_between(seeds, precise, TwoPictures(rounded=2), **style))
    assert precise.asked == 0
