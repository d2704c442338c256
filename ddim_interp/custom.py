"""Your own network, whatever it is: a function from (x_t, timestep) to a prediction."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from ddim_interp.autoencoder import Autoencoder
from ddim_interp.denoiser import NetworkDenoiser
from ddim_interp.errors import ArgumentError
from ddim_interp.latents import draw
from ddim_interp.model import Model
from ddim_interp.precision import parse_device
from ddim_interp.schedule import NoiseSchedule, PredictionType

__all__ = ["as_denoiser"]


def as_denoiser(
    fn: Callable[[Tensor, Tensor], Any],
    schedule: NoiseSchedule | Mapping[str, Any],
    *,
    shape: tuple[int, int, int],
    prediction_type: PredictionType = "epsilon",
    name: str = "custom",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    autoencoder: Autoencoder | None = None,
) -> Model:
    """Make a function a model that can be inverted, sampled and morphed with.

    The function is called as `fn(x_t, timestep)`: pictures noised to a level, (N, C, H, W), of
    pixels in [−1, 1], and how noisy they are, (N,), float32. Timesteps run from 0 (clean) to T − 1
    (noise) and may be fractions. It answers with a tensor like x_t, or an object whose `sample`
    is one; with 2 C channels, the first C count (the others are a learned variance).

    It is tried on noise once, so that what does not fit is said here, not in the middle of a film.

    Args:
        fn: The network, in evaluation mode, on `device`.
        schedule: The noise it was trained with, or a mapping with diffusers' names:
            `{"beta_schedule": "linear"}`.
        shape: (C, H, W) of its pictures: any size that it takes. Verbs that read or draw pictures
            know C = 3, and C = 1 for grey; tensors may have any number.
        prediction_type: What it was trained to return: epsilon, sample or v_prediction.
        name: What recipes call it; no path.
        device: Where it runs.
        dtype: The precision it runs in; the solver's state is float32 at least in any case.
        autoencoder: For a network that works on what this makes of pictures: anything with
            `encode`, `decode` and `picture_shape`, on `device`. `shape` is then what it makes.

    Returns: The model, for `Pipeline(model).morph(…)` and the functions that take one.

    Raises:
        ArgumentError: The function refuses, or returns something else; says what.
        ModelError: The schedule cannot be meant.

    Example:
        >>> model = as_denoiser(lambda x, t: 0.1 * x, {}, shape=(1, 28, 28), name="mnist")
        >>> model.schedule.num_train_timesteps, model.shape
        (1000, (1, 28, 28))
    """
    if prediction_type not in get_args(PredictionType):
        raise ArgumentError(
            f"prediction_type={prediction_type!r} is unknown; choose one of "
            f"{', '.join(get_args(PredictionType))}."
        )
    if len(shape) != 3 or any(type(side) is not int or side < 1 for side in shape):
        raise ArgumentError(f"shape={shape!r} is no (channels, height, width); give (3, 64, 64).")
    if not isinstance(schedule, NoiseSchedule):
        schedule = NoiseSchedule.from_config(schedule)
    place = parse_device(device)
    _try(fn, schedule, shape, place, dtype)
    denoiser = NetworkDenoiser(fn, prediction_type, dtype)
    model = Model(denoiser, schedule, shape, name, device=place, autoencoder=autoencoder)
    if autoencoder is not None:
        _try_autoencoder(model)
    return model


@torch.inference_mode()
def _try_autoencoder(model: Model) -> None:
    """Take a grey picture there and back, and look at the shapes."""
    grey = torch.zeros(1, *model.picture_shape)
    x_0 = model.encode(grey)
    if x_0.shape[1:] != model.shape:
        raise ArgumentError(
            f"The autoencoder makes {tuple(x_0.shape[1:])} of a picture of {model.picture_shape}, "
            f"and the shape given is {model.shape}; they must be the same."
        )
    back = model.decode(x_0)
    if back.shape != grey.shape:
        raise ArgumentError(
            f"The autoencoder makes {tuple(back.shape[1:])} of what it made of a picture of "
            f"{model.picture_shape}; it must give back what it takes."
        )


@torch.inference_mode()
def _try(
    fn: Callable[[Tensor, Tensor], Any],
    schedule: NoiseSchedule,
    shape: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Call it as solvers will, with one timestep between two entries, and look at the answer."""
    x_t = draw((0, 1), shape).to(device, dtype)
    noisiest = schedule.highest.timestep
    timestep = torch.tensor([noisiest, 0.5], dtype=torch.float32, device=device)
    given = f"x_t {tuple(x_t.shape)} and timestep (2,) float32"
    kept = x_t.clone()
    try:
        answer = _answer(fn, x_t, timestep)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        if _takes_whole_timesteps(fn, x_t, timestep):
            raise ArgumentError(
                f"fn takes whole timesteps only ({what}), and grids have fractions; give it "
                "lambda x, t: fn(x, t.round().long()), and walk with spacing='trailing'."
            ) from error
        raise ArgumentError(
            f"fn, called with {given}, ended in {what}; wrap it so that it takes these."
        ) from error
    if not isinstance(answer, Tensor):
        raise ArgumentError(
            f"fn returned a {type(answer).__name__}; it must return a tensor, or an object with a "
            "tensor as its sample."
        )
    channels, height, width = shape
    fitting = [(2, channels, height, width), (2, 2 * channels, height, width)]
    if tuple(answer.shape) not in fitting:
        raise ArgumentError(
            f"fn returned {tuple(answer.shape)} for {given}; it must return {fitting[0]}, or "
            f"{fitting[1]} with a learned variance."
        )
    if not answer.is_floating_point() or answer.device.type != device.type:
        raise ArgumentError(
            f"fn returned {answer.dtype} on {answer.device} for {given} on {device}; it must "
            "return floating point numbers on the same device."
        )
    if not answer.isfinite().all():
        raise ArgumentError(
            f"fn returned NaN or infinity for noise at timesteps {timestep.tolist()}; it must take "
            f"timesteps from 0 to {schedule.num_train_timesteps - 1} and pixels in [−1, 1]."
        )
    if not torch.equal(x_t, kept):
        raise ArgumentError(
            "fn changed x_t itself, which solvers still need; let it work on x_t.clone()."
        )
    alone = [_answer(fn, x_t[i : i + 1], timestep[i : i + 1]) for i in (0, 1)]
    if {part.shape for part in alone} != {answer[:1].shape}:
        raise ArgumentError(
            f"fn returned {tuple(alone[0].shape)} for a single picture, x_t {(1, *shape)}; it must "
            f"return {tuple(answer[:1].shape)}."
        )
    again = torch.cat(alone)
    scale = float(answer.abs().mean()) + 1e-6
    if float((answer - again).abs().mean()) > 0.02 * scale:
        raise ArgumentError(
            "fn answered differently when the same two pictures came one by one; put the network "
            "in evaluation mode (.eval()), without dropout or batch statistics."
        )


def _answer(fn: Callable[[Tensor, Tensor], Any], x_t: Tensor, timestep: Tensor) -> Any:
    output = fn(x_t, timestep)
    return getattr(output, "sample", output)


def _takes_whole_timesteps(
    fn: Callable[[Tensor, Tensor], Any], x_t: Tensor, timestep: Tensor
) -> bool:
    try:
        _answer(fn, x_t, timestep.long())
    except Exception:  # whatever it is, it is not the fractions
        return False
    return True
