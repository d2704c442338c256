"""Which pictures can a U-shaped network halve as often as it does?"""

from typing import Protocol

from ddim_interp.errors import ArgumentError

__all__ = ["check_size"]


class _Halves(Protocol):
    """The config of a network that halves pictures."""

    @property
    def halvings(self) -> int: ...


def check_size(config: _Halves, height: int, width: int) -> None:
    """Refuse pictures whose sides cannot be halved as often as the network halves them.

    A network's `forward` does not ask: call this once, where pictures of a new size come in.

    Args:
        config: The network's config.
        height: Height of the pictures, in pixels.
        width: Width of the pictures, in pixels.

    Raises:
        ArgumentError: A side is not a positive multiple of 2 to the number of halvings.

    Example:
        >>> from ddim_interp.unet import UNetConfig
        >>> check_size(UNetConfig(block_out_channels=(32, 32, 32, 32)), 100, 100)
        Traceback (most recent call last):
        ddim_interp.errors.ArgumentError: Images of 100×100 cannot be halved 3 times; sides must \
be multiples of 8.
    """
    multiple = 2**config.halvings
    if min(height, width) < 1 or height % multiple or width % multiple:
        raise ArgumentError(
            f"Images of {height}×{width} cannot be halved {config.halvings} times; sides must be "
            f"multiples of {multiple}."
        )
