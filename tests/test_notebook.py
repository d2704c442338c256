"""What was said of frames is found again by their places, as it was said."""

import pytest
import torch

from ddim_interp.notebook import Notebook, Sayings
from ddim_interp.schedule import Level
from ddim_interp.spool import Spool

LEVELS = (Level(999.0, 0.1), Level(500.0, 0.5), Level(0.1, 0.9), Level(-1.0, 1.0))


def sayings(u, number, levels=LEVELS):
    """Answers that differ from each other."""
    x_0 = torch.arange(len(u) * 12.0).view(-1, 3, 2, 2) + 100 * u[0]
    return Sayings(levels, torch.tensor(u, dtype=torch.float64), torch.tensor(number), x_0)


SAID = sayings([0.25, 0.5, 0.25, 0.75], [0, 0, 3, 1])


@pytest.fixture
def notebook():
    with Spool() as spool:
        yield Notebook(spool)


def test_each_answer_is_found_by_its_frame_and_time(notebook):
    notebook.add(SAID)
    notebook.add(sayings([0.5, 0.3], [2, 1]))
    known = notebook.about(0.0, 1.0, most=10)
    assert {u: about.share for u, about in known.items()} == {
        0.25: 0.5,
        0.5: 0.5,
        0.3: 0.25,
        0.75: 0.25,
    }
    assert all(about.levels == LEVELS for about in known.values())
    torch.testing.assert_close(known[0.25].answer(3), SAID.x_0[2:3], atol=0, rtol=0)
    torch.testing.assert_close(known[0.75].answer(1), SAID.x_0[3:], atol=0, rtol=0)
    assert float(known[0.5].answer(2).flatten()[0]) == 50.0
    assert known[0.25].answer(1) is known[0.25].answer(4) is None


def test_only_frames_nearby_are_told_of_and_those_of_which_most_is_known(notebook):
    notebook.add(SAID)
    assert set(notebook.about(0.25, 0.5, most=9)) == {0.25, 0.5}
    assert list(notebook.about(0.0, 1.0, most=2)) == [0.25, 0.5]
    assert notebook.about(0.8, 1.0, most=9) == {}


def test_a_walk_over_other_levels_is_not_noted(notebook):
    notebook.add(SAID)
    notebook.add(sayings([0.6], [0], levels=LEVELS[:3]))
    assert 0.6 not in notebook.about(0.0, 1.0, most=9)


def test_it_takes_no_more_room_than_it_may():
    each = SAID.x_0[0].nbytes
    with Spool() as spool:
        small = Notebook(spool, room=2 * each)
        assert not small.full
        small.add(SAID)
        assert small.full
        known = small.about(0.0, 1.0, most=9)
        assert {*known} == {0.25, 0.5} and known[0.25].answer(3) is None


def test_sayings_are_kept_as_tensors_to_the_bit():
    again = Sayings.from_tensors(SAID.tensors() | {"frames": torch.zeros(1)})
    assert again.levels == LEVELS
    for name in ("u", "number", "x_0"):
        torch.testing.assert_close(getattr(again, name), getattr(SAID, name), atol=0, rtol=0)
    assert Sayings.from_tensors({"frames": torch.zeros(1)}) is None
