"""Sheets and simplices: four corners, tables of keyframes, triangles."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from ddim_interp.corners import Sheet, barycentric, raster, shares, simplex
from ddim_interp.errors import ArgumentError, PathError
from ddim_interp.interpolate import BLENDS, Blend, slerp

every_blend = pytest.mark.parametrize("blend", BLENDS.values(), ids=BLENDS.keys())


def table(rows: int, columns: int, dtype: torch.dtype = torch.float64, side: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(rows * 10 + columns)
    shape = (rows, columns, 3, side, side)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@every_blend
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 5), (2, 4)])
def test_keyframes_of_the_table_are_met_exactly(blend: Blend, rows: int, columns: int) -> None:
    keyframes = table(rows, columns, torch.float32)
    assert torch.equal(Sheet(keyframes, blend)(*raster(rows, columns)), keyframes.flatten(0, 1))


@every_blend
def test_swapping_the_axes_swaps_the_sheet(blend: Blend) -> None:
    keyframes = table(2, 3)
    down, across = raster(5, 7)
    torch.testing.assert_close(
        Sheet(keyframes, blend)(down, across),
        Sheet(keyframes.transpose(0, 1), blend)(across, down),
    )


@every_blend
def test_edges_of_the_sheet_are_plain_interpolations(blend: Blend) -> None:
    keyframes = table(2, 2)
    u = torch.linspace(0, 1, 9, dtype=torch.float64)
    ends = (keyframes[1, i].expand(9, -1, -1, -1) for i in (0, 1))
    torch.testing.assert_close(Sheet(keyframes, blend)(torch.ones(9), u), blend(*ends, u))


def test_four_corners_stay_near_the_papers_figure() -> None:
    """The paper's two passes, in either order, differ from each other more than from the sheet."""
    corners = table(2, 2, side=32)
    down, across = raster(7, 7)

    def pair(i: int, j: int, k: int, m: int, f: Tensor) -> Tensor:
        return slerp(corners[i, j].expand(49, -1, -1, -1), corners[k, m].expand(49, -1, -1, -1), f)

    rows_first = slerp(pair(0, 0, 0, 1, across), pair(1, 0, 1, 1, across), down)
    columns_first = slerp(pair(0, 0, 1, 0, down), pair(0, 1, 1, 1, down), across)
    sheet = Sheet(corners)(down, across)
    scale = sheet.square().mean().sqrt()
    for paper in (rows_first, columns_first):
        assert float((sheet - paper).square().mean(dim=(1, 2, 3)).sqrt().max() / scale) < 0.04


def test_the_middle_is_as_near_to_every_corner() -> None:
    corners = 3 * torch.eye(4).view(2, 2, 1, 2, 2)
    middle = Sheet(corners)(torch.tensor([0.5]), torch.tensor([0.5]))
    torch.testing.assert_close(middle.flatten(), torch.full((4,), 1.5))


@every_blend
def test_sheets_between_opposite_and_equal_corners_are_finite(blend: Blend) -> None:
    a = table(2, 2)[0, 0]
    for corners in ([a, -a, -a, a], [a, a, a, a], [a, -a, 0 * a, 2 * a]):
        frames = Sheet(torch.stack(corners).unflatten(0, (2, 2)), blend)(*raster(9, 9))
        assert bool(torch.isfinite(frames).all())


def test_simplex_lists_every_way_of_sharing_once() -> None:
    weights = simplex(4, 5)
    assert weights.shape == (math.comb(8, 3), 4)
    assert len(weights.unique(dim=0)) == len(weights)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))
    assert bool(((weights >= 0) & ((weights * 5).round() == weights * 5)).all())


def test_a_step_along_an_edge_leads_from_corner_to_corner() -> None:
    assert torch.equal(simplex(3, 1), torch.eye(3, dtype=torch.float64))


def test_a_place_outside_the_triangle_is_the_nearest_of_its_height() -> None:
    down, across = raster(9, 17)
    weights = barycentric(down, across)
    assert bool((weights >= 0).all())
    # Corners lie at (0, 1/2), (1, 0) and (1, 1): what the weights make of them is the place.
    corners = torch.tensor([[0, 0.5], [1, 0], [1, 1]], dtype=torch.float64)
    within = across.clamp(0.5 - down / 2, 0.5 + down / 2)
    torch.testing.assert_close(weights @ corners, torch.stack([down, within], dim=1))


def test_a_place_beyond_the_sheet_is_the_nearest_on_it() -> None:
    beyond, across = torch.tensor([-1.0, 2.0]), torch.tensor([0.3, 0.3])
    for weigh in (barycentric, partial(shares, 3, 2)):
        assert torch.equal(weigh(beyond, across), weigh(beyond.clamp(0, 1), across))


def test_a_triangle_has_its_corners_at_its_corners() -> None:
    corners = table(2, 3)[0]
    weights = simplex(3, 4)
    frames = slerp.mean(corners, weights)
    for i in range(3):
        assert torch.equal(frames[weights[:, i] == 1][0], corners[i])


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (1, 1)])
def test_a_table_without_four_corners_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(PathError, match=rf"of {rows} × {columns} .* at least 2 × 2"):
        Sheet(table(rows, columns))
    with pytest.raises(PathError, match=rf"of {rows} × {columns} .* at least 2 × 2"):
        shares(rows, columns, torch.zeros(1), torch.zeros(1))
    with pytest.raises(ArgumentError, match=rf"of {rows} × {columns} .* at least 2 × 2"):
        raster(rows, columns)


@pytest.mark.parametrize(("corners", "steps"), [(1, 3), (3, 0)])
def test_a_simplex_of_nothing_is_refused(corners: int, steps: int) -> None:
    with pytest.raises(ArgumentError, match="at least 2 corners"):
        simplex(corners, steps)


@every_blend
def test_other_members_travel_with_the_same_weights(blend: Blend) -> None:
    keyframes = table(2, 3, torch.float64)
    sheet, places = Sheet(keyframes, blend), raster(3, 4)
    assert torch.equal(sheet.carry(keyframes, *places), sheet(*places))
    first, second = keyframes.flip(0), keyframes.roll(1, 1)
    nothing = sheet.carry(torch.zeros_like(keyframes), *places)  # a blend's shift, if it has one
    apart = sheet.carry(first, *places) + sheet.carry(second, *places) - nothing
    torch.testing.assert_close(sheet.carry(first + second, *places), apart)


def test_the_cell_at_each_keyframe_is_that_keyframe() -> None:
    for knots in range(2, 12):
        for gap in range(1, 12):
            cells = 1 + gap * (knots - 1)
            weights = shares(knots, 2, *raster(cells, 2))
            assert int((weights == 1).sum()) == 2 * knots, (knots, cells)
