"""Checkpoints of lucidrains' denoising-diffusion-pytorch, from release 2 on.

A file is what its Trainer saves: the diffusion under `model`, its moving average under `ema`, each
with the network under `model.` and the noise schedule as buffers beside it. The loss's weights are
among those buffers, and tell what the network was trained to predict.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

from ddim_interp.convert.foreign import Foreign
from ddim_interp.convert.hints import Hints
from ddim_interp.convert.schedules import scheduler_config
from ddim_interp.errors import ModelError
from ddim_interp.lucid import LucidConfig
from ddim_interp.schedule import PredictionType, SchedulerConfig

__all__ = ["PUBLISHED", "read", "recognises"]

_ANCHOR = "mid_block1.block1.proj.weight"

PUBLISHED: Mapping[str, Hints] = {}
"""There are none: everybody trains their own."""


def recognises(names: Collection[str]) -> bool:
    """Whether there is the middle of such a network, under whatever prefix."""
    return any(name.endswith(_ANCHOR) for name in names)


def read(tensors: Mapping[str, Tensor], source: str, hints: Hints) -> Foreign:
    """Take the moving average if there is one, and tell layers and schedule from it.

    Raises:
        ModelError: It is of an older release, or conditions itself, or nobody said what the
            weights do not tell.
    """
    prefixes = sorted(name.removesuffix(_ANCHOR) for name in tensors if name.endswith(_ANCHOR))
    chosen = next((prefix for prefix in prefixes if "ema_model." in prefix), prefixes[0])
    weights = {
        name.removeprefix(chosen): tensor
        for name, tensor in tensors.items()
        if name.startswith(chosen) and (chosen or not name.startswith("opt."))
    }
    outside = chosen.removesuffix("model.")
    buffers = {
        name: tensors[outside + name]
        for name in ("betas", "loss_weight")
        if chosen and outside + name in tensors
    }
    if "mid_block1.block1.norm.g" not in weights or "mid_attn.mem_kv" not in weights:
        raise ModelError(
            f"{source} is of a release of denoising-diffusion-pytorch before 2.0, whose weights do "
            "not tell how its convolutions used them; load it there and use as_denoiser."
        )
    config = _config(weights, source, hints)
    return Foreign(config, _schedule(buffers, source, hints), weights)


def _config(weights: Mapping[str, Tensor], source: str, hints: Hints) -> LucidConfig:
    depth = sum(f"downs.{i}.0.block1.proj.weight" in weights for i in range(16))
    ends = [
        name
        for i in range(depth)
        for name in (f"downs.{i}.3.1.weight", f"downs.{i}.3.weight")
        if name in weights
    ]
    needed = ["init_conv.weight", "final_conv.weight", "time_mlp.1.weight"]
    if not depth or len(ends) != depth or not set(needed) <= weights.keys():
        raise ModelError(f"{source} lacks layers that every network of its kind has; get it again.")
    channels = weights["init_conv.weight"].shape[1]
    out = len(weights["final_conv.weight"])
    if channels == 2 * out:
        raise ModelError(
            f"{source} conditions itself on its last answer ({channels} channels in, {out} out), "
            "so its steps are no map that could be undone; use a model without self_condition."
        )
    if hints.image_size is None:
        raise ModelError(
            f"{source} does not say how large its pictures are; add --config image_size=128, or "
            "what it is."
        )
    _, heads, memory, head = weights["mid_attn.mem_kv"].shape
    return LucidConfig(
        sample_size=hints.image_size,
        in_channels=channels,
        out_channels=out,
        init_channels=len(weights["init_conv.weight"]),
        time_channels=weights["time_mlp.1.weight"].shape[1],
        block_out_channels=tuple(len(weights[name]) for name in ends),
        full_attention=tuple(f"downs.{i}.2.to_out.weight" in weights for i in range(depth)),
        heads=heads,
        head_channels=head,
        memory=memory,
    )


def _schedule(buffers: Mapping[str, Tensor], source: str, hints: Hints) -> SchedulerConfig:
    kind: PredictionType | str | None = hints.prediction_type
    if kind is None and len(buffers) == 2:
        kind = _objective(buffers["betas"], buffers["loss_weight"])
    if kind is None:
        raise ModelError(
            f"{source} does not say what it was trained to predict; add --config "
            "objective=pred_v, pred_noise or pred_x0."
        )
    if "betas" not in buffers:
        return scheduler_config(Hints(prediction_type=kind).over(hints), source)
    betas = tuple(buffers["betas"].double().tolist())
    mapping = {
        "trained_betas": betas,
        "num_train_timesteps": len(betas),
        "prediction_type": kind,
    }
    return SchedulerConfig.from_mapping(mapping, source)


def _objective(betas: Tensor, loss_weight: Tensor) -> PredictionType | None:
    """What a loss with these weights is for: 1, snr or snr / (snr + 1), where snr is about 2."""
    alphas_cumprod = (1 - betas.double()).cumprod(0)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    at = int((snr.log() - 0.7).abs().argmin())
    ratio, found = float(snr[at]), float(loss_weight[at])
    weights: dict[PredictionType, float] = {
        "epsilon": 1.0,
        "sample": ratio,
        "v_prediction": ratio / (ratio + 1),
    }
    near = [kind for kind, weight in weights.items() if abs(weight - found) < 0.02 * weight]
    return near[0] if len(near) == 1 else None
