"""What runs on a processor between two convolutions, in C: beside the formulas in float64."""

import ctypes
import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from formulas import LAST, SHAPES, maps, near, steers, written_out
from torch import Tensor, nn

from ddim_interp.unet import UNet2DModel, UNetConfig, native
from ddim_interp.unet.doubling import DoublingConv2d
from ddim_interp.unet.fused import kernels_for, kernels_on, native_for
from ddim_interp.unet.plan import ResnetPlan
from ddim_interp.unet.resnet import ResnetBlock2D
from ddim_interp.unet.winograd import _gather, _spread

pytestmark = pytest.mark.skipif(not native.has_native(), reason="needs a C compiler, Linux, an x86")

BOUNDS = {torch.float32: 4e-7, torch.bfloat16: 2.5e-3}
DTYPES = pytest.mark.parametrize("dtype", BOUNDS, ids=str)
# Channels that fill vectors, that do so two or sixteen at a time, and that leave a rest.
ODD = [(2, 24, 7, 9, 8), (3, 20, 5, 7, 4), (2, 5, 3, 3, 5), (1, 8, 1, 2, 4), (2, 640, 4, 4, 32)]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@DTYPES
@pytest.mark.parametrize("shape", [*SHAPES, *ODD], ids=str)
@pytest.mark.parametrize("given", ["nothing", "silu", "add", "scale"])
def test_group_norm_is_its_formula(dtype, shape, given):
    count, channels, height, width, groups = shape
    x = maps(dtype, count, channels, height, width)
    weight, bias, add, scale, shift = steers(dtype, count, channels)
    more = {
        "nothing": {},
        "silu": {"silu": True},
        "add": {"add": add, "silu": True},
        "scale": {"scale": scale, "shift": shift, "silu": True},
    }[given]
    wanted = written_out(x, groups, weight, bias, **more)
    given = x.clone(memory_format=torch.preserve_format)
    y, (whole,) = native.group_norm(given, groups, weight, bias, 1e-5, **more)
    near(y, wanted, BOUNDS[dtype])
    assert torch.equal(given, y if "add" in more else x) and whole.data_ptr() == given.data_ptr()


@DTYPES
@pytest.mark.parametrize("first", [8, 16, 24, 40])
def test_channels_beside_become_the_last(dtype, first):
    x, beside = maps(dtype, 2, first, 9, 7), maps(dtype, 2, 48 - first, 9, 7)
    weight, bias = torch.randn(2, 48).to(dtype)
    y, (joined,) = native.group_norm(x, 4, weight, bias, 1e-5, silu=True, beside=beside)
    both = torch.cat((x, beside), dim=1)
    assert torch.equal(joined, both)
    near(y, written_out(both, 4, weight, bias, silu=True), BOUNDS[dtype])


@DTYPES
def test_a_picture_is_normed_alike_in_any_company_and_by_any_threads(dtype, threads):
    x, (weight, bias) = maps(dtype, 5, 24, 64, 64), torch.randn(2, 24).to(dtype)
    together, _ = native.group_norm(x, 8, weight, bias, 1e-5, silu=True)
    for count in (1, 2, 3):
        threads(count)
        for some in (slice(0, 1), slice(2, 5), slice(0, 5)):
            y, _ = native.group_norm(x[some], 8, weight, bias, 1e-5, silu=True)
            assert torch.equal(y, together[some])


@DTYPES
def test_a_mean_far_from_zero_costs_no_digits(dtype):
    far = 3000.0 if dtype == torch.float32 else 60.0
    x = (far + torch.randn(2, 32, 16, 16)).to(dtype).to(memory_format=LAST)
    weight, bias = torch.ones(32).to(dtype), torch.zeros(32).to(dtype)
    y, _ = native.group_norm(x, 4, weight, bias, 1e-5)
    bound = 3e-4 if dtype == torch.float32 else 2.5e-3
    near(y, written_out(x, 4, weight, bias), bound)


@DTYPES
@pytest.mark.parametrize("value", [0.0, 1e-3, 20.0, 88.0, 1e3, 1e30, float("nan")])
def test_silu_of_anything(dtype, value):
    """One channel is +1 and one −1, as a norm would make them: what follows is the weight's."""
    x = torch.tensor([1.0, -1.0]).to(dtype)[None, :, None, None].expand(1, 2, 3, 5)
    x = x.contiguous(memory_format=LAST)
    weight, bias = torch.tensor([value, value]).to(dtype), torch.zeros(2).to(dtype)
    y, _ = native.group_norm(x, 1, weight, bias, 0.0, silu=True)
    exact = F.silu(x.double() * weight.double()[:, None, None])
    tiny = {"rtol": 2e-6 if dtype == torch.float32 else 8e-3, "atol": 1e-8}
    torch.testing.assert_close(y.double(), exact, equal_nan=True, **tiny)


def test_a_number_that_is_none_is_not_lost():
    x = maps(torch.float32, 2, 32, 8, 8)
    x[1, 3, 4, 5] = float("nan")
    y, _ = native.group_norm(x, 4, torch.ones(32), torch.zeros(32), 1e-5, silu=True)
    assert y[1, :8].isnan().all() and y[0].isfinite().all() and y[1, 8:].isfinite().all()


@DTYPES
def test_sums_are_their_formula(dtype):
    x, h = maps(dtype, 3, 48, 5, 7), maps(dtype, 3, 48, 5, 7)
    bias = torch.randn(48).to(dtype)
    past = nn.Conv2d(48, 48, 1).to(dtype).requires_grad_(False)
    wide = (each.double() for each in (x, past.weight, past.bias))
    beyond = torch.conv2d(*wide)
    for more, factor in (((), 1.0), ((bias,), 0.5)):
        rest = h.double() + sum((each.double()[:, None, None] for each in more), torch.zeros(1))
        found = native.add_up(h.clone(), x, *more, factor=factor)
        near(found, factor * (rest + x.double()), 2 * BOUNDS[dtype])
        found = native.add_past(h.clone(), (x,), past, *more, factor=factor)
        near(found, factor * (rest + beyond), 2 * BOUNDS[dtype])


@DTYPES
@pytest.mark.parametrize("sizes", [(16, 16, 4, 4), (8, 24, 3, 5), (4, 1, 2, 1)], ids=str)
def test_doubling_is_its_formula(dtype, sizes):
    channels, out, height, width = sizes
    layer = DoublingConv2d(channels, out).to(dtype)
    x = torch.randn(2, channels, height, width).to(dtype).to(memory_format=LAST)
    doubled = F.interpolate(x.double(), scale_factor=2.0)
    wanted = F.conv2d(doubled, layer.weight.double(), layer.bias.double(), padding=1)
    near(layer(x), wanted, 1e-6 if dtype == torch.float32 else 8e-3)
    parts = maps(dtype, 2, 4 * out, height + 1, width + 1)
    bias = torch.randn(out).to(dtype)
    assert torch.equal(
        native.interleave(parts, bias), native.interleave(parts) + bias[:, None, None]
    )


@pytest.mark.parametrize("size", [(1, 4), (5, 8), (16, 16)], ids=str)
def test_winograds_sums_are_their_formulas(size):
    x = torch.randn(2, 32, *size).to(memory_format=LAST)
    torch.testing.assert_close(native.spread(x), _spread(x), atol=1e-5, rtol=0)
    products = torch.randn(2, 6 * 48, size[0] + 2, size[1] // 4).to(memory_format=LAST)
    for top in (0, 2):
        y, wanted = (torch.empty(2, 48, *size).to(memory_format=LAST) for _ in range(2))
        native.gather(products, y, top)
        _gather(products.clone(memory_format=torch.preserve_format), wanted, top)
        torch.testing.assert_close(y, wanted, atol=1e-5, rtol=0)


def test_winograds_rows_of_one_picture_lie_among_others():
    products = torch.randn(1, 6 * 16, 8, 4).to(memory_format=LAST)
    y = torch.full((2, 16, 20, 16), 7.0).to(memory_format=LAST)
    native.gather(products, y[1:, :, 5:13])
    wanted = torch.empty(1, 16, 8, 16).to(memory_format=LAST)
    _gather(products.clone(memory_format=torch.preserve_format), wanted)
    torch.testing.assert_close(y[1:, :, 5:13], wanted, atol=1e-5, rtol=0)
    y[1:, :, 5:13] = 7.0
    assert y.eq(7).all(), "the rest is as it was"


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (each.double().unflatten(2, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@DTYPES
@pytest.mark.parametrize(
    "shape", [(2, 64, 3, 16), (3, 49, 2, 8), (1, 1, 2, 16), (1, 200, 1, 64), (2, 17, 5, 3)], ids=str
)
def test_attention_is_its_formula(dtype, shape, threads):
    count, pixels, heads, d = shape
    q, k, v = (3 * torch.randn(count, pixels, heads * d).to(dtype) for _ in range(3))
    wanted = attention(q, k, v, heads)
    bound = 2e-6 if dtype == torch.float32 else 2.5e-3
    for number in (1, 3):  # a few pictures' heads are cut into parts, where there are more threads
        threads(number)
        y = native.attend(q, k, v, heads)
        assert y.is_contiguous() and (y - wanted).norm() < bound * wanted.norm()


def test_attention_to_one_pixel_far_more_than_to_all_others():
    q = torch.full((1, 20, 16), 50.0)
    k, v = torch.randn(2, 1, 20, 16)
    k[0, 7] = 100.0
    torch.testing.assert_close(native.attend(q, k, v, 2), v[:, 7:8].expand_as(v))
    k[0] = -100.0  # the last vector of keys is filled up, which must not outshine these
    torch.testing.assert_close(native.attend(q, k, v, 2), v.mean(1, keepdim=True).expand_as(v))


PLAIN = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
SCALED = {"resnet_time_scale_shift": "scale_shift", "mid_block_scale_factor": 2**0.5}
SMALL = {"block_out_channels": (24, 64), "norm_num_groups": 8, "layers_per_block": 1}


@pytest.mark.parametrize("more", [{}, SCALED, {"act_fn": "gelu"}], ids=["plain", "scaled", "gelu"])
@pytest.mark.parametrize("size", [(8, 8), (2, 2)], ids=str)
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format], ids=str)
def test_a_network_answers_as_by_torch(more, size, layout, monkeypatch):
    with torch.inference_mode(False):
        network = UNet2DModel(**SMALL, **PLAIN, **more).eval().requires_grad_(False)
        network = network.to(memory_format=layout)
        for parameter in network.parameters():
            parameter.normal_(std=parameter.abs().mean().item() + 0.05)  # none is nought
    x, t = torch.randn(2, 3, *size), torch.tensor([5.0, 500.0])
    found = network(x, t)
    monkeypatch.setattr(native, "has_native", lambda: False)
    wanted = network(x, t)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_precisions_may_be_mixed():
    x, (weight, bias) = maps(torch.float32, 2, 24, 5, 7), torch.randn(2, 24).bfloat16()
    add = torch.randn(2, 48).bfloat16().chunk(2, dim=1)[1]
    given = x.clone(memory_format=torch.preserve_format)
    y, _ = native.group_norm(given, 8, weight, bias, 1e-5, add=add, beside=None)
    near(y, written_out(x, 8, weight, bias, add=add), 1e-6)
    weight, bias = weight.repeat(2), bias.repeat(2)
    y, (joined,) = native.group_norm(x, 8, weight, bias, 1e-5, beside=x.bfloat16())
    assert torch.equal(joined[:, 24:], x.bfloat16().float())
    near(y, written_out(joined, 8, weight, bias), 1e-6)


def test_a_network_may_be_cast_by_torch():
    with torch.inference_mode(False):
        network = UNet2DModel(**SMALL, **PLAIN).eval().requires_grad_(False).to(memory_format=LAST)
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(x, 500.0)
    wanted = network(x, 500.0)
    assert (found - wanted).norm() < 0.05 * wanted.norm()


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


def twins():
    """Two networks that are the same, of which neither has derived anything of its weights yet."""
    with torch.inference_mode(False):
        network = UNet2DModel(**SMALL, **PLAIN).eval().requires_grad_(False).to(memory_format=LAST)
        return network, deepcopy(network)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_torchs_default_dtype_does_not_matter(dtype, default_dtype):
    network, twin = twins()
    x = torch.randn(2, 3, 16, 16)
    wanted = network(x, 500.0)
    default_dtype(dtype)
    found = twin(x, 500.0)
    assert found.dtype == torch.float32 and torch.equal(found, wanted)


def test_torchs_default_device_does_not_matter():
    network, twin = twins()
    x = torch.randn(2, 3, 16, 16)
    wanted = network(x, 500.0)
    with torch.device("meta"):
        found = twin(x, 500.0)
    assert torch.equal(found, wanted)


def test_skips_may_lie_otherwise():
    with torch.inference_mode(False):
        plan = ResnetPlan(48, 24, 8, 8)
        block = ResnetBlock2D(plan, UNetConfig(**SMALL, **PLAIN)).eval().requires_grad_(False)
    x, skip, emb = torch.randn(2, 24, 6, 6), torch.randn(2, 24, 6, 6), torch.randn(2, 96)
    wanted = block(x, emb, skip)
    found = block(x.contiguous(memory_format=LAST), emb, skip)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_they_keep_out_of_what_is_not_theirs():
    x = maps(torch.float32, 2, 32, 8, 8)
    assert kernels_for(x) is native and kernels_on(x.device) == "C"
    assert kernels_for(x.contiguous()) is None and kernels_for(x.double()) is None
    assert native_for(x.half()) is None and native_for(x.to("meta")) is None
    assert kernels_for(x[:, :, :1, :1].contiguous()) is None, "one pixel's channels lie both ways"
    with torch.inference_mode(False):
        assert kernels_for(torch.zeros(1, 4, 8, 8).to(memory_format=LAST)) is None


@pytest.mark.parametrize("name, value", [("DDIM_INTERP_KERNELS", "off"), ("CC", "false")])
def test_one_can_do_without(name, value, tmp_path):
    program = "from ddim_interp.unet import native; raise SystemExit(native.has_native())"
    around = {"DDIM_INTERP_CACHE": str(tmp_path), "PATH": os.defpath, name: value}
    assert subprocess.run([sys.executable, "-c", program], env=around).returncode == 0


def test_a_library_without_them_is_as_none(monkeypatch):
    monkeypatch.setattr(native, "load_c_library", lambda *_: ctypes.CDLL(None))
    assert native._library.__wrapped__() is None


def test_processors_on_which_they_were_not_measured_do_without():
    program = "from ddim_interp.unet import native; raise SystemExit(native.has_native())"
    around = {"ATEN_CPU_CAPABILITY": "default", "PATH": os.defpath}
    assert subprocess.run([sys.executable, "-c", program], env=around).returncode == 0
