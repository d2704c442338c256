"""A network compiled for the batches it is given, for runs that are long enough to repay it.

Compiling costs from seconds to two minutes, and is done anew in every process but for what torch
caches on disk. It is for networks that have no kernels of our own: those that have are faster on a
GPU as they are (see `unet.kernels`, and docs/speed.md). So nobody compiles unless asked to.
"""

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from ddim_interp.memory import ran_out_of_memory
from ddim_interp.recorded import answering, record

__all__ = ["Compiled", "Compiler", "compile_network", "warn"]

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a faster function of a function."""


def compile_network(network: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile, for inputs whose sizes do not change."""
    compiled: Callable[..., Any] = torch.compile(network, dynamic=False)
    return compiled


def warn(message: str) -> None:
    """Python's way to warn."""
    warnings.warn(message, RuntimeWarning, stacklevel=3)


class Compiled:
    """A network that is compiled when it is first called; where it cannot be, the network itself.

    It is compiled for one size of batch, the largest it has seen. Smaller batches, such as those
    that a film begins and ends with, are filled up, because compiling once more would take far
    longer than they do. On a GPU all its kernels are then recorded and launched as one.

    Args:
        network: Called with tensors whose first axis counts pictures; returns such a tensor, or an
            object whose `sample` is one.
        compiler: Compiles it.
        say: Takes one line when that fails; the network runs as it is from then on.
        size: The largest batch to expect.

    Example:
        >>> double = Compiled(lambda x: 2 * x, compiler=lambda network: network)
        >>> double(torch.ones(2)), double(torch.ones(1))
        (tensor([2., 2.]), tensor([2.]))
    """

    def __init__(
        self,
        network: Callable[..., Any],
        compiler: Compiler = compile_network,
        say: Callable[[str], None] = warn,
        size: int = 0,
    ) -> None:
        self.network = network
        self._answer = answering(network)
        self._compiler = compiler
        self._say = say
        self._size = size
        self._runs: dict[Hashable, Callable[..., Tensor]] = {}
        self._gave_up = False

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """The network's answer."""
        count = len(inputs[0])
        if not self._gave_up:
            self._size = max(self._size, count)
            filled = [_filled(tensor, self._size) for tensor in inputs]
            kind = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in filled)
            if kind in self._runs or self._prepare(kind, filled):
                return self._runs[kind](*filled)[:count]
        return self._answer(*inputs)

    def _prepare(self, kind: Hashable, inputs: list[Tensor]) -> bool:
        """Compile for inputs of this kind, and say whether that went well.

        Raises:
            RuntimeError: Memory ran out, which a smaller batch may mend.
        """
        try:
            run = self._compiler(self._answer)
            run(*inputs)
        except Exception as error:  # compilers fail in as many ways as there are machines
            self._excuse(error, "The network could not be compiled and runs as it is")
            self._gave_up = True
            return False
        if inputs[0].is_cuda:
            try:
                run = record(run, inputs)
            except Exception as error:  # torch says it in a RuntimeError, drivers as they like
                self._excuse(error, "The network is compiled, but could not be recorded")
        self._runs[kind] = run
        return True

    def _excuse(self, error: Exception, what: str) -> None:
        if ran_out_of_memory(error):
            self._size = 0  # smaller batches are to come, and not to be filled up to this one
            raise error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self._say(f"{what}: {reason:.200}")


def _filled(tensor: Tensor, size: int) -> Tensor:
    """A copy with its first row repeated until it has `size` rows.

    It is always a copy, and always laid out alike: code is compiled anew for a tensor that differs
    in its strides, or in having been made outside inference mode.
    """
    more = tensor[:1].repeat_interleave(size - len(tensor), 0)
    return torch.cat((tensor.contiguous(), more))
