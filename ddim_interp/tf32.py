"""How exactly does a GPU multiply float32?

Its matrix units know no float32: they round what they multiply to TF32's ten bits, unless torch is
told not to let them. The setting is torch's own and not ours, so it is read here and nowhere else,
and put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

__all__ = ["allow_tf32", "product_precision", "true_float32"]


def product_precision(device: torch.device) -> Literal["ieee", "tf32", "tf32x3"]:
    """How to multiply float32 in a convolution on a device, by Triton's names.

    Where rounding is not wanted (`true_float32`, in which we draw), three products in TF32 are as
    good and several times as fast as "ieee", multiplying without those units. That is left to a GPU
    that has none, to AMD's, and to whoever has chosen by torch's newer switches.
    """
    rounds = _rounds()
    if torch.version.hip or rounds is None:
        return "ieee"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "ieee"
    return "tf32" if rounds else "tf32x3"


@contextmanager
def true_float32(device: torch.device) -> Iterator[None]:
    """Within, convolutions in float32 are float32's, on a GPU too.

    TF32 keeps three digits, where an inversion that is undone to the last level needs seven.

    Args:
        device: Where the convolutions run; only CUDA knows TF32.
    """
    if device.type != "cuda" or not _rounds():
        yield
        return
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = True


@contextmanager
def allow_tf32() -> Iterator[None]:
    """Let convolutions round, where they were told not to."""
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = False


def _rounds() -> bool | None:
    """Whether convolutions may round; None where torch's newer switches say something else."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None
