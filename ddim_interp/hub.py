"""Where does a model come from? The door of the Hugging Face hub.

A source is one of these: nothing, which means the model inside the package; a folder; a file, which
is a bare checkpoint; or `org/name` on the hub, with `@revision` if not the newest. What is fetched
lies in the hub's own cache, and its variables rule: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.
A revision is turned into a commit once, and only configs and weights are fetched from that commit,
by name.
"""

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddim_interp.errors import (
    ArgumentError,
    DdimInterpError,
    HubError,
    InputMissingError,
    ModelError,
    OutputError,
    StorageError,
)
from ddim_interp.files import (
    DISK_ERRORS,
    StrPath,
    disk_remedy,
    is_there,
    sha256_file,
    shown,
    write_bytes,
)
from ddim_interp.model_configs import read_configs
from ddim_interp.model_folder import BARE, Parts, all_weights, file_names, find_parts

__all__ = ["EMBEDDED", "Located", "cache_folder", "cached_models", "is_offline", "locate"]

EMBEDDED = Path(__file__).with_name("assets") / "fruit64"

T = TypeVar("T")

REQUEST_SECONDS = 10.0  # for one request
ANSWER_SECONDS = 25.0  # for the hub to answer at all, name look-up included
STALL_SECONDS = 60.0  # without a new byte; the hub's client writes 10 MB at a time

_REPO = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}"
_SOURCE = re.compile(rf"(?!.*(?:--|\.\.))({_REPO}/{_REPO})(?:@({_REVISION}))?")
_PLAIN = re.compile(r"\w[\w .+-]*(?:/\w[\w .+-]*)*")  # a path that stays where it is put
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Located:
    """A model that lies ready on this machine.

    Args:
        folder: Where; one file if it is a bare checkpoint.
        name: What it is called in recipes: `org/name`, or a folder's name without its path.
        revision: The commit, if it came from the hub.
        warning: What the user should be told: the hub did not answer, and this is an older copy.
    """

    folder: Path
    name: str
    revision: str | None = None
    warning: str | None = None


def locate(
    source: StrPath | None = None,
    *,
    revision: str | None = None,
    variant: str | None = None,
    offline: bool = False,
    cache_dir: StrPath | None = None,
    token: str | None = None,
    pickles: bool = False,
    file: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Located:
    """Find a model, and fetch it if it is not here yet.

    Args:
        source: None or "embedded" for the model in the package, a folder, a bare checkpoint, or
            `org/name` or `org/name@revision` on the hub. What exists here comes before a name on
            the hub.
        revision: A branch, tag or commit; the newest if None. A full commit that is in the cache is
            used without asking anybody.
        variant: Which weights, if there are several: "fp16".
        offline: Use what is in the cache, and open no connection.
        cache_dir: Use this folder instead of the hub's own cache.
        token: Proves who you are; the hub client's own if None.
        pickles: Also fetch weights that are pickles, and bare checkpoints; only for conversion.
        file: Which bare checkpoint of a repository, if there are several.
        progress: Is told the bytes fetched and the bytes in all, now and then.

    Raises:
        InputMissingError: It looks like a folder, and is not there.
        ModelError: It is there, and no model that we can run.
        HubError: The hub cannot be reached or refuses, and the cache does not have it.
        OutputError: The cache cannot be written to.
        StorageError: The disk is full.

    Example:
        >>> locate().name
        'fruit64'
    """
    if source is None or source == "embedded":
        return Located(EMBEDDED, EMBEDDED.name)
    folder = Path(source).expanduser()
    if source != "" and is_there(folder):
        if revision is not None:
            raise ArgumentError(
                f"revision={revision!r} is for models on the hub, and {shown(source)} is a folder; "
                "drop one of them."
            )
        if not folder.is_dir() and folder.suffix not in BARE:
            raise ModelError(
                f"{shown(source)} is no model: that is a folder, or a checkpoint that ends in "
                f"{', '.join(BARE)}."
            )
        return Located(folder, folder.resolve().name)
    match = _SOURCE.fullmatch(source) if isinstance(source, str) else None
    if match is None:
        raise InputMissingError(
            f"There is no folder and no checkpoint {shown(source)}; check the name, or give "
            "org/name for a model on the hub."
        )
    if revision is not None and match[2] not in (None, revision):
        raise ArgumentError(f"{source} and revision={revision!r} contradict; drop one of them.")
    if revision is None:
        revision = match[2] or "main"
    if not _SOURCE.fullmatch(f"{match[1]}@{revision}"):
        raise ArgumentError(f"revision={revision!r} cannot be one; give a branch, tag or commit.")
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    fetch = _Fetch(match[1], revision, variant, cache, token, pickles, progress, file)
    with _silence():
        return fetch.locate(offline)


def cache_folder() -> Path:
    """Where the hub's client keeps what it fetched; `HF_HOME` and `HF_HUB_CACHE` move it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether the hub's client may ask nobody, as it reads its own variables."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def cached_models(cache_dir: StrPath | None = None) -> tuple[Located, ...]:
    """The models in the hub's cache that we can run, by name; nobody is asked.

    Args:
        cache_dir: Look there instead.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        with _silence():
            repos = scan_cache_dir(Path(cache_dir) if cache_dir else cache_folder()).repos
    except CacheNotFound:
        return ()
    models = []
    for repo in repos:
        for commit in repo.revisions:
            with suppress(ModelError, InputMissingError):
                folder = commit.snapshot_path
                parts = read_configs(folder).parts
                if all((folder / name).is_file() for name in all_weights(folder, parts)):
                    models.append(Located(folder, repo.repo_id, commit.commit_hash))
    return tuple(sorted(models, key=lambda model: (model.name, model.revision or "")))


@dataclass(frozen=True)
class _Fetch:
    """One repository at one revision: what the cache has of it, and how the rest gets there."""

    repo: str
    revision: str
    variant: str | None
    cache_dir: Path | None
    token: str | None
    pickles: bool
    progress: Callable[[int, int], None] | None
    file: str | None = None

    def locate(self, offline: bool) -> Located:
        offline = offline or is_offline()
        cached = self._cached()
        if cached and (offline or cached.revision == self.revision):
            return cached
        if offline:
            raise HubError(
                f"{self._called} is not in the cache, or not all of it, and the hub may not be "
                "asked; go online once, or give a folder."
            )
        try:
            return self._fetched()
        except HubError as error:
            if cached is None:
                raise
            return replace(cached, warning=f"{error} Until then, the copy in the cache is used.")

    @property
    def _called(self) -> str:
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"

    def _cached(self) -> Located | None:
        """The model as the cache has it, if it is all there."""
        from huggingface_hub import try_to_load_from_cache

        for name in ("unet/config.json", "config.json"):
            path = try_to_load_from_cache(self.repo, name, self.cache_dir, self.revision)
            if isinstance(path, str):
                folder = Path(path).parents[name.count("/")]
                if not self.file and self._is_whole(folder):
                    return Located(folder, self.repo, folder.name)
        return self._cached_bare() if self.pickles else None

    def _cached_bare(self) -> Located | None:
        """A bare checkpoint as the cache has it."""
        ref = self._storage / "refs" / self.revision
        commit = ref.read_text() if ref.is_file() else self.revision
        folder = self._storage / "snapshots" / commit
        if not _COMMIT.fullmatch(commit) or not folder.is_dir():
            return None
        names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        with suppress(ModelError):
            bare, *_ = self._bare(names)
            return Located(folder / bare, self.repo, commit)
        return None

    def _bare(self, names: Collection[str]) -> list[str]:
        """The bare checkpoint among these files, and the `.yml` beside it if there is just one."""
        found = sorted(n for n in names if n.endswith(BARE) and _PLAIN.fullmatch(n))
        chosen = [name for name in found if self.file in (None, name)]
        if self.file and not chosen:
            raise ModelError(
                f"{self._called} holds no checkpoint {shown(self.file)}; it has "
                f"{', '.join(map(shown, found[:8])) or 'none'}."
            )
        if len(chosen) > 1:
            first = ", ".join(map(shown, chosen[:8])) + (" …" if len(chosen) > 8 else "")
            raise ModelError(
                f"{self._called} holds {len(chosen)} checkpoints ({first}); name one with --file."
            )
        for name in chosen:
            place = name.rpartition("/")[0]
            beside = [n for n in names if n.rpartition("/")[0] == place and _PLAIN.fullmatch(n)]
            ymls = [n for n in beside if n.endswith((".yml", ".yaml"))]
            return [name, *(ymls if len(ymls) == 1 else [])]
        raise ModelError(f"{self._called} holds no model and no checkpoint; check the name.")

    def _is_whole(self, folder: Path) -> bool:
        try:
            parts = read_configs(folder, self._parts(file_names(folder))).parts
            return all((folder / name).is_file() for name in all_weights(folder, parts))
        except ModelError:
            return False

    def _parts(self, names: Collection[str]) -> Parts:
        return find_parts(names, self._called, variant=self.variant, pickled=self.pickles)

    def _fetched(self) -> Located:
        """Ask the hub which commit it is and what that holds; fetch what we need of it."""
        from huggingface_hub import HfApi

        api = HfApi(token=self.token, library_name="ddim_interp")
        info = self._patiently(
            ANSWER_SECONDS,
            lambda: api.model_info(
                self.repo, revision=self.revision, files_metadata=True, timeout=REQUEST_SECONDS
            ),
        )
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise self._refusal(ValueError("no commit in the answer"))
        files = {file.rfilename: file for file in info.siblings or ()}
        if self.pickles and (self.file or not {"unet/config.json", "config.json"} & files.keys()):
            bare = self._bare(files)
            folder = self._fetch(info.sha, [files[name] for name in bare], STALL_SECONDS)
            self._remember(folder)
            return Located(folder / bare[0], self.repo, info.sha)
        parts = self._parts(files)
        # The configs first: they say whether the rest, which may be large, is any use.
        configs = {parts.index, parts.scheduler_config, *(net.config for net in parts.networks)}
        configs |= {net.weights for net in parts.networks if net.weights.endswith(".json")}
        folder = self._fetch(info.sha, [files[name] for name in configs if name], ANSWER_SECONDS)
        weights = all_weights(folder, read_configs(folder, parts).parts)
        if missing := [name for name in weights if name not in files]:
            raise ModelError(f"{self._called} lists {missing[0]}, and does not have it.")
        self._fetch(info.sha, [files[name] for name in weights], STALL_SECONDS)
        self._remember(folder)
        return Located(folder, self.repo, info.sha)

    def _fetch(self, commit: str, files: Sequence[Any], patience: float) -> Path:
        """Fetch those files of a commit that are not in the cache yet; returns their folder."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        def cached(file: Any) -> bool:
            found = try_to_load_from_cache(self.repo, file.rfilename, self.cache_dir, commit)
            return isinstance(found, str)

        def download(files: Sequence[Any]) -> list[Path]:
            return [
                Path(
                    hf_hub_download(
                        self.repo,
                        file.rfilename,
                        revision=commit,
                        cache_dir=self.cache_dir,
                        token=self.token,
                        etag_timeout=REQUEST_SECONDS,
                        tqdm_class=_no_bar(),
                        library_name="ddim_interp",
                    )
                )
                for file in files
            ]

        if missing := [file for file in files if not cached(file)]:
            total = sum(file.size or 0 for file in missing)
            paths = self._patiently(patience, lambda: download(missing), total)
            for path, file in zip(paths, missing, strict=True):
                self._check(path, file)
        return self._storage / "snapshots" / commit

    def _patiently(self, patience: float, work: Callable[[], T], total: int = 0) -> T:
        """Do what may wait for the network, as long as bytes arrive in the cache.

        The hub's client retries, sleeps and waits for other processes' locks for as long as it
        likes, and cannot be interrupted: so it works in a thread, which is left behind if need be.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        Thread(target=run, daemon=True).start()
        start = most = self._bytes_here()
        last = time.monotonic()
        while not wait([future], timeout=0.2).done:
            now = self._bytes_here()
            if now > most:  # a download that starts over and over brings nothing new
                most, last = now, time.monotonic()
                if self.progress and total:
                    self.progress(min(now - start, total), total)
            if time.monotonic() - last > patience:
                raise self._refusal(TimeoutError(f"nothing new for {patience:g} s"))
        try:
            return future.result()
        except Exception as error:
            raise self._refusal(error) from error

    @property
    def _storage(self) -> Path:
        """The repository's folder in the cache."""
        folder = "models--" + self.repo.replace("/", "--")
        return (self.cache_dir or cache_folder()) / folder

    def _bytes_here(self) -> int:
        """How much of the repository lies in the cache, unfinished files among it."""
        with suppress(OSError):
            return sum(path.stat().st_size for path in (self._storage / "blobs").iterdir())
        return 0

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
                f"{file.rfilename} of {self._called} arrived damaged, and was removed; try again."
            )

    def _remember(self, folder: Path) -> None:
        """Note which commit the revision was, so that it is found without the hub next time."""
        ref = self._storage / "refs" / self.revision
        if _COMMIT.fullmatch(self.revision):
            return
        with suppress(OSError):  # a cache that may only be read serves too
            if not ref.is_file() or ref.read_text() != folder.name:
                ref.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(ref, folder.name.encode(), overwrite=True)

    def _refusal(self, error: BaseException) -> DdimInterpError:
        """What to tell the user when the hub's client failed."""
        from huggingface_hub import constants, errors

        hub = f"The hub ({urlsplit(constants.ENDPOINT).hostname})"
        causes = [error, error.__cause__]
        if response := next(filter(None, (getattr(e, "response", None) for e in causes)), None):
            return HubError(f"{hub} {self._answer(response, error)}")
        number = getattr(error, "errno", None)
        if isinstance(error, OSError) and number in DISK_ERRORS:
            return StorageError(
                f"The cache {shown(self._storage)} cannot take {self._called}: "
                f"{os.strerror(number).lower()}; "
                f"{disk_remedy(error, 'set HF_HOME to another disk')}."
            )
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return OutputError(
                f"The cache {shown(self._storage)} may not be written to; set HF_HOME to a folder "
                "that may."
            )
        if any(
            isinstance(e, ValueError | TypeError | LookupError | errors.FileMetadataError)
            for e in causes
        ):
            return HubError(
                f"{hub} was asked for {self._called}, and something else answered; log in to the "
                "network, or check proxy and HF_ENDPOINT."
            )
        if type(error) is OSError:  # the client found another size than announced
            return HubError(f"{self._called} did not arrive whole from {hub}; try again.")
        return HubError(
            f"{hub} cannot be reached for {self._called} ({_brief(error)}); check the connection."
        )

    def _answer(self, response: Any, error: BaseException) -> str:
        """What a refusal in HTTP means, by its status."""
        from huggingface_hub.errors import RevisionNotFoundError

        status = response.status_code
        if status == 401:
            return (
                f"does not show {self._called} to strangers, or does not have it (401); check the "
                "name, and set HF_TOKEN to a token that may read it."
            )
        if status == 403:
            return (
                f"forbids {self._called} to this token (403); accept the terms on its page, or set "
                "HF_TOKEN to a token that may read it."
            )
        if isinstance(error, RevisionNotFoundError):
            return f"has {self.repo}, but no revision {self.revision} (404); check it."
        if status == 404:
            return f"has no {self._called} (404), and there is no such folder here; check the name."
        if status == 429:
            after = response.headers.get("Retry-After", "")
            when = f"in {after} s" if after.isdigit() and len(after) < 6 else "later"
            return f"was asked too often (429); try again {when}."
        if status >= 500:
            return f"is out of order ({status}); try again later."
        return f"refuses {self._called} ({status}); check the name."


def _brief(error: BaseException) -> str:
    """An error of the hub's client in a few words."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return shown(text.splitlines()[0])[:80]


@cache
def _no_bar() -> Any:
    """A progress bar that shows nothing."""
    from huggingface_hub.utils.tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return NoBar


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the hub client's own log lines from the screen; what matters comes as an error."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
