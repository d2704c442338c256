"""How is a path told in a message, and is anything there?"""

import os
from pathlib import Path
from typing import TypeAlias

__all__ = ["StrPath", "is_there", "shown"]

StrPath: TypeAlias = str | os.PathLike[str]


def shown(path: StrPath) -> str:
    r"""A path as it may stand in a one-line message: control characters are escaped.

    Of an empty one, quotation marks are shown.

    Example:
        >>> print(shown("cat\n\x1b[31m.png"))
        cat\x0a\x1b[31m.png
    """
    name = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in os.fspath(path))
    return name or "''"


def is_there(path: StrPath) -> bool:
    """Whether a file or folder of this name exists; a name no file can have does not."""
    try:
        return os.fspath(path) != "" and Path(path).exists()
    except (OSError, ValueError):
        return False
