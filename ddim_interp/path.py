"""How does one travel through several keyframes?

A path is a curve u ↦ latent, u ∈ [0, 1]. It computes the latents it is asked for and no others, so
a film of any length takes the memory of one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddim_interp.errors import PathError
from ddim_interp.geometry import Geometry, bezier
from ddim_interp.interpolate import Blend, slerp
from ddim_interp.pchip import pchip
from ddim_interp.shapes import Latents
from ddim_interp.span import Span, combine, compass

__all__ = ["KeyframePath", "lay_knots"]


@dataclass(frozen=True, eq=False)
class KeyframePath:
    """A curve through K keyframes: `path(u)` is the latent at each u in [0, 1].

    From keyframe to keyframe it follows the blend, at constant speed, and turns a corner at each
    keyframe; a smooth path swings through them with a continuous velocity, the seam of a loop
    included. At a keyframe both give that keyframe, bit for bit. An open path goes on beyond its
    ends if asked for u outside [0, 1]; a closed one goes round.

    The smooth path is a chain of cubic Bézier curves in the blend's geometry. It passes keyframe i
    with the velocity of the parabola through it and its neighbours,

        v_i = (h_i · arrival_i + h_{i−1} · departure_i) / (h_{i−1} + h_i)

    arrival and departure being the velocities of the straight legs, h their durations. Norms, and
    whatever else the blend restores, follow a monotone cubic (`pchip`).

    Args:
        keyframes: Latents to pass through, (K, C, H, W), K ≥ 2.
        blend: What lies between two keyframes.
        closed: Whether the path returns from the last keyframe to the first; then u = 1 is u = 0.
        smooth: Whether to round the corners.
        times: When to be at each keyframe, rising, in any unit; a closed path needs one more, the
            time of its return. Evenly spread when not given.

    Raises:
        PathError: Fewer than two keyframes; keyframes that are not finite; times that do not rise,
            or are too few or too many.

    References:
        Catmull & Rom (1974), A class of local interpolating splines.
        Popiel & Noakes (2007), Bézier curves and C² interpolation in Riemannian manifolds, J.
        Approximation Theory 148.

    Example:
        >>> path = KeyframePath(torch.tensor([0.0, 2.0, 4.0]).view(3, 1, 1, 1))
        >>> path(torch.tensor([0.0, 0.25, 1.0])).flatten()
        tensor([0., 1., 4.])
        >>> path.knots
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """

    keyframes: Latents
    blend: Blend = slerp
    closed: bool = False
    smooth: bool = False
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what no path can join."""
        finite = torch.isfinite(self.keyframes).flatten(1).all(1)
        if not bool(finite.all()):
            raise PathError(
                f"Keyframe {int((~finite).nonzero()[0])} holds NaN or infinity, through which no "
                "path leads; invert that picture again."
            )
        _ = self.knots

    @cached_property
    def knots(self) -> Tensor:
        """The u of each keyframe, (K,), float64; on a closed path also that of the return, 1."""
        return lay_knots(len(self.keyframes), closed=self.closed, times=self.times)

    def __call__(self, u: Tensor) -> Latents:
        """The latents at u, (F,), as (F, C, H, W), in the dtype of the keyframes."""
        return self.carry(self.keyframes, u)

    def carry(self, members: Tensor, u: Tensor) -> Tensor:
        """Send other tensors along: what the keyframes' weights at u make of `members`.

        A solver that remembers more of a keyframe than its latent needs all of it moved alike.

        Args:
            members: One for each keyframe, (K, C, H, W).
            u: Where on the path, (F,).

        Returns: (F, C, H, W), in the dtype of `members`.
        """
        if self.closed:
            u = u % 1
        leg, fraction = self._locate(u)
        controls = tuple(points[leg] for points in self._controls)
        weights = bezier(self._geometry, controls, fraction[:, None])

        def mix(statistic: Tensor) -> Tensor:
            return self._mix(statistic, u.to(self.knots))

        gain, shift = self.blend.restore(self._span, weights, mix)
        frames = combine((*members, compass(members)), weights, gain, shift)
        hits = u.to(self.knots)[:, None] == self.knots.to(u.dtype).to(self.knots)
        hit = hits.any(1).to(members.device)[:, None, None, None]
        exact = (hits.byte().argmax(1) % len(members)).to(members.device)
        return torch.where(hit, members[exact], frames)

    @cached_property
    def _span(self) -> Span:
        return Span.of(torch.cat([self.keyframes, compass(self.keyframes)[None]]))

    @cached_property
    def _geometry(self) -> Geometry:
        return self.blend.geometry(self._span)

    @cached_property
    def _visits(self) -> Tensor:
        """Which keyframe the path is at, at each knot."""
        return torch.arange(len(self.knots)) % len(self.keyframes)

    @cached_property
    def _controls(self) -> tuple[Tensor, ...]:
        """Control points of each leg, two or four of shape (legs, K + 1)."""
        geometry, h = self._geometry, self.knots.diff()[:, None]
        units = torch.eye(len(self.keyframes) + 1, dtype=torch.float64)
        points = geometry.place(units[self._visits])
        start, end = points[:-1], points[1:]
        if not self.smooth:
            return start, end
        departure = geometry.log(start, end) / h
        arrival = -geometry.log(end, start) / h
        before, after = h[:-1], h[1:]
        inner = (after * arrival[:-1] + before * departure[1:]) / (before + after)
        first, last = departure[:1], arrival[-1:]
        if self.closed:
            first = last = (h[:1] * last + h[-1:] * first) / (h[:1] + h[-1:])
        velocity = torch.cat([first, inner, last])
        leaving = geometry.exp(start, h / 3 * velocity[:-1])
        arriving = geometry.exp(end, -h / 3 * velocity[1:])
        return start, leaving, arriving, end

    def _locate(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The leg each u lies on, and how far along; ends are extended."""
        u = u.to(self.knots)
        leg = torch.searchsorted(self.knots, u, right=True).sub(1).clamp(0, len(self.knots) - 2)
        return leg, (u - self.knots[leg]) / (self.knots[leg + 1] - self.knots[leg])

    def _mix(self, statistic: Tensor, u: Tensor) -> Tensor:
        """Interpolate what is known of each keyframe, (K + 1,) or (K + 1, C); ends are held."""
        knots, visits = self.knots, self._visits
        if not self.smooth:
            leg, fraction = self._locate(u.clamp(0, 1))
            f = fraction.view(-1, *[1] * (statistic.ndim - 1))
            return (1 - f) * statistic[visits[leg]] + f * statistic[visits[leg + 1]]
        if self.closed:  # a lap more on either side, for a smooth seam
            knots = torch.cat([knots[:-1] - 1, knots, knots[1:] + 1])
            visits = torch.cat([visits[:-1], visits, visits[1:]])
        return pchip(knots, statistic[visits], u)


def lay_knots(count: int, *, closed: bool = False, times: Sequence[float] | None = None) -> Tensor:
    """Where on a path its keyframes lie, (K,), u in [0, 1], float64.

    Args:
        count: How many there are, at least 2.
        closed: Whether the path returns to the first; then u = 1 is one of them, too.
        times: When to be at each, rising, in any unit; evenly spread when not given.

    Raises:
        PathError: There are too few keyframes, or the times are not theirs.

    Example:
        >>> lay_knots(3, times=(0, 1, 4))
        tensor([0.0000, 0.2500, 1.0000], dtype=torch.float64)
    """
    if count < 2:
        raise PathError(
            f"A path needs at least 2 keyframes, got {count}; add a picture, a latent file or "
            "seed:N."
        )
    if times is None:
        return torch.linspace(0, 1, count + closed, dtype=torch.float64)
    if len(times) != count + closed:
        raise PathError(
            f"{len(times)} times cannot belong to {count} keyframes; give {count + closed}"
            + (", the last for the return to the first." if closed else ".")
        )
    at = torch.tensor(times, dtype=torch.float64)
    if not bool(torch.isfinite(at).all() and (at.diff() > 0).all()):
        raise PathError(
            f"The times {', '.join(f'{time:g}' for time in times)} do not rise from one keyframe "
            "to the next; sort the keyframes by time and give each its own."
        )
    return (at - at[0]) / (at[-1] - at[0])
