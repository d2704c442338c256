"""The config of a network that diffusers does not have: read strictly, written plainly."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from ddim_interp.as_mapping import AsMapping
from ddim_interp.errors import ModelError
from ddim_interp.unet.rules import Rule, shown

__all__ = ["StrictConfig"]


@dataclass(frozen=True)
class StrictConfig(AsMapping):
    """Everything that decides a network's layers: the contents of its `unet/config.json`.

    A subclass is a frozen dataclass, has a rule for each field, and names the network.

    Raises:
        ModelError: A value breaks its rule.
    """

    network: ClassVar[str]
    rules: ClassVar[Mapping[str, Rule]]
    block_out_channels: tuple[int, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "unet/config.json") -> Self:
        """Read a config that came from outside.

        Raises:
            ModelError: A key is unknown, or its value cannot be meant.
        """
        options: dict[str, Any] = {}
        for key, value in mapping.items():
            if key in cls.rules:
                options[key] = tuple(value) if isinstance(value, list) else value
            elif not str(key).startswith("_"):
                raise ModelError(
                    f"{source}: {shown(key)} is not an option of {cls.network}; remove it."
                )
        try:
            return cls(**options)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Write the config as a JSON object that `from_mapping` reads back."""
        return {"_class_name": self.network} | {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    def __post_init__(self) -> None:
        """Hold every field to its rule."""
        for field in fields(self):
            rule, value = self.rules[field.name], getattr(self, field.name)
            if not rule.holds(value):
                raise ModelError(f"{field.name}={shown(value)} cannot be used; it is {rule.wants}.")

    def _one_a_level(self, name: str) -> None:
        """Refuse a list that does not have one entry for each level."""
        if len(getattr(self, name)) != len(self.block_out_channels):
            raise ModelError(
                f"{name}={shown(getattr(self, name))} cannot be used; block_out_channels has "
                f"{len(self.block_out_channels)} entries, so give as many."
            )

    @property
    def halvings(self) -> int:
        """How often the resolution is halved on the way down."""
        return len(self.block_out_channels) - 1
