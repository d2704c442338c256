"""What the network said of the frames of a film, for others that are drawn between them later.

An even pace is found by drawing a film several times, each time with other frames. What was asked
about the former ones need not be asked again: the next ones lie between them (`refinement`).
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.notes import Known
from ddim_interp.schedule import Level
from ddim_interp.shapes import Images
from ddim_interp.spool import Spool

__all__ = ["Notebook", "Sayings"]


@dataclass(frozen=True, eq=False)
class Sayings:
    """Some of the answers of a walk.

    Args:
        levels: Where something was asked on it, in order, S of them.
        u: What frame an answer is about: its place on the path, (A,), float64.
        number: Which of the S times it was given, (A,).
        x_0: The picture predicted, (A, C, H, W), on the CPU.
    """

    levels: tuple[Level, ...]
    u: Tensor
    number: Tensor
    x_0: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The same as tensors by name, to be kept."""
        levels = torch.tensor(self.levels, dtype=torch.float64)
        return {"levels": levels, "u": self.u, "number": self.number, "x_0": self.x_0}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Sayings | None":
        """What `tensors` gave, if it is among these."""
        if "levels" not in tensors:
            return None
        levels = tuple(Level(*values) for values in tensors["levels"].tolist())
        return cls(levels, tensors["u"], tensors["number"], tensors["x_0"])


class Notebook:
    """Keeps what was said of frames, by their places on the path.

    Args:
        spool: Where.
        room: Bytes it may take. What would not fit any more is asked again.

    Example:
        >>> said = Sayings(
        ...     (Level(500.0, 0.5), Level(0.0, 0.9)),
        ...     u=torch.tensor([0.25, 0.75, 0.25]),
        ...     number=torch.tensor([0, 0, 1]),
        ...     x_0=torch.arange(3.0).view(3, 1, 1, 1),
        ... )
        >>> with Spool() as spool:
        ...     notebook = Notebook(spool)
        ...     notebook.add(said)
        ...     known = notebook.about(0, 1, most=1)
        ...     {u: (about.share, about.answer(1).item()) for u, about in known.items()}
        {0.25: (1.0, 2.0)}
    """

    def __init__(self, spool: Spool, room: int = 2**30) -> None:
        self._spool = spool
        self._room = room
        self._levels: tuple[Level, ...] = ()
        self._places: defaultdict[float, dict[int, int]] = defaultdict(dict)

    @property
    def full(self) -> bool:
        """Whether nothing more will be kept."""
        return self._room <= 0

    def add(self, said: Sayings) -> None:
        """Keep what was said on one walk, unless it went over other levels than the first one."""
        self._levels = self._levels or said.levels
        if said.levels != self._levels:
            return
        for u, number, x_0 in zip(said.u.tolist(), said.number.tolist(), said.x_0, strict=True):
            if not self.full:
                self._places[u][number] = self._spool.append(x_0.numpy())
                self._room -= x_0.nbytes

    def about(self, low: float, high: float, most: int) -> dict[float, Known]:
        """What is known of frames between two places, by place; of those of which most is."""
        inside = [u for u in self._places if low <= u <= high]
        inside.sort(key=lambda u: (-len(self._places[u]), u))
        return {u: _Page(self._levels, self._places[u], self._spool) for u in inside[:most]}


@dataclass(frozen=True, eq=False)
class _Page:
    """What is known of one frame."""

    levels: tuple[Level, ...]
    lines: Mapping[int, int]  # the number of the time -> where it is in the spool
    spool: Spool

    @property
    def share(self) -> float:
        return len(self.lines) / len(self.levels)

    def answer(self, number: int) -> Images | None:
        line = self.lines.get(number)
        return None if line is None else torch.from_numpy(self.spool[line].copy())[None]
