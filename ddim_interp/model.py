"""A denoiser together with all that the verbs need to know of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddim_interp.autoencoder import Autoencoder
from ddim_interp.denoiser import Denoiser, Fallback, grain_of
from ddim_interp.errors import ArgumentError, ScheduleError
from ddim_interp.grid import Grid, make_grid
from ddim_interp.schedule import Level, NoiseSchedule
from ddim_interp.shapes import Images, spelled
from ddim_interp.solver import AUTO, AUTO_SAMPLER, SOLVERS, Solver, make_solver, name_solver

__all__ = ["Model", "Plan"]


@dataclass(frozen=True)
class Model:
    """What can be inverted, sampled and morphed with.

    Args:
        denoiser: Splits x_t into picture and noise, as precisely as the model can.
        schedule: The noise schedule it was trained on.
        shape: (C, H, W) of what it works on: pictures, or what the autoencoder makes of them.
        name: What it is called in recipes; no path.
        weights_sha256: Identity of its weights; latents of other weights are refused. Empty for a
            denoiser that has none.
        draft: The same model in a cheaper precision, for frames; `denoiser` when not given.
        device: Where it runs.
        autoencoder: What stands between it and pictures, if anything does.
        dtype: The precision that it was told to run in; empty where it was left to choose.
    """

    denoiser: Denoiser
    schedule: NoiseSchedule
    shape: tuple[int, int, int]
    name: str = "custom"
    weights_sha256: str = ""
    draft: Denoiser | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    autoencoder: Autoencoder | None = None
    dtype: str = ""

    def __repr__(self) -> str:
        return f"Model({self.name}, {spelled(self.shape)}, {self.device})"

    @cached_property
    def for_frames(self) -> Denoiser:
        """The denoiser that frames are drawn with; where the draft fails, the precise one."""
        return Fallback(self.draft, self.denoiser) if self.draft else self.denoiser

    def grain(self, t: Level) -> float:
        """By how much rounding moves x̂_0 of frames at a level, root mean square."""
        return grain_of(self.for_frames, t)

    @property
    def identity(self) -> dict[str, str]:
        """Whose latents are whose, as recipes and files say it."""
        return {"model": self.name, "weights_sha256": self.weights_sha256}

    def describe(self) -> dict[str, str]:
        """What a recipe says of it.

        Not the precision that it chose: that depends on the machine, and the same command makes the
        same film.
        """
        return self.identity | ({"dtype": self.dtype} if self.dtype else {})

    @property
    def retries(self) -> int:
        """Answers that were not finite in low precision, and were asked for again."""
        return self.for_frames.retries if isinstance(self.for_frames, Fallback) else 0

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its pictures."""
        coder = self.autoencoder
        return self.shape if coder is None else coder.picture_shape(self.shape)

    @property
    def core(self) -> "Model":
        """The same model without its autoencoder: its pictures are what that makes of pictures."""
        return replace(self, autoencoder=None)

    def encode(self, images: Images) -> Tensor:
        """Pictures, (N, C, H, W) in [−1, 1], as the x_0 to invert, where the model runs."""
        placed = self.place(images)
        return placed if self.autoencoder is None else self.autoencoder.encode(placed)

    def decode(self, x_0: Tensor) -> Images:
        """A sampled x_0 as pictures, (N, C, H, W)."""
        return x_0 if self.autoencoder is None else self.autoencoder.decode(x_0)

    def place(self, x: Tensor) -> Tensor:
        """x where the model runs; float32 unless it is finer already."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return x.to(self.device, dtype)


@dataclass(frozen=True)
class Plan:
    """How to walk the noise axis: the same plan there and back.

    Args:
        steps: Steps of the grid.
        spacing: How they are laid; a name from `SPACINGS`.
        solver: How each is taken, and undone: a name from `SOLVERS`, or a solver; or `auto`, which
            is the first of `AUTO` that gives the pictures at hand back exactly (see `choice`), and
            where there are none, `AUTO_SAMPLER`.
        depth: How far up the noise axis, as a share of the timesteps: 1 is pure noise. Short of it
            latents still hold the coarse picture, so that what is between two stays closer to both,
            and no seed can stand for one. The steps are as many, and finer.
        dither: Whether a picture is given the noise of t = 0, where inversion starts. The model
            knows no clean pictures there, only √ᾱ_0 x_0 + √(1−ᾱ_0) ε, and takes what has no such
            noise for something smoother than a picture: its latent comes out too quiet. The noise
            is the picture's own (`draw_for`), is kept with the latent, and is taken off again from
            what that decodes to, so it costs the round trip nothing.
        seed: Which draw of that noise, and of what a repair adds; a film of other draws is another,
            a little.

    References:
        Ho et al. (2020), Denoising diffusion probabilistic models, arXiv:2006.11239, fig. 9
        (interpolations at several depths).
        Meng et al. (2022), SDEdit, arXiv:2108.01073 (editing at partial depth).
        Roberts (1962), Picture coding using pseudo-random noise, IRE Transactions on Information
        Theory 8 (noise added before and subtracted after, known at both ends).

    Example:
        >>> grid, solver = Plan(steps=8, solver="heun").walk(NoiseSchedule.from_config({}))
        >>> len(grid), solver
        (9, Heun())
    """

    steps: int = 20
    spacing: str = "log-snr"
    solver: Solver | str = "auto"
    depth: float = 1.0
    dither: bool = True
    seed: int = 0

    def walk(self, schedule: NoiseSchedule) -> tuple[Grid, Solver]:
        """The levels visited, noisy to clean, ending at t = 0, and what steps between them.

        Raises:
            ScheduleError: `steps` is out of range.
            ArgumentError: No spacing or no solver has that name; or `depth` is out of range.
        """
        whole, schedule = schedule, self._shallower(schedule)
        left = schedule.num_train_timesteps
        if left < self.steps <= whole.num_train_timesteps:
            raise ScheduleError(
                f"depth={self.depth:g} leaves {left} levels of {whole.num_train_timesteps}, too "
                f"few for steps={self.steps}; take at most {left}, or go deeper."
            )
        grid = make_grid(schedule, self.steps, self.spacing)
        solver = AUTO_SAMPLER if self.solver == "auto" else self.solver
        return grid, make_solver(solver, schedule) if isinstance(solver, str) else solver

    def candidates(self) -> tuple["Plan", ...]:
        """The plans that this one may become, in the order to try them; none of them is `auto`.

        Example:
            >>> [plan.solver for plan in Plan(solver="heun").candidates()]
            ['heun']
        """
        if self.solver != "auto":
            return (self,)
        return tuple(replace(self, solver=name) for name in AUTO)

    def _shallower(self, schedule: NoiseSchedule) -> NoiseSchedule:
        """The schedule, as if it ended at the depth."""
        if not 0 < self.depth <= 1:
            raise ArgumentError(
                f"depth={self.depth:g} is no share of the noise axis; use more than 0, and at most "
                "1 for pure noise."
            )
        if self.depth == 1:
            return schedule
        kept = max(2, round(self.depth * schedule.num_train_timesteps))
        return replace(schedule, alphas_cumprod=schedule.alphas_cumprod[:kept])

    @classmethod
    def quick(cls, **wishes: Any) -> "Plan":
        """A plan for films in half the evaluations, but for what is wished otherwise.

        Its frames are as near the limit of many steps as fifty of DDIM are. Its latents are single
        ones, which give the picture back to some 37 dB, and not exactly. `morph --quick` draws them
        with a tolerance of `style.QUICK_TOLERANCE`.

        Args:
            **wishes: Fields of `Plan`; None where nothing is wished for.

        Example:
            >>> Plan.quick(steps=16, solver=None)
            Plan(steps=16, spacing='focus', solver='adams', depth=1.0, dither=True, seed=0)
        """
        return cls(steps=12, spacing="focus", solver="adams").but(**wishes)

    def but(self, **wishes: Any) -> "Plan":
        """The same plan, but for what is wished otherwise: fields, None where nothing is wished.

        Example:
            >>> Plan().but(steps=8, solver=None) == Plan(steps=8)
            True
        """
        return replace(self, **{name: wish for name, wish in wishes.items() if wish is not None})

    @classmethod
    def parse(cls, described: Any) -> "Plan":
        """The plan that `describe` described; what is no plan, or a solver without a name, is left
        at its default.

        Example:
            >>> Plan.parse(Plan(30, solver="heun").describe())
            Plan(steps=30, spacing='log-snr', solver='heun', depth=1.0, dither=True, seed=0)
        """
        read: dict[str, Any] = {}
        kinds = {
            "steps": int,
            "spacing": str,
            "solver": str,
            "depth": float,
            "dither": bool,
            "seed": int,
        }
        for name, kind in kinds.items():
            value = described.get(name) if isinstance(described, dict) else None
            if type(value) is kind and (name != "solver" or value in SOLVERS):
                read[name] = value
        return cls(**read)

    def describe(self) -> dict[str, Any]:
        """What a recipe says of it."""
        solver = self.solver if isinstance(self.solver, str) else name_solver(self.solver)
        return {
            "steps": self.steps,
            "spacing": self.spacing,
            "solver": solver,
            "depth": self.depth,
            "dither": self.dither,
            "seed": self.seed,
        }
