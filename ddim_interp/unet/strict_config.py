"""How is a network's config read strictly, and written plainly?"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ddim_interp.as_mapping import AsMapping
from ddim_interp.errors import ModelError
from ddim_interp.unet.rules import Rule, shown

__all__ = ["StrictConfig"]


class StrictConfig(AsMapping):
    """Everything that decides a network's layers: the contents of its `unet/config.json`.

    A subclass is a frozen dataclass, has a rule for each field, and names the network. An instance
    that exists can be built: wrong types and absurd sizes are refused here, lists that do not match
    and values that have no implementation by the subclass.

    Raises:
        ModelError: A value breaks its rule.
    """

    network: ClassVar[str]
    rules: ClassVar[Mapping[str, Rule]]
    unknown: ClassVar[str] = "remove it"  # what to do about an option that there is not
    block_out_channels: tuple[int, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "unet/config.json") -> Self:
        """Read a config that came from outside.

        Args:
            mapping: The parsed file. Keys that begin with "_" are notes and are passed over.
            source: Where the mapping came from, for messages.

        Returns:
            The config; fields that the mapping leaves out have their defaults.

        Raises:
            ModelError: A key is unknown, or its value has the wrong type, is absurd or has no
                implementation here. The message names source, key and value.

        Example:
            >>> from ddim_interp.unet import UNetConfig
            >>> UNetConfig.from_mapping({"in_channels": "3"})
            Traceback (most recent call last):
            ddim_interp.errors.ModelError: unet/config.json: in_channels='3' cannot be used; it \
must be a whole number from 1 to 65536.
        """
        if not isinstance(mapping, Mapping):
            raise ModelError(
                f"{source} holds {shown(mapping)}, not a JSON object; fetch the model again."
            )
        options: dict[str, Any] = {}
        for key, value in mapping.items():
            if key in cls.rules:
                options[key] = tuple(value) if isinstance(value, list) else value
            elif not str(key).startswith("_"):
                raise ModelError(
                    f"{source}: {shown(key)} is not an option of {cls.network}; {cls.unknown}."
                )
        try:
            return cls(**options)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Write the config as a JSON object that `from_mapping` reads back."""
        return {"_class_name": self.network} | {
            key: list(value) if isinstance(value, tuple) else value for key, value in self.items()
        }

    def __post_init__(self) -> None:
        """Hold every field to its rule."""
        for key, rule in self.rules.items():
            if not rule.holds(getattr(self, key)):
                raise self._refusal(key, f"it must be {rule.wants}")

    def _one_a_level(self, key: str) -> None:
        """Refuse a list that does not have one entry for each level."""
        levels = len(self.block_out_channels)
        if len(getattr(self, key)) != levels:
            raise self._refusal(key, f"block_out_channels has {levels} entries, so give {levels}")

    def _refusal(self, key: str, remedy: str) -> ModelError:
        return ModelError(f"{key}={shown(getattr(self, key))} cannot be used; {remedy}.")

    @property
    def halvings(self) -> int:
        """How often the resolution is halved on the way down."""
        return len(self.block_out_channels) - 1
