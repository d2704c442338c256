"""A config that can be read as diffusers' can: `config.name`, `config["name"]`, `dict(config)`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ddim_interp.errors import ArgumentError

__all__ = ["AsMapping", "by_name"]


class AsMapping(Mapping[str, Any]):
    """A dataclass that is a mapping of its fields, too.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config(AsMapping):
        ...     steps: int = 50
        >>> Config()["steps"], {**Config(7)}, Config().get("eta", 0.0)
        (50, {'steps': 7}, 0.0)
    """

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self))  # type: ignore[arg-type]


def by_name(
    kind: type[AsMapping], values: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options that were given in order, and those that were given by name, as one.

    Args:
        kind: The dataclass whose fields they are.
        values: The first few, in the order of the fields.
        options: Others.

    Raises:
        ArgumentError: There are more than fields, or one is given twice.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if len(values) > len(names):
        raise ArgumentError(
            f"{len(values)} options were given in order, and there are {len(names)}; name them."
        )
    named = dict(zip(names, values, strict=False))
    if twice := sorted(named.keys() & options.keys()):
        raise ArgumentError(f"{', '.join(twice)} was given twice, in order and by name; drop one.")
    return named | dict(options)
