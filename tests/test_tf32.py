"""How exactly a GPU is to multiply, as torch's switches and the GPU itself have it."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch

from ddim_interp.tf32 import allow_tf32, product_precision, true_float32

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def allow() -> Iterator[Callable[[bool], None]]:
    """torch's own switch, put back."""
    before = torch.backends.cudnn.allow_tf32

    def switch(rounds: bool) -> None:
        torch.backends.cudnn.allow_tf32 = rounds

    yield switch
    switch(before)


def test_what_may_be_rounded_is_rounded_and_else_made_of_three(allow, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for device in (CPU, GPU):
        allow(True)
        assert product_precision(device) == "tf32"
        allow(False)
        assert product_precision(device) == "tf32x3"
        with allow_tf32():
            assert product_precision(device) == "tf32"
        assert product_precision(device) == "tf32x3"


def test_a_gpu_without_tf32_multiplies_without_it(allow, monkeypatch):
    allow(False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert product_precision(GPU) == "ieee"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 4))
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert product_precision(GPU) == "ieee", "AMD's compiler knows no TF32"


def test_whoever_chose_by_the_newer_switches_is_not_overruled(monkeypatch):
    class Newer:
        @property
        def allow_tf32(self) -> bool:
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends, "cudnn", Newer())
    assert product_precision(CPU) == "ieee"
    with true_float32(GPU):
        pass


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("before", [True, False])
def test_rounding_is_off_on_a_gpu_and_as_it_was_behind(device, before, allow):
    settings = torch.backends.cudnn
    allow(before)
    with suppress(KeyError), true_float32(torch.device(device)):
        assert settings.allow_tf32 is (before and device == "cpu")
        raise KeyError
    assert settings.allow_tf32 is before
