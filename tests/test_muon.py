"""Muon: its step is orthogonal, of AdamW's size, and goes down where the gradient is lopsided."""

import doctest
import math

import muon
import pytest
import torch
from muon import Muon, orthogonal
from torch import Generator, nn


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 90), (2, 90, 16)])
def test_singular_values_are_taken_near_one_and_vectors_are_kept(shape: tuple[int, ...]) -> None:
    m = torch.randn(shape, generator=Generator().manual_seed(0))
    u, s, vt = torch.linalg.svd(m, full_matrices=False)
    told = u.mT @ orthogonal(m, iterations=10) @ vt.mT
    values = told.diagonal(dim1=1, dim2=2)
    assert 0.6 < values.min() and values.max() < 1.25
    torch.testing.assert_close(told, torch.diag_embed(values), rtol=0, atol=1e-4)
    assert s.max() / s.min() > 1.5, "they were far apart before"


def test_a_first_step_has_the_size_of_adamws() -> None:
    weight = nn.Parameter(torch.zeros(32, 8, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=Generator().manual_seed(0))
    Muon([weight], lr=0.1, iterations=8).step()
    rms = weight.detach().square().mean().sqrt().item()
    # RMS of a semi-orthogonal (32, 72) matrix is 1/√72
    assert rms == pytest.approx(0.1 * 0.2 * math.sqrt(72) / math.sqrt(72), rel=0.15)


def test_weights_of_one_shape_step_as_they_would_alone() -> None:
    def stepped(together: bool) -> list[torch.Tensor]:
        g = Generator().manual_seed(1)
        weights = [nn.Parameter(torch.randn(6, 5, generator=g)) for _ in range(2)]
        groups = [weights] if together else [[weight] for weight in weights]
        optimizers = [Muon(group, lr=0.1) for group in groups]
        for _ in range(3):
            for weight in weights:
                weight.grad = 2 * weight.detach()
            for optimizer in optimizers:
                optimizer.step()
        return [weight.detach() for weight in weights]

    torch.testing.assert_close(stepped(together=True), stepped(together=False))


def test_what_is_seldom_seen_is_learned_as_fast_as_what_is_seen_often() -> None:
    """Regression on inputs whose second direction is a hundred times weaker."""
    x = torch.randn(256, 2, generator=Generator().manual_seed(0)) * torch.tensor([1.0, 0.01])
    weight = nn.Parameter(torch.zeros(2, 2))
    muon = Muon([weight], lr=0.1, weight_decay=0.0)
    for _ in range(200):
        weight.grad = 2 * (weight.detach() - torch.eye(2)) @ x.mT @ x / len(x)
        muon.step()
    assert (weight.detach() - torch.eye(2)).abs().max() < 0.1


def test_its_example_says_what_it_does() -> None:
    told = doctest.testmod(muon)
    assert told.attempted and not told.failed
