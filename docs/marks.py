"""Tables that programs write stand between marks: `<!-- name -->` and `<!-- end of name -->`."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["renew", "table"]


def table(head: str, rows: Sequence[str]) -> str:
    """A table of Markdown; columns of numbers, as the first row has them, stand to the right.

    Example:
        >>> print(table("| name | steps |", ["| `ddim` | 50 |"]))
        | name | steps |
        |---|---:|
        | `ddim` | 50 |
    """
    cells = [cell.strip(" *-") for cell in rows[0].strip("|").split("|")]
    rule = "".join("---:|" if cell[:1].isdigit() else "---|" for cell in cells)
    return "\n".join([head, f"|{rule}", *rows])


def renew(page: Path, **parts: str) -> None:
    """Put each part between its marks.

    Raises:
        ValueError: The page has no such marks.
    """
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = before + start + "\n" + part + "\n\n" + end + rest.split(end, 1)[1]
    page.write_text(text, encoding="utf-8")
