"""Where, in which precision, in which layout and for how many does a network run best?"""

import re

import torch

from ddim_interp.errors import ArgumentError
from ddim_interp.unet.fused import has_kernels

__all__ = [
    "DTYPES",
    "default_batch_size",
    "draft_dtype",
    "fastest_layout",
    "parse_device",
    "parse_dtype",
]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions by the names of the command line."""

_KINDS = ("cpu", "cuda", "mps", "xpu")  # of devices; torch knows names for many more
_DEVICE = re.compile(rf"({'|'.join(_KINDS)})(?::([0-9]{{1,3}}))?")


def parse_device(name: str | torch.device = "auto") -> torch.device:
    """A device by name: cpu, cuda, mps or xpu, perhaps with a number as in `cuda:1`.

    `auto` is the first GPU there is of NVIDIA, AMD or Apple, else the CPU.

    Raises:
        ArgumentError: There is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    match = _DEVICE.fullmatch(str(name))
    if match and int(match[2] or 0) < _how_many(match[1]):
        try:
            device = torch.device(match[0])
            torch.empty(0, device=device)
            return device
        except Exception:  # a driver that does not do what it says, in whatever words
            pass
    here = ", ".join(kind for kind in _KINDS if _how_many(kind))
    raise ArgumentError(
        f"device={str(name)!r:.60} cannot be used: torch has no such device here that works; "
        f"choose auto, or one of what it has: {here}."
    )


def _how_many(kind: str) -> int:
    """Devices of a kind that torch says are here."""
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if torch.xpu.is_available() else 0
    return int(kind == "cpu" or torch.backends.mps.is_available())


def parse_dtype(name: str | torch.dtype) -> torch.dtype | None:
    """A precision by name; None for `auto`.

    Raises:
        ArgumentError: No precision has that name.
    """
    if isinstance(name, torch.dtype):
        if name not in (*DTYPES.values(), torch.float64):
            raise ArgumentError(f"dtype={name} is no precision for a network; use float32.")
        return name
    if name == "auto":
        return None
    if name not in DTYPES:
        raise ArgumentError(f"dtype={name!r} is unknown; choose auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def draft_dtype(device: torch.device) -> torch.dtype:
    """The fastest precision for frames that the eye cannot tell from float32.

    bfloat16 where the hardware multiplies it natively; where it would be emulated it is slower than
    float32, and float32 it stays. Half the bits of the network cost a frame about as much as saving
    it in 8 bits does; inversion, which has to undo every step, is always done in float32.
    """
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def fastest_layout(device: torch.device) -> torch.memory_format:
    """How weights should lie in memory, and pictures with them.

    Convolutions like channels beside each other. On a GPU torch's own group norm does not, and
    copies every tensor there and back; so where ours is not, channels come first. On an H200 in
    bfloat16 20 pictures by google/ddpm-celebahq-256's network take 69 ms so, and 25.5 with our
    norm and channels last.

    Args:
        device: Where the network runs.
    """
    first = device.type == "cuda" and not has_kernels()
    return torch.contiguous_format if first else torch.channels_last


def default_batch_size(
    shape: tuple[int, int, int],
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
) -> int:
    """How many pictures go through the network at once, unless the user says: 16 at 64×64.

    It depends on nothing but the picture's size and whether a GPU, which is idle with few, draws
    it: so the same command gives the same bytes.

    Example:
        >>> default_batch_size((3, 64, 64)), default_batch_size((3, 256, 256))
        (16, 1)
        >>> default_batch_size((3, 256, 256), torch.device("cuda"))
        16
    """
    _, height, width = shape
    pixels, most = (2**20, 64) if device.type == "cuda" else (2**16, 32)
    return max(1, min(most, pixels // (height * width)))
