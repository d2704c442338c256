"""Getting the tensors out of a pickle without letting it do anything.

The pickle is read by another process (`unpickle_child`), which knows no names but those of tensors,
starts nothing, opens no connection, writes nowhere but into an empty folder, and is ended if it
takes more memory or time than tensors of that size can need. What comes back is a safetensors file.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

from ddim_interp.errors import InputMissingError, ModelError
from ddim_interp.files import open_input, shown
from ddim_interp.tensors import read_tensors

__all__ = ["is_pickle", "unpickle"]

_MAGICS = (b"PK\x03\x04", *(b"\x80%c" % version for version in range(2, 6)))
_LIMITS = {getattr(signal, name, None) for name in ("SIGKILL", "SIGXCPU", "SIGXFSZ")}
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # no token among them

_REASONS = {
    "unsafe": "asks for more than tensors, which might run code and was not done; get the model "
    "as safetensors",
    "empty": "holds no tensors that weights could be; get the model from another source",
    "damaged": "is no PyTorch file, or a damaged one; download it again",
    "large": "took more memory or time than its size explains; refused",
    "": "made the process that reads it fail; download it again, or get the model as safetensors",
}


def is_pickle(path: Path) -> bool:
    """Whether a file begins as PyTorch's files do."""
    with open_input(path, ModelError) as file:
        return file.read(4).startswith(_MAGICS)


def unpickle(path: Path) -> dict[str, Tensor]:
    """The tensors in a pickle; names in nested dicts and lists are joined by dots.

    Their numbers need not be finite: an optimizer's may be anything, and nobody wants them.

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
            if -child.returncode in _LIMITS:
                word = "large"
        except subprocess.TimeoutExpired:
            word = "large"
        if word != "done":
            raise ModelError(f"{shown(path)} {_REASONS.get(word, _REASONS[''])}.")
        try:
            tensors = read_tensors(Path(empty, "tensors.safetensors"), finite=False)[0]
        except (ModelError, InputMissingError):  # of a file whose name the user does not know
            raise ModelError(f"{shown(path)} {_REASONS['']}.") from None
        return {name: tensor.clone() for name, tensor in tensors.items()}
