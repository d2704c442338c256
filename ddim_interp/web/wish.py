"""What film does the page ask for? Its choices, checked at the edge, and what they mean elsewhere:
as a `Style` and a `Plan`, and as the options of `ddim-interp morph` that make the same film."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ddim_interp.errors import ArgumentError
from ddim_interp.model import Plan
from ddim_interp.sources import Source, plan_for
from ddim_interp.style import QUICK_TOLERANCE, Style

__all__ = ["ENDINGS", "MOST_FRAMES", "FilmWish", "command_line"]

ENDINGS = ("once", "loop", "boomerang")
"""What a film does at its end: stop, return to its first keyframe, go back the way it came."""

MOST_FRAMES = 600


@dataclass(frozen=True)
class FilmWish:
    """The choices on the page.

    Args:
        frames: Frames in all.
        fps: Frames a second.
        blend: Curve between keyframes; a name from `BLENDS`.
        pace: `uniform` or `perceptual`.
        ending: One of `ENDINGS`.
        smooth: Whether the path rounds the corners at keyframes.
        quick: Whether to take few steps.
    """

    frames: int = 60
    fps: int = 30
    blend: str = "slerp"
    pace: str = "uniform"
    ending: str = "once"
    smooth: bool = True
    quick: bool = False

    @classmethod
    def parse(cls, given: Any) -> "FilmWish":
        """The wish that a page sent.

        Raises:
            ArgumentError: It is no wish, or cannot be meant.

        Example:
            >>> FilmWish.parse({"frames": 24, "quick": True}).style.frames
            24
        """
        if not isinstance(given, dict):
            raise ArgumentError("A wish is a JSON object, and this is none; send one.")
        known = {field.name: type(field.default) for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ArgumentError(f"{str(name)[:40]!r} is no choice; {', '.join(known)} are.")
            if type(value) is not known[name]:
                raise ArgumentError(
                    f"{name}={str(value)[:40]!r} is of another kind; give a {known[name].__name__}."
                )
        wish = cls(**given)
        if not 2 <= wish.frames <= MOST_FRAMES:
            raise ArgumentError(
                f"frames={wish.frames} is not for this page; ask for 2 to {MOST_FRAMES}, or for "
                "more on the command line."
            )
        if not 1 <= wish.fps <= 60:
            raise ArgumentError(f"fps={wish.fps} is no pace for a screen; ask for 1 to 60.")
        if wish.ending not in ENDINGS:
            raise ArgumentError(
                f"No ending is called {wish.ending[:40]!r}; choose one of {', '.join(ENDINGS)}."
            )
        wish.style.check()
        return wish

    @property
    def style(self) -> Style:
        """How the film moves."""
        return Style(
            frames=self.frames,
            blend=self.blend,
            smooth=self.smooth,
            pace=self.pace,
            loop=self.ending == "loop",
            boomerang=self.ending == "boomerang",
            tolerance=QUICK_TOLERANCE if self.quick else Style.tolerance,
        )

    def plan(self, sources: Sequence[Source], **wishes: Any) -> Plan:
        """How to walk the noise axis.

        Args:
            sources: What the film passes through.
            **wishes: Fields of `Plan` that the command line asked for.

        Raises:
            ArgumentError: Latent files among the sources were found on different walks.
        """
        return Plan.quick(**wishes) if self.quick else plan_for(sources, **wishes)

    def describe(self) -> dict[str, Any]:
        """The choices, as JSON values; `parse` takes them."""
        return asdict(self)

    @property
    def drawn(self) -> "FilmWish":
        """What decides the frames: the same, at the usual speed."""
        return replace(self, fps=FilmWish.fps)

    @property
    def options(self) -> list[str]:
        """The options of `ddim-interp morph` that mean it; those that it takes by itself are left
        out.

        Example:
            >>> FilmWish(frames=24, ending="loop", smooth=False).options
            ['--frames', '24', '--straight', '--loop']
        """
        usual = FilmWish()
        said = []
        for name in ("frames", "fps", "blend", "pace"):
            value = getattr(self, name)
            if value != getattr(usual, name):
                said += [f"--{name}", str(value)]
        said += [] if self.smooth else ["--straight"]
        said += [] if self.ending == "once" else [f"--{self.ending}"]
        return [*said, "--quick"] if self.quick else said


def command_line(
    keyframes: Sequence[str], wish: FilmWish, out: str, setting: Mapping[str, Any]
) -> str:
    """What to type for the same film.

    Args:
        keyframes: How each is spelled; names from strangers among them.
        wish: The choices on the page.
        out: The film's name.
        setting: Options that `explore` itself was given, by name; None where they were not.

    Example:
        >>> command_line(["a b.png", "-x.png"], FilmWish(), "film.mp4", {"--steps": 8})
        "ddim-interp morph 'a b.png' ./-x.png -o film.mp4 --steps 8"
    """
    named = [f"./{name}" if name.startswith("-") else name for name in keyframes]
    words = ["ddim-interp", "morph", *named, "-o", out, *wish.options]
    for option, value in setting.items():
        if value is True:
            words.append(option)
        elif value is not None:
            words += [option, str(value)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    r"""A word for a shell. A file's name that is no UTF-8, which no page can show, by its bytes.

    Example:
        >>> print(_quoted("caf\udce9's.png"))
        $'caf\351\047s.png'
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        plain = set(range(ord(" "), ord("~") + 1)) - set(b"\\'")
        each = (chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(word))
        return f"$'{''.join(each)}'"
    return shlex.quote(word)
