"""What is this model? Facts, cost and traps, from its configs alone."""

from typing import Any

import torch

from ddim_interp.adm import AdmConfig
from ddim_interp.autoencoder import (
    AutoencoderConfig,
    DiffusersAutoencoder,
    build_autoencoder,
)
from ddim_interp.errors import ModelError
from ddim_interp.hub import Located
from ddim_interp.lucid import LucidConfig
from ddim_interp.model_configs import read_configs
from ddim_interp.model_folder import all_weights
from ddim_interp.networks import NetworkConfig, build_network
from ddim_interp.schedule import NoiseSchedule, SchedulerConfig
from ddim_interp.shapes import spelled
from ddim_interp.unet import count_flops, flops_of

__all__ = ["portray"]


def portray(located: Located) -> dict[str, Any]:
    """Read a model's configs and say what it is; no weight is loaded.

    Raises:
        ModelError: It is no model that we can run.
    """
    configs = read_configs(located.folder)
    config = configs.unet
    with torch.device("meta"):
        network = build_network(config)
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else (size or (0, 0))
    schedule = NoiseSchedule.from_config(configs.scheduler)
    last = schedule.alphas_cumprod[-1]
    weights = [located.folder / name for name in all_weights(located.folder, configs.parts)]
    table = (
        "a table of betas" if configs.scheduler.trained_betas else configs.scheduler.beta_schedule
    )
    return {
        "name": located.name,
        "revision": located.revision or "none",
        "network": type(network).__name__,
        **_pictures(configs.autoencoder, (config.in_channels, height, width)),
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "weights": f"{sum(file.stat().st_size for file in weights) / 1e6:.1f} MB",
        "a forward": f"{count_flops(network, height, width) / 1e9:.1f} GFLOP"
        if height
        else "unknown: its config has no sample_size",
        "channels": ", ".join(map(str, config.block_out_channels)),
        **_blocks(config),
        "predicts": configs.scheduler.prediction_type
        + (", and its variance, which goes unused" if _learns_variance(config) else ""),
        "classes": _classes(config),
        "schedule": f"{table}, {schedule.num_train_timesteps} timesteps, "
        f"ᾱ from {schedule.alphas_cumprod[0]:.6f} to {last:.2g}",
        "traps": _traps(configs.scheduler, schedule) + _latent_traps(configs.autoencoder),
    }


def _pictures(coder: AutoencoderConfig | None, shape: tuple[int, int, int]) -> dict[str, str]:
    """The size of the pictures; and what makes them smaller, and what that costs."""
    if coder is None:
        return {"pictures": spelled(shape)}
    full = coder.picture_shape(shape)
    facts = {
        "pictures": f"{spelled(full)}, which the network sees as {spelled(shape)}",
        "autoencoder": f"{coder.kind}, scaling factor {coder.scaling:g}",
    }
    try:
        with torch.device("meta"):
            network = DiffusersAutoencoder(build_autoencoder(coder), coder)
    except ModelError as error:
        return facts | {"its cost": f"unknown: {error}"}
    count = sum(weight.numel() for weight in network.network.parameters())
    facts["autoencoder"] += f", {count:,} parameters"
    if all(shape):
        there = flops_of(lambda: network.encode(torch.empty(1, *full)))
        back = flops_of(lambda: network.decode(torch.empty(1, *shape)))
        facts["its cost"] = f"{there / 1e9:.1f} GFLOP to encode, {back / 1e9:.1f} to decode"
    return facts


def _latent_traps(coder: AutoencoderConfig | None) -> list[str]:
    """What has misled people about autoencoders."""
    if coder is None:
        return []
    how = "drops detail and quantises" if coder.quantises else "drops detail"
    traps = [
        f"The autoencoder {how}: a picture comes back no better than it gives it back by itself. "
        "invert and check measure that, and the inversion's own error apart."
    ]
    if not coder.scaling_named:
        traps.append(
            f"The autoencoder's config names no scaling_factor; {coder.scaling:g} is taken. "
            + (
                "diffusers takes 0.18215, and CompVis/ldm-celebahq-256 draws no faces with that."
                if coder.quantises
                else "That was the only one when such configs were written."
            )
        )
    return traps


def _blocks(config: NetworkConfig) -> dict[str, str]:
    """The kinds of blocks, down and up; or of attention, where blocks are all of one kind."""
    if isinstance(config, LucidConfig):
        kinds = ("full" if full else "linear" for full in config.full_attention)
        return {"attention": ", ".join(kinds)}
    if isinstance(config, AdmConfig):
        each = f"{config.num_heads} heads" if config.num_heads else "heads of equal size"
        attends = ", ".join("yes" if attends else "no" for attends in config.attention)
        return {"attention": f"{attends}; {each}"}
    return {"down": ", ".join(config.down_block_types), "up": ", ".join(config.up_block_types)}


def _learns_variance(config: NetworkConfig) -> bool:
    """Whether it predicts twice the channels of a picture: ε, and log σ² between bounds."""
    return config.out_channels == 2 * config.in_channels


def _classes(config: NetworkConfig) -> str:
    if config.class_embed_type is not None:
        return f"told as {config.class_embed_type} vectors, which no verb here gives"
    if config.num_class_embeds is None:
        return "none"
    return f"{config.num_class_embeds}: name one with --class-label"


_OTHER_LEVEL = "a step ends at another level than the next begins at. Here it never does."
_SPACING_TRAPS = {
    "leading": "timestep_spacing=leading: in diffusers, more steps than half the timesteps begin "
    "far below noise. Here --spacing chooses the levels, and log-snr is the default.",
    "linspace": f"timestep_spacing=linspace: in diffusers, {_OTHER_LEVEL}",
    "trailing": "timestep_spacing=trailing: in diffusers, where the steps do not divide the "
    f"timesteps, {_OTHER_LEVEL}",
}


def _traps(config: SchedulerConfig, schedule: NoiseSchedule) -> list[str]:
    """What in this config has misled people elsewhere, and what is done about it here."""
    traps = []
    if config.clip_sample or config.thresholding:
        traps.append(
            "clip_sample or thresholding is on: clamped steps cannot be undone. Off in invert, "
            "sample and morph; on only in the diffusers-compatible call."
        )
    if config.set_alpha_to_one:
        traps.append(
            "set_alpha_to_one: diffusers ends at the clean level, from which no inversion can "
            "start. Here both directions end at t = 0."
        )
    if config.steps_offset:
        traps.append(f"steps_offset={config.steps_offset} shifts diffusers' leading timesteps.")
    traps.append(_SPACING_TRAPS[config.timestep_spacing])
    if schedule.alphas_cumprod[-1] == 0:
        traps.append("ᾱ is 0 at the last timestep: inversion ends one timestep before it.")
    elif schedule.alphas_cumprod[-1] > 1e-3:
        traps.append(
            f"The schedule ends with ᾱ = {schedule.alphas_cumprod[-1]:.2g}: a little of the "
            "picture is left in the noisiest level."
        )
    return traps
