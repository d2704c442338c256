"""A GPU's work, recorded once and launched as one piece from then on."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ddim_interp.memory import ran_out_of_memory

__all__ = ["Recorded", "answering", "record"]

_WARM_UPS = 2
_MOST = 16  # recordings of one network: more sizes than a film has


class Recorded:
    """A network whose work on a GPU is recorded when a size of batch comes for the second time.

    A network is hundreds of kernels, and Python cannot launch them as fast as a GPU is done with
    them where batches or pictures are small: on an H200 the embedded model takes 17 ms for any
    batch up to 60, and 1 to 4 ms as a recording.

    Batches of more than eight are filled up to the next of a few sizes, so that a film whose
    batches differ has a few recordings only. The answer depends on the batch alone, and not on
    whether it was recorded by then.

    Args:
        network: Called with CUDA tensors whose first axis counts pictures; returns such a tensor,
            or an object whose `sample` is one. It must do the same whatever is in them, and its
            weights must stay.
        recorder: Records; `record` but in tests.

    Example:
        >>> double = Recorded(lambda x: 2 * x, lambda work, inputs, pool: work)
        >>> [len(double(torch.ones(9))) for _ in range(2)]
        [9, 9]
    """

    def __init__(self, network: Callable[..., Any], recorder: Any = None) -> None:
        self.network = network
        self._answer = answering(network)
        self._recorder = recorder or record
        self._seen: set[Hashable] = set()
        self._runs: dict[Hashable, Callable[..., Tensor]] = {}
        self._pool: Any = None

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """The network's answer."""
        count = len(inputs[0])
        more = _size(count) - count
        full = [torch.cat((each, each[:1].expand(more, *each.shape[1:]))) for each in inputs]
        kind = tuple((each.shape, each.dtype, each.device) for each in full)
        if kind in self._seen and kind not in self._runs and len(self._runs) < _MOST:
            self._record(kind, full)
        self._seen.add(kind)
        return self._runs.get(kind, self._answer)(*full)[:count]

    def _record(self, kind: Hashable, inputs: list[Tensor]) -> None:
        if self._pool is None and inputs[0].is_cuda:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            self._runs[kind] = self._recorder(self._answer, inputs, self._pool)
        except Exception as error:  # torch says it in a RuntimeError, drivers as they like
            if ran_out_of_memory(error):
                raise  # a smaller batch may mend it
            self._runs[kind] = self._answer  # there is nothing wrong with it but its pace


def answering(network: Callable[..., Any]) -> Callable[..., Tensor]:
    """The network, returning its prediction where it returns an object whose `sample` that is."""

    def answer(*inputs: Tensor) -> Tensor:
        output = network(*inputs)
        prediction: Tensor = getattr(output, "sample", output)
        return prediction

    return answer


def _size(count: int) -> int:
    """A batch's size, filled up."""
    step = 1 if count <= 8 else 4 if count <= 32 else 8
    return -(-count // step) * step


def record(
    work: Callable[..., Tensor], inputs: Sequence[Tensor], pool: Any = None
) -> Callable[..., Tensor]:  # pragma: no cover (needs a GPU)
    """Record what a function does on the GPU as a CUDA graph, and return its replay.

    Args:
        work: A function of CUDA tensors that does the same whatever is in them.
        inputs: What to record it with; the replay takes tensors of the same shapes.
        pool: Memory that recordings share which are never replayed at the same time.
    """
    with torch.cuda.device(inputs[0].device):
        places = [tensor.clone() for tensor in inputs]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up, which cannot be recorded
            for _ in range(_WARM_UPS):
                work(*places)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            answer = work(*places)

    def replay(*tensors: Tensor) -> Tensor:
        for place, tensor in zip(places, tensors, strict=True):
            place.copy_(tensor)
        graph.replay()
        return answer.clone()  # the next replay writes over it

    return replay
