"""How a page comes to be from a template and what is to stand on it. The door of Jinja.

Whatever is put into a template is text: markup in it is shown as it was written, and a name that
the template knows and its caller did not give is an error, and no gap.
"""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render"]

_PAGES = Environment(
    loader=PackageLoader("ddim_interp"), autoescape=True, undefined=StrictUndefined
)


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A page, as HTML.

    Args:
        template: The name of a file in `templates/`.
        facts: What is to stand on it.
    """
    return _PAGES.get_template(template).render(facts)
