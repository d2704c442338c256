"""A file of C, compiled for this very processor once, and kept.

    <cache folder>/kernels/<name>-<hash>.so

The file's name is a hash of what decides what is in it: the source, the compiler's path, what it is
told, and for which processor. Compiling takes a second. It needs a C compiler, which most Linux
machines have; where there is none, or anything else is not as expected, there is no library, and
whoever wanted one goes on without.

What is loaded runs as this user, and a damaged library ends the process. So what was kept is loaded
only if nobody else can have written it, and if it ends in the SHA-256 of all before, as it did when
it was kept; the system's loader does not look so far.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ddim_interp.errors import DdimInterpError
from ddim_interp.files import atomic_file, open_part, sha256_bytes
from ddim_interp.user_cache import user_cache_folder

__all__ = ["load_c_library"]

_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
_ENOUGH = 60  # seconds to compile; it takes one
_LONG = 30 * 24 * 3600  # seconds, after which one that nobody loaded goes
_DIGEST = hashlib.sha256().digest_size
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
    compiler, flags = _compiler(), (*_FLAGS, *more)
    try:
        about = (source.read_bytes(), repr((compiler, flags)).encode(), _processor().encode())
    except OSError:
        return None
    name = f"{source.stem}-{sha256_bytes(b'|'.join(about))[:32]}.so"
    try:
        kept = user_cache_folder("kernels") / name
    except RuntimeError:  # nobody's home
        kept = None
    if kept is not None and (library := _load(kept)):
        return library
    with suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as place:
        made = _compile(source, compiler, flags, Path(place))
        library = ctypes.CDLL(str(made))
        if kept is not None:
            with suppress(DdimInterpError, OSError):
                _keep(made.read_bytes(), kept)
                _sweep(kept)
        return library
    return None


def _load(kept: Path) -> ctypes.CDLL | None:
    """What was kept, if it is ours and as it was; else None, and it is made anew."""
    with suppress(OSError):
        if _is_ours(kept.parent) and _is_ours(kept):
            data = kept.read_bytes()
            if data[-_DIGEST:] == hashlib.sha256(data[:-_DIGEST]).digest():
                library = ctypes.CDLL(str(kept))
                with suppress(OSError):
                    os.utime(kept)  # it is in use, see `_sweep`
                return library
    return None


def _keep(data: bytes, kept: Path) -> None:
    """Keep a library for the next process, where nobody else can write."""
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _is_ours(kept.parent):
        with atomic_file(kept, overwrite=True) as part, open_part(part) as file:
            part.chmod(0o600)  # where the umask lets the user's group write, nobody would load it
            file.write(data + hashlib.sha256(data).digest())


def _sweep(kept: Path) -> None:
    """Remove those of older sources that nobody loaded for long.

    Other processors that share the folder have theirs there. A process that has one loaded keeps
    it, whatever becomes of its name.
    """
    kin = re.compile(re.escape(kept.stem.rpartition("-")[0]) + r"-[0-9a-f]{32}\.so")
    for path in kept.parent.iterdir():
        if kin.fullmatch(path.name) and path.stat().st_mtime < time.time() - _LONG:
            path.unlink()


def _is_ours(path: Path) -> bool:
    """Whether a file or folder belongs to this user, and nobody else may write to it."""
    about = path.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return about.st_uid == os.geteuid() and not about.st_mode & others


def _compiler() -> str | None:
    """The compiler's path, if there is one."""
    return shutil.which(os.environ.get("CC") or "cc") or shutil.which("cc")


def _compile(source: Path, compiler: str | None, flags: tuple[str, ...], place: Path) -> Path:
    """Compile, and link apart, because a compiler that knows of OpenMP would link its own."""
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
