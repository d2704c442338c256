"""Which levels does a trajectory visit?"""

import math
from itertools import pairwise

import numpy as np
import pytest

from ddim_interp.errors import ArgumentError, ScheduleError
from ddim_interp.grid import SPACINGS, Grid, make_grid, timesteps
from ddim_interp.schedule import NoiseSchedule

LINEAR = NoiseSchedule.from_config({})
ZERO_SNR = NoiseSchedule.from_config({"rescale_betas_zero_snr": True})
HUNDRED = NoiseSchedule.from_config({"num_train_timesteps": 100, "beta_end": 0.2})
WARPED = ("log-snr", "karras", "focus")
every_spacing = pytest.mark.parametrize("spacing", SPACINGS)


@every_spacing
def test_every_step_count_gives_a_falling_grid_on_the_table_or_is_refused(spacing: str) -> None:
    # Warped timesteps are not rounded, so that each count is as good as the next.
    counts = [*range(1, 20), 334, 501, 1000] if spacing in WARPED else range(1, 1001)
    refused = []
    for steps in counts:
        try:
            grid = make_grid(LINEAR, steps, spacing)
        except ScheduleError:
            refused.append(steps)
            continue
        assert 2 <= len(grid) <= (1001 if spacing == "uniform" else steps + 1)
        assert_falling(grid)
    starts_at_the_end = [1] if spacing in ("leading", "linspace", "uniform", "quad") else []
    leading = spacing == "leading"
    starts_too_low = [s for s in range(2, 1001) if leading and s * (1000 // s) < 850]
    assert refused == starts_at_the_end + starts_too_low


@pytest.mark.parametrize("steps", [2, 3, 10, 50, 333, 1000])
@pytest.mark.parametrize("schedule", [ZERO_SNR, HUNDRED], ids=["zero-snr", "hundred"])
@every_spacing
def test_grids_of_other_schedules_fall_too(
    spacing: str, schedule: NoiseSchedule, steps: int
) -> None:
    assert_falling(make_grid(schedule, min(steps, schedule.num_train_timesteps), spacing))


def assert_falling(grid: Grid) -> None:
    """On the table, and every level strictly cleaner than the one before."""
    assert 0 <= grid[-1].timestep and grid[0].timestep <= 999
    assert all(t.timestep > s.timestep and t.alpha_bar < s.alpha_bar for t, s in pairwise(grid))


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing", *WARPED])
@pytest.mark.parametrize("steps", [2, 10, 50, 333])
def test_a_grid_has_as_many_steps_as_asked_or_ends_with_its_own_last_level(
    spacing: str, steps: int
) -> None:
    own_end = spacing in ("leading", "linspace")
    assert len(make_grid(LINEAR, steps, spacing)) - 1 == steps - own_end
    assert len(make_grid(LINEAR, steps, spacing, end=LINEAR.clean)) - 1 == steps


@every_spacing
def test_a_grid_ends_where_it_is_told_to(spacing: str) -> None:
    assert make_grid(LINEAR, 20, spacing)[-1] == LINEAR.lowest
    assert make_grid(LINEAR, 20, spacing, end=LINEAR.clean)[-1] == LINEAR.clean
    assert make_grid(LINEAR, 20, spacing, end=LINEAR.level(300))[-1] == LINEAR.level(300)


@pytest.mark.parametrize("spacing", ["linspace", "trailing", *WARPED])
def test_a_grid_starts_at_the_noisiest_level(spacing: str) -> None:
    assert make_grid(LINEAR, 20, spacing)[0].timestep == pytest.approx(999, abs=1e-6)


@pytest.mark.parametrize("spacing", WARPED)
def test_warped_grids_stay_below_pure_noise(spacing: str) -> None:
    assert make_grid(ZERO_SNR, 20, spacing)[0].timestep == pytest.approx(998, abs=1e-6)


@pytest.mark.parametrize(
    ("spacing", "first", "last"),
    [
        ("leading", [980, 960, 940], [40, 20, 0]),
        ("linspace", [999, 979, 958], [41, 20, 0]),
        ("trailing", [999, 979, 959], [39, 19, 0]),
        ("quad", [800, 767, 736], [2, 1, 0]),
    ],
)
def test_fifty_steps_visit_the_known_timesteps(
    spacing: str, first: list[int], last: list[int]
) -> None:
    visited = [level.timestep for level in make_grid(LINEAR, 50, spacing)]
    assert (visited[:3], visited[-3:]) == (first, last)


@pytest.mark.parametrize("total", [50, 70])
def test_trailing_timesteps_are_those_of_numpys_range(total: int) -> None:
    """To the last rounding at halves, as diffusers has them."""
    schedule = NoiseSchedule.from_config({"num_train_timesteps": total})
    for steps in range(1, total + 1):
        theirs = np.round(np.arange(total, 0, -total / steps)) - 1
        assert timesteps(schedule, steps, "trailing") == theirs[:steps].tolist()


def test_log_snr_steps_are_even_in_log_sigma() -> None:
    logs = [math.log(level.ratio) for level in make_grid(LINEAR, 25, "log-snr")]
    strides = [high - low for high, low in pairwise(logs)]
    assert strides == pytest.approx([strides[0]] * 25, rel=1e-6)


def test_karras_steps_are_even_in_the_seventh_root_of_sigma() -> None:
    roots = [level.ratio ** (1 / 7) for level in make_grid(LINEAR, 25, "karras")]
    strides = [high - low for high, low in pairwise(roots)]
    assert strides == pytest.approx([strides[0]] * 25, rel=1e-6)


def test_focus_steps_are_half_as_long_about_sigma_4_5() -> None:
    logs = [math.log(level.ratio) for level in make_grid(LINEAR, 100, "focus")]
    strides = [
        (high - low) * (1 + math.exp(-((((high + low) / 2) - 1.5) ** 2) / 8))
        for high, low in pairwise(logs)
    ]
    assert strides == pytest.approx([strides[0]] * 100, rel=1e-2)
    by_place = {(high + low) / 2: high - low for high, low in pairwise(logs)}
    shortest = min(by_place, key=by_place.__getitem__)
    assert math.exp(shortest) == pytest.approx(4.5, rel=0.1)
    assert by_place[shortest] == pytest.approx(by_place[min(by_place)] / 2, rel=0.02)


@pytest.mark.parametrize("steps", [0, -1, 1001])
@every_spacing
def test_a_step_count_off_the_table_is_refused(spacing: str, steps: int) -> None:
    with pytest.raises(ScheduleError, match="use 1 to 1000"):
        make_grid(LINEAR, steps, spacing)


@pytest.mark.parametrize("steps", [334, 400, 501, 600, 849])
def test_leading_grids_that_would_start_in_half_a_picture_are_refused(steps: int) -> None:
    with pytest.raises(ScheduleError, match="use trailing or log-snr spacing, or a number of step"):
        make_grid(LINEAR, steps, "leading")


@pytest.mark.parametrize("steps", [92, 120, 141, 500, 1000])
def test_quadratic_grids_are_the_original_codes(steps: int) -> None:
    theirs = np.unique((np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2).astype(int))
    assert timesteps(LINEAR, steps, "quad") == theirs[::-1].tolist()


@pytest.mark.parametrize("spacing", ["leading", "linspace", "quad"])
def test_a_grid_that_would_end_where_it_starts_is_refused(spacing: str) -> None:
    with pytest.raises(ScheduleError, match="use trailing or log-snr spacing, or more steps"):
        make_grid(LINEAR, 1, spacing)


def test_an_unknown_spacing_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match="leading, linspace, trailing, uniform, quad, log-snr"):
        make_grid(LINEAR, 50, "even")


def test_an_offset_that_leads_off_the_table_is_refused() -> None:
    assert timesteps(LINEAR, 999, "leading", steps_offset=1)[0] == 999
    with pytest.raises(ScheduleError, match="use fewer steps, or steps_offset=0"):
        timesteps(LINEAR, 1000, "leading", steps_offset=1)


@pytest.mark.parametrize(
    ("steps", "count", "first"),
    [(10, 10, 900), (30, 31, 990), (50, 50, 980), (300, 334, 999), (600, 1000, 999)],
)
def test_uniform_has_the_step_counts_of_the_original_code(
    steps: int, count: int, first: int
) -> None:
    visited = timesteps(LINEAR, steps, "uniform")
    assert visited == [float(t) for t in range(0, 1000, 1000 // steps)][::-1]
    assert (len(visited), visited[0]) == (count, first)
    assert len(make_grid(LINEAR, steps, "uniform", end=LINEAR.clean)) == count + 1
