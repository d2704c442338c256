"""The samplers of the original DDIM code, stated again from its papers, draw the same here."""

import pytest
import torch
from torch import Tensor

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.grid import make_grid, timesteps
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import DDIM, clip_to
from ddim_interp.trajectory import last, sample

SCHEDULE = NoiseSchedule.from_config({})
DATA = GaussianDenoiser(mean=0.6, variance=0.2)


def eps_at(x: Tensor, t: int) -> Tensor:
    return DATA(x, SCHEDULE.level(t)).eps


def alpha(t: int) -> float:
    return SCHEDULE.alphas_cumprod[t] if t >= 0 else 1.0


def generalized(x: Tensor, visited: list[int], eta: float, noise: list[Tensor]) -> Tensor:
    for t, s, z in zip(visited, [*visited[1:], -1], noise, strict=True):
        a, b, e = alpha(t), alpha(s), eps_at(x, t)
        x_0 = (x - e * (1 - a) ** 0.5) / a**0.5
        c1 = eta * ((1 - a / b) * (1 - b) / (1 - a)) ** 0.5
        x = b**0.5 * x_0 + c1 * z + (1 - b - c1**2) ** 0.5 * e
    return x


def ddpm_noisy(x: Tensor, visited: list[int], noise: list[Tensor]) -> Tensor:
    """Ancestral sampling with x_0 clipped, and β for its variance."""
    for t, s, z in zip(visited, [*visited[1:], -1], noise, strict=True):
        a, b = alpha(t), alpha(s)
        beta = 1 - a / b
        x_0 = ((1 / a) ** 0.5 * x - (1 / a - 1) ** 0.5 * eps_at(x, t)).clamp(-1, 1)
        mean = (b**0.5 * beta * x_0 + (1 - beta) ** 0.5 * (1 - b) * x) / (1 - a)
        x = mean + (t > 0) * beta**0.5 * z
    return x


@pytest.mark.parametrize("spacing", ["uniform", "quad"])
@pytest.mark.parametrize("steps", [10, 30])
@pytest.mark.parametrize("kind", ["generalized 0", "generalized 0.5", "ddpm_noisy"])
def test_samplers_of_the_original_code_end_in_the_same_pictures(
    spacing: str, steps: int, kind: str
) -> None:
    visited = [int(t) for t in timesteps(SCHEDULE, steps, spacing)]
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)  # noqa: E731
    x, noise = draw(), [draw() for _ in visited]
    waiting = iter(noise)
    if kind == "ddpm_noisy":
        truth = ddpm_noisy(x, visited, noise)
        solver = DDIM(1.0, clip_to(1), True, lambda x: next(waiting), larger_noise=True)
    else:
        eta = float(kind.split()[1])
        truth = generalized(x, visited, eta, noise)
        solver = DDIM(eta, noise=lambda x: next(waiting))
    grid = make_grid(SCHEDULE, steps, spacing, end=SCHEDULE.clean)
    ours = last(sample(DATA, x, grid, solver)).x
    assert (ours - truth).abs().max() < 1e-9


def test_larger_noise_differs_from_ddpm_and_not_from_ddim() -> None:
    t, s = SCHEDULE.level(600), SCHEDULE.level(400)
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    steps = {
        (eta, larger): DDIM(eta, noise=torch.ones_like, larger_noise=larger).transfer(
            DATA(x, t), x, t, s
        )
        for eta in (0.0, 1.0)
        for larger in (False, True)
    }
    assert torch.equal(steps[0.0, False], steps[0.0, True])
    assert (steps[1.0, True] > steps[1.0, False]).all()
