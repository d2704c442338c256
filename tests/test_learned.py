"""LPIPS as an option: its numbers where it is installed, one line where it is not."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from ddim_interp.errors import ArgumentError, HubError
from ddim_interp.learned import lpips_vectors
from ddim_interp.perceptual import METRICS, find_metric


@pytest.fixture(autouse=True)
def no_memory():
    lpips_vectors.cache_clear()
    yield
    lpips_vectors.cache_clear()


class FakeLPIPS(nn.Module):
    """The parts of lpips 0.1.4's network that are used, and its forward pass, with random weights.

    The real package needs torchvision and AlexNet's weights, which are no part of the tests.
    """

    def __init__(self, net="alex", verbose=True):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 5, 2), nn.Conv2d(8, 4, 3)
        heads = [nn.Sequential(nn.Dropout(), nn.Conv2d(c, 1, 1, bias=False)) for c in (8, 4)]
        for head in heads:
            head[1].weight.data.abs_()
        self.lins = nn.ModuleList(SimpleLin(head) for head in heads)
        self.net = SimpleNamespace(forward=self.features)

    def scaling_layer(self, x):
        return (x - 0.1) / 0.5

    def features(self, x):
        first = self.first(x).relu()
        return first, self.second(first).relu()

    def forward(self, x, y):
        total = 0
        pairs = zip(
            self.features(self.scaling_layer(x)), self.features(self.scaling_layer(y)), strict=True
        )
        for (f, g), head in zip(pairs, self.lins, strict=True):
            total = total + head.model((unit(f) - unit(g)) ** 2).mean([2, 3], keepdim=True)
        return total


class SimpleLin(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


def unit(x, eps=1e-10):
    return x / (x.square().sum(1, keepdim=True).sqrt() + eps)


def install(monkeypatch, network=FakeLPIPS):
    module = ModuleType("lpips")
    module.LPIPS, module.normalize_tensor = network, unit
    monkeypatch.setitem(sys.modules, "lpips", module)


def test_squared_distances_are_lpips(monkeypatch):
    install(monkeypatch)
    x, y = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    metric = find_metric("lpips")
    found = (metric(x) - metric(y)).square().sum(1)
    torch.testing.assert_close(found, FakeLPIPS().eval()(x, y).flatten())
    grey = metric(torch.zeros(1, 1, 32, 32))
    torch.testing.assert_close(grey, metric(torch.zeros(1, 3, 32, 32)))


def test_without_the_package_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ArgumentError, match=r"pip install lpips torchvision, .*--metric lab"):
        find_metric("lpips")


def test_without_its_weights_one_line_says_what_to_do(monkeypatch):
    def unreachable(**options):
        raise OSError("no route to host")

    install(monkeypatch, unreachable)
    with pytest.raises(HubError, match=r"no route to host\); connect once"):
        find_metric("lpips")


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ArgumentError, match="choose one of lab, lpips"):
        find_metric("taste")
    assert list(METRICS) == ["lab", "lpips"]
