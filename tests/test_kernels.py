"""What runs on a GPU between two convolutions, in Triton's interpreter, which needs none.

A process of its own has the interpreter: kernels are either compiled or interpreted.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", minversion="3.9")  # before, the interpreter had no loops

PROGRAM = Path(__file__).with_name("interpreted_kernels.py")


@pytest.mark.parametrize(
    "what",
    [
        *("norm", "beside", "sum", "past", "learned", "tried"),
        *("doubling", "split", "default", "networks"),
    ],
)
def test_a_kernel_is_its_formula(what):
    run = subprocess.run(
        [sys.executable, str(PROGRAM), what],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_a_processor_does_without_triton():
    program = (
        "import sys, torch, ddim_interp.pipeline, ddim_interp.bench.forwards\n"
        "from ddim_interp.unet import UNet2DModel\n"
        "with torch.inference_mode():\n"
        "    network = UNet2DModel(block_out_channels=(8,) * 4, norm_num_groups=4)\n"
        "    network(torch.zeros(1, 3, 8, 8), 5)\n"
        "assert 'triton' not in sys.modules, 'half a second of every start'"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
