"""On a GPU, all that stands between two convolutions, in as few passes over memory as it takes.

A convolution of half precision keeps a GPU's matrix units busy; what lies between two of them is a
few operations a value, and takes as long as reading and writing the values does. Done one by one,
bias, timestep, norm, activation and sum are ten such passes; here they are four or five.

    norm       a norm, and what comes before and after it
    moments    what a norm has to know, which whoever writes the values learns in passing
    sums       what a residual layer ends with, and the way past it
    order      values put elsewhere, or cut in two

Each takes channels last, as the convolutions have them, and computes in float32. This is the door
to Triton, which comes with torch where torch knows CUDA. `GroupNorm` and `ResnetBlock2D` come here
by way of `fused`; the formulas are theirs. With TRITON_INTERPRET=1 in the environment all of it
runs on a processor, slowly, which is how it is tested.

Sizes of feature maps are no constants of a kernel, lest it be compiled for every batch and every
level; sizes of tiles are.
"""

from ddim_interp.unet.kernels.norm import group_norm
from ddim_interp.unet.kernels.order import interleave, split
from ddim_interp.unet.kernels.sums import add_past, add_up, try_out

__all__ = ["add_past", "add_up", "group_norm", "interleave", "split", "try_out"]
