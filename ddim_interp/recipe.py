"""What a picture or a film says about how it was made: one JSON object, carried inside the file.

A recipe must be safe to hand on and safe to receive. Handed on, it names files without the folders
they lay in. Received, it is text from a stranger: it is capped, it is JSON and nothing else, and
characters that could steer a terminal are taken out.
"""

import json
import re
from collections.abc import Callable, Mapping
from html import escape, unescape
from typing import Any

from ddim_interp.errors import ArgumentError, ImageError
from ddim_interp.strict_json import parse_object

__all__ = ["MAX_RECIPE_BYTES", "from_xmp", "pack", "printable", "to_xmp", "unpack"]

MAX_RECIPE_BYTES = 1_000_000
"""The longest recipe written or read, in bytes of JSON."""

_ABSOLUTE = re.compile(r"(/|~|\\\\|[A-Za-z]:[\\/]|file:)")
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:ddim_interp="https://ddim-interp.invalid/ns/1.0/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/\
compositeWithTrainedAlgorithmicMedia">
<ddim_interp:recipe>{}</ddim_interp:recipe>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def pack(recipe: Mapping[str, Any] | str) -> str:
    """A recipe as it is written: one line of ASCII JSON, absolute paths cut to their last part.

    The same recipe gives the same text, so that the same film gives the same bytes.

    Args:
        recipe: A mapping with string keys, or its JSON.

    Raises:
        ArgumentError: It is no JSON object, or longer than `MAX_RECIPE_BYTES`.

    Example:
        >>> pack({"seed": 7, "model": "/home/mia/models/cats"})
        '{"seed":7,"model":"cats"}'
    """
    try:
        given = json.loads(recipe) if isinstance(recipe, str) else dict(recipe)
        if not isinstance(given, dict):
            raise TypeError("it is not an object")
        text = json.dumps(_each_text(given, _base_name), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"The recipe cannot be written as JSON: {error}; give a mapping of plain values."
        ) from None
    if len(text) > MAX_RECIPE_BYTES:
        raise ArgumentError(
            f"The recipe is {len(text):,} bytes long, more than {MAX_RECIPE_BYTES:,}; shorten it."
        )
    return text


def unpack(text: str | bytes, name: str = "the file") -> dict[str, Any]:
    """Read back what `pack` wrote, from a file that anybody may have made.

    Args:
        text: What stood in the file.
        name: What to call the file in errors.

    Raises:
        ImageError: It is too long, or no strict JSON object.

    Example:
        >>> unpack('{"model": "cats\\\\u001b[31m"}')
        {'model': 'cats[31m'}
    """
    if len(text) > MAX_RECIPE_BYTES:
        raise ImageError(
            f"The recipe in {name} is {len(text):,} bytes long, more than "
            f"{MAX_RECIPE_BYTES:,}; it is not one of ours."
        )
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    clean: dict[str, Any] = _each_text(
        parse_object(data, f"The recipe in {name}", ImageError), printable
    )
    try:
        json.dumps(clean, allow_nan=False)
    except ValueError:
        raise ImageError(
            f"The recipe in {name} holds a number without end; it is not one of ours."
        ) from None
    return clean


def to_xmp(recipe: str) -> str:
    """The XMP packet that carries a packed recipe, and says that a trained model took part.

    References:
        IPTC (2023), Digital Source Type vocabulary, compositeWithTrainedAlgorithmicMedia.
    """
    return _XMP.format(escape(recipe, quote=False))


def from_xmp(packet: str) -> str | None:
    """The packed recipe in an XMP packet, if it has one.

    Example:
        >>> from_xmp(to_xmp('{"blend":"<slerp>"}'))
        '{"blend":"<slerp>"}'
    """
    start, end = packet.find("<ddim_interp:recipe>"), packet.find("</ddim_interp:recipe>")
    return unescape(packet[start + len("<ddim_interp:recipe>") : end]) if 0 <= start < end else None


def printable(text: str) -> str:
    """`text` without characters that do not print: control codes, bidirectional overrides, …"""
    return "".join(c for c in text if c.isprintable())


def _base_name(text: str) -> str:
    if not _ABSOLUTE.match(text):
        return text
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with `change` applied to every string and every key in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("its keys are not all strings")
        return {change(key): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return value
