"""What did the pass that wrote feature maps learn about them?

Whoever writes feature maps has every value at hand, and could tell the norm that comes next what it
would have to read them all for. The two are layers apart, so it is left here, under the feature
maps themselves, while a network answers.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils.weak import WeakIdKeyDictionary

from ddim_interp.unet.placement import is_for_gpu

__all__ = ["is_remembering", "memory", "recall", "remember", "remembering"]

_KNOWN: ContextVar[WeakIdKeyDictionary | None] = ContextVar("known", default=None)


def remembering(network: nn.Module, sample: Tensor) -> AbstractContextManager[None]:
    """Remember while a network answers on a GPU, where `kernels` learns; unless someone looks in.

    A hook may write over feature maps, and nobody would notice: with hooks nothing is remembered.
    """
    if not is_for_gpu(sample):
        return nullcontext()
    hooked = any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())
    hooked = hooked or _has_any_global_hook()  # type: ignore[no-untyped-call]
    return nullcontext() if hooked else memory()


@contextmanager
def memory() -> Iterator[None]:
    """Remember, and forget it all at the end."""
    token = _KNOWN.set(WeakIdKeyDictionary())
    try:
        yield
    finally:
        _KNOWN.reset(token)


def is_remembering() -> bool:
    """Whether it is worth while to learn anything."""
    return _KNOWN.get() is not None


def remember(x: Tensor, learned: Any) -> None:
    """Leave what was learned about x, which nobody writes to from now on."""
    known = _KNOWN.get()
    if known is not None:
        known[x] = learned


def recall(x: Tensor) -> Any:
    """What was learned about x; None where nothing was."""
    known = _KNOWN.get()
    return known[x] if known is not None and x in known else None
