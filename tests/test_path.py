"""Paths through keyframes: exact at each, smooth if asked, closed without a seam."""

import math

import pytest
import torch
from torch import Tensor

from ddim_interp.errors import PathError
from ddim_interp.interpolate import BLENDS, Blend, lerp, slerp
from ddim_interp.path import KeyframePath

every_blend = pytest.mark.parametrize("blend", BLENDS.values(), ids=BLENDS.keys())
open_and_closed = pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
straight_and_smooth = pytest.mark.parametrize("smooth", [False, True], ids=["straight", "smooth"])
TIMES = (0.0, 1.0, 4.0, 5.0)


def draw(count: int = 4, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    return (latents * torch.linspace(0.8, 1.2, count).view(-1, 1, 1, 1)).to(dtype)


def uneven(closed: bool) -> tuple[float, ...]:
    return (*TIMES, 7.0) if closed else TIMES


def norms(latents: Tensor) -> Tensor:
    return latents.flatten(1).norm(dim=1)


@every_blend
@open_and_closed
@straight_and_smooth
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("u_dtype", [torch.float32, torch.float64])
def test_every_keyframe_is_met_exactly(
    blend: Blend, closed: bool, smooth: bool, dtype: torch.dtype, u_dtype: torch.dtype
) -> None:
    keyframes = draw(4, dtype=dtype)
    path = KeyframePath(keyframes, blend, closed, smooth, times=uneven(closed))
    met = path(path.knots.to(u_dtype))
    assert met.dtype == dtype
    assert torch.equal(met[:4], keyframes)
    assert not closed or torch.equal(met[4], keyframes[0])


@every_blend
def test_a_straight_path_is_the_blend_from_keyframe_to_keyframe(blend: Blend) -> None:
    keyframes = draw(3)
    path = KeyframePath(keyframes, blend, times=(0, 1, 4))
    f = torch.linspace(0, 1, 7, dtype=torch.float64)
    for leg, (start, length) in enumerate([(0.0, 0.25), (0.25, 0.75)]):
        ends = (keyframes[leg + i].expand(7, -1, -1, -1) for i in (0, 1))
        torch.testing.assert_close(path(start + length * f), blend(*ends, f))


@every_blend
@open_and_closed
def test_a_smooth_path_has_a_continuous_velocity(blend: Blend, closed: bool) -> None:
    path = KeyframePath(draw(4), blend, closed, smooth=True, times=uneven(closed))
    knots = path.knots[1:] if closed else path.knots[1:-1]

    def jump(h: float) -> Tensor:
        arriving = (path(knots) - path(knots - h)) / h
        leaving = (path(knots + h) - path(knots)) / h
        return norms(leaving - arriving) / norms(arriving)

    # What is left is the acceleration, which halves with h; a corner would not.
    assert bool((jump(1e-4) < 5e-3).all())
    torch.testing.assert_close(
        jump(1e-4) / jump(5e-5), torch.tensor(2.0).expand(len(knots)).double(), rtol=0.02, atol=0
    )


def test_a_straight_path_turns_corners() -> None:
    path, h = KeyframePath(draw(3)), 1e-4
    knot = path.knots[1:2]
    arriving, leaving = (path(knot) - path(knot - h)) / h, (path(knot + h) - path(knot)) / h
    assert float(norms(leaving - arriving) / norms(arriving)) > 0.5


@open_and_closed
def test_a_smooth_path_keeps_a_shared_norm(closed: bool) -> None:
    keyframes = draw(5)
    keyframes = keyframes / norms(keyframes).view(-1, 1, 1, 1)
    path = KeyframePath(keyframes, closed=closed, smooth=True)
    torch.testing.assert_close(norms(path(torch.linspace(0, 1, 101))), torch.ones(101).double())


@open_and_closed
def test_norms_never_overshoot_those_of_the_keyframes(closed: bool) -> None:
    keyframes = draw(4) * torch.tensor([1.0, 1.0, 3.0, 3.0]).view(-1, 1, 1, 1)
    keyframes = keyframes / norms(draw(4)).view(-1, 1, 1, 1)
    path = KeyframePath(keyframes, closed=closed, smooth=True)
    radii = norms(path(torch.linspace(0, 1, 401)))
    assert 1 - 1e-9 < float(radii.min()) and float(radii.max()) < 3 + 1e-9


def test_a_smooth_path_of_two_keyframes_is_the_great_circle() -> None:
    keyframes, u = draw(2), torch.linspace(0, 1, 9)
    torch.testing.assert_close(KeyframePath(keyframes, smooth=True)(u), KeyframePath(keyframes)(u))


def test_a_smooth_path_through_a_parabola_is_the_parabola() -> None:
    """Velocities are those of parabolas, so inner legs reproduce one, whatever the times."""
    t = torch.tensor([0.0, 1.0, 1.5, 4.0, 5.0], dtype=torch.float64)
    path = KeyframePath((t**2).view(-1, 1, 1, 1), lerp, smooth=True, times=tuple(t.tolist()))
    inner = torch.linspace(1, 4, 31, dtype=torch.float64)
    torch.testing.assert_close(path(inner / 5).flatten(), inner**2)


@every_blend
@open_and_closed
@straight_and_smooth
def test_reversed_keyframes_reverse_the_path(blend: Blend, closed: bool, smooth: bool) -> None:
    keyframes, u = draw(4), torch.linspace(0, 1, 37, dtype=torch.float64)
    there = KeyframePath(keyframes, blend, closed, smooth, times=uneven(closed))
    order = [0, 3, 2, 1] if closed else [3, 2, 1, 0]
    times = tuple(-time for time in reversed(uneven(closed)))
    back = KeyframePath(keyframes[order], blend, closed, smooth, times=times)
    torch.testing.assert_close(there(u), back(1 - u), rtol=1e-9, atol=1e-9)


@every_blend
@open_and_closed
@straight_and_smooth
def test_equal_keyframes_stand_still(blend: Blend, closed: bool, smooth: bool) -> None:
    keyframe = draw(1, dtype=torch.float32)
    path = KeyframePath(keyframe.expand(3, -1, -1, -1), blend, closed, smooth)
    frames = path(torch.linspace(0, 1, 23))
    torch.testing.assert_close(frames, keyframe.expand_as(frames), rtol=2e-7, atol=0)


@every_blend
@straight_and_smooth
def test_a_closed_path_goes_round_and_round(blend: Blend, smooth: bool) -> None:
    path = KeyframePath(draw(3), blend, closed=True, smooth=smooth)
    u = torch.linspace(0, 1, 13, dtype=torch.float64)[:-1]
    torch.testing.assert_close(path(u), path(u + 1))
    torch.testing.assert_close(path(u), path(u - 2))
    assert torch.equal(path(torch.ones(1)), path(torch.zeros(1)))


@straight_and_smooth
@pytest.mark.parametrize("times", [(0.0, 1.0, 2.0, 3.0, 4.0), uneven(closed=True)])
def test_a_closed_path_does_not_care_where_it_begins(
    smooth: bool, times: tuple[float, ...]
) -> None:
    keyframes, u = draw(4), torch.linspace(0, 1, 21, dtype=torch.float64)
    here = KeyframePath(keyframes, closed=True, smooth=smooth, times=times)
    later = (*times[1:], times[-1] + times[1])
    there = KeyframePath(keyframes.roll(-1, 0), closed=True, smooth=smooth, times=later)
    torch.testing.assert_close(here(u + times[1] / times[-1]), there(u))


@straight_and_smooth
def test_an_open_path_goes_on_beyond_its_ends(smooth: bool) -> None:
    keyframes = draw(2)
    path = KeyframePath(keyframes, smooth=smooth)
    before, after = path(torch.tensor([-0.25, 1.5]))
    torch.testing.assert_close(before.norm(), keyframes[0].norm())
    torch.testing.assert_close(after.norm(), keyframes[1].norm())
    angle = math.acos(float((keyframes[0] * keyframes[1]).sum() / norms(keyframes).prod()))
    found = math.acos(float((before * after).sum() / (before.norm() * after.norm())))
    assert found == pytest.approx(2 * math.pi - 1.75 * angle) or found == pytest.approx(
        1.75 * angle
    )


@every_blend
@straight_and_smooth
def test_opposite_parallel_and_empty_keyframes_give_finite_frames(
    blend: Blend, smooth: bool
) -> None:
    a, b = draw(2, dtype=torch.float32)
    keyframes = torch.stack([a, -a, -a, 2 * a, 0 * a, b, -b])
    for closed in (False, True):
        frames = KeyframePath(keyframes, blend, closed, smooth)(torch.linspace(-0.2, 1.2, 200))
        assert bool(torch.isfinite(frames).all())


def test_a_smooth_path_between_antipodes_has_no_jump() -> None:
    a, b = draw(2)
    path = KeyframePath(torch.stack([a, -a, b]), smooth=True)
    steps = norms(path(torch.linspace(0, 1, 401, dtype=torch.float64)).diff(dim=0))
    assert float(steps.max()) < 4 * float(steps.mean())


@every_blend
@straight_and_smooth
def test_a_frame_does_not_depend_on_its_batch(blend: Blend, smooth: bool) -> None:
    path = KeyframePath(draw(4, dtype=torch.float32), blend, smooth=smooth)
    u = torch.linspace(0, 1, 12)
    together = path(u)
    for start, size in ((0, 1), (3, 5), (7, 2)):
        part = slice(start, start + size)
        assert torch.equal(path(u[part]), together[part])


@open_and_closed
@straight_and_smooth
def test_other_members_travel_with_the_same_weights(closed: bool, smooth: bool) -> None:
    keyframes, other = draw(3), draw(3, seed=2)
    path = KeyframePath(keyframes, closed=closed, smooth=smooth)
    u = torch.linspace(0, 1, 17)
    torch.testing.assert_close(path.carry(keyframes, u), path(u))
    torch.testing.assert_close(
        path.carry(2 * keyframes + 3 * other, u), 2 * path(u) + 3 * path.carry(other, u)
    )
    assert torch.equal(path.carry(other, path.knots[:3]), other)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_keyframes_are_refused(count: int) -> None:
    with pytest.raises(PathError, match="add a picture"):
        KeyframePath(draw(2)[:count])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_keyframes_that_are_not_finite_are_refused(value: float) -> None:
    keyframes = draw(3)
    keyframes[1, 0, 0, 0] = value
    with pytest.raises(PathError, match="Keyframe 1 holds NaN or infinity"):
        KeyframePath(keyframes)


@pytest.mark.parametrize("times", [(0, 1), (0, 1, 2, 3)])
def test_too_few_or_too_many_times_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(PathError, match="give 3"):
        KeyframePath(draw(3), times=times)


def test_a_closed_path_needs_the_time_of_its_return() -> None:
    with pytest.raises(PathError, match="give 4, the last for the return"):
        KeyframePath(draw(3), closed=True, times=(0, 1, 2))


@pytest.mark.parametrize("times", [(0, 2, 1), (0, 1, 1), (0, math.nan, 2), (0, 1, math.inf)])
def test_times_that_do_not_rise_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(PathError, match="sort the keyframes"):
        KeyframePath(draw(3), times=times)


def test_the_default_path_is_a_polygon_of_great_circles() -> None:
    path = KeyframePath(draw(3))
    assert path.blend is slerp and not path.smooth and not path.closed
