"""Getting the tensors out of a pickle without letting it do anything.

The pickle is read by another process (`unpickle_child`), which knows no names but those of tensors,
starts nothing, opens no connection, writes nowhere but into an empty folder, and is ended if it
takes more memory or time than tensors of that size can need. What comes back is a safetensors file.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

from ddim_interp.errors import ModelError
from ddim_interp.files import open_input, shown
from ddim_interp.tensors import read_tensors

__all__ = ["is_pickle", "unpickle"]

_MAGICS = (b"PK\x03\x04", *(b"\x80%c" % version for version in range(2, 6)))
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # no token among them

_REASONS = {
    "unsafe": "asks for more than tensors, which might run code and was not done; get the model "
    "as safetensors",
    "empty": "holds no tensors; get the model from another source",
    "damaged": "is no PyTorch file, or a damaged one; download it again",
}


def is_pickle(path: Path) -> bool:
    """Whether a file begins as PyTorch's files do."""
    with open_input(path, ModelError) as file:
        return file.read(4).startswith(_MAGICS)


def unpickle(path: Path) -> dict[str, Tensor]:
    """The tensors in a pickle; names in nested dicts and lists are joined by dots.

    Args:
        path: A file made by `torch.save`.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        InputMissingError: There is no such file.
        ModelError: It asks for more than tensors, is damaged, or takes too much memory or time.
    """
    with open_input(path, ModelError) as file, tempfile.TemporaryDirectory() as empty:
        seconds = 120 + os.fstat(file.fileno()).st_size // 5_000_000
        environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "CUDA_VISIBLE_DEVICES": "",
            "HOME": empty,
            "TMPDIR": empty,
        }
        try:
            child = subprocess.run(
                [sys.executable, "-P", "-m", "ddim_interp.convert.unpickle_child"],
                stdin=file,
                capture_output=True,
                cwd=empty,
                env=environment,
                timeout=seconds,
            )
            word = child.stdout.decode(errors="replace").strip()
        except subprocess.TimeoutExpired:
            word = "late"
        if word != "done":
            reason = _REASONS.get(word, "took more memory or time than its size explains; refused")
            raise ModelError(f"{shown(path)} {reason}.")
        tensors = read_tensors(Path(empty, "tensors.safetensors"))[0]
        return {name: tensor.clone() for name, tensor in tensors.items()}
