"""A compiled network gives the network's answers, whatever becomes of the compiler."""

import pytest
import torch

from ddim_interp import DDIMPipeline, Plan
from ddim_interp.bench.forwards import random_network
from ddim_interp.compiled import Compiled, compile_network
from ddim_interp.precision import default_batch_size
from ddim_interp.unet.norm import GroupNorm

SMALL = {
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "layers_per_block": 1,
}


def unchanged(network):
    return network


def test_the_network_is_traced_whole_and_for_one_size():
    traced = []

    def backend(module, inputs):
        traced.append(module)
        return module.forward

    network = random_network(SMALL)
    compiler = lambda run: torch.compile(run, backend=backend, fullgraph=True)  # noqa: E731
    compiled = Compiled(network, compiler)
    x = torch.randn(3, 3, 8, 8)
    for t in (900.5, 3.0):
        for count in (3, 1, 2):
            times = torch.full((count,), t)
            x = x.contiguous(
                memory_format=(torch.contiguous_format, torch.channels_last)[count % 2]
            )
            torch.testing.assert_close(compiled(x[:count], times), network(x[:count], times))
    assert len(traced) == 1
    torch._dynamo.reset()


def test_smaller_batches_are_filled_up():
    seen = []
    compiled = Compiled(lambda x: (seen.append(len(x)), 2 * x)[1], unchanged)
    for count in (2, 1, 3, 2):
        x = torch.arange(count, dtype=torch.float32)
        assert compiled(x).tolist() == (2 * x).tolist()
    assert seen == [2, 2, 2, 3, 3, 3]  # and once more, wherever it is prepared


def test_where_nothing_compiles_the_network_runs_and_one_line_says_so():
    said = []

    def broken(network):
        raise ImportError("no compiler here\nand a long story")

    compiled = Compiled(lambda x: x + 1, broken, said.append)
    assert compiled(torch.zeros(2)).tolist() == [1, 1]
    assert compiled(torch.zeros(1)).tolist() == [1]
    assert said == ["The network could not be compiled and runs as it is: no compiler here"]
    with pytest.warns(RuntimeWarning, match="could not be compiled"):
        Compiled(lambda x: x + 1, broken)(torch.zeros(1))


def test_a_lack_of_memory_is_no_fault_of_the_compiler():
    seen = []

    def hungry(x):
        if len(x) > 2:
            raise RuntimeError("CUDA out of memory.")
        return x + 1

    def compiler(network):
        return lambda x: (seen.append(len(x)), network(x))[1]

    compiled = Compiled(hungry, compiler, size=4)
    with pytest.raises(RuntimeError, match="out of memory"):
        compiled(torch.zeros(4))
    assert compiled(torch.zeros(2)).tolist() == [1, 1]
    assert compiled(torch.zeros(1)).tolist() == [1]
    assert seen == [4, 2, 2, 2], "smaller batches are compiled, and not filled up to that one"


def test_frames_are_drawn_by_the_compiled_network_and_inversion_is_not(tiny_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        "ddim_interp.pipeline.Compiled",
        lambda network, say, size: Compiled(
            network, lambda run: compiled.append((run, size)) or run, say, size
        ),
    )
    pipe = DDIMPipeline.from_pretrained(tiny_folder, device="cpu", dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    plain = list(pipe.morph(["seed:0", "seed:1"], frames=3, plan=Plan(2)).draw())
    assert pipe.compile().precision == "float32, compiled"
    assert pipe.model.denoiser.network is pipe.unet
    frames = list(pipe.morph(["seed:0", "seed:1"], frames=3, plan=Plan(2)).draw())
    assert [size for _, size in compiled] == [32], "the size of the batches to come"
    assert all((a == b).all() for a, b in zip(plain, frames, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_by_channels_is_the_norm(dtype):
    norm = GroupNorm(4, 16, eps=1e-5).to(dtype)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = (3 + 2 * torch.randn(2, 16, 12, 10)).to(dtype)
    exact = torch.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), 1e-5)
    found = norm._by_channels(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype))


def test_a_gpu_is_given_more_at_once():
    gpu = torch.device("cuda")
    assert default_batch_size((3, 64, 64), gpu) > default_batch_size((3, 64, 64))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's of torch
def test_torchs_compiler_gives_the_same_answer():
    network = random_network(SMALL)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([500.0, 1.0])
    torch.testing.assert_close(Compiled(network, compile_network)(x, t), network(x, t))
