"""How long does a thread that waits for work keep a core busy?

A forward pass is a thousand pieces of work, shared out between threads. Those that are done first
turn in a loop until the next piece comes, because waking a sleeping thread takes as long as a small
piece does. GNU's OpenMP turns for milliseconds, which is fine on a machine of one's own; on one
that others use, turning threads hold the cores that working ones wait for, and a film takes ten
times as long. After a thirtieth of that time nothing is lost on the former, and little on the
latter (see docs/speed.md).
"""

import os
from collections.abc import MutableMapping

__all__ = ["wait_briefly"]

_TURNS = "10000"  # of libgomp's loop; its own are 300,000


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell GNU's OpenMP, before torch brings it in, unless its user has.

    It holds for the whole process and those it starts, so a library must not decide it for the
    program it is used in.

    Example:
        >>> mine, yours = {}, {"OMP_WAIT_POLICY": "active"}
        >>> wait_briefly(mine), wait_briefly(yours), mine, yours
        (None, None, {'GOMP_SPINCOUNT': '10000'}, {'OMP_WAIT_POLICY': 'active'})
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _TURNS)
