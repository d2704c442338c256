"""Checks of `ddim_interp.unet.kernels` on a processor: run by test_kernels.py, one for each name.

TRITON_INTERPRET=1 python tests/interpreted_kernels.py norm
"""

import itertools
import sys
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from formulas import LAST, SHAPES, maps, near, steers, written_out
from torch import Tensor, nn

from ddim_interp import adm
from ddim_interp.adm import AdmUnet
from ddim_interp.unet import UNet2DModel, conv, doubling, fused, kernels, norm, resnet
from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.doubling import DoublingConv2d
from ddim_interp.unet.kernels import sums
from ddim_interp.unet.remembered import memory, recall

# The interpreter cuts bfloat16 off where a GPU rounds it, and multiplies no matrices of it.
MULTIPLIED = torch.float32, torch.float16
BOUNDS = {torch.float32: 3e-7, torch.bfloat16: 5e-3, torch.float16: 5e-4}


def check_norm() -> None:
    for dtype, (count, channels, height, width, groups) in itertools.product(BOUNDS, SHAPES):
        x = maps(dtype, count, channels, height, width)
        weight, bias, add, scale, shift = steers(dtype, count, channels)
        for given in (
            {},
            {"silu": True},
            {"add": add, "silu": True},
            {"add": add, "scale": scale, "shift": shift},
        ):
            wanted = written_out(x, groups, weight, bias, **given)
            place = x.clone(memory_format=torch.preserve_format), groups, weight, bias, 1e-5
            near(kernels.group_norm(*place, **given)[0], wanted, BOUNDS[dtype])


def check_beside() -> None:
    for dtype, first in itertools.product(BOUNDS, (16, 24, 40)):
        x, beside = maps(dtype, 2, first, 9, 7), maps(dtype, 2, 48 - first, 9, 7)
        weight, bias = torch.randn(2, 48).to(dtype)
        y, sources = kernels.group_norm(x, 4, weight, bias, 1e-5, silu=True, beside=beside)
        assert [id(source) for source in sources] == [id(x), id(beside)], "nothing is copied"
        both = torch.cat((x, beside), dim=1)
        near(y, written_out(both, 4, weight, bias, silu=True), BOUNDS[dtype])


def check_sum() -> None:
    for dtype, factor in itertools.product(BOUNDS, (1.0, 0.5)):
        x, h, bias = maps(dtype, 3, 48, 5, 7), maps(dtype, 3, 48, 5, 7), torch.randn(48).to(dtype)
        wanted = factor * (h.double() + x.double() + bias.double()[:, None, None])
        near(kernels.add_up(h.clone(), x, bias, factor), wanted, BOUNDS[dtype])
        near(kernels.add_up(h.clone(), None, bias, factor), wanted - factor * x, BOUNDS[dtype])


def check_past() -> None:
    """In the tiles of a small GPU, and of a large one."""
    cases = MULTIPLIED, (False, True), ((40,), (64, 32), (24, 136), (5, 3))
    for dtype, roomy, widths in itertools.product(*cases):
        sums._is_roomy = lambda device, roomy=roomy: roomy
        xs = [maps(dtype, 3, width, 9, 7) for width in widths]
        for channels in (48, 200, 6):
            past = Conv2d(sum(widths), channels, 1).to(dtype).requires_grad_(False)
            h, bias = maps(dtype, 3, channels, 9, 7), torch.randn(channels).to(dtype)
            wide = (each.double() for each in (torch.cat(xs, 1), past.weight, past.bias))
            wanted = (h.double() + torch.conv2d(*wide) + bias.double()[:, None, None]) / 2
            near(kernels.add_past(h.clone(), xs, past, bias, 0.5), wanted, BOUNDS[dtype])


def check_tried() -> None:
    kernels.try_out(torch.device("cpu"))
    sums._join = {(1, 1): lambda h, *_, **__: h.fill_(2)}
    try:
        kernels.try_out(torch.device("cpu"))
    except RuntimeError as error:
        assert "adds 0 and 1" in str(error)
    else:
        raise AssertionError("a kernel that does not do what it should is found out")


def check_learned() -> None:
    """A norm knows what it is told as well as what it reads, and reads what it was not told."""
    for dtype, (height, width) in itertools.product(MULTIPLIED, ((13, 11), (8, 8), (1, 3))):
        bias, more, (weight, shift) = (torch.randn(*n, 40).to(dtype) for n in ((), (), (2,)))
        past = Conv2d(24, 40, 1).to(dtype).requires_grad_(False)
        x = maps(dtype, 2, 24, height, width)
        with memory():
            h = kernels.add_past(maps(dtype, 2, 40, height, width), [x], past, bias, 0.5)
            g = kernels.add_up(maps(dtype, 2, 40, height, width), h, more)
            told = [recall(each) for each in (x, h, g)]
            assert told[0] is None and None not in told[1:]
            found = kernels.group_norm(g, 5, weight, shift, 1e-5)[0]
            both = torch.randn(2, 64).to(dtype)
            beside = kernels.group_norm(h, 4, *both, 1e-5, beside=x)[0]  # a group is half and half
            measured = recall(x)
            assert recall(h) is told[1] and recall(g) is told[2] and measured is not None
            again = kernels.group_norm(x, 3, *both[:, :24], 1e-5)[0]
            assert recall(x) is measured
            kernels.group_norm(past(x), 5, weight, shift, 1e-5, add=bias.expand(2, -1))
        near(found, written_out(g, 5, weight, shift), BOUNDS[dtype])
        near(beside, written_out(torch.cat((h, x), 1), 4, *both), BOUNDS[dtype])
        near(again, written_out(x, 3, *both[:, :24]), BOUNDS[dtype])
        assert recall(h) is None, "it is forgotten"


def check_doubling() -> None:
    for channels, out, height, width in ((16, 16, 4, 4), (8, 24, 3, 5), (4, 1, 1, 1)):
        layer = DoublingConv2d(channels, out)
        x = torch.randn(2, channels, height, width).to(memory_format=LAST)
        wanted = nn.Conv2d.forward(layer, F.interpolate(x, scale_factor=2.0)).double()
        with torch.no_grad(), kernels_in_use():
            near(layer(x), wanted, 1e-6)


def check_split() -> None:
    """Products of rounded parts are float32's; the convolution here is float64's of those."""
    x = maps(torch.float32, 2, 32, 8, 8)
    high, low = kernels.split(x).chunk(2)
    assert torch.equal(high.double() + low.double(), x.double())
    assert not (high.view(torch.int32) & 0x1FFF).any(), "thirteen bits are nought"
    assert (low.abs() <= 2**-11 * x.abs()).all()
    layer = Conv2d(32, 16, 3, padding=1).requires_grad_(False)

    def on_matrix_units(x: Tensor, weight: Tensor) -> Tensor:
        x, weight = (
            kernels.split(part.contiguous(memory_format=LAST)).chunk(2)[0].double()
            for part in (x, weight)
        )
        return torch.conv2d(x, weight, None, padding=1).float()

    parts = kernels.split(layer.weight.contiguous(memory_format=LAST))
    found = conv.convolve_split(kernels, x, parts, on_matrix_units)
    wanted = torch.conv2d(x.double(), layer.weight.double(), None, padding=1)
    near(found, wanted, 1e-6)
    cut = on_matrix_units(x, layer.weight)
    assert (cut - wanted).norm() > 100 * (found - wanted).norm(), "one product alone is TF32's"


def check_default() -> None:
    """Sums are float32's whatever torch's default dtype is."""
    x, (weight, bias) = maps(torch.float32, 2, 32, 8, 8), torch.randn(2, 32)
    wanted = written_out(x, 4, weight, bias)
    for dtype in (torch.bfloat16, torch.float64):
        torch.set_default_dtype(dtype)
        near(kernels.group_norm(x, 4, weight, bias, 1e-5)[0], wanted, BOUNDS[torch.float32])
        assert torch.equal(kernels.split(x).unflatten(0, (2, -1)).sum(0), x)


@contextmanager
def kernels_in_use():
    """As on a GPU, but that nothing else is on one."""

    def here(x: Tensor):
        last = x.is_contiguous(memory_format=LAST)
        return kernels if last and not torch.is_grad_enabled() else None

    convolve, Conv2d.convolve = Conv2d.convolve, lambda conv, x: (conv.without_bias(x), conv.bias)
    rooms = [room for room in (adm, doubling, norm, resnet) if hasattr(room, "kernels_for")]
    for room in rooms:
        room.kernels_for = here
    try:
        yield
    finally:
        for room in rooms:
            room.kernels_for = fused.kernels_for
        Conv2d.convolve = convolve


ADM_BLOCKS = {
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "downsample_type": "resnet",
    "upsample_type": "resnet",
}
SKIP_BLOCKS = {
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
    "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
    "mid_block_scale_factor": 2**0.5,
}
SMALL = {"block_out_channels": (32, 64), "norm_num_groups": 8, "layers_per_block": 1}
PLAIN = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def check_networks() -> None:
    networks = [UNet2DModel(**SMALL, **blocks) for blocks in (PLAIN, ADM_BLOCKS, SKIP_BLOCKS)]
    networks.append(UNet2DModel(**SMALL, **PLAIN, act_fn="gelu"))
    adm_like = {"block_out_channels": (32, 64), "attention": (False, True), "layers_per_block": 1}
    for each in (True, False):
        networks.append(AdmUnet(**adm_like, num_heads=2, scale_shift=each, resampling_resnets=each))
    for network in networks:
        network = network.eval().requires_grad_(False).to(memory_format=LAST)
        for parameter in network.parameters():
            parameter.normal_(std=parameter.abs().mean().item() + 0.05)  # none is nought
        count = 2 if network is networks[0] else 1  # each takes seconds
        x, t = torch.randn(count, 3, 8, 8), torch.tensor([5.0, 500.0])[:count]
        with torch.inference_mode():
            wanted = network(x, t)
            with kernels_in_use(), memory():
                found = network(x, t)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
        assert not torch.equal(found, wanted), "the kernels did run"


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    globals()[f"check_{sys.argv[1]}"]()
