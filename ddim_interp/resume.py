"""Go on where an interrupted run stopped, and end with the very bytes of an unbroken one.

    film.mp4                       the output: there only when it is whole
    .film.mp4.<hash>.work/         beside it, until then
    ├── manifest.json              what is being made, and under which circumstances
    └── <name>.safetensors         one for each batch done, with a hash of what it holds

A batch is computed again unless its file is there, whole, and its hash right. Batches are cut the
same way in every run, so those computed again come out the same, and the film is encoded from all
of them, in order, at the end.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ddim_interp.errors import (
    ArgumentError,
    DdimInterpError,
    ImageError,
    InputMissingError,
    LatentsError,
    OutputError,
)
from ddim_interp.files import StrPath, remove_work, shown, work_folder, work_place, write_bytes
from ddim_interp.keep import Kept
from ddim_interp.kept_file import read_kept, write_kept
from ddim_interp.recipe import pack, unpack
from ddim_interp.sinks import read_recipe
from ddim_interp.strict_json import read_object
from ddim_interp.unet.fused import kernels_on

__all__ = [
    "WorkFolder",
    "check_not_another",
    "circumstances",
    "drop_work",
    "is_finished",
    "open_work",
]

_MANIFEST = "manifest.json"
_MEMBERS = re.compile(r"manifest\.json|[a-z]+-[0-9A-Za-z.-]{1,120}\.safetensors")
_VERSION = 1
_FOUND = {"plan", "keyframes", "sources", "images"}


def circumstances(device: torch.device, batch_size: int) -> dict[str, Any]:
    """What may move the last bit of a picture, though not its meaning."""
    from ddim_interp import __version__

    return {
        "ddim_interp": __version__,
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "kernels": kernels_on(device),
        "batch_size": batch_size,
    }


@contextmanager
def open_work(
    out: StrPath,
    order: Mapping[str, Any],
    around: Mapping[str, Any],
    *,
    anew: bool = False,
    allow_drift: bool = False,
) -> Iterator["WorkFolder"]:
    """The work folder of an output; new, or the one an interrupted run left.

    It goes when the block is left without an exception, and stays otherwise.

    Args:
        out: The output.
        order: All that decides what is made, as plain JSON values: a folder left by another order
            is refused.
        around: `circumstances`; a folder made under others is refused as well.
        anew: Take none, and remove what is there.
        allow_drift: Take it nevertheless, and put up with other last bits.

    Raises:
        ArgumentError: The folder belongs to another order, or was made under other circumstances.
        OutputError: It cannot be created, or holds something else.
        StorageError: The disk is full, or fails.
    """
    manifest = _plain({"version": _VERSION, "order": order, "around": around})
    if anew:
        remove_work(out, _MEMBERS)
    with work_folder(out, _MEMBERS) as folder:
        path = folder / _MANIFEST
        found = read_object(path, OutputError) if path.exists() else None
        if found is not None:
            _check(found, manifest, folder, allow_drift)
        work = WorkFolder(folder, json.dumps(manifest, indent=1))
        try:
            yield work
        except BaseException as error:
            if path.exists():
                error.add_note("What was done is kept; the same command goes on from there.")
            raise


def drop_work(out: StrPath, describe: Callable[[], Mapping[str, Any]]) -> None:
    """Remove what an interrupted run kept, when its output has been made without going on from it.

    The work of another order stays: whoever gave that may want to go on with it. Call it inside
    `claim`.

    Args:
        out: The output.
        describe: Gives the order that it was made by, as `open_work` takes it.
    """
    path = work_place(out) / _MANIFEST
    if not path.exists():
        return
    with suppress(DdimInterpError):  # damaged, or an input is gone: the output is there anyway
        found = read_object(path, OutputError)
        wanted = _plain({"version": _VERSION, "order": describe()})
        if all(found.get(part) == wanted[part] for part in wanted):
            remove_work(out, _MEMBERS)


class WorkFolder:
    """Remembers batches of work in a folder; a `Keep`."""

    def __init__(self, folder: Path, manifest: str) -> None:
        self.folder = folder
        self._manifest: str | None = manifest

    def __call__(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What `make` gives, from disk if it is there to the bit.

        Raises:
            StorageError: The disk is full, or fails.
        """
        path = self.folder / f"{name}.safetensors"
        done = read_kept(path)
        if done is not None:
            return done
        kept = make()
        if self._manifest is not None:  # now there is something to go on with
            write_bytes(self.folder / _MANIFEST, self._manifest.encode(), overwrite=True)
            self._manifest = None
        write_kept(path, kept)
        return kept


def is_finished(
    out: StrPath,
    recipe: Mapping[str, Any],
    read: Callable[[StrPath], Mapping[str, Any]] = read_recipe,
) -> bool:
    """Whether an output is there already, and says that it is this one.

    Outputs appear under their name whole, so what carries this recipe needs no second making.
    """
    try:
        return read(out) == unpack(pack(recipe))
    except (ImageError, InputMissingError, LatentsError):
        return False


def check_not_another(out: StrPath, order: Mapping[str, Any]) -> None:
    """Refuse to go on with an output that says it was made otherwise, before anything is inverted.

    Its plan is not compared, nor are latents that it passes through: a recipe tells more of them,
    once they are found.

    Args:
        out: The output, if it is there.
        order: All that decides what is to be made, as plain JSON values.

    Raises:
        OutputError: It was.
    """
    try:
        recipe = read_recipe(out)
    except (ImageError, InputMissingError):
        return
    if "encoded_from" in recipe:  # by `encode`: no order makes its bytes
        raise _is_there(out, f"was encoded from {recipe['encoded_from']!r:.60}")
    told = (order.keys() & recipe.keys()) - _FOUND | {"dtype"}
    was, wanted = ({key: each.get(key) for key in told} for each in (recipe, _plain(order)))
    if was != wanted:
        what, before, now = _first_difference("", was, wanted)
        raise _is_there(out, f"was made with another {what} ({before}, now {now})")
    # Up to latents of a file, of which a recipe tells by their own names.
    for had, asked in zip(_keyframes(recipe), _keyframes(order), strict=False):
        hashed = [bool(each.get("sha256")) for each in (had, asked)]
        if hashed == [False, True]:
            return
        key = "sha256" if all(hashed) else "source"
        if had.get(key) != asked.get(key):
            _, before, now = _first_difference("source", had.get("source"), asked.get("source"))
            names = f"{before}, now {now}" if before != now else f"{now}, which has changed since"
            raise _is_there(out, f"was made with another keyframe ({names})")


def _keyframes(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    keyframes = told.get("keyframes")
    return [each for each in keyframes if isinstance(each, dict)] if keyframes else []


def _is_there(out: StrPath, reason: str) -> OutputError:
    return OutputError(
        f"{shown(out)} exists, and {reason}; choose another name, or allow it to be replaced "
        "(--overwrite)."
    )


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _check(
    found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path, allow_drift: bool
) -> None:
    """Refuse the work of another order."""
    for part in ("version", "order") if allow_drift else ("version", "order", "around"):
        if found.get(part) != wanted[part]:
            what, was, now = _first_difference(part, found.get(part), wanted[part])
            drift = " or allow it with --allow-drift," if part == "around" else ""
            raise ArgumentError(
                f"{shown(folder)} keeps the work of an unfinished run with another {what} "
                f"({was}, now {now}); give the command of that run,{drift} or remove that folder."
            )


def _first_difference(name: str, was: Any, now: Any) -> tuple[str, str, str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*now, *was]:
            if was.get(key) != now.get(key):
                return _first_difference(key, was.get(key), now.get(key))
    return name, f"{was!r:.60}", f"{now!r:.60}"
