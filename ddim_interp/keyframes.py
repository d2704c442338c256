"""What a film passes through: pictures, latents from a file, or seeds, all as latents."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from torch import Tensor

from ddim_interp.checks import Certificate
from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError, InputMissingError
from ddim_interp.files import StrPath, shown
from ddim_interp.images import Picture, open_image, to_frames
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.latent_file import read_latents
from ddim_interp.latents import draw, latent_power
from ddim_interp.model import Model, Plan
from ddim_interp.shapes import Frame
from ddim_interp.solver import State
from ddim_interp.watch import Watch, unwatched

__all__ = [
    "Keyframe",
    "Source",
    "check_sources",
    "decode_keyframes",
    "find_keyframes",
    "join_states",
]

Source: TypeAlias = StrPath | Image
"""`seed:3`, a latent file (`z.safetensors`, `z.safetensors#2`), or a picture."""

_LATENTS = re.compile(r"(.+\.safetensors)(?:#(\d{1,9}))?", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A latent the path passes through.

    Args:
        source: What the user called it; no folders.
        state: The latent, N = 1.
        picture: The user's own picture, if it is one.
        residual: The picture less what the latent decodes to, (C, H, W).
        certificate: How well the picture was inverted.
    """

    source: str
    state: State
    picture: Picture | None = None
    residual: Tensor | None = None
    certificate: Certificate | None = None

    def report(self) -> dict[str, Any]:
        """What it is and how well it was inverted, as JSON and recipes say it."""
        picture, certificate = self.picture, self.certificate
        return {
            "source": self.source,
            "sha256": picture.sha256 if picture else None,
            "box": list(picture.box) if picture else None,
            "roundtrip_mse": certificate.roundtrip_mse if certificate else None,
            "roundtrip_max_level": certificate.roundtrip_max_level if certificate else None,
            "latent_power": float(latent_power(self.state.x)),
        }


def find_keyframes(
    model: Model,
    sources: Sequence[Source],
    plan: Plan,
    batch_size: int,
    watch: Watch = unwatched,
) -> tuple[tuple[Keyframe, ...], int]:
    """Bring every source into noise space; pictures are inverted together, in batches.

    Args:
        model: The model.
        sources: What to pass through. A latent file without `#` stands for all its latents.
        plan: How to invert.
        batch_size: Pictures inverted at once.
        watch: Sees the walks.

    Returns: The keyframes, in order, and the network evaluations spent.

    Raises:
        InputMissingError: A file is not there.
        ImageError: A file is not a picture.
        LatentsError: A file is not a latent file of this model.
        ArgumentError: A seed, or the number after `#`, cannot be meant.
    """
    found: list[Keyframe | Picture] = []
    for source in sources:
        found += _find(model, source, plan)
    pictures = [entry for entry in found if isinstance(entry, Picture)]
    inverted: list[Keyframe] = []
    nfe = 0
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        images = torch.stack([picture.pixels for picture in batch])
        inversion = invert_images(model, images, plan, watch)
        nfe += inversion.nfe
        residuals = model.place(images) - inversion.decoded
        for i, picture in enumerate(batch):
            inverted.append(
                Keyframe(
                    picture.name,
                    _pick(inversion.state, i),
                    picture,
                    residuals[i],
                    inversion.certificates[i],
                )
            )
    in_order = iter(inverted)
    return tuple(next(in_order) if isinstance(e, Picture) else e for e in found), nfe


def check_sources(sources: Sequence[Source]) -> None:
    """Find missing files and meaningless seeds before a model is loaded.

    Raises:
        InputMissingError: A file is not there.
        ArgumentError: A seed cannot be meant.
    """
    for source in sources:
        if isinstance(source, Image):
            continue
        text = str(source)
        if text.startswith("seed:"):
            _seed(text)
        else:
            latents = _LATENTS.fullmatch(text)
            path = Path(latents[1] if latents else text)
            if not path.exists():
                raise InputMissingError(
                    f"There is no file {shown(path)}; give a picture, a latent file or seed:N."
                )


def decode_keyframes(
    model: Model,
    keyframes: Sequence[Keyframe],
    plan: Plan,
    batch_size: int,
    watch: Watch = unwatched,
    counted: CountCalls | None = None,
) -> Iterator[Frame]:
    """Draw each keyframe's latent as a picture, (H, W, 3), uint8, in order."""
    for start in range(0, len(keyframes), batch_size):
        batch = keyframes[start : start + batch_size]
        state = join_states([keyframe.state for keyframe in batch])
        yield from to_frames(sample_latents(model, state, plan, watch, counted))


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
    return State(
        torch.cat([state.x for state in states]),
        first.level,
        tuple((level, torch.cat(one)) for level, one in zip(kept, memory, strict=True)),
    )


def _find(model: Model, source: Source, plan: Plan) -> list[Keyframe | Picture]:
    channels, height, width = model.shape
    if isinstance(source, Image):
        return [open_image(source, (height, width), channels=channels)]
    text = str(source)
    if text.startswith("seed:"):
        top = plan.walk(model.schedule)[0][0]
        latent = model.place(draw([_seed(text)], model.shape))
        return [Keyframe(text, State(latent, top))]
    latents = _LATENTS.fullmatch(text)
    if latents:
        return list(_from_file(model, latents[1], latents[2]))
    return [open_image(source, (height, width), channels=channels)]


def _seed(text: str) -> int:
    digits = text.removeprefix("seed:")
    if not digits.isascii() or not digits.isdigit():
        raise ArgumentError(f"{shown(text)} names no seed; write seed:7, with a whole number.")
    return int(digits)


def _from_file(model: Model, path: str, index: str | None) -> list[Keyframe]:
    file = read_latents(path, model)
    count = len(file.state.x)
    if index is not None and int(index) >= count:
        raise ArgumentError(
            f"{shown(path)} holds {count} latents, #0 to #{count - 1}; #{index} is not among them."
        )
    chosen = range(count) if index is None else [int(index)]
    return [
        Keyframe(
            f"{Path(path).name}#{i}",
            State(
                model.place(file.state.x[i : i + 1]),
                file.state.level,
                tuple((lv, t[i : i + 1].to(model.device)) for lv, t in file.state.memory),
            ),
            certificate=file.certificate(i),
        )
        for i in chosen
    ]


def _pick(state: State, i: int) -> State:
    return replace(
        state,
        x=state.x[i : i + 1],
        memory=tuple((level, tensor[i : i + 1]) for level, tensor in state.memory),
        residual=None,
    )
