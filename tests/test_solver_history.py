"""What ε will be, judging by what it was: polynomials in log σ̄ are told exactly."""

import math

import pytest
import torch

from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver.base import Memory
from ddim_interp.solver.history import extrapolate, remember

SCHEDULE = NoiseSchedule.from_config({})
FIRST, SECOND, THIRD, NEXT = (SCHEDULE.level(t) for t in (800, 600, 500, 300))


def curve(level, *coefficients):
    at = math.log(level.ratio)
    return torch.tensor([sum(c * at**power for power, c in enumerate(coefficients))])


@pytest.mark.parametrize("coefficients", [(0.7,), (0.7, -2.0), (0.7, -2.0, 0.5)])
def test_a_polynomial_through_enough_levels_is_told_exactly(coefficients):
    memory: Memory = ()
    for level in (FIRST, SECOND, THIRD):
        memory = remember(memory, level, curve(level, *coefficients), depth=3)
    torch.testing.assert_close(extrapolate(memory, NEXT), curve(NEXT, *coefficients))
    assert torch.equal(extrapolate(memory, SECOND), curve(SECOND, *coefficients))


def test_what_is_said_again_of_a_level_takes_the_place_of_what_was_said():
    memory: Memory = ()
    for level, eps in ((FIRST, 5.0), (SECOND, 9.0), (SECOND, 7.0)):
        memory = remember(memory, level, torch.tensor([eps]))
    assert [level for level, _ in memory] == [FIRST, SECOND]
    assert extrapolate(memory, NEXT).isfinite() and extrapolate(memory, SECOND) == 7


def test_only_the_newest_are_kept():
    memory: Memory = ()
    for level in (FIRST, SECOND, THIRD):
        memory = remember(memory, level, torch.zeros(1))
    assert [level for level, _ in memory] == [SECOND, THIRD]


def test_where_log_sigma_has_no_value_the_newest_is_all_there_is():
    clean = SCHEDULE.clean
    assert clean.noise == 0
    memory = remember(remember((), FIRST, torch.tensor([5.0])), SECOND, torch.tensor([9.0]))
    assert extrapolate(memory, clean) == 9
    begun = remember(remember((), clean, torch.tensor([5.0])), SECOND, torch.tensor([9.0]))
    assert extrapolate(begun, NEXT) == 9
