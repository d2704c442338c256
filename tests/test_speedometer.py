"""What a film's steps come to, told while its frames go by."""

import numpy as np
import pytest

from ddim_interp.speedometer import Speedometer


def greys(*levels):
    return [np.full((8, 8, 3), level, np.uint8) for level in levels]


def speeds_of(*levels, **options):
    meter = Speedometer(lambda images: images[:, 0, 0, :1] * 127.5)
    assert len(list(meter(greys(*levels)))) == len(levels)
    return meter.speeds(**options)


def test_frames_go_through_untouched_and_one_by_one():
    frames = greys(0, 1, 2)
    passing = Speedometer()(iter(frames))
    assert all(next(passing) is frame for frame in frames)


def test_an_even_film_is_even():
    speeds = speeds_of(0, 50, 100)
    assert speeds.path_length == pytest.approx(100)
    assert speeds.pdv == pytest.approx(0, abs=1e-9)
    assert speeds.largest_over_mean == pytest.approx(1)


def test_an_uneven_film_is_measured():
    speeds = speeds_of(0, 10, 40)
    assert speeds.pdv == pytest.approx(0.25, abs=1e-4)
    assert speeds.largest_over_mean == pytest.approx(1.5, abs=1e-4)


def test_rests_are_no_steps():
    assert speeds_of(0, 0, 50, 50, 100, 100) == speeds_of(0, 50, 100)


def test_a_closed_film_steps_back_to_its_beginning():
    assert speeds_of(0, 50, 100, closed=True).path_length == pytest.approx(200)


def test_a_film_of_nothing_has_no_speed_and_one_that_stands_still_an_even_one():
    assert Speedometer().speeds() is None
    assert speeds_of(7, 7).pdv == 0 and speeds_of(7, 7).largest_over_mean == 1
