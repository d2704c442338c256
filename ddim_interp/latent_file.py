"""Latents on disk: what an inversion found, so that nothing has to be found twice.

z.safetensors
├── latents        (N, C, H, W) float32     x_T
├── memory.0 …     (N, C, H, W)             what the solver must keep besides x_T, if anything
├── dither         (N, C, H, W) float32     what to take off decoded pictures, if anything
└── metadata       ddim_interp = JSON       see `LatentFile`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddim_interp.checks import Certificate
from ddim_interp.errors import ArgumentError, LatentsError
from ddim_interp.files import StrPath, shown
from ddim_interp.model import Model, Plan
from ddim_interp.recipe import pack, unpack
from ddim_interp.schedule import Level
from ddim_interp.solver import State
from ddim_interp.tensors import read_header, read_tensors, write_tensors

__all__ = [
    "LatentFile",
    "check_index",
    "check_latents_name",
    "count_latents",
    "describe_latents",
    "parse_certificate",
    "read_latents",
    "read_latents_recipe",
    "restore_state",
    "source_note",
    "state_tensors",
    "write_latents",
]

_KEY = "ddim_interp"
_VERSION = 1


@dataclass(frozen=True)
class LatentFile:
    """What a latent file holds.

    Args:
        state: The latents at the noisiest level of the grid.
        model: Name of the model they belong to.
        weights_sha256: Its weights.
        plan: `Plan.describe()` of the walk that found them, and decodes them.
        sources: For each latent: name and sha256 of the picture, its crop box, its certificate.
    """

    state: State
    model: str
    weights_sha256: str
    plan: Mapping[str, Any]
    sources: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def certificate(self, index: int) -> Certificate | None:
        """The certificate of one latent, if it has one."""
        entry = self.sources[index].get("certificate") if index < len(self.sources) else None
        return None if entry is None else parse_certificate(entry)


def describe_latents(
    state: State, model: Model, plan: Plan, sources: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What a latent file says of itself: what decodes its latents, and the proof that it does."""
    return {
        "version": _VERSION,
        "kind": "latents",
        **model.identity,
        "schedule": {
            "num_train_timesteps": model.schedule.num_train_timesteps,
            "alpha_bar": [model.schedule.lowest.alpha_bar, model.schedule.highest.alpha_bar],
        },
        "plan": plan.describe(),
        "level": list(state.level),
        "memory": [list(level) for level, _ in state.memory],
        "sources": list(sources),
    }


def write_latents(
    path: StrPath,
    state: State,
    model: Model,
    plan: Plan,
    sources: Sequence[Mapping[str, Any]] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Write latents with their description; see `describe_latents`.

    Raises:
        ArgumentError: The name does not end in `.safetensors`.
        OutputError: The file exists, or cannot be created.
        StorageError: The disk is full, or fails.
    """
    check_latents_name(path)
    tensors = state_tensors(state)
    tensors |= {name: tensors[name].float() for name in ("latents", "dither") if name in tensors}
    note = describe_latents(state, model, plan, sources)
    write_tensors(path, tensors, {_KEY: pack(note)}, overwrite=overwrite)


def state_tensors(state: State) -> dict[str, Tensor]:
    """All that a state has to keep, by name; `restore_state` takes it."""
    tensors = {"latents": state.x}
    tensors |= {f"memory.{i}": tensor for i, (_, tensor) in enumerate(state.memory)}
    return tensors if state.dither is None else tensors | {"dither": state.dither}


def restore_state(tensors: Mapping[str, Tensor], level: Level, memory: Sequence[Level]) -> State:
    """The state whose `state_tensors` these are.

    Args:
        tensors: By name.
        level: Its level.
        memory: The levels of what it remembers.
    """
    kept = tuple((each, tensors[f"memory.{i}"]) for i, each in enumerate(memory))
    return State(tensors["latents"], level, kept, dither=tensors.get("dither"))


def check_latents_name(path: StrPath) -> None:
    """Refuse a name that would hide what the file is.

    Raises:
        ArgumentError: The name does not end in `.safetensors`.
    """
    if not str(path).endswith(".safetensors"):
        raise ArgumentError(
            f"{shown(path)} is no name for latents; call them something.safetensors."
        )


def read_latents_recipe(path: StrPath, index: int | None = None) -> dict[str, Any]:
    """What a latent file says of itself; the latents are not read.

    Args:
        path: The file.
        index: Of the sources, give only that of this latent.

    Raises:
        ArgumentError: There is no latent of this index.
        InputMissingError: There is no such file.
        LatentsError: It is no latent file.
    """
    note, count = _read_note(path)
    if index is None:
        return note
    check_index(path, index, count)
    sources = note.get("sources")
    return note | {"sources": sources[index : index + 1] if isinstance(sources, list) else []}


def count_latents(path: StrPath) -> int:
    """How many latents a file holds; they are not read.

    Raises:
        InputMissingError: There is no such file.
        LatentsError: It is no latent file.
    """
    return _read_note(path)[1]


def check_index(path: StrPath, index: int, count: int) -> None:
    """Refuse the number of a latent that a file does not hold.

    Raises:
        ArgumentError: It is not below `count`.
    """
    if index >= count:
        raise ArgumentError(
            f"{shown(path)} holds {count} latents, #0 to #{count - 1}; #{index} is not among them."
        )


def _read_note(path: StrPath) -> tuple[dict[str, Any], int]:
    """What a latent file says of itself, and how many latents it holds, from its header."""
    header = read_header(path, LatentsError)
    if _KEY not in header.metadata:
        raise LatentsError(
            f"{shown(path)} is a safetensors file, but not one that ddim-interp wrote latents to; "
            "make one with 'ddim-interp invert'."
        )
    note = unpack(header.metadata[_KEY], shown(path))
    if note.get("kind") != "latents" or note.get("version") != _VERSION:
        raise LatentsError(
            f"{shown(path)} is a latent file of version {note.get('version')!r}, and this is "
            f"version {_VERSION}; make it again with 'ddim-interp invert'."
        )
    return note, (*header.shapes.get("latents", ()), 0)[0]


def read_latents(path: StrPath, model: Model | None = None) -> LatentFile:
    """Read latents, and make sure that they are this model's.

    Raises:
        InputMissingError: There is no such file.
        LatentsError: It is no latent file, is damaged, or belongs to another model.
    """
    note = read_latents_recipe(path)
    tensors, _ = read_tensors(path, LatentsError)
    try:
        latents = tensors["latents"]
        count, *shape = latents.shape
        level = Level(*map(float, note["level"]))
        remembered = [Level(*map(float, entry)) for entry in note.get("memory", ())]
        state = restore_state(tensors, level, remembered)
        sources = tuple(dict(entry) for entry in note.get("sources", ()))
        for entry in sources:
            if entry.get("certificate") is not None:
                parse_certificate(entry["certificate"])
        plan = dict(note["plan"])
        owner, weights = str(note["model"]), str(note["weights_sha256"])
        whole = all(each.shape == latents.shape for each in state_tensors(state).values())
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or latents.dtype != torch.float32 or len(shape) != 3 or not count:
        raise LatentsError(
            f"{shown(path)} is damaged: its tensors do not fit its description; make it again with "
            "'ddim-interp invert'."
        )
    if model is not None:
        _check_owner(path, owner, weights, (shape[0], shape[1], shape[2]), model)
    return LatentFile(state, owner, weights, plan, sources)


def _check_owner(
    path: StrPath, owner: str, weights: str, shape: tuple[int, int, int], model: Model
) -> None:
    if weights != model.weights_sha256:
        raise LatentsError(
            f"{shown(path)} holds latents of the model {shown(owner)} (weights {weights[:12]}…), "
            f"which mean nothing to {model.name} (weights {model.weights_sha256[:12]}…); "
            "name that model with --model, or invert the pictures again."
        )
    if shape != model.shape:
        raise LatentsError(
            f"{shown(path)} holds latents of shape {shape}, and {model.name} works at "
            f"{model.shape}; invert the pictures again."
        )


def source_note(
    name: str, sha256: str, box: Sequence[int], certificate: Certificate | None
) -> dict[str, Any]:
    """One picture's entry in a latent file."""
    note: dict[str, Any] = {"name": name, "sha256": sha256, "box": list(box)}
    if certificate is not None:
        note["verdict"] = certificate.verdict
        note["certificate"] = json.loads(json.dumps(asdict(certificate)))
    return note


def parse_certificate(entry: Any) -> Certificate:
    """A certificate as a file has it: all its numbers, and nothing but numbers.

    Raises:
        TypeError: It is something else.
    """
    read: dict[str, Any] = {}
    for key, value in dict(entry).items():
        if not all(
            type(x) in (int, float) for x in (value if isinstance(value, list) else [value])
        ):
            raise TypeError(f"{key} is no number")
        read[key] = tuple(value) if isinstance(value, list) else value
    for key in ("residuals", "spectrum", "rings", "ring_deviations"):
        if not isinstance(read.get(key, ()), tuple):
            raise TypeError(f"{key} is no list")
    return Certificate(**read)
