"""One look at a batch, by pytest-benchmark: `pytest tests/bench_forwards.py`.

Not collected by `make test`. For comparisons use `ddim-interp bench`, which lets contestants run
in turns; this keeps a history (`--benchmark-autosave`, `--benchmark-compare`).
"""

import pytest
import torch

from ddim_interp import DDIMPipeline
from ddim_interp.bench.configs import CONFIGS
from ddim_interp.bench.forwards import random_network
from ddim_interp.precision import draft_dtype

HALF = draft_dtype(torch.device("cpu"))


def network(name):
    if name == "embedded":
        return DDIMPipeline.from_pretrained(device="cpu", dtype="fp32").unet, 16
    return random_network(dict(CONFIGS[name].config)), CONFIGS[name].batch


@pytest.mark.parametrize("dtype", {torch.float32, HALF}, ids=str)
@pytest.mark.parametrize("name", ["embedded", *CONFIGS])
def test_forward(benchmark, name, dtype):
    unet, batch = network(name)
    unet = unet.to(dtype).to(memory_format=torch.channels_last)
    side = unet.config.sample_size
    x, t = torch.randn(batch, 3, side, side, dtype=dtype), torch.full((batch,), 500.0)
    with torch.inference_mode():
        benchmark.pedantic(unet, (x, t), rounds=3, warmup_rounds=1)
