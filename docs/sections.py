"""Docstrings of this package, as the site's generator reads them: `Example:` is a section."""

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["Sections"]


class Sections(Extension):
    """Names sections as the generator expects them, with their text on lines of their own."""

    def on_object(self, *, obj: Object, **rest: Any) -> None:
        """Called for each module, class and function."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(
                r"^(Returns|Yields|References): (.+(?:\n(?! *\n|\w+:).+)*)",
                lambda found: f"{found[1]}:\n    {found[2].replace(chr(10), chr(10) + '    ')}",
                text,
                flags=re.MULTILINE,
            )
