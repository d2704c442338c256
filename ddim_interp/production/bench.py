"""Speed and fidelity of a model on this machine, as figures: `ddim-interp bench`."""

import copy
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ddim_interp.bench.configs import CONFIGS
from ddim_interp.bench.drafts import measure_draft
from ddim_interp.bench.films import Film, race_films
from ddim_interp.bench.forwards import Forward, race_forwards, random_network
from ddim_interp.bench.growth import measure_growth
from ddim_interp.bench.peer import PEERS, check_peer
from ddim_interp.bench.processes import measure_memory, measure_start
from ddim_interp.bench.race import check_rounds
from ddim_interp.errors import ArgumentError
from ddim_interp.model import Model, Plan
from ddim_interp.networks import Network
from ddim_interp.pipeline import DDIMPipeline
from ddim_interp.precision import draft_dtype
from ddim_interp.production import Attempt, Product

__all__ = ["BenchOrder"]


@dataclass(frozen=True)
class BenchOrder:
    """Measurements to be taken.

    Args:
        configs: Networks with random weights, from `CONFIGS`; without any, the model itself.
        peer: Whether diffusers runs beside us.
        compiled: Whether all run through torch.compile as well.
        films: Whether whole films are drawn too, in fifty steps of DDIM.
        growth: Whether films are made, to see how their time grows.
        processes: Whether programs are started, to see how long that takes and what memory.
        rounds: How often each contestant runs.
        plan: How frames are drawn.
    """

    configs: Sequence[str] = ()
    peer: bool = False
    compiled: bool = False
    films: bool = False
    growth: bool = False
    processes: bool = False
    rounds: int = 5
    plan: Plan = field(default_factory=Plan)
    out: None = None

    def check(self, *, replace: bool) -> None:
        """Refuse what cannot be measured."""
        check_rounds(self.rounds)
        for name in self.configs:
            if name not in CONFIGS:
                raise ArgumentError(
                    f"No config is called {name!r}; choose from {', '.join(CONFIGS)}."
                )
        if self.peer:
            check_peer()

    def describe(self, model: Model) -> dict[str, Any]:
        """What was asked for."""
        return {**asdict(self), "plan": self.plan.describe()}

    def make(self, attempt: Attempt) -> Product:
        """Measure."""
        pipe, model = attempt.pipe, attempt.pipe.model
        peers = PEERS[: 2 + self.compiled] if self.peer else ()
        dtypes = list(dict.fromkeys((torch.float32, draft_dtype(model.device))))
        rows: list[Forward] = []
        films: list[Film] = []
        for name, network, batch in self._networks(attempt):
            attempt.say(f"{name}: {batch} at once, {self.rounds} rounds")
            rows += race_forwards(
                name,
                network,
                batch=batch,
                dtypes=dtypes,
                peers=peers,
                compiled=self.compiled,
                rounds=self.rounds,
                device=model.device,
            )
            if self.films:
                attempt.say(f"{name}: whole films")
                films += race_films(
                    name,
                    self._pipeline(attempt, network),
                    batch=batch,
                    peers=peers,
                    dtype=dtypes[-1],
                    rounds=self.rounds,
                )
        facts: dict[str, Any] = {
            "machine": _machine(model.device),
            "forwards": [asdict(row) | {"share": row.share} for row in rows],
        }
        if not self.configs:
            draft = measure_draft(model, self.plan, watch=pipe.progress_bar)
            psnr = draft.psnr if math.isfinite(draft.psnr) else None  # JSON knows no infinity
            facts["draft"] = asdict(draft) | {"psnr": psnr, "faithful": draft.faithful}
        if self.films:
            facts["films"] = [asdict(film) for film in films]
        if self.growth:
            attempt.say("small films, to see how their time grows")
            facts["growth"] = [asdict(each) for each in measure_growth(pipe, self.plan)]
        if self.processes:
            attempt.say("programs, from their start to their end")
            facts["start"] = [asdict(each) for each in measure_start(self.rounds)]
            facts["memory"] = [asdict(each) for each in measure_memory()]
        return Product(model, 0, facts)

    def _pipeline(self, attempt: Attempt, network: Network) -> DDIMPipeline:
        """What draws its films: the model itself, or a random network in the precision of frames,
        for which the model's schedule is as good as any."""
        if not self.configs:
            return attempt.pipe
        device = attempt.pipe.device
        pipe = DDIMPipeline(copy.deepcopy(network), attempt.pipe.scheduler)
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device, draft_dtype(device))

    def _networks(self, attempt: Attempt) -> Iterator[tuple[str, Network, int]]:
        """One after the other, so that no two need memory at once."""
        if not self.configs:
            network = copy.deepcopy(attempt.pipe.unet).float()
            yield attempt.pipe.name, network, attempt.batch_size
        for name in self.configs:
            shape = CONFIGS[name]
            batch = shape.batch_on_gpu if attempt.pipe.device.type == "cuda" else shape.batch
            yield name, random_network(dict(shape.config)), batch


def _machine(device: torch.device) -> dict[str, Any]:
    """What the figures hold for."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": gpu or f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
    }
