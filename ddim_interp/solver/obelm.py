"""O-BELM: a pair whose weight makes the error of a step least."""

from dataclasses import dataclass

from ddim_interp.schedule import Level
from ddim_interp.solver.pair import TwoStep

__all__ = ["OBELM"]


@dataclass(frozen=True)
class OBELM(TwoStep):
    """Bidirectional explicit linear multistep, optimal: the two-step rule of second order.

        x̄_s = q² x̄_r + (1 − q²) x̄_t + h (1 + q) ε(x_t, t),    h = σ̄_s − σ̄_t,  q = h / (σ̄_t − σ̄_r)

    The one rule whose local error is O(h³) on any grid: w = q² in x̄, q² √(ᾱ_s/ᾱ_r) in x.

    Downwards the steps of σ̄ shrink, q < 1, and errors of the pair die out. Upwards they grow by q²
    a step, in all to (h_S/h_1)², the last step over the first: 1e5 on 50 leading steps from t = 0,
    5e6 from the clean end, 1e8 on 50 log-snr steps. A trained network's latents come out too loud
    there; `Leapfrog`, the same rule with a milder weight, is the better choice.

    References:
        Wang et al. (2024), BELM: Bidirectional explicit linear multi-step sampler for exact
        inversion in diffusion models, arXiv:2410.07273.
    """

    def weight(self, r: Level, t: Level, s: Level) -> float:
        """q² √(ᾱ_s/ᾱ_r)."""
        q = (s.ratio - t.ratio) / (t.ratio - r.ratio)
        return q**2 * s.signal / r.signal
