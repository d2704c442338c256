"""Tensors in safetensors files: the door of that library.

A safetensors file is a length, a JSON header (name → dtype, shape, place) and the raw bytes. The
library sees to it that reading runs no code and that the places tile the file. Two things that it
lets pass hide damage and are refused here: a name given twice, of which the last would win, and
NaN or infinity. A file that is something else under the suffix is called what it is.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open, torch as safetensors_torch
from torch import Tensor

from ddim_interp.errors import DdimInterpError, ModelError, StorageError
from ddim_interp.files import StrPath, atomic_file, open_input, open_part, shown
from ddim_interp.strict_json import parse_object

__all__ = [
    "TensorHeader",
    "can_hold",
    "check_finite",
    "read_header",
    "read_tensors",
    "write_tensors",
]

_HEADER_CAP = 10_000_000  # bytes; a network of 10,000 tensors has a header of 1 MB

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

_CONVERT = "read it safely with 'ddim-interp models convert SOURCE -o FOLDER'"

# What people find under the name instead, by its first bytes.
_IMPOSTORS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"version https://git-lfs",), "a Git LFS pointer, not the weights; run 'git lfs pull' there"),
    ((b"PK\x03\x04",), f"a zip file as PyTorch writes it, and might run code; {_CONVERT}"),
    (tuple(b"\x80%c" % i for i in range(2, 6)), f"a pickle, and might run code; {_CONVERT}"),
    ((b"GGUF",), "a GGUF file, for language models; find the model as safetensors"),
    ((b"\x89HDF",), "an HDF5 file; find the model as safetensors"),
    ((b"\x1f\x8b",), "a gzip file; unpack it first"),
    ((b"<",), "a web page, so the download went wrong; download it again"),
    ((b"{",), "a server's answer in JSON, so the download went wrong; download it again"),
)


@dataclass(frozen=True)
class TensorHeader:
    """What a file says it holds, known before any of it is read.

    Args:
        shapes: The shape of each tensor, by name.
        dtypes: Their types, as safetensors writes them: "F32", "F16", "BF16", "I64" …
        metadata: The text stored beside them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]


def read_header(path: StrPath, error: type[DdimInterpError] = ModelError) -> TensorHeader:
    """Read the header alone: names and shapes can be judged before memory is taken.

    Args:
        path: A safetensors file.
        error: What to raise for a file that is none.

    Raises:
        InputMissingError: There is no such file.
        error: The file is something else, damaged, cut short, or names a tensor twice.
    """
    with open_input(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(64)
        if not (2 <= _length(start) <= _HEADER_CAP and start[8:9] == b"{"):
            raise error(f"{shown(path)} is {_what_else(start)}.")
        file.seek(8)
        text = file.read(_length(start))
    name = shown(path)
    header = parse_object(text, f"The header of {name}", error)
    try:
        metadata = {key: str(value) for key, value in header.pop("__metadata__", {}).items()}
        shapes = {key: tuple(map(int, entry["shape"])) for key, entry in header.items()}
        dtypes = {key: str(entry["dtype"]) for key, entry in header.items()}
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
    except (ValueError, TypeError, LookupError, AttributeError):
        raise error(f"{name} has a damaged header; download it again.") from None
    if strange := sorted(set(dtypes.values()) - _DTYPES.keys()):
        raise error(
            f"{name} holds numbers of type {shown(strange[0])[:20]}; this program reads "
            f"{', '.join(sorted(_DTYPES))}."
        )
    whole = 8 + _length(start) + max(ends, default=0)
    if size < whole:
        raise error(f"{name} is cut short: {size:,} bytes of {whole:,}; download it again.")
    return TensorHeader(shapes, dtypes, metadata)


def can_hold(tensor: Tensor) -> bool:
    """Whether a file can hold such a tensor: one that is not sparse, of a type that is read here.

    Example:
        >>> can_hold(torch.ones(2)), can_hold(torch.ones(2).to_sparse())
        (True, False)
    """
    dense = tensor.layout == torch.strided and not tensor.is_meta
    return dense and tensor.dtype in _DTYPES.values()


def check_finite(
    tensors: Mapping[str, Tensor], source: str, error: type[DdimInterpError] = ModelError
) -> None:
    """Refuse NaN and infinity.

    Args:
        tensors: The tensors, by name.
        source: What to call where they come from.
        error: What to raise.

    Raises:
        error: Some tensor holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise error(
                f"{source} holds NaN or infinity in {name!r}; its training diverged, or the "
                "file is damaged: get another copy."
            )


def read_tensors(
    path: StrPath, error: type[DdimInterpError] = ModelError, *, finite: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor of a file, and its metadata; all numbers are finite.

    Args:
        path: A safetensors file.
        error: What to raise for a file that is none.
        finite: Whether NaN and infinity are refused. Who wants some of the tensors only looks for
            them in those, by `check_finite`.

    Raises:
        InputMissingError: There is no such file.
        error: The file is damaged, or holds NaN or infinity.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "z.safetensors")
        ...     write_tensors(path, {"latents": torch.ones(2, 3)}, {"made by": "hand"})
        ...     tensors, metadata = read_tensors(path)
        >>> tensors["latents"].shape, metadata
        (torch.Size([2, 3]), {'made by': 'hand'})
    """
    header = read_header(path, error)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in header.shapes}
    except SafetensorError:
        raise error(
            f"{shown(path)} is damaged: its header and its length disagree; download it again."
        ) from None
    except OSError as cause:
        raise StorageError(
            f"Reading {shown(path)} failed: {cause}; try again, or copy it to another disk."
        ) from cause
    if finite:
        check_finite(tensors, shown(path), error)
    return tensors, dict(header.metadata)


def write_tensors(
    path: StrPath,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write tensors and text to one file, atomically; the same input gives the same bytes.

    Raises:
        OutputError: The file exists, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    # The clone: the library refuses two names for one piece of memory.
    raw = safetensors_torch.save(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
    )
    # The library writes metadata in an order that changes from run to run; we put it in ourselves.
    # Places count from the end of the header, so a longer header moves nothing.
    end = 8 + _length(raw)
    header = json.loads(raw[8:end])
    if metadata:
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    with atomic_file(path, overwrite=overwrite) as part, open_part(part) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(memoryview(raw)[end:])


def _length(start: bytes) -> int:
    """How long the header is that follows the first eight bytes."""
    return int.from_bytes(start[:8], "little")


def _what_else(start: bytes) -> str:
    """What a file is that does not begin as a safetensors file does, and what to do about it."""
    if not start:
        return "empty; download it again"
    for magic, what in _IMPOSTORS:
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(magic):
            return what
    return "no safetensors file, or a damaged one; download it again"
