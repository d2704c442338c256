"""How exactly does a GPU multiply float32?"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

__all__ = ["allow_tf32", "product_precision"]


def product_precision(device: torch.device) -> Literal["ieee", "tf32", "tf32x3"]:
    """How to multiply float32 in a convolution on a device, by Triton's names.

    A GPU's matrix units know no float32: they round what they multiply to TF32's ten bits, unless
    torch is told not to let them (`true_float32`, in which we draw). Then three products in TF32
    are as good and several times as fast as "ieee", multiplying without those units. That is left
    to a GPU that has none, to AMD's, and to whoever has chosen by torch's newer switches.
    """
    if torch.version.hip:
        return "ieee"
    try:
        rounded = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # the newer switches say something else
        return "ieee"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "ieee"
    return "tf32" if rounded else "tf32x3"


@contextmanager
def allow_tf32() -> Iterator[None]:
    """Let convolutions round, where they were told not to."""
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = False
