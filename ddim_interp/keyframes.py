"""What a film passes through: pictures, latents from a file, or seeds, all as latents."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import isclose
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from torch import Tensor

from ddim_interp.checks import Certificate
from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError, InputMissingError, LatentsError
from ddim_interp.files import StrPath, sha256_bytes, sha256_file, shown
from ddim_interp.images import Picture, open_image, to_frames
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.keep import Keep, Kept, forget, keep_frames
from ddim_interp.latent_file import parse_certificate, read_latents
from ddim_interp.latents import draw, latent_power
from ddim_interp.model import Model, Plan
from ddim_interp.repair import repair_inversion
from ddim_interp.schedule import Level
from ddim_interp.shapes import Frame, Frames
from ddim_interp.solver import State, begin
from ddim_interp.watch import Watch, unwatched

__all__ = [
    "Keyframe",
    "Source",
    "check_sources",
    "decode_keyframes",
    "find_keyframes",
    "fingerprint",
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

    @property
    def good(self) -> bool:
        """Whether its certificate is; what was never inverted needs none."""
        return self.certificate is None or self.certificate.good

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
            "verdict": certificate.verdict if certificate else None,
        }


def find_keyframes(
    model: Model,
    sources: Sequence[Source],
    plan: Plan,
    batch_size: int,
    watch: Watch = unwatched,
    keep: Keep = forget,
    repair: str | None = None,
    whole: bool = False,
) -> tuple[tuple[Keyframe, ...], int]:
    """Bring every source into noise space; pictures are inverted together, in batches.

    Args:
        model: The model.
        sources: What to pass through. A latent file without `#` stands for all its latents.
        plan: How to invert.
        batch_size: Pictures inverted at once.
        watch: Sees the walks.
        keep: Remembers the batches inverted, or does not.
        repair: What is done to the latents of pictures; see `repair`.
        whole: Whether pictures remember what they were cropped from.

    Returns: The keyframes, in order, and the network evaluations spent on them, when that was.

    Raises:
        InputMissingError: A file is not there.
        ImageError: A file is not a picture.
        LatentsError: A file is not a latent file of this model.
        ArgumentError: A seed, or the number after `#`, cannot be meant.
    """
    found: list[Keyframe | Picture] = []
    for source in sources:
        found += _find(model, source, plan, whole)
    pictures = [entry for entry in found if isinstance(entry, Picture)]
    inverted: list[Keyframe] = []
    nfe = 0
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        name = f"inversion-{batch_size}-{_identity(batch)}-{repair}"
        kept = keep(name, partial(_invert, model, batch, plan, watch, repair))
        spent, restored = _restore(model, batch, kept)
        inverted += restored
        nfe += spent
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


def fingerprint(source: StrPath) -> dict[str, str]:
    """What is named here, and the hash of what it holds now.

    Example:
        >>> fingerprint("seed:7")
        {'source': 'seed:7'}
    """
    text = str(source)
    if text.startswith("seed:"):
        return {"source": text}
    latents = _LATENTS.fullmatch(text)
    return {"source": Path(text).name, "sha256": sha256_file(latents[1] if latents else text)}


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
    return State(
        torch.cat([state.x for state in states]),
        first.level,
        tuple((level, torch.cat(one)) for level, one in zip(kept, memory, strict=True)),
    )


def _find(model: Model, source: Source, plan: Plan, whole: bool) -> list[Keyframe | Picture]:
    channels, height, width = model.picture_shape
    if isinstance(source, Image):
        return [open_image(source, (height, width), channels=channels, whole=whole)]
    text = str(source)
    if text.startswith("seed:"):
        if plan.depth < 1:
            raise ArgumentError(
                f"{text} is pure noise, and depth {plan.depth:g} stops where pictures are still "
                "half there; give a picture, or leave the depth at 1."
            )
        grid, solver = plan.walk(model.schedule)
        latent = model.place(draw([_seed(text)], model.shape))
        with torch.inference_mode():
            return [Keyframe(text, begin(solver, model.denoiser, latent, grid))]
    latents = _LATENTS.fullmatch(text)
    if latents:
        return list(_from_file(model, latents[1], latents[2], plan))
    return [open_image(source, (height, width), channels=channels, whole=whole)]


def _identity(batch: Sequence[Picture]) -> str:
    """What tells a batch of pictures, as they are cropped, from every other."""
    return sha256_bytes(repr([(picture.sha256, picture.box) for picture in batch]).encode())[:32]


def _invert(
    model: Model, batch: Sequence[Picture], plan: Plan, watch: Watch, repair: str | None
) -> Kept:
    """All that an inversion found, in a form that can be kept."""
    images = torch.stack([picture.pixels for picture in batch])
    inversion = invert_images(model, images, plan, watch)
    if repair is not None:
        inversion = repair_inversion(model, inversion, plan, repair, watch)
    state = inversion.state
    tensors = {"latents": state.x, "residuals": model.place(images) - inversion.decoded}
    tensors |= {f"memory.{i}": tensor for i, (_, tensor) in enumerate(state.memory)}
    note = {
        "level": state.level,
        "memory": [level for level, _ in state.memory],
        "certificates": [asdict(certificate) for certificate in inversion.certificates],
        "nfe": inversion.nfe,
    }
    # Contiguous as what is read back is: sums depend on the order in memory.
    return Kept({name: tensor.contiguous() for name, tensor in tensors.items()}, json.dumps(note))


def _restore(model: Model, batch: Sequence[Picture], kept: Kept) -> tuple[int, list[Keyframe]]:
    """The evaluations that `_invert` took, and the keyframes it found."""
    note = json.loads(kept.text)
    tensors = {name: tensor.to(model.device) for name, tensor in kept.tensors.items()}
    memory = tuple(
        (Level(*level), tensors[f"memory.{i}"]) for i, level in enumerate(note["memory"])
    )
    state = State(tensors["latents"], Level(*note["level"]), memory)
    return note["nfe"], [
        Keyframe(
            picture.name,
            _pick(state, i),
            picture,
            tensors["residuals"][i],
            parse_certificate(note["certificates"][i]),
        )
        for i, picture in enumerate(batch)
    ]


def _seed(text: str) -> int:
    digits = text.removeprefix("seed:")
    if not digits.isascii() or not digits.isdigit():
        raise ArgumentError(f"{shown(text)} names no seed; write seed:7, with a whole number.")
    return int(digits)


def _from_file(model: Model, path: str, index: str | None, plan: Plan) -> list[Keyframe]:
    file = read_latents(path, model)
    count = len(file.state.x)
    lives, starts = file.state.level, plan.walk(model.schedule)[0][0]
    if not isclose(lives.ratio, starts.ratio, rel_tol=1e-6):
        raise LatentsError(
            f"{shown(path)} holds latents of timestep {lives.timestep:g}, and the plan starts at "
            f"{starts.timestep:g}; use the --steps, --spacing and --depth they were made with "
            "('ddim-interp info' tells)."
        )
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
