"""A GPU's work, recorded once and launched as one piece from then on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["record"]

_WARM_UPS = 2


def record(
    work: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> Callable[..., Tensor]:  # pragma: no cover (needs a GPU)
    """Record what a function does on the GPU as a CUDA graph, and return its replay.

    A network is hundreds of kernels, and where batches are small Python cannot launch them as fast
    as the GPU is done with them; a graph is launched at once.

    Args:
        work: A function of CUDA tensors that does the same whatever is in them.
        inputs: What to record it with; the replay takes tensors of the same shapes.
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
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            answer = work(*places)

    def replay(*tensors: Tensor) -> Tensor:
        for place, tensor in zip(places, tensors, strict=True):
            place.copy_(tensor)
        graph.replay()
        return answer.clone()  # the next replay writes over it

    return replay
