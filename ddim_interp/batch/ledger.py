"""What has come of a batch so far, in the folder where its films are.

    folder/
    ├── apple__pear.mp4      each film, when it is whole
    ├── results.jsonl        a line for each that was made: what `morph --json` says of it, and
    │                        hashes of all that decided it, and of the film itself
    └── failures.jsonl       a line for each that was not: its keyframes, the reason, an exit code

A film needs no second making if its line in `results.jsonl` has the hash of what would be made now,
and the film that of what stands there. A line that a killed run left half is as good as none.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddim_interp.batch.task import Outcome
from ddim_interp.errors import OutputError, StorageError, TableError
from ddim_interp.files import (
    StrPath,
    append_line,
    claim,
    is_there,
    make_folder,
    read_lines,
    sha256_bytes,
    sha256_file,
    shown,
    write_bytes,
)
from ddim_interp.strict_json import parse_object

__all__ = ["Ledger", "digest", "open_ledger"]

_RESULTS, _FAILURES = "results.jsonl", "failures.jsonl"


class Ledger:
    """What has come of a batch.

    Args:
        folder: Where its films are.
        made: What earlier runs entered of films that they made, by name.
    """

    def __init__(self, folder: Path, made: Mapping[str, Mapping[str, Any]]) -> None:
        self.folder = folder
        self.made = made
        self.results = folder / _RESULTS
        self.failures = folder / _FAILURES
        self._again: dict[str, bool] = {}  # of those, what was tried anew, and whether it is there

    def enter(self, outcome: Outcome) -> None:
        """Write down what came of a film, unless that is known.

        Raises:
            StorageError: The disk is full, or fails.
        """
        if outcome.found:
            return
        if outcome.name in self.made:
            self._again[outcome.name] = not outcome.failed
        append_line(self.failures if outcome.failed else self.results, _line(outcome.entry))

    def tidy(self, *, always: bool = False) -> None:
        """Leave a line for each film that was made, and none that holds no more; or half of one.

        Raises:
            StorageError: The disk is full, or fails.
        """
        if self._again or (always and self.made):
            entries = _read(self.results).items()
            lines = [f"{_line(entry)}\n" for name, entry in entries if self._again.get(name, True)]
            write_bytes(self.results, "".join(lines).encode(), overwrite=True)
            self._again = {}


@contextmanager
def open_ledger(
    folder: StrPath, *, resume: bool = False, overwrite: bool = False
) -> Iterator[Ledger]:
    """The ledger of a batch, which has one user until the block is left.

    Args:
        folder: Where its films go; it is created, if the folder that it will be in is there.
        resume: Whether to go on with the batch that is there, if one is. What failed is tried anew.
        overwrite: Whether to begin it anew, if not that.

    Raises:
        BusyError: Another run is at this batch.
        OutputError: The folder holds a batch, and neither was asked for; or it cannot be created.
        StorageError: The disk is full, or fails.
    """
    folder = Path(folder)
    make_folder(folder)
    with claim(folder / _RESULTS):
        results, failures = folder / _RESULTS, folder / _FAILURES
        if not resume and not overwrite and (is_there(results) or is_there(failures)):
            raise OutputError(
                f"{shown(folder)} holds a batch already; go on with it by --resume, begin it anew "
                "by --overwrite, or choose another folder."
            )
        made = _read(results) if resume and is_there(results) else {}
        for path in [failures] if made else [results, failures]:
            _remove(path)
        ledger = Ledger(folder, made)
        ledger.tidy(always=True)  # without half a line
        yield ledger
        ledger.tidy()


def digest(out: StrPath) -> str:
    """The hash of a film: of a file, or of all files of a folder with their names.

    Raises:
        InputMissingError: There is none.
        StorageError: Reading failed half-way.
    """
    out = Path(out)
    if not out.is_dir():
        return sha256_file(out)
    frames = sorted(path.name for path in out.iterdir())
    return sha256_bytes("".join(f"{name} {sha256_file(out / name)}\n" for name in frames).encode())


def _read(results: Path) -> dict[str, Mapping[str, Any]]:
    """Entries by name, the last one where there are several; lines that are none are left out."""
    entries: dict[str, Mapping[str, Any]] = {}
    for line in read_lines(results):
        try:
            entry = parse_object(line, results.name, TableError)
        except TableError:
            continue
        if isinstance(entry.get("name"), str):
            entries[entry["name"]] = entry
    return entries


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False, separators=(",", ":"))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{shown(path)} cannot be removed: {error.strerror}; remove it, or choose another "
            "folder."
        ) from error
