"""LPIPS, where it is installed: differences as people told them. The door of lpips."""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError, HubError
from ddim_interp.shapes import Images

__all__ = ["lpips_vectors"]

_INSTEAD = "or measure with --metric lab, which needs nothing"


@lru_cache(maxsize=1)
def lpips_vectors() -> Callable[[Images], Tensor]:
    """What maps pictures to vectors whose squared distance is LPIPS.

        |v − w|² = Σ_l mean over places of Σ_c a_lc (f_lc − g_lc)²

    f and g are AlexNet's features of two pictures, scaled to length 1 at every place, a ≥ 0 the
    weights that were learned from people. √LPIPS is therefore a distance like any other, and the
    features of a frame are computed once.

    Raises:
        ArgumentError: The package lpips, or torchvision with it, is not installed.
        HubError: AlexNet's weights are not on this machine, and cannot be fetched.

    References:
        Zhang et al. (2018), The unreasonable effectiveness of deep features as a perceptual metric,
        arXiv:1801.03924, eq. 1.
    """
    try:
        import lpips
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch
        reason = " ".join(str(error).split())[:80]
        raise ArgumentError(
            f"LPIPS cannot be used here ({reason}); pip install lpips torchvision, {_INSTEAD}."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, of its own options
            net = lpips.LPIPS(net="alex", verbose=False).requires_grad_(False).eval()
    except OSError as error:
        reason = " ".join(str(error).split())[:80]
        raise HubError(
            f"AlexNet's weights, on which LPIPS stands, could not be fetched ({reason}); connect "
            f"once, {_INSTEAD}."
        ) from None

    @torch.inference_mode()
    def vectors(images: Images) -> Tensor:
        return torch.cat(list(_layers(lpips, net, images.expand(-1, 3, -1, -1))), dim=1)

    return vectors


def _layers(lpips: Any, net: Any, images: Images) -> Any:
    layers = zip(net.net.forward(net.scaling_layer(images)), net.lins, strict=True)
    for features, head in layers:
        learned = head.model[-1].weight.clamp(min=0).sqrt()
        places = features.shape[2] * features.shape[3]
        yield (lpips.normalize_tensor(features) * learned / places**0.5).flatten(1)
