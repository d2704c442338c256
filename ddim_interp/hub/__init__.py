"""Where does a model come from? The door of the Hugging Face hub.

A source is one of these: nothing, which means the model inside the package; a folder; a file, which
is a bare checkpoint; or `org/name` on the hub, with `@revision` if not the newest. What is fetched
lies in the hub's own cache, and its variables rule: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.
A revision is turned into a commit once, and only configs and weights are fetched from that commit,
by name.

    wanted     which files of a repository
    cache      what of it is here already
    fetch      how the rest gets here
    patience   how long one waits for it
    refusals   what the user is told if it does not come
    quiet      how the hub's client is kept from the screen
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ddim_interp.errors import ArgumentError, HubError, InputMissingError, ModelError
from ddim_interp.files import StrPath, is_there, shown
from ddim_interp.hub.cache import Located, cache_folder, cached_models, find_cached
from ddim_interp.hub.fetch import Fetch
from ddim_interp.hub.quiet import silence
from ddim_interp.hub.wanted import Wanted
from ddim_interp.model_folder import BARE

__all__ = ["EMBEDDED", "Located", "cache_folder", "cached_models", "is_offline", "locate"]

EMBEDDED = Path(__file__).parents[1] / "assets" / "fruit64"

_REPO = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}"
_SOURCE = re.compile(rf"(?!.*(?:--|\.\.))({_REPO}/{_REPO})(?:@({_REVISION}))?")


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
    wanted = Wanted(match[1], revision, variant, cache, pickles, file)
    with silence():
        return _cached_or_fetched(Fetch(wanted, token, progress), offline or is_offline())


def is_offline() -> bool:
    """Whether the hub's client may ask nobody, as it reads its own variables."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def _cached_or_fetched(fetch: Fetch, offline: bool) -> Located:
    """The copy in the cache if it is sure or nobody may be asked, else what the hub has."""
    wanted = fetch.wanted
    cached = find_cached(wanted)
    if cached and (offline or cached.revision == wanted.revision):
        return cached
    if offline:
        raise HubError(
            f"{wanted.called} is not in the cache, or not all of it, and the hub may not be "
            "asked; go online once, or give a folder."
        )
    try:
        return fetch.located()
    except HubError as error:
        if cached is None:
            raise
        return replace(cached, warning=f"{error} Until then, the copy in the cache is used.")
