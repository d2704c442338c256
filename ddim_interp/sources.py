"""What a film is to pass through, as its user names it: pictures, latents from a file, seeds.

    seed:3                      noise
    z.safetensors               every latent of a latent file
    z.safetensors#2             one of them
    anything else               a picture

All that can be known without a model is known here: whether it is there, how many keyframes it
makes, and how its latents were found.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from PIL.Image import Image

from ddim_interp.errors import ArgumentError, InputMissingError, LatentsError
from ddim_interp.files import StrPath, is_there, sha256_file, shown
from ddim_interp.images import Picture
from ddim_interp.latent_file import count_latents, read_latents_recipe
from ddim_interp.latents import LARGEST_SEED
from ddim_interp.model import Plan

__all__ = [
    "WALK",
    "FiledLatents",
    "PictureFile",
    "Seed",
    "Source",
    "check_sources",
    "count_keyframes",
    "fingerprint",
    "in_words",
    "is_same_walk",
    "parse_source",
    "path_of",
    "plan_for",
]

Source: TypeAlias = StrPath | Image | Picture
"""`seed:3`, a latent file (`z.safetensors`, `z.safetensors#2`), or a picture, opened or not."""

WALK = ("solver", "steps", "spacing", "depth")
"""What latents depend on, of a plan."""

_LATENTS = re.compile(r"(.+\.safetensors)(?:#(\d{1,9}))?", re.DOTALL)
_DIGITS = 40  # no seed has so many


@dataclass(frozen=True)
class Seed:
    """Noise: `source` is what the user wrote, `number` the seed."""

    source: str
    number: int


@dataclass(frozen=True)
class FiledLatents:
    """Latents of the file at `path`: the one of that index, or all if it is None."""

    path: str
    index: int | None


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A picture: a file, or one that is open already."""

    picture: Source


def parse_source(source: Source) -> Seed | FiledLatents | PictureFile:
    """What is meant; nothing is opened.

    Raises:
        ArgumentError: A seed cannot be meant.

    Example:
        >>> parse_source("seed:7"), parse_source("z.safetensors#2")
        (Seed(source='seed:7', number=7), FiledLatents(path='z.safetensors', index=2))
    """
    if isinstance(source, Image | Picture):
        return PictureFile(source)
    text = str(source)
    if text.startswith("seed:"):
        return Seed(text, _seed(text))
    if latents := _LATENTS.fullmatch(text):
        return FiledLatents(latents[1], None if latents[2] is None else int(latents[2]))
    return PictureFile(source)


def path_of(source: Source) -> Path | None:
    """The file that is named, if one is.

    Example:
        >>> path_of("z.safetensors#2").name, path_of("seed:7")
        ('z.safetensors', None)
    """
    named = parse_source(source)
    if isinstance(named, FiledLatents):
        return Path(named.path)
    if isinstance(named, Seed) or isinstance(named.picture, Image | Picture):
        return None
    return Path(named.picture)


def check_sources(sources: Sequence[Source]) -> None:
    """Find missing files and meaningless seeds before a model is loaded.

    Raises:
        InputMissingError: A file is not there.
        ArgumentError: A seed cannot be meant.
    """
    for source in sources:
        path = path_of(source)
        if path is not None and not is_there(path):
            raise InputMissingError(
                f"There is no file {shown(path)}; give a picture, a latent file or seed:N."
            )


def count_keyframes(sources: Sequence[Source]) -> int:
    """How many keyframes they make; of latent files the headers are read.

    Raises:
        InputMissingError: A latent file is not there.
        LatentsError: It is none.
    """
    named = map(parse_source, sources)
    return sum(
        count_latents(each.path) if isinstance(each, FiledLatents) and each.index is None else 1
        for each in named
    )


def fingerprint(source: StrPath) -> dict[str, str]:
    """What is named here, and the hash of what it holds now.

    Example:
        >>> fingerprint("seed:7")
        {'source': 'seed:7'}
    """
    path = path_of(source)
    if path is None:
        return {"source": str(source)}
    return {"source": Path(source).name, "sha256": sha256_file(path)}


def plan_for(sources: Sequence[Source], **wishes: Any) -> Plan:
    """How to walk, where the user says little: as the latents given were found, if there are some.

    Args:
        sources: What to pass through; the latent files among them are asked how.
        **wishes: Fields of `Plan`; None where nothing is wished for.

    Raises:
        InputMissingError: A file is not there.
        LatentsError: A file is not a latent file, or was found by a solver that has no name.
        ArgumentError: The files were found on different walks, and none is wished for.
    """
    named = map(parse_source, sources)
    plans: dict[str, Plan] = {}
    for path in dict.fromkeys(each.path for each in named if isinstance(each, FiledLatents)):
        described = read_latents_recipe(path).get("plan")
        plan = plans[path] = Plan.parse(described).but(**wishes)
        solver = described.get("solver") if isinstance(described, dict) else None
        if wishes.get("solver") is None and solver not in (plan.solver, None):
            raise LatentsError(
                f"{shown(path)} was found by {shown(str(solver))}, which has no name to be asked "
                "for by; give the solver itself, in Python, as Plan(solver=…)."
            )
        first = next(iter(plans))
        mine, its = plan.describe(), plans[first].describe()
        if not is_same_walk(mine, its):
            raise ArgumentError(
                f"{shown(first)} was found by {in_words(its)}, and {shown(path)} by "
                f"{in_words(mine)}: their latents do not blend; invert all pictures with the same "
                "--steps, --spacing, --solver and --depth."
            )
    return next(iter(plans.values()), Plan().but(**wishes))


def is_same_walk(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two plans that `Plan.describe` described find, and decode, the same latents."""
    return all(one.get(name) == other.get(name) for name in WALK)


def in_words(described: Mapping[str, Any]) -> str:
    """The walk of a plan that `Plan.describe` described, in a sentence.

    Example:
        >>> in_words(Plan(solver="leapfrog").describe())
        'leapfrog in 20 steps of log-snr'
    """
    told = {name: shown(str(described.get(name))) for name in WALK}
    words = f"{told['solver']} in {told['steps']} steps of {told['spacing']}"
    return words if described.get("depth") == 1 else f"{words} to depth {told['depth']}"


def _seed(text: str) -> int:
    digits = text.removeprefix("seed:")
    if not digits.isascii() or not digits.isdigit():
        raise ArgumentError(f"{shown(text)} names no seed; write seed:7, with a whole number.")
    number = int(digits[:_DIGITS])
    if len(digits) >= _DIGITS or number > LARGEST_SEED:
        raise ArgumentError(f"{shown(text)} is out of range; use seed:0 to seed:{LARGEST_SEED}.")
    return number
