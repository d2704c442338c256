"""Dormand and Prince's tableau, and when to give up."""

import pytest
import torch
from torch import Tensor

from ddim_interp.denoiser import GaussianDenoiser, Prediction
from ddim_interp.errors import NonFiniteError
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.solver import RK45, rk45
from ddim_interp.trajectory import last, sample

SCHEDULE = NoiseSchedule.from_config({})
Z = draw([0], (1, 8, 8)).double()


def weights(row: tuple[float, ...]) -> Tensor:
    return torch.tensor([*row, *[0.0] * (7 - len(row))], dtype=torch.float64)


@pytest.mark.parametrize("stage", range(7))
def test_each_stage_leans_on_as_much_slope_as_its_node_says(stage: int) -> None:
    assert sum(rk45._STAGES[stage]) == pytest.approx(rk45._NODES[stage], abs=1e-15)


@pytest.mark.parametrize(
    ("row", "order"), [(rk45._STAGES[6], 5), (rk45._FOURTH, 4)], ids=["fifth", "fourth"]
)
def test_the_results_integrate_powers_up_to_their_order(row: tuple[float, ...], order: int) -> None:
    nodes = torch.tensor(rk45._NODES, dtype=torch.float64)
    for power in range(order):
        moment = (weights(row) * nodes**power).sum().item()
        assert moment == pytest.approx(1 / (power + 1), abs=1e-14)
    assert (weights(row) * nodes**order).sum().item() != pytest.approx(1 / (order + 1), abs=1e-5)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_network_that_breaks_down_is_not_chased_for_ever(poison: float) -> None:
    class Broken:
        def __call__(self, x_t: Tensor, t: Level) -> Prediction:
            prediction = GaussianDenoiser(variance=0.25)(x_t, t)
            return prediction if t.timestep > 500 else prediction._replace(eps=x_t + poison)

    with pytest.raises(NonFiniteError, match="no step short enough at timestep"):
        last(sample(Broken(), Z, make_grid(SCHEDULE, 5), RK45(SCHEDULE)))
