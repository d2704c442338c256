"""JSON from strangers: small, one object, every key once, no NaN.

Python's parser takes the last of two equal keys, reads NaN, and sinks into any depth. A config that
does such things is damaged or means harm, and is refused before anybody looks at a value. Infinity
is read: diffusers writes it.
"""

import json
from collections import Counter
from typing import Any

from ddim_interp.errors import DdimInterpError, ModelError
from ddim_interp.files import StrPath, open_input, shown

__all__ = ["parse_object", "read_object"]

_SIZE_CAP = 1_000_000  # bytes; real configs have a few thousand
_DEPTH_CAP = 32  # objects and lists inside one another; real ones have four


def read_object(path: StrPath, error: type[DdimInterpError] = ModelError) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file, at most 1 MB.
        error: What to raise for a file that holds something else.

    Raises:
        InputMissingError: There is no such file.
        error: It is too large, or no strict JSON object.
    """
    with open_input(path, error) as file:
        data = file.read(_SIZE_CAP + 1)
    if len(data) > _SIZE_CAP:
        raise error(f"{shown(path)} is larger than 1 MB, which no config is; check the file.")
    return parse_object(data, shown(path), error)


def parse_object(
    data: bytes, name: str, error: type[DdimInterpError] = ModelError
) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        data: UTF-8 text.
        name: What to call it in a message.
        error: What to raise.

    Raises:
        error: It is not JSON, not an object, nested too deep, names a key twice or holds NaN.

    Example:
        >>> parse_object(b'{"in_channels": 3}', "config.json")
        {'in_channels': 3}
        >>> parse_object(b'{"in_channels": 3, "in_channels": 4}', "config.json")
        Traceback (most recent call last):
        ddim_interp.errors.ModelError: config.json gives 'in_channels' twice; get it again ...
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant)
    except _BadValue as bad:
        raise error(f"{name} {bad}; get it again from its source.") from None
    except RecursionError:
        raise error(f"{name} is nested too deep to be a config; check the file.") from None
    except ValueError:
        raise error(f"{name} is not JSON; get it again from its source.") from None
    if _is_deep(value):
        raise error(f"{name} is nested too deep to be a config; check the file.")
    if not isinstance(value, dict):
        raise error(f"{name} holds {value!r:.40} where {{…}} is expected; check the file.")
    return value


def _is_deep(value: Any) -> bool:
    """Whether walking it by recursion could exhaust the stack."""
    level = [value]
    for _ in range(_DEPTH_CAP):
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [x for i in inner for x in (i.values() if isinstance(i, dict) else i)]
    return bool(level)


class _BadValue(Exception):
    """Valid for Python's parser, not for us."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        times = Counter(key for key, _ in pairs)
        raise _BadValue(f"gives {next(key for key in times if times[key] > 1)!r} twice")
    return seen


def _constant(text: str) -> float:
    if text == "NaN":
        raise _BadValue("holds NaN, which is no number")
    return float(text)
