"""Which films a batch is to make: a row for each, of a .csv, .tsv or .jsonl file.

    apple.png,pear.png                  the simplest: keyframes, two or more in a row
    seed:1,plum.png,seed:2

    a,b,name,frames                     or with titles: `name`, options of `morph`, and whatever
    apple.png,pear.png,fruit,90         else is a keyframe; what is left empty is not said
    apple.png,plum.png,,

    {"keyframes": ["apple.png", "pear.png"], "name": "fruit", "frames": 90}    as JSON, by lines

Files are meant from the folder of the table. A film without a name is called by its keyframes;
where two would be called the same, a hash of the row tells them apart.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ddim_interp.errors import ArgumentError, TableError
from ddim_interp.files import StrPath, open_input, sha256_bytes, shown
from ddim_interp.sources import FiledLatents, parse_source, path_of
from ddim_interp.strict_json import parse_object

__all__ = ["Row", "read_table"]

_SIZE_CAP = 64_000_000  # bytes; some hundred thousand films
_TITLE = re.compile(r"\s*(?:--)?[^\W\d][\w -]*", re.UNICODE)  # no dot, colon or slash: no keyframe
_LONGEST = 100  # characters of a name
_WIDEST = 200  # bytes of it; file systems have 255, and a suffix is to come


@dataclass(frozen=True)
class Row:
    """A film of a table.

    Args:
        line: Where it stands, counted from 1.
        sources: Its keyframes, as seen from here.
        name: What it is called, and its file, without the suffix.
        wishes: What it is to have otherwise than the others: options of `morph` by name.
    """

    line: int
    sources: tuple[str, ...]
    name: str = ""
    wishes: Mapping[str, Any] = field(default_factory=dict)


def read_table(path: StrPath, options: Collection[str] = ()) -> list[Row]:
    """The films that a table asks for; nothing of what it names is opened.

    Args:
        path: The table.
        options: What columns may be called, besides `name`, that are no keyframes.

    Raises:
        InputMissingError: There is no such file.
        TableError: It cannot be read, asks for no film, for one of fewer than two keyframes, for
            two of one name, by a name that no file should have, or for a seed that is none.
    """
    path = Path(path)
    with open_input(path, TableError) as file:
        data = file.read(_SIZE_CAP + 1)
    if len(data) > _SIZE_CAP:
        raise TableError(f"{shown(path)} is larger than 64 MB; split it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TableError(f"{shown(path)} is no UTF-8 text; save it as that.") from None
    read = _read_jsonl if path.suffix.lower() in (".jsonl", ".ndjson") else _read_csv
    rows = [_from(path, row) for row in read(text, path, frozenset(options))]
    if not rows:
        raise TableError(f"{shown(path)} asks for no film; give two keyframes in a row.")
    return _named(rows, path)


def _read_csv(text: str, path: Path, options: frozenset[str]) -> Iterator[Row]:
    first = next(filter(str.strip, text.splitlines()), "")
    if path.suffix.lower() == ".tsv" or ("\t" in first and "," not in first):
        delimiter = "\t"
    else:  # some spreadsheets write semicolons where commas stand in numbers
        delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    titles: list[str] | None = None
    begun = False
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            line = reader.line_num
            if not begun:
                begun = True
                if all(_TITLE.fullmatch(cell) for cell in filter(None, cells)):
                    titles = [_plain(cell) for cell in cells]
                    twice = [title for title, n in Counter(titles).items() if n > 1 and title]
                    if twice:
                        raise TableError(f"{shown(path)} has two columns {twice[0]!r}; drop one.")
                    _check_spelling(titles, path, options)
                    continue
            yield _row_of(cells, titles, line, path, options)
    except csv.Error as error:
        raise TableError(
            f"{shown(path)}, line {reader.line_num}, is no CSV: {error}; quote cells that hold "
            "commas or quotes."
        ) from None


def _check_spelling(titles: Sequence[str], path: Path, options: frozenset[str]) -> None:
    """Refuse a title that looks like an option misspelt, or its values would pass for keyframes."""
    known = {*options, "name"}
    for title in sorted({*titles} - known):
        if near := get_close_matches(title, known, 1, 0.8):
            raise TableError(
                f"{shown(path)} has a column {title!r}; call it {near[0]!r} if that is meant, or "
                "keyframes something else."
            )


def _row_of(
    cells: Sequence[str],
    titles: Sequence[str] | None,
    line: int,
    path: Path,
    options: frozenset[str],
) -> Row:
    if titles is None:
        return Row(line, tuple(filter(None, cells)))
    if len(cells) > len(titles) and any(cells[len(titles) :]):
        raise TableError(
            f"{shown(path)}, line {line}, has {len(cells)} cells for {len(titles)} titles; quote "
            "cells that hold commas."
        )
    given = {title: cell for title, cell in zip(titles, cells, strict=False) if cell}
    name = given.pop("name", "")
    wishes = {title: given.pop(title) for title in list(given) if title in options}
    return Row(line, tuple(given.values()), name, wishes)


def _read_jsonl(text: str, path: Path, options: frozenset[str]) -> Iterator[Row]:
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        where = f"{shown(path)}, line {line},"
        given = {
            _plain(key): value
            for key, value in parse_object(row.encode(), where, TableError).items()
        }
        sources, name = given.pop("keyframes", None), given.pop("name", "")
        if not isinstance(sources, list) or not all(isinstance(each, str) for each in sources):
            raise TableError(
                f'{where} has no list of keyframes; write {{"keyframes": ["a.png", "b.png"]}}.'
            )
        if not isinstance(name, str):
            raise TableError(f"{where} has the name {name!r}; give text.")
        if unknown := given.keys() - options:
            near = get_close_matches(min(unknown), options, 1)
            hint = f"did you mean {near[0]!r}?" if near else "use those of morph."
            raise TableError(f"{where} has {min(unknown)!r}, which is no option; {hint}")
        wishes = {key: value for key, value in given.items() if value is not None}
        yield Row(line, tuple(sources), name, wishes)


def _plain(title: str) -> str:
    """A title as options are called: `--per-leg`, `Per leg` and `per_leg` are the same."""
    return re.sub(r"[\s-]+", "_", title.strip().removeprefix("--").strip().lower())


def _from(table: Path, row: Row) -> Row:
    """A row with its files as they are named from here, and not from the folder of the table."""
    try:
        sources = tuple(
            source if path_of(source) is None else str(table.parent / source)
            for source in row.sources
        )
    except ArgumentError as error:  # a seed that is none
        raise TableError(f"{shown(table)}, line {row.line}: {error}") from None
    return replace(row, sources=sources)


def _named(rows: Sequence[Row], path: Path) -> list[Row]:
    """The rows, each with a name of its own."""
    for row in rows:
        if len(row.sources) < 2 and not _many(row.sources):
            raise TableError(
                f"{shown(path)}, line {row.line}, has {len(row.sources)} keyframes; a film needs "
                "two at least."
            )
        if row.name and not _may_be_called(row.name):
            raise TableError(
                f"{shown(path)}, line {row.line}, has the name {shown(row.name)}; use letters, "
                f"digits, spaces, - and _, at most {_LONGEST} of them in {_WIDEST} bytes."
            )
    called = [row.name or _name_of(row.sources) for row in rows]
    times = Counter(map(_key, called))
    named = [
        replace(row, name=name if row.name or times[_key(name)] == 1 else f"{name}-{_hash(row)}")
        for row, name in zip(rows, called, strict=True)
    ]
    lines: dict[str, int] = {}
    for row in named:
        other = lines.setdefault(_key(row.name), row.line)
        if other != row.line:
            raise TableError(
                f"{shown(path)} has two films {shown(row.name)}, in lines {other} and {row.line}; "
                "name one otherwise, or drop it."
            )
    return named


def _many(sources: Sequence[str]) -> bool:
    """Whether one source may be several keyframes: a latent file."""
    named = [parse_source(source) for source in sources]
    return any(isinstance(each, FiledLatents) and each.index is None for each in named)


def _may_be_called(name: str) -> bool:
    known = all(letter.isalnum() or letter in " -_" for letter in name)
    short = len(name) <= _LONGEST and len(name.encode(errors="replace")) <= _WIDEST
    return known and short and name[0] not in " -" and name[-1] != " "


def _name_of(sources: Sequence[str]) -> str:
    """`apple__pear`: what keyframes are called, without folders and suffixes."""
    name = "__".join(map(_stem, sources))[:_LONGEST]
    return name.encode()[:_WIDEST].decode(errors="ignore").strip("_-") or "film"


def _stem(source: str) -> str:
    named = parse_source(source)
    path = path_of(source)
    stem = source if path is None else path.stem
    if isinstance(named, FiledLatents) and named.index is not None:
        stem = f"{stem}-{named.index}"
    return "".join(c if c.isalnum() or c in "-_" else "" if c == ":" else "_" for c in stem)[:40]


def _key(name: str) -> str:
    """What two names share that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _hash(row: Row) -> str:
    said = json.dumps([row.sources, sorted(row.wishes.items())], ensure_ascii=True)
    return sha256_bytes(said.encode())[:8]
