"""A file for the outcome of a batch of work: whole, to the bit, or not there."""

import hashlib
from pathlib import Path

from torch import Tensor

from ddim_interp.errors import InputMissingError, LatentsError
from ddim_interp.keep import Kept
from ddim_interp.tensors import read_tensors, write_tensors

__all__ = ["read_kept", "write_kept"]


def read_kept(path: Path) -> Kept | None:
    """What a file keeps; None if it is not there, or damaged."""
    try:
        tensors, metadata = read_tensors(path, LatentsError)
        kept = Kept(tensors, metadata["text"])
        return kept if metadata["sha256"] == _digest(kept) else None
    except (InputMissingError, LatentsError, KeyError):
        return None


def write_kept(path: Path, kept: Kept) -> None:
    """Write it, with a hash of what it holds; whatever stood there goes.

    Raises:
        StorageError: The disk is full, or fails.
    """
    metadata = {"text": kept.text, "sha256": _digest(kept)}
    write_tensors(path, kept.tensors, metadata, overwrite=True)


def _digest(kept: Kept) -> str:
    """SHA-256 of tensors, by name, and text."""
    digest = hashlib.sha256(kept.text.encode())
    for name, tensor in sorted(kept.tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
