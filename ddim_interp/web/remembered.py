"""What has been inverted already, so that a new keyframe costs its own inversion and no other's."""

from collections import OrderedDict
from collections.abc import Callable

from ddim_interp.keep import Keep, Kept
from ddim_interp.model import Plan

__all__ = ["Remembered"]


class Remembered:
    """Outcomes of work in memory; those that were not asked for longest go first.

    Args:
        most: Bytes of tensors kept, at most.

    Example:
        >>> import torch
        >>> kept = Remembered().of(Plan())
        >>> first = kept("z", lambda: Kept({"z": torch.zeros(1)}))
        >>> kept("z", lambda: Kept({"z": torch.ones(1)})) is first
        True
    """

    def __init__(self, most: int = 2**29) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def of(self, plan: Plan) -> Keep:
        """What is remembered of work by this plan."""
        described = repr(plan)

        def keep(name: str, make: Callable[[], Kept]) -> Kept:
            key = (described, name)
            kept = self._kept.get(key) or make()
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > self._most:
                self._kept.popitem(last=False)
            return kept

        return keep


def _bytes(kept: Kept) -> int:
    return sum(tensor.nbytes for tensor in kept.tensors.values())
