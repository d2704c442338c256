"""Straight lines and means, on the flat and on the sphere, from two maps: log and exp.

`log(p, q)` is the velocity with which one leaves p to be at q after unit time; `exp(p, v)` is where
one gets to. Walking a line, drawing a Bézier curve and averaging points need nothing else, so they
are written once and hold in both geometries.

A point is written as the weights, over the latents of a span, that add up to it: (..., n), float64.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ddim_interp.span import Span

__all__ = ["Flat", "Geometry", "Sphere", "bezier", "mean", "walk"]


class Geometry(Protocol):
    """A space of points that are weights."""

    def place(self, weights: Tensor) -> Tensor:
        """The point of the space nearest to a weighted sum."""
        ...

    def log(self, p: Tensor, q: Tensor) -> Tensor:
        """The velocity at p that reaches q in unit time."""
        ...

    def exp(self, p: Tensor, v: Tensor) -> Tensor:
        """Where one is after unit time, leaving p with velocity v."""
        ...


@dataclass(frozen=True, eq=False)
class Flat:
    """Euclidean space: chords."""

    span: Span

    def place(self, weights: Tensor) -> Tensor:
        """Every weighted sum is a point."""
        return weights

    def log(self, p: Tensor, q: Tensor) -> Tensor:
        """q − p."""
        return q - p

    def exp(self, p: Tensor, v: Tensor) -> Tensor:
        """p + v."""
        return p + v


@dataclass(frozen=True, eq=False)
class Sphere:
    """Directions: great circles.

        log_p(q) = θ / sin θ · (q − cos θ p),     exp_p(v) = cos|v| p + sin|v| / |v| · v

    Between antipodes every great circle is as short as every other. There the line leaves towards
    the last latent of the span, the compass. (Within 1e-4 rad of opposite counts as opposite.)
    A zero latent has no direction; lines from and to it stay at the other end's.
    """

    span: Span

    def place(self, weights: Tensor) -> Tensor:
        """Scale to unit length."""
        norm = self.norm(weights)
        return weights / torch.where(norm > 0, norm, 1)

    def log(self, p: Tensor, q: Tensor) -> Tensor:
        """Tangent at p, as long as the angle θ to q."""
        theta = 2 * torch.atan2(self.norm(p - q), self.norm(p + q))
        forward = (q - theta.cos() * p) / torch.sinc(theta / math.pi).clamp(min=1e-9)
        north = torch.zeros_like(p)
        north[..., -1] = 1
        sideways = theta * self.place(north - self.dot(north, p) * p)
        return torch.where(theta > math.pi - 1e-4, sideways, forward)

    def exp(self, p: Tensor, v: Tensor) -> Tensor:
        """The end of a great arc of length |v|."""
        length = self.norm(v)
        return length.cos() * p + torch.sinc(length / math.pi) * v

    def dot(self, p: Tensor, q: Tensor) -> Tensor:
        """Inner product of two weighted sums, (..., 1)."""
        return ((p[..., None, :] @ self.span.gram)[..., 0, :] * q).sum(-1, keepdim=True)

    def norm(self, p: Tensor) -> Tensor:
        """Length of a weighted sum, (..., 1)."""
        return self.dot(p, p).clamp(min=0).sqrt()


def walk(geometry: Geometry, p: Tensor, q: Tensor, fraction: Tensor) -> Tensor:
    """The point a fraction, (..., 1), of the way from p to q."""
    return geometry.exp(p, fraction * geometry.log(p, q))


def bezier(geometry: Geometry, controls: tuple[Tensor, ...], fraction: Tensor) -> Tensor:
    """De Casteljau's algorithm: walk between neighbouring control points until one is left.

    The curve leaves the first control point with velocity m log(c_0, c_1), m the number of control
    points less one, and arrives likewise.

    References:
        Park & Ravani (1995), Bézier curves on Riemannian manifolds and Lie groups with kinematics
        applications, J. Mech. Design 117.
    """
    if len(controls) == 1:
        return controls[0]
    inner = (walk(geometry, p, q, fraction) for p, q in pairwise(controls))
    return bezier(geometry, tuple(inner), fraction)


def mean(geometry: Geometry, points: Tensor, weights: Tensor) -> Tensor:
    """The point from which the weighted velocities to all others cancel.

        Σ_k w_k log_x(q_k) = 0

    Args:
        geometry: In which space.
        points: q_k, (n, m).
        weights: (F, n), each row adding up to 1.

    Returns: (F, m).

    References:
        Karcher (1977), Riemannian center of mass and mollifier smoothing, CPAM 30.
        Buss & Fillmore (2001), Spherical averages and applications to spherical splines, ACM
        Trans. Graphics 20.
    """
    x = points[weights.argmax(1)]  # the plain sum may vanish, between antipodes
    for _ in range(100):
        velocity = (weights[..., None] * geometry.log(x[:, None], points)).sum(1)
        x = geometry.exp(x, velocity)
        if velocity.abs().max() < 1e-13:
            break
    return x
