"""What does one look at a picture cost?"""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from ddim_interp.unet.size import check_size

__all__ = ["count_flops", "flops_of"]


class Network(Protocol):
    """What can be built again from its config."""

    config: Any

    @property
    def class_embedding(self) -> Any: ...


def flops_of(work: Callable[[], Any]) -> int:
    """The floating-point operations of work on tensors without memory: see `count_flops`.

    Args:
        work: Builds what it needs, and runs it.
    """
    # It imports Triton, where that is installed: half a second of every start.
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def count_flops(model: Network, height: int, width: int) -> int:
    """Count the floating-point operations of one forward pass over one picture.

    Convolutions, linear layers and attention are counted, with a multiply-add as two; norms,
    activations and sums, a per cent or so, are not. A copy of the network without memory is run, so
    this takes a moment whatever the size.

    Args:
        model: The network.
        height: Height of the picture, in pixels.
        width: Width of the picture, in pixels.

    Returns:
        Operations per picture and evaluation.

    Raises:
        ArgumentError: The network cannot halve this size as often as it must.

    Example:
        >>> from ddim_interp.unet import UNet2DModel
        >>> model = UNet2DModel(block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
        >>> count_flops(model, 16, 16) < count_flops(model, 32, 16)
        True
    """
    config = model.config
    check_size(config, height, width)

    def look() -> None:
        labels = None
        if config.class_embed_type == "identity":
            labels = torch.empty(1, config.time_channels)
        elif model.class_embedding is not None:
            labels = torch.zeros(1, dtype=torch.long)
        twin: Any = type(model)(**config.to_dict())
        twin(torch.empty(1, config.in_channels, height, width), torch.zeros(1), labels)

    return flops_of(look)
