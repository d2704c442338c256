"""The peer, diffusers, if it is installed: what we are timed and compared with."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ddim_interp import unet
from ddim_interp.errors import ArgumentError

__all__ = ["PEERS", "check_peer", "check_peer_has", "make_peer", "make_peer_walk"]

PEERS = ("diffusers", "diffusers tuned", "diffusers compiled")
"""As it comes, in float32; in half precision with channels_last; and through torch.compile too."""


def check_peer() -> None:
    """Refuse to compare with what is not here.

    Raises:
        ArgumentError: diffusers is not installed.
    """
    if find_spec("diffusers") is None:
        raise ArgumentError(
            "diffusers is not installed, so there is nothing to compare with; install "
            "'ddim_interp[bench]', or drop --peer."
        )


def check_peer_has(name: str, network: object) -> None:
    """Refuse to compare a network with one that diffusers does not have.

    Raises:
        ArgumentError: It is none of diffusers' kind.
    """
    if not isinstance(network, unet.UNet2DModel):
        raise ArgumentError(f"diffusers has no network like {name}'s; drop --peer.")


def make_peer(
    name: str, config: Mapping[str, Any], weights: Mapping[str, Tensor], dtype: torch.dtype
) -> Callable[[Tensor, Tensor], Tensor]:
    """diffusers' network of the same config and weights.

    Args:
        name: One of `PEERS`.
        config: `unet/config.json`.
        weights: Float32, by their names in a checkpoint; where possible they are shared.
        dtype: Half precision of the tuned forms.
    """
    from diffusers import UNet2DModel
    from diffusers.utils import logging

    logging.set_verbosity_error()
    with torch.device("meta"):  # nothing is drawn only to be replaced
        network: Any = UNet2DModel.from_config(dict(config))  # type: ignore[no-untyped-call]
    network.load_state_dict(weights, strict=True, assign=True)
    network.eval().requires_grad_(False)
    if name != PEERS[0]:
        network = network.to(dtype).to(memory_format=torch.channels_last)
    call = torch.compile(network) if name == PEERS[2] else network

    def run(x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = call(x.to(network.dtype), t).sample
        return output

    return run


def make_peer_walk(
    network: Callable[[Tensor, Tensor], Tensor], config: Mapping[str, Any], steps: int, batch: int
) -> Callable[[Tensor], Tensor]:
    """Latents to pictures as one would write it with diffusers' scheduler.

    Args:
        network: From `make_peer`.
        config: `scheduler/scheduler_config.json`.
        steps: Steps of DDIM, at diffusers' own timesteps.
        batch: Pictures at once.
    """
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config({**config, "clip_sample": False})  # type: ignore[no-untyped-call]

    def walk(latents: Tensor) -> Tensor:
        scheduler.set_timesteps(steps, device=latents.device)
        finished = []
        for x in torch.split(latents, batch):
            for t in scheduler.timesteps:
                x = scheduler.step(network(x, t), t, x).prev_sample
            finished.append(x)
        return torch.cat(finished)

    return walk
