"""A device that works here, or a refusal in one sentence."""

import pytest
import torch

from ddim_interp.errors import ArgumentError
from ddim_interp.precision import parse_device

UNKNOWN = ["meta", "hpu", "xla", "mkldnn", "vulkan", "foo", "", "CPU", "cpu:1", "cuda:", "cuda:-1"]


@pytest.mark.parametrize("name", [*UNKNOWN, "cuda:999", "xpu:999", "mps:1", "x" * 1000])
def test_a_device_that_is_not_here_is_refused_in_a_sentence_of_ours(name: str) -> None:
    with pytest.raises(ArgumentError, match="choose auto, or one of what it has: cpu") as caught:
        parse_device(name)
    assert len(str(caught.value)) < 200 and caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu")])
def test_the_processor_is_always_here(name: str | torch.device) -> None:
    assert parse_device(name).type == "cpu"


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, NotImplementedError, ImportError])
def test_a_driver_that_does_not_answer_is_a_device_that_is_not_here(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error("a page of words\nof somebody's own")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", broken)
    with pytest.raises(
        ArgumentError, match=r"'cuda:1' cannot be used.*it has: cpu, cuda"
    ) as caught:
        parse_device("cuda:1")
    assert "page" not in str(caught.value)
