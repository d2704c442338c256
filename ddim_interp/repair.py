"""Make an unusual latent typical, and say what that costs.

    renormalise    z / |z| · √d: the length of noise
    channels       (z_c − mean) / deviation: mean 0 and variance 1 in every channel
    forward-K      the first K steps of the inversion are not walked but noised

A repaired latent blends as noise does, and decodes to another picture than the one it came from. A
certificate says how different: `repair_cost`. A film still begins and ends on the user's own
pictures; what a repair cost is what it fades in there.

`forward-K` gets at the cause. Plain areas of a picture come out of the first steps of an inversion
as areas of plain noise; drawn noise knows nothing of them (Staniszewski et al. 2024, There and back
again, arXiv:2410.23530). The noise of a picture is always the same. `Plan.dither` is the step
before the first, the one that can be taken back.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from ddim_interp.checks import certify
from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError
from ddim_interp.inversion import Inversion, sample_latents
from ddim_interp.latents import draw_for
from ddim_interp.model import Model
from ddim_interp.schedule import Level
from ddim_interp.shapes import Latents
from ddim_interp.solver import State, settle
from ddim_interp.trajectory import about_steps, invert
from ddim_interp.watch import Watch, unwatched

__all__ = ["REPAIRS", "Price", "check_repair", "diffuse", "price_repairs", "repair_inversion"]

REPAIRS = ("renormalise", "channels", "forward-K")
"""Repairs by name; K is a number of steps."""

_FORWARD = re.compile(r"forward-([1-9]\d{0,3})", re.ASCII)


def check_repair(name: str) -> None:
    """Refuse what is no repair, before a model is loaded.

    Raises:
        ArgumentError: No repair has that name.
    """
    if name not in REPAIRS[:2] and not _FORWARD.fullmatch(name):
        raise ArgumentError(
            f"No repair is called {name!r}; choose renormalise, channels, or forward-2 with the "
            "number of steps to skip."
        )


@torch.inference_mode()
def repair_inversion(
    model: Model, inversion: Inversion, name: str, watch: Watch = unwatched
) -> Inversion:
    """The same pictures with repaired latents, what those decode to, and new certificates.

    Args:
        model: The model.
        inversion: What to repair.
        name: One of `REPAIRS`.
        watch: Sees the walks.

    Raises:
        ArgumentError: No repair has that name, or it would skip the whole walk.
    """
    check_repair(name)
    plan = inversion.plan
    counted = CountCalls(model.denoiser)
    residuals: list[Tensor] = []
    forward = _FORWARD.fullmatch(name)
    if forward:
        grid, solver = plan.walk(model.schedule)
        skipped = int(forward[1])
        if skipped >= len(grid) - 1:
            raise ArgumentError(
                f"{name} would skip all {len(grid) - 1} steps, and leave nothing of the picture; "
                "skip fewer."
            )
        x_0 = model.encode(inversion.images)
        noise = draw_for(inversion.images, model.shape, plan.seed).to(x_0)
        start = grid[-1 - skipped]
        noised = State(diffuse(x_0, noise, grid[-1], start), start)
        upper = grid[:-skipped]
        walk = invert(counted, noised, upper, solver)
        for state in watch(walk, about_steps(upper, solver), "repairing"):
            if state.residual is not None:
                residuals.append(state.residual)
        state = settle(solver, state)
    else:
        state = _normalised(inversion.state, (2, 3) if name == "channels" else (1, 2, 3))
    decoded = sample_latents(model, state, plan, watch, counted)
    nfe = torch.tensor([each.nfe for each in inversion.certificates])
    nfe = nfe + counted.spent(len(decoded))
    certificates = certify(
        inversion.images, decoded, state.x, residuals, nfe, state.level, inversion.floor
    )
    return replace(
        inversion,
        state=state,
        decoded=decoded,
        certificates=tuple(
            # What an earlier repair cost is part of what before is off by.
            replace(
                after,
                repair_cost=before.repair_cost + after.roundtrip_mse - before.roundtrip_mse,
            )
            for after, before in zip(certificates, inversion.certificates, strict=True)
        ),
        nfe=inversion.nfe + counted.nfe,
        notes=None,
    )


@dataclass(frozen=True)
class Price:
    """What a repair makes of some latents, and of their pictures; means over them.

    Args:
        name: The repair; `none` for the latents as they were found.
        mse: Between the pictures and what their latents decode to, pixels in [0, 1].
        latent_power: |z|² / d.
        whiteness: Patch correlation, in units of white noise's own.
    """

    name: str
    mse: float
    latent_power: float
    whiteness: float


def price_repairs(
    model: Model,
    inversion: Inversion,
    names: Sequence[str] = ("renormalise", "channels", "forward-1", "forward-2", "forward-4"),
    watch: Watch = unwatched,
) -> tuple[Price, ...]:
    """What each repair would do, no repair first: typical latents on one side, lost on the other.

    A repair that would skip the whole walk is left out.
    """
    steps = len(inversion.plan.walk(model.schedule)[0]) - 1
    possible = [
        name
        for name in names
        if not ((forward := _FORWARD.fullmatch(name)) and int(forward[1]) >= steps)
    ]
    found = {"none": inversion} | {
        name: repair_inversion(model, inversion, name, watch) for name in possible
    }

    return tuple(
        Price(
            name,
            fmean(each.roundtrip_mse for each in after.certificates),
            fmean(each.latent_power for each in after.certificates),
            fmean(each.whiteness for each in after.certificates),
        )
        for name, after in found.items()
    )


def diffuse(x_s: Latents, noise: Latents, s: Level, t: Level) -> Latents:
    """Carry x from level s to a noisier level t by adding noise alone: the forward process.

        x_t = √(ᾱ_t/ᾱ_s) x_s + √(1 − ᾱ_t/ᾱ_s) ε,    ε ~ N(0, I)

    Ho et al. (2020), Denoising diffusion probabilistic models, arXiv:2006.11239, eq. 4.
    """
    kept = t.alpha_bar / s.alpha_bar
    x_t: Latents = kept**0.5 * x_s + (1 - kept) ** 0.5 * noise
    return x_t


def _normalised(state: State, over: tuple[int, ...]) -> State:
    """Latents of power 1; of mean 0 too, where each channel is brought to it by itself.

    A pair's other member is moved alike.
    """
    z = state.x.double()
    mean = z.mean(over, keepdim=True) if over == (2, 3) else torch.zeros_like(z[:, :1, :1, :1])
    gain = 1 / (z - mean).square().mean(over, keepdim=True).clamp(min=1e-12).sqrt()

    def move(x: Latents) -> Latents:
        moved: Latents = (gain * (x.double() - mean)).to(x.dtype)
        return moved

    after = state.moved(move)
    return replace(state, x=after.x, memory=after.memory)
