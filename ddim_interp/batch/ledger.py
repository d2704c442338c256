"""What has come of a batch so far, in the folder where its films are.

    folder/
    ├── apple__pear.mp4      each film, when it is whole
    ├── results.jsonl        a line for each that was made: what `morph --json` says of it, and
    │                        hashes of all that decided it, and of the film itself
    └── failures.jsonl       a line for each that was not: its keyframes, the reason, an exit code

Runs that share a table, each with a part of its rows, share the folder too, and each keeps a ledger
of its own there: `results.3-of-16.jsonl`. A run of the whole table goes on from all of
them, and has all of it in `results.jsonl`.

A film needs no second making if its line in `results.jsonl` has the hash of what would be made now,
and the film that of what stands there. A line that a killed run left half is as good as none.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
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


class Ledger:
    """What has come of a batch.

    Args:
        folder: Where its films are.
        part: What its files are called besides; nothing, or `.3-of-16`.
        made: What earlier runs entered of films that they made, by name.

    Attributes:
        results: What was made.
        failures: What was not.
        ends: Where a run writes what it is at, in case that is its end.
    """

    def __init__(self, folder: Path, part: str, made: Mapping[str, Mapping[str, Any]]) -> None:
        self.folder = folder
        self.made = made
        self.results, self.failures, self.ends = _files(folder, part)
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

    def tidy(self) -> None:
        """Leave a line for each film that was made, and none that holds no more.

        Raises:
            StorageError: The disk is full, or fails.
        """
        if self._again:
            entries = _read(self.results).items()
            _write(self.results, [entry for name, entry in entries if self._again.get(name, True)])
            self._again = {}


@contextmanager
def open_ledger(
    folder: StrPath,
    *,
    part: tuple[int, int] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Ledger]:
    """The ledger of a batch, which has one user until the block is left.

    Args:
        folder: Where its films go; it is created, if the folder that it will be in is there.
        part: Which part of how many this run makes; all of it if None.
        resume: Whether to go on with the batch that is there, if one is. What failed is tried anew.
        overwrite: Whether to begin it anew, if not that.

    Raises:
        BusyError: Another run is at this batch, or at this part of it.
        OutputError: The folder holds a batch, and neither was asked for; or it cannot be created.
        StorageError: The disk is full, or fails.
    """
    folder = Path(folder)
    make_folder(folder)
    suffix = "" if part is None else ".{}-of-{}".format(*part)
    results, failures, _ = _files(folder, suffix)
    with claim(results):
        if not resume and not overwrite and (is_there(results) or is_there(failures)):
            raise OutputError(
                f"{shown(folder)} holds a batch already; go on with it by --resume, begin it anew "
                "by --overwrite, or choose another folder."
            )
        made = _read_all(folder) if resume else {}
        own = made if part is None else _read(results) if resume else {}
        for path in [failures] if own else [results, failures]:
            _remove(path)
        if own:
            _write(results, own.values())  # without half a line
        ledger = Ledger(folder, suffix, made)
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


def _files(folder: Path, part: str) -> tuple[Path, Path, Path]:
    """Where a run keeps its ledger."""
    names = (f"results{part}.jsonl", f"failures{part}.jsonl", f".ended-by{part}.json")
    first, second, third = (folder / name for name in names)
    return first, second, third


def _read_all(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What all runs have entered, those of the whole table last: they have seen the others."""
    ledgers = [*sorted(folder.glob("results.*-of-*.jsonl")), _files(folder, "")[0]]
    return {name: entry for path in ledgers for name, entry in _read(path).items()}


def _read(results: Path) -> dict[str, Mapping[str, Any]]:
    """Entries by name, the last one where there are several; lines that are none are left out."""
    entries: dict[str, Mapping[str, Any]] = {}
    for line in read_lines(results) if is_there(results) else ():
        try:
            entry = parse_object(line, results.name, TableError)
        except TableError:
            continue
        if isinstance(entry.get("name"), str):
            entries[entry["name"]] = entry
    return entries


def _write(results: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    lines = "".join(f"{_line(entry)}\n" for entry in entries)
    write_bytes(results, lines.encode(), overwrite=True)


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
