"""What a bare checkpoint does not say of itself, and whoever trained it knows.

The shapes of weights give the architecture away, but not the size of the pictures, the noise
schedule or the number of attention heads. These come from a checkpoint known by its shapes, from
the `config.yml` beside it, or from the user.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ddim_interp.errors import ArgumentError, InputMissingError, ModelError
from ddim_interp.files import open_input, shown

__all__ = ["Hints", "parse_hints", "read_hints"]

_YML_CAP = 100_000  # bytes


@dataclass(frozen=True)
class Hints:
    """Settings of a training run, None where nobody said.

    Args:
        image_size: Side of the pictures, in pixels.
        timesteps: Steps of the noise schedule.
        noise_schedule: "linear" or "cosine".
        beta_start: First β of a linear schedule.
        beta_end: Last β of a linear schedule.
        num_heads: Attention heads, at every width.
        num_head_channels: Or channels of each head.
        use_new_attention_order: Whether fused attention weights are cut into q, k and v before they
            are cut into heads.
        rescale_timesteps: Whether the network is told timesteps from 0 to 1000, however many
            there are.
        prediction_type: "epsilon", "sample" or "v_prediction".
    """

    image_size: int | None = None
    timesteps: int | None = None
    noise_schedule: str | None = None
    beta_start: float | None = None
    beta_end: float | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    use_new_attention_order: bool | None = None
    rescale_timesteps: bool | None = None
    prediction_type: str | None = None

    def over(self, other: "Hints") -> "Hints":
        """These, and where they say nothing, the other's."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in values.items() if value is not None}
        if said.keys() & {"num_heads", "num_head_channels"}:  # two ways to say one thing
            other = replace(other, num_heads=None, num_head_channels=None)
        return replace(other, **said)


_ALIASES = {  # what training programs call the same
    "num_diffusion_timesteps": "timesteps",
    "diffusion_steps": "timesteps",
    "beta_schedule": "noise_schedule",
    "objective": "prediction_type",
}
_PREDICTIONS = {
    "pred_noise": "epsilon",
    "pred_x0": "sample",
    "pred_v": "v_prediction",
    **{name: name for name in ("epsilon", "sample", "v_prediction")},
}


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not int(text):
        raise ValueError("a whole number above 0")
    return int(text)


def _beta(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ValueError("a number between 0 and 1")
    return value


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _among(choices: Mapping[str, str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return choices[text]

    return parse


_PARSERS: dict[str, Callable[[str], Any]] = {
    "image_size": _whole,
    "timesteps": _whole,
    "noise_schedule": _among({"linear": "linear", "cosine": "cosine"}),
    "beta_start": _beta,
    "beta_end": _beta,
    "num_heads": _whole,
    "num_head_channels": _whole,
    "use_new_attention_order": _flag,
    "rescale_timesteps": _flag,
    "prediction_type": _among(_PREDICTIONS),
}


def parse_hints(text: str, published: Mapping[str, Hints]) -> Hints:
    """Understand what the user says of a checkpoint.

    Args:
        text: The name of a published model, a `.yml` file, or `key=value,key=value`.
        published: Models by name.

    Raises:
        ArgumentError: It is none of these, or a value cannot be meant.
        InputMissingError: The file is not there.
        ModelError: A value in the file cannot be meant.

    Example:
        >>> hints = parse_hints("image_size=64, objective=pred_v", {})
        >>> hints.image_size, hints.prediction_type
        (64, 'v_prediction')
    """
    if text in published:
        return published[text]
    if text.endswith((".yml", ".yaml")):
        return read_hints(Path(text))
    found: dict[str, Any] = {}
    for pair in re.split(r"[,\s]+", text.strip()):
        key, equals, value = pair.partition("=")
        name = _ALIASES.get(key, key)
        if not equals or name not in _PARSERS:
            raise ArgumentError(
                f"{pair[:60]!r} says nothing about a checkpoint; give one of "
                f"{', '.join(published)}, a .yml file, or KEY=VALUE with "
                f"{', '.join(_PARSERS)}."
            )
        try:
            found[name] = _PARSERS[name](value)
        except ValueError as wanted:
            raise ArgumentError(f"{key}={value[:40]} cannot be meant; it is {wanted}.") from None
    return Hints(**found)


def read_hints(path: Path) -> Hints:
    """Read what a training config says: its lines `key: value`, at any depth; others pass.

    Raises:
        InputMissingError: There is no such file.
        ModelError: It is no text, or a value cannot be meant.
    """
    if not path.is_file():
        raise InputMissingError(f"There is no file {shown(path)}; check the name.")
    with open_input(path, ModelError) as file:
        lines = file.read(_YML_CAP).decode("utf-8", errors="replace").splitlines()
    found: dict[str, Any] = {}
    for line in lines:
        match = re.fullmatch(r"\s*(\w+)\s*:\s*['\"]?([^\s'\"#]+)['\"]?\s*(?:#.*)?", line)
        name = _ALIASES.get(match[1], match[1]) if match else ""
        if match and name in _PARSERS:
            try:
                found[name] = _PARSERS[name](match[2])
            except ValueError as wanted:
                raise ModelError(
                    f"{shown(path)} says {match[1]}: {match[2][:40]}; it must be {wanted}."
                ) from None
    return Hints(**found)
