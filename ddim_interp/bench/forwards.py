"""One look at a batch: how long, how near the machine's limit, how far from the peer's answer?"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddim_interp import unet
from ddim_interp.bench.peer import check_peer_has, make_peer
from ddim_interp.bench.race import race
from ddim_interp.compiled import Compiled
from ddim_interp.networks import Network
from ddim_interp.precision import fastest_layout
from ddim_interp.recorded import Recorded
from ddim_interp.tf32 import true_float32
from ddim_interp.unet import count_flops

__all__ = ["Forward", "matrix_peak", "race_forwards", "random_network"]

_SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Forward:
    """One contestant at one network.

    Args:
        network: Which.
        batch: Pictures at once.
        who: The contestant: a peer, or ours with its precision.
        dtype: Precision of its weights.
        seconds: Median of one forward.
        flops: Operations in it.
        peak: Operations a second of a large matrix product in this precision, in the same rounds.
        speedup: How many times faster than the first contestant.
        gap: Largest difference from the first one's answer, in units of its largest value.
    """

    network: str
    batch: int
    who: str
    dtype: str
    seconds: float
    flops: int
    peak: float
    speedup: float
    gap: float

    @property
    def share(self) -> float:
        """Operations a second, as a share of the peak."""
        return self.flops / self.seconds / self.peak


def random_network(config: dict[str, object]) -> unet.UNet2DModel:
    """A network of a config; the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return unet.UNet2DModel(**config).eval().requires_grad_(False)


def matrix_peak(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], Tensor], int]:
    """A matrix product that nothing slows down, and its operations: what the machine can do.

    On a GPU float32 is multiplied in TF32, as convolutions do, one way (diffusers) or another (we).
    """
    side = _SIDE.get(device.type, 2048)
    matrix = torch.randn(side, side, device=device).to(dtype)

    def product() -> Tensor:
        settings = torch.backends.cuda.matmul  # no processor's
        before, settings.allow_tf32 = settings.allow_tf32, True
        try:
            return matrix @ matrix
        finally:
            settings.allow_tf32 = before

    return product, 2 * side**3


@torch.inference_mode()
def race_forwards(
    name: str,
    network: Network,
    *,
    batch: int,
    dtypes: Sequence[torch.dtype],
    peers: Sequence[str] = (),
    compiled: bool = False,
    rounds: int = 5,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
) -> list[Forward]:
    """Run one network in several precisions, and the peer's of the same weights, in turns.

    Args:
        name: What the network is called in the table.
        network: Ours, float32.
        batch: Pictures at once.
        dtypes: Precisions to run it in.
        peers: From `PEERS`, which come first: speedups and gaps are against the first contestant.
        compiled: Whether ours also runs compiled, in the last of these precisions.
        rounds: How often each one runs.
        device: Where.

    Raises:
        ArgumentError: The peer has no such network, or this one must be told a class.
    """
    if peers:
        check_peer_has(name, network)
    config = network.config
    size = config.sample_size or 32
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, config.in_channels, height, width, generator=generator).to(device)
    t = torch.full((batch,), 500.0, device=device)
    half = dtypes[-1]
    precision = {who: torch.float32 if who == "diffusers" else half for who in peers}
    runners: dict[str, Callable[[], Tensor]] = {}
    for who in peers:
        weights = {key: value.to(device) for key, value in network.state_dict().items()}
        peer = make_peer(who, config.to_dict(), weights, half)
        runners[who] = partial(peer, x, t)
    for dtype in dtypes:
        who = f"ddim_interp {_word(dtype)}"
        precision[who] = dtype
        ours: Callable[..., Tensor] = _laid_out(network, device, dtype)
        if device.type == "cuda":  # as in the pipeline
            ours = Recorded(ours)
        runners[who] = partial(_exactly, ours, x.to(dtype), t)
        if compiled and dtype == half:
            faster = Compiled(_laid_out(network, device, dtype))
            precision[f"{who} compiled"] = dtype
            runners[f"{who} compiled"] = partial(_exactly, faster, x.to(dtype), t)
    answers = {who: _answer(run) for who, run in runners.items()}
    peaks = {dtype: matrix_peak(dtype, device) for dtype in dict.fromkeys(precision.values())}
    matrices = {f"peak {_word(dtype)}": peak[0] for dtype, peak in peaks.items()}
    seconds = race({**runners, **matrices}, rounds, device)
    first = next(iter(runners))
    flops = batch * count_flops(network, height, width)
    return [
        Forward(
            name,
            batch,
            who,
            _word(dtype),
            seconds[who],
            flops,
            peaks[dtype][1] / seconds[f"peak {_word(dtype)}"],
            seconds[first] / seconds[who],
            float((answers[who] - answers[first]).abs().max() / answers[first].abs().max()),
        )
        for who, dtype in precision.items()
    ]


def _laid_out(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    layout = fastest_layout(device)
    ours: Network = copy.deepcopy(network).to(device, dtype).to(memory_format=layout)  # type: ignore[call-overload]
    return ours


def _exactly(network: Callable[..., Tensor], x: Tensor, t: Tensor) -> Tensor:
    with true_float32(x.device):
        return network(x, t)


def _answer(run: Callable[[], object]) -> Tensor:
    output: Any = run()
    tensor: Tensor = getattr(output, "sample", output)
    return tensor.float().cpu()


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
