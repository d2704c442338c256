"""What is picture and what is noise in x_t?

A denoiser splits x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε into its two halves. Solvers know nothing else
about a model: a UNet, a network of the user's own and the exact answer for Gaussian data all look
alike to them.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.schedule import Level, PredictionType
from ddim_interp.shapes import Images, Latents
from ddim_interp.tf32 import true_float32

__all__ = [
    "CountCalls",
    "Denoiser",
    "Fallback",
    "GaussianDenoiser",
    "InBatches",
    "NetworkDenoiser",
    "Prediction",
    "add_noise",
    "among",
    "grain_of",
    "predict_eps",
    "predict_x0",
    "split_output",
]


class Prediction(NamedTuple):
    """The two halves of x_t: the clean picture, and the noise it drowned in."""

    x_0: Images
    eps: Latents


@runtime_checkable
class Denoiser(Protocol):
    """Anything that splits x_t, (N, C, H, W), at level t into picture and noise."""

    def __call__(self, x_t: Latents, t: Level) -> Prediction: ...


def predict_x0(x_t: Latents, eps: Latents, t: Level) -> Images:
    """The picture that x_t is a noising of, if its noise is `eps`: (x_t − √(1−ᾱ_t) ε) / √ᾱ_t.

    Song et al. (2021), Denoising diffusion implicit models, arXiv:2010.02502, eq. 9.
    """
    return (x_t - t.noise * eps) / t.signal


def predict_eps(x_t: Latents, x_0: Images, t: Level) -> Latents:
    """The noise in x_t, if the picture under it is `x_0`: (x_t − √ᾱ_t x_0) / √(1−ᾱ_t)."""
    return (x_t - t.signal * x_0) / t.noise


def add_noise(x_0: Images, eps: Latents, t: Level) -> Latents:
    """The noising of x_0 at level t with noise `eps`: √ᾱ_t x_0 + √(1−ᾱ_t) ε.

    Undoes `predict_x0`. DDIM's step is this at the next level, of the picture predicted at this
    one; so is its inverse, the other way round.
    """
    return t.signal * x_0 + t.noise * eps


def split_output(
    output: Tensor, x_t: Latents, t: Level, prediction_type: PredictionType
) -> Prediction:
    """Turn what a network was trained to predict into picture and noise.

        epsilon        x_0 = (x_t − √(1−ᾱ) ε) / √ᾱ
        sample         ε = (x_t − √ᾱ x_0) / √(1−ᾱ)
        v_prediction   x_0 = √ᾱ x_t − √(1−ᾱ) v,   ε = √ᾱ v + √(1−ᾱ) x_t

    Args:
        output: What the network returned, (N, C, H, W).
        x_t: What it was given, (N, C, H, W).
        t: At which level.
        prediction_type: What it was trained to return.

    References: Salimans & Ho (2022), Progressive distillation, arXiv:2202.00512, appendix D (v).
    """
    if prediction_type == "epsilon":
        return Prediction(predict_x0(x_t, output, t), output)
    if prediction_type == "sample":
        return Prediction(output, predict_eps(x_t, output, t))
    return Prediction(t.signal * x_t - t.noise * output, t.signal * output + t.noise * x_t)


@runtime_checkable
class _Accountant(Denoiser, Protocol):
    """A denoiser that has to know which pictures it is asked about."""

    def among(self, rows: Tensor) -> Denoiser: ...


@dataclass(frozen=True)
class NetworkDenoiser:
    """A network and the knowledge of what it predicts.

    The network runs in `dtype`; what enters and leaves is in the dtype of x_t, so the solver's
    state keeps its precision whatever the network's.

    Args:
        network: Called as `network(x_t, timestep)` with x_t (N, C, H, W) and timestep a float
            tensor (N,); returns (N, C, H, W), or an object whose `sample` is that. Networks that
            predict their variance as well return 2 C channels, of which the first C are used.
        prediction_type: What it was trained to return.
        dtype: The precision the network runs in; that of x_t when not given.
        class_label: What to draw, for a network that was trained with classes: it is called with
            labels (N,), int64, as a third argument.

    Raises:
        ArgumentError: When called: the network returns another shape.
    """

    network: Callable[..., Any]
    prediction_type: PredictionType = "epsilon"
    dtype: torch.dtype | None = None
    class_label: int | None = None

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        timestep = torch.full((len(x_t),), t.timestep, dtype=torch.float32, device=x_t.device)
        inputs = [x_t.to(self.dtype or x_t.dtype), timestep]
        if self.class_label is not None:
            inputs.append(torch.full((len(x_t),), self.class_label, device=x_t.device))
        with true_float32(x_t.device):
            output = self.network(*inputs)
        output = getattr(output, "sample", output)[:, : x_t.shape[1]].to(x_t.dtype)
        if output.shape != x_t.shape:  # it might be broadcast, and nobody would know
            raise ArgumentError(
                f"The network returned {tuple(output.shape)} for x_t of {tuple(x_t.shape)}; it "
                "must return a prediction for every entry."
            )
        return split_output(output, x_t, t, self.prediction_type)

    def grain(self, t: Level) -> float:
        """By how much the network's own rounding moves x̂_0, roughly, root mean square.

        What it predicts is about as large as 1; `split_output` multiplies it, and its rounding:
        by σ̄ if it is ε, by √(1−ᾱ) if it is v.
        """
        rounding = torch.finfo(self.dtype or torch.float32).eps
        scale = {"epsilon": t.ratio, "v_prediction": t.noise, "sample": 1.0}
        return rounding * scale[self.prediction_type]


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser for data drawn from N(mean, variance), pixel by pixel.

        x̂_0 = μ + √ᾱ v (x_t − √ᾱ μ) / (ᾱ v + 1 − ᾱ)

    The one case in which the true trajectory is known in closed form (`flow`), and so what solvers
    are tested against. It needs no download, and shows in a line what a denoiser is.

    Args:
        mean: μ, broadcastable to (N, C, H, W).
        variance: v ≥ 0, broadcastable to (N, C, H, W).

    Example:
        >>> t = Level(500.0, 0.5)
        >>> GaussianDenoiser(mean=1.0, variance=0.0)(torch.zeros(1, 1, 1, 1), t).x_0.item()
        1.0
    """

    mean: Tensor | float = 0.0
    variance: Tensor | float = 1.0

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        total = t.alpha_bar * self.variance + 1 - t.alpha_bar
        x_0 = self.mean + t.signal * self.variance * (x_t - t.signal * self.mean) / total
        return Prediction(x_0, predict_eps(x_t, x_0, t))

    def flow(self, x_t: Latents, t: Level, s: Level) -> Latents:
        """Where the probability-flow ODE carries x_t from level t to level s, exactly.

        The flow keeps each pixel's distance from the mean, in standard deviations of its level:

            (x_s − √ᾱ_s μ) / √(ᾱ_s v + 1 − ᾱ_s) = (x_t − √ᾱ_t μ) / √(ᾱ_t v + 1 − ᾱ_t)
        """
        deviation = torch.sqrt(
            torch.as_tensor(
                (s.alpha_bar * self.variance + 1 - s.alpha_bar)
                / (t.alpha_bar * self.variance + 1 - t.alpha_bar),
                dtype=x_t.dtype,
            )
        )
        return s.signal * self.mean + deviation * (x_t - t.signal * self.mean)


class CountCalls:
    """Counts how many pictures a denoiser was asked to split: the cost of everything.

    Example:
        >>> model = CountCalls(GaussianDenoiser())
        >>> _ = model(torch.zeros(3, 1, 8, 8), Level(500.0, 0.5))
        >>> model.nfe
        3
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self._spent: Counter[int] = Counter()
        self._rows: Tensor | None = None

    @property
    def nfe(self) -> int:
        """Evaluations in all."""
        return self._spent.total()

    def spent(self, count: int) -> Tensor:
        """Evaluations on each picture of a batch of `count`, (N,)."""
        return torch.tensor([float(self._spent[row]) for row in range(count)])

    def instead(self, denoiser: Denoiser) -> "CountCalls":
        """Keeps the same account, and asks another."""
        other = CountCalls(denoiser)
        other._spent = self._spent
        return other

    def among(self, rows: Tensor) -> "CountCalls":
        """Keeps the same account, and is asked about these pictures only."""
        part = self.instead(self.denoiser)
        part._rows = rows if self._rows is None else self._rows[rows]
        return part

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        self._spent.update(range(len(x_t)) if self._rows is None else self._rows.tolist())
        return self.denoiser(x_t, t)


def among(denoiser: Denoiser, rows: Tensor) -> Denoiser:
    """The denoiser, told which pictures of the batch it is going to see.

    A solver that iterates asks again about the pictures that are not done. Who keeps accounts has
    to know which ones those are; to all others it makes no difference.

    Args:
        denoiser: Whom the solver asks.
        rows: Their places in the batch, (M,).
    """
    return denoiser.among(rows) if isinstance(denoiser, _Accountant) else denoiser


def grain_of(denoiser: Denoiser, t: Level) -> float:
    """By how much a denoiser's own rounding moves x̂_0, root mean square; float32's where it does
    not say."""
    if isinstance(denoiser, NetworkDenoiser | Fallback):
        return denoiser.grain(t)
    return torch.finfo(torch.float32).eps * t.ratio


@dataclass(frozen=True)
class InBatches:
    """A denoiser that is asked about a few pictures at a time, however many there are.

    Batches are of one size, to within a picture: one of a single picture takes far longer than its
    share.

    Args:
        denoiser: Whom to ask.
        size: Pictures at once, at most.

    Example:
        >>> x = torch.randn(5, 1, 2, 2)
        >>> InBatches(GaussianDenoiser(), 2)(x, Level(500.0, 0.5)).eps.shape
        torch.Size([5, 1, 2, 2])
    """

    denoiser: Denoiser
    size: int

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        count = max(1, math.ceil(len(x_t) / self.size))
        parts = [self.denoiser(batch, t) for batch in x_t.tensor_split(count)]
        return Prediction(*map(torch.cat, zip(*parts, strict=True)))


class Fallback:
    """A draft's answers, and an exact denoiser's where the draft's are not finite.

    float16 ends at 65504, and a network that leaves its range answers with infinity or NaN. Asking
    again, for those pictures only, costs little; a NaN left alone spoils every frame after it.

    Args:
        draft: Asked first; cheap, of low precision.
        exact: Asked again.

    Attributes:
        retries: How many answers had to be asked for again, counted per picture.

    Example:
        >>> half = NetworkDenoiser(lambda x, t: x * 1e5, dtype=torch.float16)
        >>> model = Fallback(half, NetworkDenoiser(lambda x, t: x * 1e5))
        >>> model(torch.ones(2, 1, 1, 1), Level(500.0, 0.5)).eps.flatten(), model.retries
        (tensor([100000., 100000.]), 2)
    """

    def __init__(self, draft: Denoiser, exact: Denoiser) -> None:
        self.draft = draft
        self.exact = exact
        self.retries = 0

    def grain(self, t: Level) -> float:
        """The draft's (see `NetworkDenoiser`)."""
        return grain_of(self.draft, t)

    def __call__(self, x_t: Latents, t: Level) -> Prediction:
        first = self.draft(x_t, t)
        broken = ~torch.isfinite(first.x_0 + first.eps).flatten(1).all(1)
        if not bool(broken.any()):
            return first
        self.retries += int(broken.sum())
        again = self.exact(x_t[broken], t)
        rows = broken.nonzero()[:, 0]
        return Prediction(
            first.x_0.index_copy(0, rows, again.x_0), first.eps.index_copy(0, rows, again.eps)
        )
