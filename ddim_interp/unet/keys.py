"""How did checkpoints of 2022 name what has another name now?"""

import re
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["modern_keys"]

T = TypeVar("T")

_OLD = re.compile(r"(?<=\.attentions\.)(\d+)\.(query|key|value|proj_attn)(?=\.(weight|bias)$)")
_NEW = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def modern_keys(state: Mapping[str, T]) -> dict[str, T]:
    """Give attention weights the names that `UNet2DModel` has for them.

    The checkpoints on the hub that everybody uses, google/ddpm-* among them, were saved before
    diffusers renamed its attention layers. Other names pass unchanged.

    Args:
        state: Names and weights, as in a checkpoint.

    Returns:
        The same weights in the same order.

    Example:
        >>> list(modern_keys({"mid_block.attentions.0.proj_attn.bias": 1, "conv_in.bias": 2}))
        ['mid_block.attentions.0.to_out.0.bias', 'conv_in.bias']
    """
    return {
        _OLD.sub(lambda old: f"{old[1]}.{_NEW[old[2]]}", name): weight
        for name, weight in state.items()
    }
