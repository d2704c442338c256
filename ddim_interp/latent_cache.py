"""Remember inversions between runs: a second film through the same pictures inverts nothing.

    <cache folder>/latents/<hash>.safetensors

A file's name is a hash of everything that decides its contents, to the last bit: the pictures of
the batch and their crops, the model, the plan, versions, threads. So a film made from what is
remembered has the bytes of one made without. The whole batch is one entry, because the last bit of
an inversion depends on how many pictures shared its batch.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddim_interp.errors import DdimInterpError
from ddim_interp.files import sha256_bytes, sweep_orphans
from ddim_interp.keep import Keep, Kept, forget
from ddim_interp.kept_file import read_kept, write_kept
from ddim_interp.user_cache import cache_off, user_cache_folder

__all__ = ["LatentCache", "latent_cache_folder"]

_SUFFIX = ".safetensors"
_MOST_BYTES = 2**29


def latent_cache_folder() -> Path | None:
    """Where inversions are remembered, in the user's cache folder; None if they are not.

    The variable DDIM_INTERP_CACHE names another folder, or says `off`.
    """
    return None if cache_off() else user_cache_folder("latents")


class LatentCache:
    """Remembers inversions in a folder; a `Keep` around another, which has all other work.

    It never stands in the way: a damaged entry is replaced, and what cannot be written is not
    remembered.

    Args:
        folder: Where.
        identity: All that decides an inversion besides its pictures, as JSON values.
        inner: Has the work that is not remembered here.
        most_bytes: How much is remembered in all; what was not used for longest goes first.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        inner: Keep = forget,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self.folder = folder
        self.identity = json.dumps(identity, sort_keys=True, default=str)
        self.inner = inner
        self.most_bytes = most_bytes

    def __call__(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What `make` gives; from the folder, if it is an inversion that is there to the bit."""
        if not name.startswith("inversion-"):
            return self.inner(name, make)
        path = self.folder / (sha256_bytes(f"{self.identity} {name}".encode()) + _SUFFIX)
        kept = None
        with suppress(DdimInterpError, OSError):
            kept = read_kept(path)
        if kept is not None:
            with suppress(OSError):
                os.utime(path)  # used just now
            return kept
        kept = self.inner(name, make)
        with suppress(DdimInterpError, OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sweep_orphans(self.folder)
            write_kept(path, kept)
            self._shrink()
        return kept

    def _shrink(self) -> None:
        """Forget what was not used for longest, until the rest fits."""
        files = [(path, path.stat()) for path in self.folder.glob(f"*{_SUFFIX}")]
        total = 0
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime, reverse=True):
            total += stat.st_size
            if total > self.most_bytes:
                path.unlink(missing_ok=True)
