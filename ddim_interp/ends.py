"""Make a film pass through the very pictures it was made from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.shapes import Images

__all__ = ["EndCorrection", "fade"]


def fade(u: Tensor, knots: Tensor, closed: bool = False, reach: float = 0.4) -> Tensor:
    """How much of what is missed at each keyframe is given back at u, (F, K).

        (1 − (|u − u_k| / w)²)²₊

    1 at the keyframe; flat there and where it ends, so that nothing jumps; and nothing before the
    next keyframe, so that each passes exactly through its own picture.

    Args:
        u: Places on the path, (F,).
        knots: u_k, (K,), rising, in [0, 1].
        closed: Whether u = 0 and u = 1 are one place.
        reach: w, as a share of the distance between the two closest knots.

    Example:
        >>> knots = torch.tensor([0.0, 1.0]).double()
        >>> fade(torch.tensor([0.0, 0.2, 0.5]).double(), knots)
        tensor([[1.0000, 0.0000],
                [0.5625, 0.0000],
                [0.0000, 0.0000]], dtype=torch.float64)
    """
    distance = (u[:, None] - knots).abs()
    gaps = knots.diff()
    if closed:
        distance = torch.minimum(distance, 1 - distance)
        gaps = torch.cat([gaps, 1 - knots[-1:] + knots[:1]])
    return (1 - (distance / (reach * gaps.min())).square()).clamp(min=0).square()


@dataclass(frozen=True)
class EndCorrection:
    """What decoding misses at each keyframe, faded out over the frames around it.

        c(u) = Σ_k fade_k(u) · e_k,      e_k = picture_k − decoded_k

    With an exact inversion e_k is invisible; with a naive one it hides the jump from the user's
    picture to its reconstruction.

    Args:
        residuals: e_k, (K, C, H, W); zeros for keyframes that have no picture.
        knots: u_k, (K,), rising, in [0, 1].
        closed: Whether u = 0 and u = 1 are one place.
        reach: How far the fade reaches; see `fade`.
    """

    residuals: Images
    knots: Tensor
    closed: bool = False
    reach: float = 0.4

    def __call__(self, u: Tensor) -> Images:
        """The correction of each frame, (F, C, H, W), for u, (F,)."""
        weight = fade(u, self.knots, self.closed, self.reach)
        return torch.einsum("fk,kchw->fchw", weight.to(self.residuals), self.residuals)
