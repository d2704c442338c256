"""A file of C, compiled for this very processor once, and kept.

    <cache folder>/kernels/<name>-<hash>.so

The file's name is a hash of all that decides what is in it: the source, how it is compiled, and for
which processor. Compiling takes a second. It needs a C compiler, which most Linux machines have;
where there is none, or anything else is not as expected, there is no library, and whoever wanted
one goes on without.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from ddim_interp.errors import DdimInterpError
from ddim_interp.files import sha256_bytes, write_bytes
from ddim_interp.user_cache import user_cache_folder

__all__ = ["load_c_library"]

_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
_ENOUGH = 60  # seconds to compile; it takes one
_TELLING = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")


def load_c_library(source: Path, *more: str) -> ctypes.CDLL | None:
    """Compile a C file with OpenMP, or find it compiled, and load it; None where that cannot be.

    It is linked with no OpenMP of its own: it finds the one that torch brought into the process, so
    that both use the same threads.

    Args:
        source: The file.
        more: What else to tell the compiler.
    """
    if sys.platform != "linux":
        return None
    flags = (*_FLAGS, *more)
    try:
        about = (source.read_bytes(), repr(flags).encode(), _processor().encode())
    except OSError:
        return None
    name = f"{source.stem}-{sha256_bytes(b'|'.join(about))[:32]}.so"
    try:
        kept = user_cache_folder("kernels") / name
    except RuntimeError:  # nobody's home
        kept = None
    if kept is not None:
        with suppress(OSError):  # not there, or damaged: made anew
            return ctypes.CDLL(str(kept))
    with suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as place:
        made = _compile(source, flags, Path(place))
        library = ctypes.CDLL(str(made))
        if kept is not None:
            with suppress(DdimInterpError, OSError):
                kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_bytes(kept, made.read_bytes(), overwrite=True)
        return library
    return None


def _compile(source: Path, flags: tuple[str, ...], place: Path) -> Path:
    """Compile, and link apart, because a compiler that knows of OpenMP would link its own."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    half, whole = place / "half.o", place / "whole.so"
    for words in (
        (*flags, "-fopenmp", "-c", str(source), "-o", str(half)),
        ("-shared", str(half), "-o", str(whole)),
    ):
        subprocess.run(
            (compiler, *words), check=True, capture_output=True, stdin=subprocess.DEVNULL,
            timeout=_ENOUGH,
        )  # fmt: skip
    return whole


def _processor() -> str:
    """What `-march=native` may look at."""
    lines = [platform.machine()]
    with Path("/proc/cpuinfo").open() as file:
        for line in file:
            if not line.strip():
                break  # the others are like the first one
            if line.split(":")[0].strip() in _TELLING:
                lines.append(line.strip())
    return "\n".join(lines)
