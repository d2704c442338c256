"""What does the hub's cache hold? Its client lays it out like this:

    models--org--name/
    ├── blobs/           the bytes of each file, also of those that are not whole yet
    ├── refs/main        which commit that revision was when the hub was last asked
    └── snapshots/
        └── 0a1b…/       a commit's files under their names: links to the bytes

Nothing is written here but `refs`, and only when a model is whole.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ddim_interp.errors import InputMissingError, ModelError
from ddim_interp.files import StrPath, write_bytes
from ddim_interp.hub.quiet import silence
from ddim_interp.hub.wanted import Wanted, is_commit
from ddim_interp.model_configs import read_configs
from ddim_interp.model_folder import Parts, all_weights, file_names

__all__ = [
    "Located",
    "bytes_here",
    "cache_folder",
    "cached_file",
    "cached_models",
    "find_cached",
    "remember",
    "snapshot",
    "storage",
]


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


def cache_folder() -> Path:
    """Where the hub's client keeps what it fetched; `HF_HOME` and `HF_HUB_CACHE` move it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_models(cache_dir: StrPath | None = None) -> tuple[Located, ...]:
    """The models in the hub's cache that we can run, by name; nobody is asked.

    Args:
        cache_dir: Look there instead.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        with silence():
            place = Path(cache_dir).expanduser() if cache_dir else cache_folder()
            repos = scan_cache_dir(place).repos
    except CacheNotFound:
        return ()
    models = []
    for repo in repos:
        for commit in repo.revisions:
            with suppress(ModelError, InputMissingError):
                folder = commit.snapshot_path
                if _is_whole(folder):
                    models.append(Located(folder, repo.repo_id, commit.commit_hash))
    return tuple(sorted(models, key=lambda model: (model.name, model.revision or "")))


def find_cached(wanted: Wanted) -> Located | None:
    """The model as the cache has it, if it is all there."""
    for name in ("unet/config.json", "config.json"):
        if (path := cached_file(wanted, name, wanted.revision)) and not wanted.file:
            folder = path.parents[name.count("/")]
            with suppress(ModelError):
                if _is_whole(folder, wanted.parts(file_names(folder))):
                    return Located(folder, wanted.repo, folder.name)
    return _find_bare(wanted) if wanted.pickles else None


def _is_whole(folder: Path, parts: Parts | None = None) -> bool:
    """Whether all weights are there, too; a ModelError where it is no model."""
    weights = all_weights(folder, read_configs(folder, parts).parts)
    return all((folder / name).is_file() for name in weights)


def _find_bare(wanted: Wanted) -> Located | None:
    """A bare checkpoint as the cache has it."""
    ref = _ref(wanted)
    commit = ref.read_text() if ref.is_file() else wanted.revision
    folder = snapshot(wanted, commit)
    if not is_commit(commit) or not folder.is_dir():
        return None
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    with suppress(ModelError):
        bare, *_ = wanted.bare(names)
        return Located(folder / bare, wanted.repo, commit)
    return None


def cached_file(wanted: Wanted, name: str, revision: str) -> Path | None:
    """One file of the repository as the cache has it."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(wanted.repo, name, wanted.cache_dir, revision)
    return Path(path) if isinstance(path, str) else None


def storage(wanted: Wanted) -> Path:
    """The repository's folder in the cache."""
    folder = "models--" + wanted.repo.replace("/", "--")
    return (wanted.cache_dir or cache_folder()) / folder


def snapshot(wanted: Wanted, commit: str) -> Path:
    """The folder with a commit's files."""
    return storage(wanted) / "snapshots" / commit


def bytes_here(wanted: Wanted) -> int:
    """How much of the repository lies in the cache, unfinished files among it."""
    with suppress(OSError):
        return sum(path.stat().st_size for path in (storage(wanted) / "blobs").iterdir())
    return 0


def remember(wanted: Wanted, commit: str) -> None:
    """Note which commit the revision was, so that it is found without the hub next time."""
    if is_commit(wanted.revision):
        return
    ref = _ref(wanted)
    with suppress(OSError):  # a cache that may only be read serves too
        if not ref.is_file() or ref.read_text() != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(ref, commit.encode(), overwrite=True)


def _ref(wanted: Wanted) -> Path:
    """The file that says which commit the revision was."""
    return storage(wanted) / "refs" / wanted.revision
