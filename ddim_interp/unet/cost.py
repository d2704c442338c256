"""What does one look at a picture cost?"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddim_interp.unet.model import UNet2DModel

__all__ = ["count_flops"]


def count_flops(model: UNet2DModel, height: int, width: int) -> int:
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
        >>> model = UNet2DModel(block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
        >>> count_flops(model, 16, 16) < count_flops(model, 32, 16)
        True
    """
    model.check_size(height, width)
    config = model.config
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        labels = None
        if config.class_embed_type == "identity":
            labels = torch.empty(1, config.time_channels)
        elif model.class_embedding is not None:
            labels = torch.zeros(1, dtype=torch.long)
        twin = UNet2DModel(**config.to_dict())
        twin(torch.empty(1, config.in_channels, height, width), torch.zeros(1), labels)
    return int(counter.get_total_flops())
