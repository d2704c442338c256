"""Lines, curves and means: the same laws on the flat and on the sphere."""

import math

import pytest
import torch
from torch import Tensor

from ddim_interp.geometry import Flat, Geometry, Sphere, bezier, mean, walk
from ddim_interp.span import Span, combine

DIMENSION = 60
N = 5


@pytest.fixture
def latents() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(N, 3, 4, 5, generator=generator, dtype=torch.float64) + 0.3


@pytest.fixture(params=[Flat, Sphere])
def geometry(request: pytest.FixtureRequest, latents: Tensor) -> Geometry:
    made: Geometry = request.param(Span.of(latents))
    return made


def points(geometry: Geometry, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return geometry.place(torch.randn(count, N, generator=generator, dtype=torch.float64))


def length(geometry: Geometry, weights: Tensor) -> Tensor:
    gram = geometry.span.gram  # type: ignore[attr-defined]
    return torch.einsum("...i,ij,...j->...", weights, gram, weights).sqrt()


def test_span_holds_inner_products_per_dimension(latents: Tensor) -> None:
    flat = latents.flatten(1)
    torch.testing.assert_close(Span.of(latents).gram, flat @ flat.T / DIMENSION)
    torch.testing.assert_close(Span.of(latents).norms, flat.norm(dim=1) / math.sqrt(DIMENSION))


def test_span_of_a_batch_is_a_batch_of_spans(latents: Tensor) -> None:
    both = Span.of(torch.stack([latents, 2 * latents]))
    torch.testing.assert_close(both.gram[0], Span.of(latents).gram)
    torch.testing.assert_close(both.gram[1], 4 * Span.of(latents).gram)


def test_combine_adds_up(latents: Tensor) -> None:
    weights = torch.randn(7, N, dtype=torch.float64)
    gain, shift = torch.rand(7, 3, dtype=torch.float64), torch.rand(7, 1, dtype=torch.float64)
    expected = torch.einsum("fn,nchw->fchw", weights, latents)
    expected = gain[..., None, None] * expected + shift[..., None, None]
    torch.testing.assert_close(combine(latents.unbind(), weights, gain, shift), expected)


def test_combining_nothing_gives_zeros(latents: Tensor) -> None:
    zero = torch.zeros(2, 1)
    assert torch.equal(
        combine(latents.unbind(), torch.zeros(2, N), 1 + zero, zero),
        torch.zeros(2, 3, 4, 5).double(),
    )


def test_exp_undoes_log(geometry: Geometry) -> None:
    p, q = points(geometry, 20, 1), points(geometry, 20, 2)
    reached = geometry.exp(p, geometry.log(p, q))
    torch.testing.assert_close(
        length(geometry, reached - q), torch.zeros(20).double(), atol=1e-12, rtol=0
    )


def test_log_is_as_long_as_the_arc(latents: Tensor) -> None:
    sphere = Sphere(Span.of(latents))
    p, q = points(sphere, 20, 1), points(sphere, 20, 2)
    x, y = (torch.einsum("fn,nd->fd", w, latents.flatten(1)) / DIMENSION**0.5 for w in (p, q))
    angle = torch.arccos((x * y).sum(1))
    torch.testing.assert_close(length(sphere, sphere.log(p, q)), angle)


def test_walks_keep_an_even_speed(geometry: Geometry) -> None:
    p, q = points(geometry, 2)[:, None].expand(2, 11, N)
    way = walk(geometry, p, q, torch.linspace(0, 1, 11, dtype=torch.float64)[:, None])
    steps = length(geometry, way.diff(dim=0))
    torch.testing.assert_close(steps, steps[:1].expand(10))


def test_bezier_leaves_and_arrives_along_its_control_points(geometry: Geometry) -> None:
    controls = tuple(points(geometry, 4)[:, None])
    h = 1e-6
    start, after, before, end = (
        bezier(geometry, controls, torch.tensor([[f]], dtype=torch.float64))
        for f in (0, h, 1 - h, 1)
    )
    departure = 3 * geometry.log(controls[0], controls[1])
    arrival = -3 * geometry.log(controls[3], controls[2])
    torch.testing.assert_close((after - start) / h, departure, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((end - before) / h, arrival, atol=1e-4, rtol=1e-4)


def test_mean_is_where_velocities_cancel(geometry: Geometry) -> None:
    corners = points(geometry, 4)
    if isinstance(geometry, Sphere):  # within one half of the sphere, where the mean is unique
        corners = torch.where(geometry.dot(corners, corners[:1]) < 0, -corners, corners)
    weights = torch.rand(6, 4, dtype=torch.float64)
    weights = weights / weights.sum(1, keepdim=True)
    x = mean(geometry, corners, weights)
    pull = (weights[..., None] * geometry.log(x[:, None], corners)).sum(1)
    assert float(length(geometry, pull).max()) < 1e-10
