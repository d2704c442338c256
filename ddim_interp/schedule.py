"""How noisy is each timestep?

A diffusion model is trained on pictures x_0 drowned in Gaussian noise by degrees:

    x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε        ε ~ N(0, I),  t = 0 … T − 1

The schedule is the table of ᾱ_t, the share of signal variance left at timestep t. (The DDPM paper
writes ᾱ for this and α for 1 − β; the DDIM paper writes α for ᾱ. Here it is always `alpha_bar`.)
A `Level` is one entry of that table, or a point between two entries.
"""

import math
import reprlib
import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor

from ddim_interp.as_mapping import AsMapping
from ddim_interp.errors import ModelError, ScheduleError

__all__ = [
    "BetaSchedule",
    "Level",
    "NoiseSchedule",
    "PredictionType",
    "SchedulerConfig",
    "Spacing",
    "cosine_betas",
]

BetaSchedule: TypeAlias = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
PredictionType: TypeAlias = Literal["epsilon", "sample", "v_prediction"]
Spacing: TypeAlias = Literal["leading", "linspace", "trailing"]


class Level(NamedTuple):
    """A point on the noise axis: what the network is told, and how noisy it is.

    Args:
        timestep: Train timestep in [0, T − 1], fractional between two entries of the table;
            −1 for the clean end, which no network sees.
        alpha_bar: Share of signal variance ᾱ, in [0, 1].
    """

    timestep: float
    alpha_bar: float

    @property
    def signal(self) -> float:
        """√ᾱ, the factor of x_0."""
        return math.sqrt(self.alpha_bar)

    @property
    def noise(self) -> float:
        """√(1 − ᾱ), the factor of ε."""
        return math.sqrt(1 - self.alpha_bar)

    @property
    def ratio(self) -> float:
        """√(1 − ᾱ) / √ᾱ, noise to signal: the σ of Karras et al. (2022). Infinite where ᾱ = 0."""
        return self.noise / self.signal if self.alpha_bar else math.inf

    @property
    def log_snr(self) -> float:
        """λ = log √ᾱ / √(1 − ᾱ), half the logarithm of the signal-to-noise ratio; infinite at
        either end."""
        if self.ratio == 0:
            return math.inf
        return -math.log(self.ratio)


@dataclass(frozen=True)
class SchedulerConfig(AsMapping):
    """What a `scheduler_config.json` says, with the names and defaults of diffusers' DDIMScheduler.

    Example:
        >>> SchedulerConfig.from_mapping({"beta_schedule": "scaled_linear"}).beta_end
        0.02
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: BetaSchedule = "linear"
    trained_betas: tuple[float, ...] | None = None
    clip_sample: bool = True
    set_alpha_to_one: bool = True
    steps_offset: int = 0
    prediction_type: PredictionType = "epsilon"
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    clip_sample_range: float = 1.0
    sample_max_value: float = 1.0
    timestep_spacing: Spacing = "leading"
    rescale_betas_zero_snr: bool = False

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], source: str = "scheduler_config.json"
    ) -> "SchedulerConfig":
        """Take the keys that concern the noise axis; leave the keys of other schedulers alone.

        Any scheduler's config serves, as in diffusers' `from_config`: a DDPM checkpoint is sampled
        with DDIM by reading the betas out of its own file. What is known must have the right type.

        Raises:
            ModelError: A known key holds a value it cannot have.
        """
        known = {field.name for field in fields(cls)}
        config = cls(**{key: _plain(value) for key, value in mapping.items() if key in known})
        config._check(source)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON holds it: plain numbers, strings and lists."""
        plain = asdict(self)
        if self.trained_betas is not None:
            plain["trained_betas"] = list(self.trained_betas)
        return plain

    def _check(self, source: str) -> None:
        def refuse(key: str, wanted: str) -> None:
            value = reprlib.repr(getattr(self, key))
            raise ModelError(f"{source} says {key}={value}; it must be {wanted}.")

        for key in ("num_train_timesteps", "steps_offset"):
            if type(getattr(self, key)) is not int:
                refuse(key, "a whole number")
        for key in ("clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr"):
            if type(getattr(self, key)) is not bool:
                refuse(key, "true or false")
        choices: dict[str, Any] = {
            "beta_schedule": BetaSchedule,
            "prediction_type": PredictionType,
            "timestep_spacing": Spacing,
        }
        for key, literal in choices.items():
            if getattr(self, key) not in get_args(literal):
                refuse(key, f"one of {', '.join(get_args(literal))}")
        for key in (
            "beta_start",
            "beta_end",
            "dynamic_thresholding_ratio",
            "clip_sample_range",
            "sample_max_value",
        ):
            value = getattr(self, key)
            if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
                refuse(key, "a finite number above 0")
        if not 2 <= self.num_train_timesteps <= 100_000:
            refuse("num_train_timesteps", "between 2 and 100000")
        if not 0 <= self.steps_offset < self.num_train_timesteps:
            refuse("steps_offset", "between 0 and num_train_timesteps − 1")
        if not self.beta_start <= self.beta_end < 1:
            refuse("beta_end", "between beta_start and 1")
        if self.dynamic_thresholding_ratio > 1:
            refuse("dynamic_thresholding_ratio", "at most 1")
        betas = self.trained_betas
        if betas is not None and (
            type(betas) is not tuple
            or any(type(beta) not in (int, float) or not 0 < beta <= 1 for beta in betas)
        ):
            raise ModelError(
                f"{source} gives trained_betas that are no list of numbers in (0, 1]; "
                "each is the share of variance one training step replaces by noise."
            )
        if betas is not None and len(betas) != self.num_train_timesteps:
            refuse("num_train_timesteps", f"the number of trained_betas, which is {len(betas)}")


def _plain(value: Any) -> Any:
    """Arrays and lists as tuples, NumPy's numbers as Python's."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class NoiseSchedule:
    """The table of ᾱ_t, from barely touched (t = 0) to pure noise (t = T − 1).

    Args:
        alphas_cumprod: ᾱ_t for t = 0 … T − 1, falling, in [0, 1].
        final_alpha_cumprod: ᾱ of the clean end, where sampling stops: 1, or ᾱ_0 for checkpoints
            whose config says `set_alpha_to_one: false`.

    References:
        Ho et al. (2020), Denoising diffusion probabilistic models, arXiv:2006.11239, eq. 4.
        Lin et al. (2023), Common diffusion noise schedules and sample steps are flawed,
        arXiv:2305.08891, algorithm 1 (zero terminal SNR).

    Example:
        >>> schedule = NoiseSchedule.from_config({})
        >>> schedule.level(0)
        Level(timestep=0.0, alpha_bar=0.9998999834060669)
        >>> round(schedule.level(999).ratio)
        157
    """

    alphas_cumprod: tuple[float, ...]
    final_alpha_cumprod: float = 1.0

    def __repr__(self) -> str:
        first, last = self.alphas_cumprod[0], self.alphas_cumprod[-1]
        return f"NoiseSchedule({self.num_train_timesteps} timesteps, ᾱ {first:.4g} … {last:.2g})"

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | SchedulerConfig) -> "NoiseSchedule":
        """Build the table as diffusers does, in float32, so that its last digits agree too."""
        if not isinstance(config, SchedulerConfig):
            config = SchedulerConfig.from_mapping(config)
        betas = _betas(config)
        if config.rescale_betas_zero_snr:
            betas = _rescale_to_zero_snr(betas)
        alphas_cumprod = tuple(torch.cumprod(1 - betas, dim=0).tolist())
        # Equal entries would leave levels that no one can tell apart; NaN compares as false.
        if not all(later < sooner for sooner, later in pairwise((1.0, *alphas_cumprod))):
            raise ModelError(
                "The scheduler's betas leave neighbouring timesteps equally noisy; "
                "check beta_start, beta_end and num_train_timesteps."
            )
        return cls(alphas_cumprod, 1.0 if config.set_alpha_to_one else alphas_cumprod[0])

    @property
    def num_train_timesteps(self) -> int:
        """T, the length of the table."""
        return len(self.alphas_cumprod)

    @property
    def clean(self) -> Level:
        """Where this checkpoint's sampler ends: beyond the table, at `final_alpha_cumprod`."""
        return Level(-1.0, self.final_alpha_cumprod)

    @cached_property
    def lowest(self) -> Level:
        """t = 0, the cleanest level the network knows, and the place to start an inversion from.

        A step from the clean end to level t asks for a picture whose *denoised* self is the input.
        For a picture off the model's manifold there is none, and solvers diverge. At t = 0 the
        picture is taken to carry the 1 % of noise the network has seen there.
        """
        return self.level(0)

    @cached_property
    def highest(self) -> Level:
        """The noisiest level that still holds any signal: T − 1, or the one before it if ᾱ = 0."""
        last = self.num_train_timesteps - 1
        return self.level(last if self.alphas_cumprod[last] > 0 else last - 1)

    def level(self, timestep: float) -> Level:
        """The level at a timestep; between two entries, log σ̄ (σ̄ = `Level.ratio`) is linear in t.

        Raises:
            ScheduleError: `timestep` lies outside [0, T − 1].
        """
        if not 0 <= timestep <= self.num_train_timesteps - 1:
            raise ScheduleError(
                f"Timestep {timestep:g} is off the schedule; "
                f"the network was trained on 0 to {self.num_train_timesteps - 1}."
            )
        below = int(timestep)
        if below == timestep:
            return Level(float(timestep), self.alphas_cumprod[below])
        low, high = self._log_ratios[below], self._log_ratios[below + 1]
        return Level(timestep, _alpha_bar(low + (timestep - below) * (high - low)))

    def level_at(self, ratio: float) -> Level:
        """The level whose noise-to-signal ratio σ̄ is `ratio`; the inverse of `level(t).ratio`.

        Raises:
            ScheduleError: `ratio` is less than at t = 0 or more than at the noisiest level.
        """
        lowest, highest = self.lowest, self.highest
        slack = 1e-9
        if not lowest.ratio * (1 - slack) <= ratio <= highest.ratio * (1 + slack):
            raise ScheduleError(
                f"A noise-to-signal ratio of {ratio:g} is off the schedule, "
                f"which runs from {lowest.ratio:.4g} to {highest.ratio:.4g}; choose one of those."
            )
        wanted = math.log(ratio)
        logs = self._log_ratios
        below = max(min(bisect_right(logs, wanted), int(highest.timestep)) - 1, 0)
        fraction = (wanted - logs[below]) / (logs[below + 1] - logs[below])
        timestep = min(max(below + fraction, 0.0), highest.timestep)
        return Level(timestep, _alpha_bar(wanted))

    @cached_property
    def _log_ratios(self) -> list[float]:
        """Log σ̄ of each entry; infinite at the end if ᾱ is 0 there."""
        ratios = (Level(0, alpha_bar).ratio for alpha_bar in self.alphas_cumprod)
        return [math.log(ratio) if ratio < math.inf else math.inf for ratio in ratios]


def _alpha_bar(log_ratio: float) -> float:
    """ᾱ = 1 / (1 + σ̄²)."""
    return 1 / (1 + math.exp(2 * log_ratio))


def _betas(config: SchedulerConfig) -> Tensor:
    """β_t, the share of variance that training step t replaces by noise, (T,), float32."""
    steps = config.num_train_timesteps
    if config.trained_betas is not None:
        return torch.tensor(config.trained_betas, dtype=torch.float32)
    if config.beta_schedule == "linear":
        return torch.linspace(config.beta_start, config.beta_end, steps, dtype=torch.float32)
    if config.beta_schedule == "scaled_linear":
        roots = torch.linspace(
            config.beta_start**0.5, config.beta_end**0.5, steps, dtype=torch.float32
        )
        return roots**2

    return torch.tensor(cosine_betas(steps), dtype=torch.float32)


def cosine_betas(steps: int) -> list[float]:
    """What each of so many training steps replaces of the variance by noise, where √ᾱ is a cosine.

    References:
        Nichol & Dhariwal (2021), Improved denoising diffusion probabilistic models,
        arXiv:2102.09672, equation 17.
    """

    def signal(fraction: float) -> float:
        return math.cos((fraction + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - signal((i + 1) / steps) / signal(i / steps), 0.999) for i in range(steps)]


def _rescale_to_zero_snr(betas: Tensor) -> Tensor:
    """Shift and stretch √ᾱ so that the last timestep is pure noise (Lin et al., algorithm 1)."""
    roots = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    alphas_cumprod = ((roots - last) * (first / (first - last))) ** 2
    alphas = torch.cat([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    return 1 - alphas
