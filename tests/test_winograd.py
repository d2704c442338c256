"""Convolutions of half as many products."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from ddim_interp.unet import native, winograd
from ddim_interp.unet.conv import Conv2d, _packable_dtypes
from ddim_interp.unet.winograd import can_halve, convolve_halved, halved_weights


def maps(*shape: int) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def weights(out: int, channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return weight, torch.randn(out, generator=generator)


def halved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    six, added = halved_weights(weight, bias)
    multiply = partial(conv2d, weight=six, bias=added, padding=(1, 0), groups=6)
    return convolve_halved(x, len(weight), multiply)


def error(y: Tensor, exact: Tensor) -> float:
    return ((y - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("size", [(1, 4), (2, 8), (7, 12), (16, 16)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_the_convolution(size, with_bias):
    weight, bias = weights(24, 40)
    x, added = maps(3, 40, *size), bias if with_bias else None
    wide = x.double(), weight.double(), None if added is None else added.double()
    exact = conv2d(*wide, padding=1)
    y = halved(x, weight, added)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert error(y, exact) < 2e-6
    assert error(halved(*wide), exact) < 1e-14


def test_rounding_errors_are_about_twice_those_of_an_ordinary_one():
    weight, bias = weights(128, 128)
    x = maps(2, 128, 32, 32)
    exact = conv2d(x.double(), weight.double(), bias.double(), padding=1)
    ordinary = error(conv2d(x, weight, bias, padding=1), exact)
    assert error(halved(x, weight, bias), exact) < 3 * ordinary


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 9, 10, 13, 31, 100])
@pytest.mark.parametrize("ours", [False, True])  # our own kernels are for inference
def test_it_is_the_same_in_blocks_of_any_height(monkeypatch, rows, ours):
    weight, bias = weights(40, 24)
    x = maps(3, 24, 10, 8)
    whole = halved(x, weight, bias)
    for name in ("_BLOCK", "_BLOCK_OF_OURS"):
        monkeypatch.setattr(winograd, name, rows * 24 * 8 * x.element_size())
    with torch.inference_mode(ours):
        torch.testing.assert_close(halved(x, weight, bias), whole, atol=1e-5, rtol=0)


def test_it_multiplies_half_as_often():
    weight, bias = weights(32, 32)
    six, added = halved_weights(weight, bias)
    x = maps(2, 32, 16, 16)
    with FlopCounterMode(display=False) as plain:
        conv2d(x, weight, bias, padding=1)
    with FlopCounterMode(display=False) as ours:
        convolve_halved(x, 32, partial(conv2d, weight=six, bias=added, padding=(1, 0), groups=6))
    assert ours.get_total_flops() == plain.get_total_flops() / 2


def test_how_many_pictures_there_are_does_not_decide():
    for channels, size in ((128, 16), (128, 8), (64, 32), (130, 18), (256, 20)):
        answers = {can_halve(torch.empty(n, channels, size, size), 128) for n in (1, 2, 16)}
        assert len(answers) == 1


@pytest.mark.skipif(not native.has_native(), reason="needs a C compiler, on Linux")
def test_narrow_layers_are_halved_by_our_own_kernels_only():
    x = torch.empty(1, 24, 8, 8)
    assert not can_halve(x, 24)
    with torch.inference_mode():
        assert can_halve(x, 24)
        assert not can_halve(x, 3) and not can_halve(torch.empty(1, 24, 8, 4), 24)


def test_halves_only_float32():
    x = torch.empty(1, 128, 16, 16)
    assert can_halve(x, 128)
    assert not can_halve(x.bfloat16(), 128)
    assert not can_halve(x.double(), 128)


packs = pytest.mark.skipif(not _packable_dtypes(), reason="oneDNN does not sort weights here")


def layer(**options: int) -> Conv2d:
    torch.manual_seed(0)
    conv = Conv2d(128, 128, **({"kernel_size": 3, "padding": 1} | options))
    return conv.to(memory_format=torch.channels_last).requires_grad_(False)


def products_of(conv: Conv2d, x: Tensor) -> set[int]:
    """How many groups of channels were multiplied."""
    with torch.inference_mode(), torch.profiler.profile(record_shapes=True) as profile:
        conv(x)
    shapes = [e.input_shapes for e in profile.events() if "_convolution_pointwise" in e.name]
    return {shape[0][1] // x.shape[1] for shape in shapes}


@packs
def test_a_wide_layer_is_halved_and_others_are_not():
    x = maps(2, 128, 16, 16)
    assert products_of(layer(), x) == {6}
    assert products_of(layer(), maps(2, 128, 4, 4)) == {1}
    for options in (
        {"stride": 2},
        {"padding": 0},
        {"kernel_size": 1, "padding": 0},
        {"kernel_size": 5, "padding": 2},
        {"padding": 2, "dilation": 2},
        {"groups": 2},
    ):
        assert products_of(layer(**options), x) == {1}


@packs
@pytest.mark.parametrize("bias", [True, False])
def test_new_weights_are_noticed(bias):
    conv, x = layer(bias=bias), maps(2, 128, 16, 16)
    with torch.inference_mode():
        conv(x)
        conv(x[:1])
        conv.weight.mul_(2)
        if bias:
            conv.bias.add_(1)
        plain = nn.Conv2d.forward(conv, x)
        torch.testing.assert_close(conv(x), plain, atol=1e-4, rtol=0)
        torch.testing.assert_close(conv(x[:1]), plain[:1], atol=1e-4, rtol=0)


@packs
def test_what_is_made_of_weights_is_not_copied():
    conv, x = layer(), maps(2, 128, 16, 16)
    with torch.inference_mode():
        y = conv(x)
        twin = copy.deepcopy(conv)
        assert set(vars(twin)) == set(vars(layer()))
        assert torch.equal(twin(x), y)


def test_gradients_flow_as_through_torchs():
    conv, x = layer().requires_grad_(True), maps(1, 128, 16, 16).requires_grad_()
    mine, torchs = (
        torch.autograd.grad(y.square().sum(), (x, *conv.parameters()))
        for y in (conv(x), nn.Conv2d.forward(conv, x))
    )
    torch.testing.assert_close(mine, torchs)
