"""Pictures to latents, with the proof that it worked."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ddim_interp.checks import Certificate, certify
from ddim_interp.choice import choose
from ddim_interp.denoiser import CountCalls, Denoiser
from ddim_interp.errors import ArgumentError
from ddim_interp.images import to_frames
from ddim_interp.latents import draw_for
from ddim_interp.model import Model, Plan
from ddim_interp.notes import Notes, TakesNotes
from ddim_interp.shapes import Images, Latents, spelled
from ddim_interp.solver import AUTO, State, settle
from ddim_interp.trajectory import about_steps, invert, last, sample
from ddim_interp.watch import Watch, unwatched

__all__ = ["Inversion", "invert_images", "sample_latents"]


@dataclass(frozen=True, eq=False)
class Inversion:
    """Pictures in noise space.

    Args:
        state: The latents at the noisiest level, with what the solver remembers.
        decoded: What they decode to, (N, C, H, W).
        certificates: One for each picture.
        nfe: Network evaluations in all: inversion and the decoding that proves it.
        images: What was inverted, (N, C, H, W).
        plan: What found the latents, and decodes them; its solver is never `auto`.
        passed_over: What came of the solvers that `auto` tried before, in words.
        floor: What the autoencoder alone gives back of them; None without one.
        notes: What the network said while the latents were decoded, if that was asked for.
    """

    state: State
    decoded: Images
    certificates: tuple[Certificate, ...]
    nfe: int
    images: Images
    plan: Plan
    passed_over: tuple[str, ...] = ()
    floor: Images | None = None
    notes: Notes | None = None

    @property
    def latents(self) -> Latents:
        """x_T, (N, C, H, W). Neither a pair's other half nor a dither is in it: `state` has all."""
        return self.state.x

    def __repr__(self) -> str:
        verdicts = (certificate.verdict for certificate in self.certificates)
        return "\n".join([*self.passed_over, *verdicts])

    def _repr_jpeg_(self) -> bytes:
        """The pictures, what came back, sixteen times the difference, and the certificates."""
        from ddim_interp.display import Plate

        difference = 16 * (self.decoded - self.images)
        return Plate(
            [list(to_frames(x)) for x in (self.images, self.decoded, difference)],
            beside=["picture", "decoded", "16-fold difference"],
            below=[f"{c.psnr:.1f} dB\npower {c.latent_power:.3f}" for c in self.certificates],
        )._repr_jpeg_()


def invert_images(
    model: Model,
    images: Images,
    plan: Plan,
    watch: Watch = unwatched,
    *,
    take_notes: bool = False,
) -> Inversion:
    """Find the latents that decode to these pictures, and decode them to see.

    Inversion starts at t = 0, with the noise of t = 0 if the plan says so (`Plan.dither`), ends
    where sampling starts, and never clamps.

    Args:
        model: The model.
        images: Pictures, (N, C, H, W), in [−1, 1].
        plan: How to walk there and back.
        watch: Sees the walks.
        take_notes: Whether to keep what the network says while it decodes them, where that is a
            walk of its own: as much as a picture for every step.

    Raises:
        ArgumentError: The pictures are not of the model's shape, whole numbers, not finite, or
            none.
        NotInvertibleError: The plan's solver cannot be undone.
        NonFiniteError: NaN or infinity turned up on the way.
    """
    if tuple(images.shape[1:]) != model.picture_shape:
        raise ArgumentError(
            f"Pictures of shape {spelled(images.shape[1:])} do not fit {model.name}, which works "
            f"at {spelled(model.picture_shape)}; crop and scale them to that."
        )
    if not images.is_floating_point():
        raise ArgumentError(
            f"Pictures of {images.dtype} are not in [−1, 1]; give x / 127.5 − 1, if they are of 8 "
            "bits."
        )
    if not len(images) or not bool(torch.isfinite(images).all()):
        held = "NaN or infinity" if len(images) else "no pictures"
        raise ArgumentError(f"The tensor holds {held}, which cannot be inverted; give pictures.")
    choice = choose(plan, partial(_invert, model, model.place(images), watch, take_notes))
    return replace(choice.trial, nfe=choice.nfe, passed_over=choice.passed_over)


@torch.inference_mode()
def _invert(model: Model, images: Images, watch: Watch, take_notes: bool, plan: Plan) -> Inversion:
    grid, solver = plan.walk(model.schedule)
    x_0 = model.encode(images)
    floor = None if model.autoencoder is None else model.decode(x_0)
    dither = None
    if plan.dither:
        dither = grid[-1].noise * draw_for(images, model.shape, plan.seed).to(x_0)
        x_0 = x_0 + dither
    counted = CountCalls(model.denoiser)
    residuals: list[Tensor] = []
    walk = invert(counted, x_0, grid, solver)
    for state in watch(walk, about_steps(grid, solver), "inverting"):
        if state.residual is not None:
            residuals.append(state.residual)
    spent = counted.spent(len(x_0))
    seen = state.decoded
    state = replace(settle(solver, state), dither=dither)
    notes = None
    if seen is None:
        scribe = TakesNotes(counted) if take_notes else None
        decoded = sample_latents(model, state, plan, watch, scribe or counted)
        notes = scribe.notes if scribe else None
    else:
        decoded = model.decode(_without(dither, seen))
    certificates = certify(images, decoded, state.x, residuals, spent, state.level, floor)
    return Inversion(
        state, decoded, certificates, counted.nfe, images, plan, floor=floor, notes=notes
    )


@torch.inference_mode()
def sample_latents(
    model: Model,
    latents: State | Tensor,
    plan: Plan,
    watch: Watch = unwatched,
    denoiser: Denoiser | None = None,
) -> Images:
    """Decode latents to pictures, (N, C, H, W), in [−1, 1] or a little beyond.

    Args:
        model: The model.
        latents: x_T, or the state an inversion ended with.
        plan: How to walk. `auto` walks a pair as one, and a solver of single latents leaves a
            pair's other half aside.
        watch: Sees the walk.
        denoiser: Instead of the model's: one that counts, or notes, what it is asked.
    """
    if plan.solver == "auto" and isinstance(latents, State) and latents.memory:
        plan = replace(plan, solver=AUTO[0])
    grid, solver = plan.walk(model.schedule)
    start = latents if isinstance(latents, State) else State(model.place(latents), grid[0])
    walk = sample(denoiser or model.denoiser, settle(solver, start), grid, solver)
    x_0 = last(watch(walk, len(grid) - 1, "sampling")).x
    return model.decode(_without(start.dither, x_0))


def _without(dither: Tensor | None, x_0: Tensor) -> Tensor:
    return x_0 if dither is None else x_0 - dither.to(x_0)
