"""DDIMScheduler and DDIMInverseScheduler, for code written against diffusers.

A face only: the names, call order and habits of diffusers, over `schedule`, `grid` and `solver`.
The habits include its step, which goes from t to t − T // S whatever the spacing. That misses the
grid for uneven spacings; the toolkit's own verbs use `make_grid`, which does not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, overload

import torch
from torch import Generator, Tensor

from ddim_interp.as_mapping import by_name
from ddim_interp.denoiser import add_noise, split_output
from ddim_interp.errors import ArgumentError
from ddim_interp.files import StrPath, shown, write_bytes
from ddim_interp.grid import timesteps
from ddim_interp.hub import locate
from ddim_interp.latents import draw_like_diffusers
from ddim_interp.model_configs import read_configs
from ddim_interp.schedule import Level, NoiseSchedule, SchedulerConfig
from ddim_interp.solver import DDIM, Bound, clip_to, threshold_at
from ddim_interp.strict_json import read_object

__all__ = ["DDIMInverseScheduler", "DDIMScheduler", "DDIMSchedulerOutput"]

Timestep: TypeAlias = int | Tensor


@dataclass(frozen=True)
class DDIMSchedulerOutput:
    """One step's result: x at the next level, and the x_0 that was predicted on the way."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class _Scheduler:
    """What both directions share: a config, its noise schedule, and the list of timesteps."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, *values: Any, **options: Any) -> None:
        options = by_name(SchedulerConfig, values, options)
        known = {field.name for field in fields(SchedulerConfig)}
        for name in options.keys() - known:
            raise ArgumentError(
                f"{type(self).__name__} has no option {name!r}; "
                f"it knows {', '.join(sorted(known))}."
            )
        self.config = SchedulerConfig.from_mapping(options, type(self).__name__)
        self.schedule = NoiseSchedule.from_config(self.config)
        self.alphas_cumprod = torch.tensor(self.schedule.alphas_cumprod, dtype=torch.float32)
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(len(self))

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | SchedulerConfig, **overrides: Any) -> Any:
        """Build from another scheduler's config; keys of its own kind are left."""
        if not isinstance(config, SchedulerConfig):
            # diffusers marks what was left at the other class's defaults; ours apply there.
            unset = config.get("_use_default_values", ())
            config = SchedulerConfig.from_mapping(
                {key: value for key, value in config.items() if key not in unset}
            )
        return cls(**(config.to_dict() | overrides))

    @property
    def betas(self) -> Tensor:
        """What each training step replaces of the variance by noise, (T,): 1 − ᾱ_t/ᾱ_{t−1}."""
        before = torch.cat([self.alphas_cumprod.new_ones(1), self.alphas_cumprod[:-1]])
        return 1 - self.alphas_cumprod / before

    def __repr__(self) -> str:
        config, usual = self.config, SchedulerConfig()
        said = ", ".join(f"{key}={config[key]!r}" for key in config if config[key] != usual[key])
        return f"{type(self).__name__}({said})"

    def __len__(self) -> int:
        return self.config.num_train_timesteps

    def scale_model_input(self, sample: Tensor, timestep: Timestep | None = None) -> Tensor:
        """Return the sample as it is: this family needs no scaling."""
        return sample

    def _choose(self, num_inference_steps: int) -> list[int]:
        """The timesteps of a run of so many steps, noisy to clean; from now on this is the run."""
        spacing = self.config.timestep_spacing
        offset = self.config.steps_offset if spacing == "leading" else 0
        chosen = timesteps(self.schedule, num_inference_steps, spacing, offset)
        self.num_inference_steps = num_inference_steps
        return [int(t) for t in chosen]

    def _stride(self) -> int:
        if self.num_inference_steps is None:
            raise ArgumentError("The scheduler has no timesteps yet; call set_timesteps(50) first.")
        return len(self) // self.num_inference_steps

    def _level(self, timestep: int) -> Level:
        """The table's entry, or the end beyond it.

        ᾱ stays a float32 scalar, so that 1 − ᾱ and the rest of a step's factors round as they do in
        diffusers. Where η = 1 takes nearly all of the noise away, that decides the fourth digit.
        """
        level = self.schedule.level(timestep) if timestep >= 0 else self.schedule.clean
        # On the CPU a scalar goes with pictures anywhere.
        alpha_bar = torch.tensor(level.alpha_bar, dtype=torch.float32, device="cpu")
        return Level(level.timestep, cast(float, alpha_bar))

    def _bound(self) -> Bound | None:
        config = self.config
        if config.thresholding:
            return threshold_at(config.dynamic_thresholding_ratio, config.sample_max_value)
        return clip_to(config.clip_sample_range) if config.clip_sample else None


class DDIMScheduler(_Scheduler):
    """diffusers' DDIMScheduler: same options, same timesteps, same steps.

    Args:
        *values: The fields of `SchedulerConfig`, in diffusers' order.
        **options: The same by name, with diffusers' defaults.

    Example:
        >>> scheduler = DDIMScheduler(timestep_spacing="trailing")
        >>> scheduler.set_timesteps(4)
        >>> scheduler.timesteps
        tensor([999, 749, 499, 249])
    """

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__(*values, **options)
        self.timesteps = self.timesteps.flip(0)

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """ᾱ of the level beyond the table."""
        return torch.tensor(self.schedule.final_alpha_cumprod, dtype=torch.float32)

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Choose the timesteps of a run, noisy to clean.

        Raises:
            ScheduleError: More steps than the network was trained on, or fewer than one.
        """
        self.timesteps = torch.tensor(self._choose(num_inference_steps), device=device)

    @overload
    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        eta: float = ...,
        use_clipped_model_output: bool | None = ...,
        generator: Generator | Sequence[Generator] | None = ...,
        variance_noise: Tensor | None = ...,
        return_dict: Literal[True] = ...,
    ) -> DDIMSchedulerOutput: ...

    @overload
    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        eta: float = ...,
        use_clipped_model_output: bool | None = ...,
        generator: Generator | Sequence[Generator] | None = ...,
        variance_noise: Tensor | None = ...,
        *,
        return_dict: Literal[False],
    ) -> tuple[Tensor, Tensor]: ...

    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = False,
        generator: Generator | Sequence[Generator] | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """Carry `sample` from `timestep` to `timestep − T // S`.

        Args:
            model_output: What the network said of `sample` at `timestep`.
            timestep: Where `sample` is.
            sample: x_t, (N, C, H, W).
            eta: Share of fresh noise, 0 to 1.
            use_clipped_model_output: Whether ε is derived again from the clipped x_0.
            generator: Where the fresh noise comes from.
            variance_noise: The fresh noise itself, instead of a generator.
            return_dict: Whether to return an object with names, or a plain tuple.

        Raises:
            ArgumentError: `set_timesteps` has not been called.
        """
        stride = self._stride()
        t, s = self._level(int(timestep)), self._level(int(timestep) - stride)

        def noise(like: Tensor) -> Tensor:
            if variance_noise is not None:
                return variance_noise
            return draw_like_diffusers(tuple(like.shape), generator, like.device, like.dtype)

        bound = self._bound()
        solver = DDIM(eta, bound, bool(use_clipped_model_output), noise)
        split = split_output(model_output, sample, t, self.config.prediction_type)
        prev_sample = solver.transfer(split, sample, t, s)
        x_0 = split.x_0 if bound is None else bound(split.x_0)
        if return_dict:
            return DDIMSchedulerOutput(prev_sample, x_0)
        return prev_sample, x_0

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noise each picture to its own timestep, or all to one: √ᾱ_t x_0 + √(1−ᾱ_t) ε."""
        levels = [self._level(int(t)) for t in timesteps.expand(len(original_samples))]
        return torch.stack(
            [
                add_noise(x_0, eps, level)
                for x_0, eps, level in zip(original_samples, noise, levels, strict=True)
            ]
        )

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a v-prediction network is trained to return: √ᾱ_t ε − √(1−ᾱ_t) x_0."""
        levels = [self._level(int(t)) for t in timesteps.expand(len(sample))]
        return torch.stack(
            [
                level.signal * eps - level.noise * x_0
                for x_0, eps, level in zip(sample, noise, levels, strict=True)
            ]
        )

    @classmethod
    def from_pretrained(
        cls,
        source: StrPath,
        subfolder: str | None = None,
        *,
        revision: str | None = None,
        cache_dir: StrPath | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> "DDIMScheduler":
        """Read the `scheduler_config.json` of a folder, or that of a model: a folder, or one on the
        hub, which is then fetched as a whole.

        Args:
            source: A folder, or `org/name`.
            subfolder: Where in it; a model's own is found without.
            revision: Branch, tag or commit on the hub.
            cache_dir: Instead of the hub's own cache.
            token: Instead of the hub client's own.
            local_files_only: Open no connection.
            **overrides: Options that are to be otherwise.

        Raises:
            InputMissingError: It looks like a folder and is not there.
            HubError: The hub cannot be reached, or refuses.
            ModelError: What is there is no scheduler.
        """
        folder = Path(source)
        if folder.is_dir():
            places = [
                folder / place / "scheduler_config.json" for place in (subfolder or "", "scheduler")
            ]
            path = next((place for place in places if place.exists()), places[0])
            config = SchedulerConfig.from_mapping(read_object(path), shown(path))
        else:
            located = locate(
                source, revision=revision, cache_dir=cache_dir, token=token,
                offline=local_files_only,
            )  # fmt: skip
            config = read_configs(located.folder).scheduler
        scheduler: DDIMScheduler = cls.from_config(config, **overrides)
        return scheduler

    def save_pretrained(self, save_directory: StrPath) -> None:
        """Write `scheduler_config.json` as diffusers reads it."""
        text = json.dumps({"_class_name": "DDIMScheduler", **self.config.to_dict()}, indent=2)
        path = Path(save_directory)
        path.mkdir(parents=True, exist_ok=True)
        write_bytes(path / "scheduler_config.json", f"{text}\n".encode(), overwrite=True)


class DDIMInverseScheduler(_Scheduler):
    """diffusers' DDIMInverseScheduler: naive inversion, clean to noisy.

    Kept for comparison. It evaluates the network at the level to be reached with the picture of the
    level before, and clips if the config says so; `pipe.invert` solves for the true pre-image.
    """

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Choose the timesteps of a run, clean to noisy.

        Raises:
            ScheduleError: More steps than the network was trained on, or fewer than one.
            ArgumentError: The config's spacing is one that diffusers cannot invert.
        """
        if self.config.timestep_spacing == "linspace":
            raise ArgumentError(
                "timestep_spacing='linspace' is not defined for DDIMInverseScheduler; use "
                "'leading' or 'trailing', or pipe.invert, which takes any spacing."
            )
        self.timesteps = torch.tensor(self._choose(num_inference_steps)[::-1], device=device)

    @overload
    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        return_dict: Literal[True] = ...,
    ) -> DDIMSchedulerOutput: ...

    @overload
    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        return_dict: Literal[False],
    ) -> tuple[Tensor, Tensor]: ...

    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """Carry `sample` from `timestep − T // S` up to `timestep`.

        Args:
            model_output: What the network said of `sample` at `timestep`.
            timestep: Where `sample` is to be.
            sample: x at the level before, (N, C, H, W).
            return_dict: Whether to return an object with names, or a plain tuple.

        Raises:
            ArgumentError: `set_timesteps` has not been called.
        """
        s, t = self._level(int(timestep) - self._stride()), self._level(int(timestep))
        x_0, eps = split_output(model_output, sample, s, self.config.prediction_type)
        if self.config.clip_sample:
            x_0 = clip_to(self.config.clip_sample_range)(x_0)
        prev_sample = add_noise(x_0, eps, t)
        if return_dict:
            return DDIMSchedulerOutput(prev_sample, x_0)
        return prev_sample, x_0
