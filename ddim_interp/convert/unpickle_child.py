"""The process that reads a pickle: from standard input to `tensors.safetensors` where it stands.

It says in one word how it went. Three walls stand around the pickle. PyTorch's `weights_only`
unpickler knows the names of tensors and no others; should it err, an audit hook stops every call
that would start a process, open a connection or write elsewhere; and the system's limits on memory,
time and file size end what neither has stopped. There is no second try with fewer walls.
"""

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ddim_interp.errors import StorageError
from ddim_interp.memory import ran_out_of_memory
from ddim_interp.tensors import can_hold, write_tensors

__all__ = ["extract", "main", "tensors_in"]

_DEPTH = 8
_FORBIDDEN = (
    "ctypes.",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pickle.find_class",
    "socket.",
    "subprocess.",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> str:
    """Read standard input, write what it holds, and say how it went."""
    _limit(os.fstat(sys.stdin.fileno()).st_size)
    _guard(Path.cwd())
    word, tensors = extract(sys.stdin.buffer)
    try:
        if tensors:
            write_tensors("tensors.safetensors", tensors)
    except StorageError:  # the limit on its size
        return "large"
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        return "large"
    return word


def extract(file: IO[bytes]) -> tuple[str, dict[str, torch.Tensor]]:
    """The tensors of a pickle, and how it went: done, empty, damaged or unsafe."""
    try:
        pickled = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, PermissionError):
        return "unsafe", {}
    except Exception:  # a damaged file raises whatever it leads to
        return "damaged", {}
    tensors = dict(tensors_in(pickled))
    return ("done" if tensors else "empty"), tensors


def tensors_in(
    value: Any, name: str = "", depth: int = _DEPTH
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested dicts and lists, each with its place as a dotted name.

    Sparse ones, and those of numbers that no weights here are made of, are passed over: they may
    belong to an optimizer.

    Example:
        >>> [name for name, _ in tensors_in([{"ema": {"w": torch.ones(1)}, "step": 7}])]
        ['0.ema.w']
    """
    if isinstance(value, torch.Tensor):
        if can_hold(value):
            yield name, value
    elif depth and isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{name}.{key}".lstrip("."), depth - 1)
    elif depth and isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from tensors_in(inner, f"{name}.{i}".lstrip("."), depth - 1)


def _limit(size: int) -> None:
    """No more memory, time and disk than a file of this size can need."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds := 60 + size // 10_000_000, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (room := 2 * size + 2**24, room))
    statm = Path("/proc/self/statm")
    if statm.exists():  # what PyTorch itself has mapped differs from machine to machine
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (most := mapped + 4 * size + 2**30, most))


def _guard(home: Path) -> None:
    """Stop, for the rest of this process, what reading tensors does not need."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            raise PermissionError(f"{event} is forbidden here")
        if event == "open" and isinstance(args[0], str | bytes):
            path = Path(os.fsdecode(args[0])).resolve()
            if args[2] & _WRITING and not path.is_relative_to(home):
                raise PermissionError(f"{path} may not be written")

    sys.addaudithook(hook)


if __name__ == "__main__":
    print(main())
