"""What is made of weights once, and has to be made anew when they change."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Derived"]

_PROBES = 16  # values of each tensor


class Derived(NamedTuple):
    """Something made of weights, for as long as they are what they were, and its use is.

    torch counts how often a tensor is written to, but not what is written past its back:
    `weight.data.copy_(…)`, as trainers put averaged weights in place, and everything in inference
    mode. So on a processor a few values are compared as well. (On a GPU that would wait for it;
    there, whoever writes in such ways loads the network anew.)
    """

    value: Any
    use: Hashable
    sources: tuple[Tensor, ...]  # keep the memory: no other weights can come to lie at its address
    versions: tuple[int, ...]
    probes: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, value: Any, *sources: Tensor, use: Hashable = None) -> "Derived":
        """What is made of these weights, for one use."""
        kept = tuple(each.detach() for each in sources)
        probes = tuple(None if each.is_cuda else _probe(each).clone() for each in kept)
        return cls(value, use, kept, _versions(sources), probes)

    def fits(self, *sources: Tensor, use: Hashable = None) -> bool:
        """Whether these are the weights, unchanged, and this is the use."""
        if self.use != use or self.versions != _versions(sources):
            return False
        return all(
            kept.data_ptr() == given.data_ptr()
            and kept.dtype == given.dtype
            and (probe is None or torch.equal(probe, _probe(given)))
            for kept, given, probe in zip(self.sources, sources, self.probes, strict=True)
        )


def _versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """How often each was written to; what was made in inference mode does not count that."""
    return tuple(0 if each.is_inference() else each._version for each in tensors)


def _probe(weights: Tensor) -> Tensor:
    """A few of the values, spread over the memory that they lie in without gaps."""
    few = min(_PROBES, weights.numel())
    stride = max(1, weights.numel() // max(1, few))
    return weights.detach().as_strided((few,), (stride,))
