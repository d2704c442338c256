"""A keyframe as it lies on the page: something with a name and a picture, which can be moved."""

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from ddim_interp.errors import DdimInterpError
from ddim_interp.files import StrPath, shown
from ddim_interp.images import Picture, open_image
from ddim_interp.keyframes import Keyframe
from ddim_interp.latent_file import read_latents
from ddim_interp.model import Model
from ddim_interp.recipe import printable
from ddim_interp.shapes import Frame
from ddim_interp.sources import FiledLatents, Seed, Source, parse_source

__all__ = ["Card", "lay_cards", "plain_name", "told_apart", "upload_card"]

_LONGEST_NAME = 120


@dataclass(frozen=True, eq=False)
class Card:
    """A keyframe on the page.

    Args:
        source: What it is, for `find_keyframes`.
        name: What it is called on the page.
        spelling: How a command line names it.
        kind: `picture`, `seed` or `latent`.
        picture: What it looks like, once that is known.
        keyframe: What was found in noise space, once it was looked for.
        id: What the page calls it by; ours, and nobody's choice.
    """

    source: Source
    name: str
    spelling: str
    kind: str
    picture: Frame | None = None
    keyframe: Keyframe | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(6))

    def describe(self) -> dict[str, Any]:
        """What the page knows of it, as JSON values."""
        certificate = self.keyframe.certificate if self.keyframe else None
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "pictured": self.picture is not None,
            "found": self.keyframe is not None,
            "good": self.keyframe.good if self.keyframe else None,
            "grade": certificate.grade if certificate else None,
            "comes_back": None
            if certificate is None
            else "exactly"
            if certificate.inversion.max_level == 0
            else f"to {certificate.inversion.psnr:.1f} dB",
            "verdict": self.keyframe.verdict if self.keyframe else None,
        }


def lay_cards(source: StrPath, model: Model) -> Iterator[Card]:
    """What the user named, as cards: one, or one for each latent of a file.

    Raises:
        DdimInterpError: It is not there, or is nothing that this model could use.
    """
    named = parse_source(source)
    if isinstance(named, Seed):
        yield Card(source, f"seed:{named.number}", f"seed:{named.number}", "seed")
    elif isinstance(named, FiledLatents):
        count = len(read_latents(named.path, model).state.x)
        chosen = range(count) if named.index is None else [named.index]
        for index in chosen:
            spelling = f"{named.path}#{index}"
            yield Card(spelling, plain_name(spelling), spelling, "latent")
    else:
        yield _picture_card(source, plain_name(str(source)), str(source), model)


def upload_card(path: Path, name: str, model: Model) -> Card:
    """A picture that came from the page, in a file of ours.

    Args:
        path: Where it lies; it is not needed afterwards.
        name: What its owner calls it: hostile text.
        model: For which model.

    Raises:
        ImageError: It is no picture that can be read.
    """
    plain = plain_name(name)
    try:
        spelling = f"./{plain}" if plain.startswith("seed:") else plain
        return _picture_card(path, plain, spelling, model)
    except DdimInterpError as error:
        said = str(error).replace(shown(path), shown(plain))
        raise type(error)(said) from error


def told_apart(card: Card, others: Iterable[Card]) -> Card:
    """The card; if another picture goes by its name, with a number in it, as `apple (2).png`."""
    if not isinstance(card.source, Picture):
        return card
    digests = {
        other.spelling: other.source.sha256 for other in others if isinstance(other.source, Picture)
    }
    name, spelling = card.name, card.spelling
    for number in count(2):
        if digests.get(spelling, card.source.sha256) == card.source.sha256:
            break
        name, spelling = (_numbered(text, number) for text in (card.name, card.spelling))
    return replace(card, source=replace(card.source, name=name), name=name, spelling=spelling)


def _numbered(name: str, number: int) -> str:
    suffix = Path(name).suffix
    return f"{name.removesuffix(suffix)} ({number}){suffix}"


def plain_name(name: str) -> str:
    r"""A file's name without its folders, and without what could steer a screen.

    Example:
        >>> plain_name("C:\\mia\\a\x1b[31mpple.png"), plain_name("../\n"), plain_name("z#1")
        ('a[31mpple.png', 'picture', 'z#1')
    """
    last = re.split(r"[\\/]", name)[-1]
    return printable(last).strip()[:_LONGEST_NAME] or "picture"


def _picture_card(path: StrPath, name: str, spelling: str, model: Model) -> Card:
    channels, height, width = model.picture_shape
    picture = open_image(path, (height, width), channels=channels)
    return Card(replace(picture, name=name), name, spelling, "picture", picture.frame)
