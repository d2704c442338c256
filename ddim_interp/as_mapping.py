"""A config that can be read as diffusers' can: `config.name`, `config["name"]`, `dict(config)`."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

__all__ = ["AsMapping"]


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
