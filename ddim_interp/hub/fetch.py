"""How does a model get from the hub into the cache? File by file, and each is held to its hash."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ddim_interp.errors import HubError, ModelError
from ddim_interp.files import sha256_file, shown
from ddim_interp.hub.cache import Located, bytes_here, cached_file, remember, snapshot
from ddim_interp.hub.patience import patiently
from ddim_interp.hub.quiet import no_bar
from ddim_interp.hub.refusals import refusal
from ddim_interp.hub.wanted import Wanted, is_commit
from ddim_interp.model_configs import read_configs
from ddim_interp.model_folder import all_weights

__all__ = ["Fetch"]

T = TypeVar("T")

REQUEST_SECONDS = 10.0  # for one request
ANSWER_SECONDS = 25.0  # for the hub to answer at all, name look-up included
STALL_SECONDS = 60.0  # without a new byte; the hub's client writes 10 MB at a time


@dataclass(frozen=True)
class Fetch:
    """What is wanted of the hub, and how it is fetched.

    Args:
        wanted: The model.
        token: Proves who you are; the hub client's own if None.
        progress: Is told the bytes fetched and the bytes in all, now and then.
    """

    wanted: Wanted
    token: str | None
    progress: Callable[[int, int], None] | None

    def located(self) -> Located:
        """Ask the hub which commit it is and what that holds; fetch what we need of it.

        Raises:
            HubError: It cannot be reached or refuses, or what it sends is damaged.
            ModelError: It has no model that we can run.
            OutputError: The cache cannot be written to.
            StorageError: The disk is full.
        """
        from huggingface_hub import HfApi

        wanted = self.wanted
        api = HfApi(token=self.token, library_name="ddim_interp")
        info = self._outcome(
            ANSWER_SECONDS,
            lambda: api.model_info(
                wanted.repo, revision=wanted.revision, files_metadata=True, timeout=REQUEST_SECONDS
            ),
        )
        commit = info.sha
        if not isinstance(commit, str) or not is_commit(commit):
            raise refusal(ValueError("no commit in the answer"), wanted)
        files = {file.rfilename: file for file in info.siblings or ()}
        configured = bool({"unet/config.json", "config.json"} & files.keys())
        if wanted.pickles and (wanted.file or not configured):
            bare = wanted.bare(files)
            folder = self._fetch(commit, [files[name] for name in bare], STALL_SECONDS)
            remember(wanted, commit)
            return Located(folder / bare[0], wanted.repo, commit)
        parts = wanted.parts(files)
        # The configs first: they say whether the rest, which may be large, is any use.
        configs = {parts.index, parts.scheduler_config, *(net.config for net in parts.networks)}
        configs |= {net.weights for net in parts.networks if net.weights.endswith(".json")}
        folder = self._fetch(commit, [files[name] for name in configs if name], ANSWER_SECONDS)
        weights = all_weights(folder, read_configs(folder, parts).parts)
        if missing := [name for name in weights if name not in files]:
            raise ModelError(
                f"{wanted.called} lists {shown(missing[0])}, and does not have it; try another "
                "revision."
            )
        self._fetch(commit, [files[name] for name in weights], STALL_SECONDS)
        remember(wanted, commit)
        return Located(folder, wanted.repo, commit)

    def _fetch(self, commit: str, files: Sequence[Any], patience: float) -> Path:
        """Fetch those files of a commit that are not in the cache yet; returns their folder."""
        from huggingface_hub import hf_hub_download

        def download(files: Sequence[Any]) -> list[Path]:
            return [
                Path(
                    hf_hub_download(
                        self.wanted.repo,
                        file.rfilename,
                        revision=commit,
                        cache_dir=self.wanted.cache_dir,
                        token=self.token,
                        etag_timeout=REQUEST_SECONDS,
                        tqdm_class=no_bar(),
                        library_name="ddim_interp",
                    )
                )
                for file in files
            ]

        missing = [f for f in files if cached_file(self.wanted, f.rfilename, commit) is None]
        if missing:
            total = sum(file.size or 0 for file in missing)
            paths = self._outcome(patience, lambda: download(missing), total)
            for path, file in zip(paths, missing, strict=True):
                self._check(path, file)
        return snapshot(self.wanted, commit)

    def _outcome(self, patience: float, work: Callable[[], T], total: int = 0) -> T:
        """What the hub's client brings while patience lasts; its failures become errors of ours."""

        def tell(new: int) -> None:
            if self.progress and total:
                self.progress(min(new, total), total)

        done = patiently(work, patience, lambda: bytes_here(self.wanted), tell)
        if done is None:
            raise refusal(TimeoutError(f"nothing new for {patience:g} s"), self.wanted)
        try:
            return done.result()
        except Exception as error:
            raise refusal(error, self.wanted) from error

    def _check(self, path: Path, file: Any) -> None:
        """Compare a file with the hash the hub has for it; the client compares sizes only."""
        if file.lfs:
            right = sha256_file(path) == file.lfs.sha256
        elif file.blob_id:  # git's name for it
            data = path.read_bytes()
            digest = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
            right = digest.hexdigest() == file.blob_id
        else:
            right = True
        if not right:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise HubError(
                f"{file.rfilename} of {self.wanted.called} arrived damaged, and was removed; try "
                "again."
            )
