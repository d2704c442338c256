"""Make a film pass through the very pictures it was made from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddim_interp.shapes import Images

__all__ = ["EndCorrection"]


@dataclass(frozen=True)
class EndCorrection:
    """What decoding misses at each keyframe, faded out over the frames around it.

        c(u) = Σ_k (1 − (|u − u_k| / w)²)²₊ · e_k,      e_k = picture_k − decoded_k

    The fade is flat at the keyframe and at its edge, so that nothing jumps, and ends before the
    next keyframe, so that each passes exactly through its own picture. With an exact inversion e_k
    is invisible; with a naive one it hides the jump from the user's picture to its reconstruction.

    Args:
        residuals: e_k, (K, C, H, W); zeros for keyframes that have no picture.
        knots: u_k, (K,), rising, in [0, 1].
        closed: Whether u = 0 and u = 1 are one place.
        reach: w, as a share of the distance between the two closest knots.
    """

    residuals: Images
    knots: Tensor
    closed: bool = False
    reach: float = 0.4

    def __call__(self, u: Tensor) -> Images:
        """The correction of each frame, (F, C, H, W), for u, (F,)."""
        distance = (u[:, None] - self.knots).abs()
        if self.closed:
            distance = torch.minimum(distance, 1 - distance)
        gaps = self.knots.diff()
        if self.closed:
            gaps = torch.cat([gaps, 1 - self.knots[-1:] + self.knots[:1]])
        width = self.reach * gaps.min()
        weight = (1 - (distance / width).square()).clamp(min=0).square()
        return torch.einsum("fk,kchw->fchw", weight.to(self.residuals), self.residuals)
