"""Can this model, with this solver, be trusted? The checks of a whole model, where `checks` has
those of one inversion.

    there and back     picture → latent → picture, and latent → picture → latent
    twice the steps    does the same latent give the same picture? (Song et al. 2021, §5.2)
    standing still     is the way from a latent to its own re-inversion one picture?
    typicality         are the latents of these pictures noise?
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch

from ddim_interp.checks import Certificate, Fidelity, compare
from ddim_interp.errors import NonFiniteError, NotInvertibleError, ScheduleError
from ddim_interp.inversion import Inversion, invert_images, sample_latents
from ddim_interp.model import Model, Plan
from ddim_interp.path import KeyframePath
from ddim_interp.shapes import Images, Latents
from ddim_interp.watch import Watch, unwatched

__all__ = ["Consistency", "Doubling", "RoundTrip", "check_model"]


@dataclass(frozen=True)
class RoundTrip:
    """One method at one number of steps, there and back. Figures are means over the pictures.

    Args:
        steps: Steps of the grid.
        method: A name from `SOLVERS`.
        nfe: Network evaluations for a picture, there and back.
        mse: Between the pictures and what their latents decode to, pixels in [0, 1]; of a model
            with an autoencoder, between what that alone gives back of them and what they decode to.
        max_level: Of any pixel of any picture, in 8-bit levels.
        latent_power: |z|² / d.
        patch_correlation: Of the latents.
        latent_mse: Between random latents and the inversions of their pictures, |ẑ − z|² / d; no
            autoencoder takes part in it.
        seconds: For a picture, there and back.
        faithful: Whether every picture comes back, which a mean does not tell.
        trouble: Why there are no figures; empty if there are.
    """

    steps: int
    method: str
    nfe: float = 0.0
    mse: float = math.nan
    max_level: int = 255
    latent_power: float = math.nan
    patch_correlation: float = math.nan
    latent_mse: float = math.nan
    seconds: float = 0.0
    faithful: bool = False
    trouble: str = ""

    @property
    def fidelity(self) -> Fidelity:
        """The pictures' difference."""
        return Fidelity(self.mse, self.max_level)


@dataclass(frozen=True)
class Doubling:
    """How much a picture changes when its latent is decoded in twice as many steps."""

    steps: int
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class Consistency:
    """What the checks found.

    Args:
        table: Every method at every number of steps.
        method: The method that the figures below are of.
        doublings: The same latents at S and 2 S steps, for each S where both can be drawn.
        standing: The worst difference on the way from a latent to its re-inversion.
        inversion: The pictures, at the most steps.
    """

    table: tuple[RoundTrip, ...]
    method: str
    doublings: tuple[Doubling, ...]
    standing: Fidelity
    inversion: Inversion

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """One for each picture, at the most steps."""
        return self.inversion.certificates

    @property
    def autoencoder_mse(self) -> float:
        """What the model's autoencoder alone loses of the pictures, their mean; 0 without one."""
        return fmean(each.autoencoder_mse for each in self.certificates)

    @property
    def good(self) -> bool:
        """Whether the pictures come back, from latents of use, and stand still between them."""
        return self.standing.faithful and all(certificate.good for certificate in self.certificates)

    @property
    def verdict(self) -> str:
        """What the numbers mean, in words."""
        mine = [trip for trip in self.table if trip.method == self.method]
        short = [k for k, trip in enumerate(mine) if not trip.faithful]
        enough = mine[max(short, default=-1) + 1 :]
        back = (
            f"pictures come back from {enough[0].steps} steps on ({self.method})"
            if enough
            else f"pictures do not come back, not even in {self.table[-1].steps} steps"
        )
        count = len(self.certificates)
        grades = [certificate.grade for certificate in self.certificates]
        noise = ", ".join(
            f"{grades.count(grade)} of {count} latents {word}"
            for grade, word in (
                ("typical", "typical"),
                ("unusual", "unusual"),
                ("far", "far from what the model knows"),
                ("partial", "short of noise"),
            )
            if grade in grades
        )
        still = (
            "slerp to a re-inversion stands still"
            if self.standing.faithful
            else f"slerp to a re-inversion moves ({self.standing.psnr:.1f} dB)"
        )
        said = [back, noise, still]
        if self.doublings:
            last = self.doublings[-1]
            said.append(
                f"{last.steps} and {2 * last.steps} steps agree to {last.fidelity.psnr:.1f} dB"
            )
        if self.autoencoder_mse:
            floor = Fidelity(self.autoencoder_mse, 255).psnr
            said.append(f"its autoencoder alone gives pictures back to {floor:.1f} dB")
        return "; ".join(said)

    def describe(self, names: Sequence[str]) -> dict[str, Any]:
        """What was found, as JSON values; `names` are those of the pictures."""
        return {
            "table": [
                {
                    "steps": trip.steps,
                    "method": trip.method,
                    "nfe": round(trip.nfe, 2),
                    "mse": _finite(trip.mse),
                    "psnr": _finite(trip.fidelity.psnr),
                    "max_level": trip.max_level,
                    "latent_power": _finite(trip.latent_power),
                    "patch_correlation": _finite(trip.patch_correlation),
                    "latent_mse": _finite(trip.latent_mse),
                    "seconds": round(trip.seconds, 4),
                    "faithful": trip.faithful,
                    "trouble": trip.trouble or None,
                }
                for trip in self.table
            ],
            "method": self.method,
            "doubling": [
                {
                    "steps": each.steps,
                    "mse": _finite(each.fidelity.mse),
                    "psnr": _finite(each.fidelity.psnr),
                }
                for each in self.doublings
            ],
            "self_interpolation": {
                "mse": _finite(self.standing.mse),
                "psnr": _finite(self.standing.psnr),
                "max_level": self.standing.max_level,
            },
            "pictures": [
                {
                    "source": name,
                    "grade": certificate.grade,
                    "roundtrip_mse": certificate.roundtrip_mse,
                    "roundtrip_max_level": certificate.roundtrip_max_level,
                    "autoencoder_mse": certificate.autoencoder_mse,
                    "inversion_mse": certificate.inversion.mse,
                    "latent_power": certificate.latent_power,
                    "whiteness": certificate.whiteness,
                    "kurtosis": certificate.kurtosis,
                    "neighbour_correlation": certificate.neighbour_correlation,
                    "rings": list(certificate.rings),
                    "ring_deviations": list(certificate.ring_deviations),
                    "verdict": certificate.verdict,
                }
                for name, certificate in zip(names, self.certificates, strict=True)
            ],
            "autoencoder_mse": self.autoencoder_mse,
            "good": self.good,
            "verdict": self.verdict,
        }


@torch.inference_mode()
def check_model(
    model: Model,
    images: Images,
    latents: Latents,
    plan: Plan,
    *,
    steps: Sequence[int] = (10, 20, 50, 100),
    methods: Sequence[str] = ("ddim-naive", "auto"),
    watch: Watch = unwatched,
) -> Consistency:
    """Run every check.

    Args:
        model: The model; `InBatches` of its denoiser bounds the memory that many pictures take.
        images: Pictures to take there and back, (N, C, H, W), in [−1, 1].
        latents: Noise to take there and back, (M, C, H, W).
        plan: The spacing, the depth, the dither; its steps and its solver are not used.
        steps: Numbers of steps, rising.
        methods: Names from `SOLVERS`; the last is what the verdict is about.
        watch: Sees the table grow.

    Raises:
        ScheduleError: A number of steps is out of range.
        ArgumentError: A method is unknown.
    """
    plans = {
        (number, method): replace(plan, steps=number, solver=method)
        for number in steps
        for method in methods
    }
    for candidate in plans.values():
        candidate.walk(model.schedule)
    images, latents = model.place(images), model.place(latents)
    final = plans[steps[-1], methods[-1]]
    ends: list[tuple[Inversion, Latents]] = []

    def trips() -> Iterator[RoundTrip]:
        for (number, method), each in plans.items():
            try:
                trip, there, back = _there_and_back(
                    model, images, latents, each, RoundTrip(number, method)
                )
            except (NonFiniteError, NotInvertibleError, ScheduleError) as error:
                if each is final:
                    raise
                trip = RoundTrip(number, method, trouble=str(error))
            else:
                ends[:] = [(there, back)]
            yield trip

    table = tuple(watch(trips(), len(plans), "checking"))
    inversion, again = ends[0]
    decoded: dict[int, Images] = {}
    for number in _with_doubles(steps, model.schedule.num_train_timesteps):
        try:
            decoded[number] = sample_latents(
                model, latents[:1], replace(final, steps=number), watch
            )
        except NonFiniteError:
            if number == final.steps:
                raise
    doublings = tuple(
        Doubling(number, compare(decoded[number], decoded[2 * number])[0])
        for number in steps
        if {number, 2 * number} <= decoded.keys()
    )
    path = KeyframePath(torch.cat([latents[:1], again[:1]]))
    between = sample_latents(model, path(torch.tensor([0.25, 0.5, 0.75])), final, watch)
    moved = compare(between, decoded[final.steps].expand_as(between))
    worst = max(moved, key=lambda fidelity: fidelity.mse)
    return Consistency(table, methods[-1], doublings, worst, inversion)


def _there_and_back(
    model: Model,
    images: Images,
    latents: Latents,
    plan: Plan,
    trip: RoundTrip,
) -> tuple[RoundTrip, Inversion, Latents]:
    """The figures, the inversion of the pictures, and what the latents came back as."""
    core = model.core
    drawn = sample_latents(core, latents, plan)
    started = time.perf_counter()
    there = invert_images(model, images, plan)
    # What is drawn has the noise of t = 0 already: it is where a clean picture has to get to.
    back = invert_images(core, drawn, replace(plan, dither=False))
    seconds = time.perf_counter() - started
    count = len(images) + len(latents)
    return (
        replace(
            trip,
            nfe=(there.nfe + back.nfe) / count,
            mse=fmean(each.inversion.mse for each in there.certificates),
            max_level=max(each.inversion.max_level for each in there.certificates),
            latent_power=fmean(each.latent_power for each in there.certificates),
            patch_correlation=fmean(each.patch_correlation for each in there.certificates),
            latent_mse=(back.state.x - latents).double().square().mean().item(),
            seconds=seconds / count,
            faithful=all(each.faithful for each in there.certificates),
        ),
        there,
        back.state.x,
    )


def _with_doubles(steps: Sequence[int], most: int) -> list[int]:
    return sorted({*steps, *(2 * number for number in steps if 2 * number <= most)})


def _finite(value: float) -> float | None:
    """JSON knows no infinity: None stands for equal pictures, or for no figure."""
    return value if math.isfinite(value) else None
