"""What a film passes through: pictures, latents from a file, or seeds, all as latents."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import isclose
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim_interp.checks import Certificate
from ddim_interp.choice import choose
from ddim_interp.denoiser import CountCalls, Denoiser
from ddim_interp.errors import ArgumentError, LatentsError
from ddim_interp.files import sha256_bytes, shown
from ddim_interp.images import Picture, open_image, to_frames
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.keep import Keep, Kept, forget, keep_frames
from ddim_interp.latent_file import (
    check_index,
    parse_certificate,
    read_latents,
    restore_state,
    source_note,
    state_tensors,
)
from ddim_interp.latents import draw, latent_power
from ddim_interp.model import Model, Plan
from ddim_interp.notes import Notes
from ddim_interp.repair import repair_inversion
from ddim_interp.schedule import Level
from ddim_interp.shapes import Frame, Frames
from ddim_interp.solver import AUTO_SAMPLER, State, begin
from ddim_interp.sources import (
    WALK,
    FiledLatents,
    PictureFile,
    Seed,
    Source,
    in_words,
    is_same_walk,
    parse_source,
    plan_for,
)
from ddim_interp.watch import Watch, unwatched

__all__ = [
    "Keyframe",
    "Keyframes",
    "decode_keyframes",
    "find_keyframes",
    "join_states",
    "note_of",
]


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A latent the path passes through.

    Args:
        source: What the user called it; no folders.
        state: The latent, N = 1.
        picture: The user's own picture, if it is one.
        residual: The picture less what the latent decodes to, (C, H, W).
        certificate: How well the picture was inverted.
        remark: Why nothing is known of that, if it is a latent that was inverted.
        notes: What the network said while the latent was decoded, if that is known.
    """

    source: str
    state: State
    picture: Picture | None = None
    residual: Tensor | None = None
    certificate: Certificate | None = None
    remark: str | None = None
    notes: Notes | None = None

    @property
    def good(self) -> bool:
        """Whether its certificate is; what was never inverted needs none."""
        return self.certificate.good if self.certificate else self.remark is None

    @property
    def verdict(self) -> str | None:
        """What is known of how well it comes back, in words; None of what was never inverted."""
        return self.certificate.verdict if self.certificate else self.remark

    def report(self) -> dict[str, Any]:
        """What it is and how well it was inverted, as JSON and recipes say it."""
        picture, certificate = self.picture, self.certificate
        return {
            "source": self.source,
            "sha256": picture.sha256 if picture else None,
            "box": list(picture.box) if picture else None,
            "roundtrip_mse": certificate.roundtrip_mse if certificate else None,
            "roundtrip_max_level": certificate.roundtrip_max_level if certificate else None,
            "autoencoder_mse": certificate.autoencoder_mse if certificate else None,
            "inversion_mse": certificate.inversion.mse if certificate else None,
            "latent_power": float(latent_power(self.state.x)),
            "verdict": self.verdict,
        }


@dataclass(frozen=True, eq=False)
class Keyframes:
    """All that a path passes through, in one noise space.

    Args:
        each: The keyframes, in order.
        plan: What found them, and decodes them; its solver is never `auto`.
        nfe: Network evaluations spent on them, when that was.
        passed_over: What came of the solvers that `auto` tried before, in words.
    """

    each: tuple[Keyframe, ...]
    plan: Plan = field(default_factory=Plan)
    nfe: int = 0
    passed_over: tuple[str, ...] = ()

    def __getitem__(self, some: slice) -> "Keyframes":
        """Some of them, found as all were."""
        return replace(self, each=self.each[some])

    def describe(self) -> dict[str, Any]:
        """How they were found, as JSON values."""
        return {"plan": self.plan.describe(), "passed_over": list(self.passed_over)}


def find_keyframes(
    model: Model,
    sources: Sequence[Source],
    plan: Plan,
    batch_size: int,
    watch: Watch = unwatched,
    keep: Keep = forget,
    repair: str | None = None,
    whole: bool = False,
    take_notes: bool = False,
) -> Keyframes:
    """Bring every source into noise space; pictures are inverted together, in batches.

    One solver serves all, since latents of different solvers do not blend: with `auto`, the first
    that gives every picture back exactly, or that of the latent files among the sources; where
    there are seeds only, `AUTO_SAMPLER`.

    Args:
        model: The model.
        sources: What to pass through. A latent file without `#` stands for all its latents.
        plan: How to invert.
        batch_size: Pictures inverted at once.
        watch: Sees the walks.
        keep: Remembers the batches inverted, or does not.
        repair: What is done to the latents of pictures; see `repair`.
        whole: Whether pictures remember what they were cropped from.
        take_notes: Whether to keep what the network says while it decodes their latents.

    Raises:
        InputMissingError: A file is not there.
        ImageError: A file is not a picture.
        LatentsError: A file is not a latent file of this model.
        ArgumentError: A seed, or the number after `#`, cannot be meant.
    """
    if plan.solver == "auto":
        walk = {name: getattr(plan, name) for name in WALK if name != "solver"}
        plan = replace(plan, solver=plan_for(sources, **walk).solver)
    found = [entry for source in sources for entry in _find(model, source, plan, whole)]
    pictures = [entry for entry in found if isinstance(entry, Picture)]
    if plan.solver == "auto" and not pictures:
        plan = replace(plan, solver=AUTO_SAMPLER)
    begun = CountCalls(model.denoiser)

    def attempt(candidate: Plan) -> _Inverted:
        trial = _Inverted()
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            name = f"inversion-{batch_size}-{_identity(batch)}-{candidate.solver}-{repair}"
            name += "-noted" if take_notes else ""
            make = partial(_invert, model, batch, candidate, watch, repair, take_notes)
            kept = keep(name, make)
            trial += _restore(model, batch, kept)
        return trial

    choice = choose(plan, attempt)
    inverted = iter(choice.trial.keyframes)
    each = tuple(
        next(inverted)
        if isinstance(entry, Picture)
        else Keyframe(entry.source, _begin(model, begun, entry, choice.plan))
        if isinstance(entry, Seed)
        else entry
        for entry in found
    )
    return Keyframes(each, choice.plan, choice.nfe + begun.nfe, choice.passed_over)


def decode_keyframes(
    model: Model,
    keyframes: Sequence[Keyframe],
    plan: Plan,
    batch_size: int,
    watch: Watch = unwatched,
    counted: CountCalls | None = None,
    keep: Keep = forget,
) -> Iterator[Frame]:
    """Draw each keyframe's latent as a picture, (H, W, 3), uint8, in order."""
    for start in range(0, len(keyframes), batch_size):
        batch = keyframes[start : start + batch_size]

        def decode(batch: Sequence[Keyframe] = batch) -> Frames:
            state = join_states([keyframe.state for keyframe in batch])
            return to_frames(sample_latents(model, state, plan, watch, counted))

        yield from keep_frames(keep, f"pictures-{batch_size}-{start}", decode)


def join_states(states: Sequence[State]) -> State:
    """One batch of several; they must come from one solver, at one level.

    Raises:
        ArgumentError: They do not.
    """
    first = states[0]
    kept = [level for level, _ in first.memory]
    if any(s.level != first.level or [lv for lv, _ in s.memory] != kept for s in states):
        raise ArgumentError(
            "These latents end at different noise levels, or come from different solvers; invert "
            "all pictures with the same --steps, --spacing and --solver."
        )
    memory = zip(*([tensor for _, tensor in state.memory] for state in states), strict=True)
    dithers = [torch.zeros_like(s.x) if s.dither is None else s.dither for s in states]
    return State(
        torch.cat([state.x for state in states]),
        first.level,
        tuple((level, torch.cat(one)) for level, one in zip(kept, memory, strict=True)),
        dither=None if all(s.dither is None for s in states) else torch.cat(dithers),
    )


def note_of(keyframe: Keyframe, repair: str | None = None) -> dict[str, Any]:
    """What a latent file says of where a keyframe comes from.

    Args:
        keyframe: The keyframe.
        repair: What was done to its latent, if it is a picture's.
    """
    picture = keyframe.picture
    if picture is None:
        return source_note(keyframe.source, "", (), keyframe.certificate)
    note = source_note(keyframe.source, picture.sha256, picture.box, keyframe.certificate)
    return note | {"repair": repair}


@dataclass(frozen=True, eq=False)
class _Inverted:
    """Pictures as keyframes, and whether they had come back before anything was repaired."""

    keyframes: tuple[Keyframe, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    nfe: int = 0

    def __add__(self, other: "_Inverted") -> "_Inverted":
        return _Inverted(
            self.keyframes + other.keyframes,
            self.certificates + other.certificates,
            self.nfe + other.nfe,
        )


def _find(model: Model, source: Source, plan: Plan, whole: bool) -> list[Keyframe | Picture | Seed]:
    named = parse_source(source)
    if isinstance(named, FiledLatents):
        return list(_from_file(model, named.path, named.index, plan))
    if isinstance(named, PictureFile):
        if isinstance(named.picture, Picture):
            return [named.picture]
        channels, height, width = model.picture_shape
        return [open_image(named.picture, (height, width), channels=channels, whole=whole)]
    if plan.depth < 1:
        raise ArgumentError(
            f"{named.source} is pure noise, and depth {plan.depth:g} stops where pictures are "
            "still half there; give a picture, or leave the depth at 1."
        )
    return [named]


@torch.inference_mode()
def _begin(model: Model, denoiser: Denoiser, seed: Seed, plan: Plan) -> State:
    grid, solver = plan.walk(model.schedule)
    return begin(solver, denoiser, model.place(draw([seed.number], model.shape)), grid)


def _identity(batch: Sequence[Picture]) -> str:
    """What tells a batch of pictures, as they are cropped, from every other."""
    return sha256_bytes(repr([(picture.sha256, picture.box) for picture in batch]).encode())[:32]


def _invert(
    model: Model,
    batch: Sequence[Picture],
    plan: Plan,
    watch: Watch,
    repair: str | None,
    take_notes: bool,
) -> Kept:
    """All that an inversion found, in a form that can be kept."""
    images = torch.stack([picture.pixels for picture in batch])
    inversion = invert_images(model, images, plan, watch, take_notes=take_notes)
    found = inversion.certificates
    if repair is not None:
        inversion = repair_inversion(model, inversion, repair, watch)
    state = inversion.state
    residuals = model.place(images) - inversion.decoded
    tensors = {**state_tensors(state), "residuals": residuals}
    if inversion.notes:
        tensors["notes"] = inversion.notes.x_0
    note = {
        "level": state.level,
        "memory": [level for level, _ in state.memory],
        "certificates": [asdict(certificate) for certificate in inversion.certificates],
        "before_repair": [asdict(certificate) for certificate in found],
        "nfe": inversion.nfe,
        "noted": inversion.notes.levels if inversion.notes else None,
    }
    # Contiguous as what is read back is: sums depend on the order in memory.
    return Kept({name: tensor.contiguous() for name, tensor in tensors.items()}, json.dumps(note))


def _restore(model: Model, batch: Sequence[Picture], kept: Kept) -> _Inverted:
    """The keyframes that `_invert` found."""
    note = json.loads(kept.text)
    tensors = {name: tensor.to(model.device) for name, tensor in kept.tensors.items()}
    memory = [Level(*level) for level in note["memory"]]
    state = restore_state(tensors, Level(*note["level"]), memory)
    notes = None
    if note["noted"]:
        notes = Notes(tuple(Level(*level) for level in note["noted"]), tensors["notes"])
    keyframes = tuple(
        Keyframe(
            picture.name,
            _pick(state, i, model.device),
            picture,
            tensors["residuals"][i],
            parse_certificate(note["certificates"][i]),
            notes=notes and notes.of(i),
        )
        for i, picture in enumerate(batch)
    )
    return _Inverted(keyframes, tuple(map(parse_certificate, note["before_repair"])), note["nfe"])


def _from_file(model: Model, path: str, index: int | None, plan: Plan) -> list[Keyframe]:
    file = read_latents(path, model)
    count = len(file.state.x)
    lives, starts = file.state.level, plan.walk(model.schedule)[0][0]
    if not isclose(lives.ratio, starts.ratio, rel_tol=1e-6):
        raise LatentsError(
            f"{shown(path)} holds latents of timestep {lives.timestep:g}, and the plan starts at "
            f"{starts.timestep:g}; use the --steps, --spacing and --depth they were made with "
            "('ddim-interp info' tells)."
        )
    if index is not None:
        check_index(path, index, count)
    chosen = range(count) if index is None else [index]
    # A certificate is of latents and what decodes them: of another walk it says nothing.
    remark = None
    decoder = plan.describe()
    if not is_same_walk(file.plan, decoder):
        remark = (
            f"found by {in_words(file.plan)} and decoded by {in_words(decoder)}, so its "
            "certificate does not hold"
        )
    return [
        Keyframe(
            f"{Path(path).name}#{i}",
            _pick(file.state, i, model.device),
            certificate=None if remark else file.certificate(i),
            remark=remark,
        )
        for i in chosen
    ]


def _pick(state: State, i: int, device: torch.device) -> State:
    """One of a batch, where the model runs."""

    def pick(each: Tensor) -> Tensor:
        return each[i : i + 1].to(device)

    return replace(state.moved(pick), dither=None if state.dither is None else pick(state.dither))
