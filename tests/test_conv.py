"""Convolutions that remember how their weights are laid out."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddim_interp.unet import UNet2DModel, count_flops
from ddim_interp.unet.conv import Conv2d, _packable_dtypes
from ddim_interp.unet.doubling import DoublingConv2d
from ddim_interp.unet.resample import double

DTYPES = [torch.float32, torch.bfloat16]


def layer(dtype: torch.dtype = torch.float32, **options: int) -> Conv2d:
    torch.manual_seed(0)
    conv = Conv2d(16, 48, 3, **options)  # too narrow to be halved
    conv = conv.to(dtype=dtype, memory_format=torch.channels_last)
    return conv.requires_grad_(False)


def maps(dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(4, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    return x.to(dtype=dtype, memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2}], ids=str)
def test_the_result_is_that_of_torch_to_the_bit(dtype, options):
    conv, x = layer(dtype, **options), maps(dtype)
    plain = nn.Conv2d.forward(conv, x)
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(conv(x), plain)


packs = pytest.mark.skipif(not _packable_dtypes(), reason="oneDNN does not sort weights here")


@packs
def test_one_picture_and_several_and_each_size_have_weights_in_their_own_order(monkeypatch):
    sort, sorted_for = torch._C._nn.mkldnn_reorder_conv2d_weight, []

    def watched(weight, *rest):
        sorted_for.append((rest[-1][0], rest[-1][2]))
        return sort(weight, *rest)

    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", watched)
    conv = Conv2d(320, 160, 1).to(memory_format=torch.channels_last).requires_grad_(False)
    x = torch.randn(4, 320, 8, 8).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for count, side in ((4, 8), (1, 8), (3, 8), (1, 8), (2, 4), (1, 8), (3, 4)):
            some = x[:count, :, :side, :side].contiguous(memory_format=torch.channels_last)
            plain = nn.Conv2d.forward(conv, some)
            torch.testing.assert_close(conv(some), plain, atol=1e-5, rtol=0)
    assert sorted_for == [(4, 8), (1, 8), (2, 4)]


@packs
def test_one_small_picture_is_not_convolved_in_a_loop():
    conv = layer(padding=1)
    x = maps()[:1].contiguous()
    with torch.inference_mode(), torch.profiler.profile() as profile:
        y = conv(x)
    assert "mkldnn::_convolution_pointwise" in {event.name for event in profile.events()}
    torch.testing.assert_close(y, nn.Conv2d.forward(conv, x), atol=1e-5, rtol=0)


def change_in_place(conv):
    conv.weight.mul_(2)


def load(conv):
    conv.load_state_dict({"weight": conv.weight * 2, "bias": conv.bias})


def assign(conv):
    conv.load_state_dict({"weight": conv.weight * 2, "bias": conv.bias}, assign=True)


def replace_data(conv):
    conv.weight.data = conv.weight * 2


@pytest.mark.parametrize("change", [change_in_place, load, assign, replace_data])
def test_new_weights_are_noticed(change):
    conv, x = layer(padding=1), maps()
    with torch.inference_mode():
        conv(x)
    change(conv)
    with torch.inference_mode():
        assert torch.equal(conv(x), nn.Conv2d.forward(conv, x))


def test_a_copy_in_another_precision_is_its_own():
    conv, x = layer(padding=1), maps()
    with torch.inference_mode():
        conv(x)
        half = copy.deepcopy(conv).bfloat16()
        assert torch.equal(half(x.bfloat16()), nn.Conv2d.forward(half, x.bfloat16()))


def test_what_is_laid_out_is_not_part_of_a_checkpoint():
    conv, x = layer(padding=1), maps()
    keys, small = list(conv.state_dict()), len(pickle.dumps(conv))
    with torch.inference_mode():
        y = conv(x)
    assert list(conv.state_dict()) == keys
    assert len(pickle.dumps(conv)) == small
    with torch.inference_mode():
        assert torch.equal(pickle.loads(pickle.dumps(conv))(x), y)


def test_gradients_flow_as_through_torchs():
    conv, x = layer(padding=1), maps().requires_grad_()
    with torch.inference_mode():
        conv(x)
    conv.requires_grad_(True)
    mine, torchs = (
        torch.autograd.grad(y.square().sum(), (x, *conv.parameters()))
        for y in (conv(x), nn.Conv2d.forward(conv, x))
    )
    torch.testing.assert_close(mine, torchs)


@pytest.mark.parametrize(("width", "bound"), [(16, 1e-6), (32, 3e-6)])  # these may be halved
def test_a_network_answers_alike_with_and_without(width, bound):
    torch.manual_seed(0)
    unet = UNet2DModel(block_out_channels=(width,) * 4, norm_num_groups=8).eval()
    unet = unet.requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 16, 16)
    plain = unet(x, 500.0)
    with torch.inference_mode():
        assert torch.allclose(unet(x, 500.0), plain, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)], ids=str)
def test_doubling_and_convolving_is_one_product(dtype, layout, size):
    torch.manual_seed(0)
    conv = DoublingConv2d(32, 24).to(dtype=dtype, memory_format=layout)
    x = torch.randn(2, 32, *size).to(dtype=dtype, memory_format=layout)
    exact = copy.deepcopy(conv).double()(x.double())
    with torch.inference_mode():
        y = conv(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    bound = 1e-6 if dtype == torch.float32 else 6e-3
    assert (y.double() - exact).norm() < bound * exact.norm()


@pytest.mark.parametrize("change", [change_in_place, load, assign, replace_data])
def test_new_weights_are_noticed_where_a_picture_is_doubled(change):
    torch.manual_seed(0)
    conv, x = DoublingConv2d(16, 8).requires_grad_(False), maps()
    with torch.inference_mode():
        conv(x)
    change(conv)
    with torch.inference_mode():
        torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, double(x)))
    with torch.no_grad():
        conv.bias += 1
        torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, double(x)))


def test_what_is_made_of_weights_is_not_part_of_a_checkpoint():
    conv, x = DoublingConv2d(16, 8), maps()
    keys, small = list(conv.state_dict()), len(pickle.dumps(conv))
    with torch.inference_mode():
        y = conv(x)
        assert torch.equal(copy.deepcopy(conv)(x), y)
        assert torch.equal(pickle.loads(pickle.dumps(conv))(x), y)
    assert list(conv.state_dict()) == keys
    assert len(pickle.dumps(conv)) == small


def test_operations_are_counted_as_the_definition_has_them():
    layer = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    sizes = {"block_out_channels": (32, 32), "layers_per_block": 1, "add_attention": False}
    unet = UNet2DModel(**layer, **sizes)
    with FlopCounterMode(display=False) as counter:
        unet(torch.randn(1, 3, 8, 8), torch.zeros(1))  # with gradients: as the definition
    assert count_flops(unet, 8, 8) == counter.get_total_flops()


@pytest.mark.parametrize("channels", [4, 32])
def test_weights_put_in_place_past_torchs_back_are_seen(channels):
    """As trainers do with averaged weights: `param.data.copy_`."""
    first, second = (Conv2d(channels, channels, 3, padding=1) for _ in range(2))
    x = torch.randn(2, channels, 16, 16)
    for conv in (first, second):
        conv.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        first(x)
        for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
            mine.data.copy_(theirs.data)
        torch.testing.assert_close(first(x), second(x), rtol=0, atol=1e-6)
