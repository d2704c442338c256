"""Frames on disk: in any order, they are what was put there."""

import numpy as np

from ddim_interp.spool import Spool


def test_frames_come_back_in_any_order_whatever_was_read_in_between():
    a, b, c = (np.full((2, 3, 3), grey, np.uint8) for grey in (1, 2, 3))
    with Spool() as spool:
        assert [spool.append(a), spool.append(b)] == [0, 1]
        np.testing.assert_array_equal(spool[0], a)
        assert spool.append(c) == 2 and len(spool) == 3
        for number, frame in ((2, c), (0, a), (1, b)):
            np.testing.assert_array_equal(spool[number], frame)
