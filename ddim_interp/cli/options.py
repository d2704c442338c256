"""Every option that means the same to more than one command, spelled once.

--steps --spacing --solver --depth      how to walk the noise axis: a `Plan`
--dither --seed --repair                what is done to pictures before, to latents after
--blend --raw                           what is seen between keyframes, and at them
--strict                                what a bad verdict means
-o                                      what to write
--offline --overwrite --json -q         of a `Run`, and of commands that are none
"""

import math
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

__all__ = [
    "BLENDS",
    "DTYPES",
    "FILE",
    "METRICS",
    "NOISE",
    "PACES",
    "SOLVERS",
    "SPACINGS",
    "WALK",
    "Numbers",
    "Seeds",
    "blend_option",
    "check_noise",
    "dither_option",
    "inverting_options",
    "json_option",
    "noise_parameters",
    "offline_option",
    "output_option",
    "overwrite_option",
    "plan_options",
    "plan_parameters",
    "raw_option",
    "repair_option",
    "spacing_option",
    "stack",
    "strict_option",
    "talk_options",
]

F = TypeVar("F", bound=Callable[..., Any])

# Copies of the registries' keys: importing those would import torch, and `-h` should be instant.
# A test compares them.
BLENDS = ("slerp", "lerp", "nlerp", "lol", "adain")
PACES = ("uniform", "perceptual")
METRICS = ("lab", "lpips")
SPACINGS = ("leading", "linspace", "trailing", "uniform", "quad", "log-snr", "karras", "focus")
SOLVERS = (
    "auto",
    "ddim",
    "ddim-naive",
    "heun",
    "heun-exact",
    "trapezoid",
    "dpmpp-2m",
    "adams",
    "dpmpp-exact",
    "rk45",
    "leapfrog",
    "bdia",
    "o-belm",
    "edict",
)
DTYPES = ("auto", "fp32", "bf16", "fp16")

WALK = ("steps", "spacing", "solver", "depth")
"""The options of a `Plan` that say how to walk, by the names of their values."""

NOISE = ("dither", "seed")
"""Those that say what pictures are given before."""


FILE = click.Path(readable=False)
"""Something that may be a file: shells complete its name, and nothing is checked."""


class Numbers(click.ParamType[tuple[Any, ...]]):
    """`0,2,3.5`: numbers of one kind, one or more."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            numbers = tuple(self.kind(part) for part in value.split(","))
            if not all(map(math.isfinite, numbers)):
                raise ValueError
            return numbers
        except ValueError:
            whole = "whole numbers" if self.kind is int else "numbers"
            self.fail(f"{value!r} is no list of {whole}; write them as in 10,20,50.", param, ctx)


class Seeds(click.ParamType[list[int]]):
    """`0-8`, `1,2,5-10`: a list of seeds."""

    name = "seeds"
    most = 100_000

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        if not isinstance(value, str):
            return list(value)
        seeds: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", part, re.ASCII)
            if match is None:
                self.fail(f"{value!r} is no list of seeds; write 7, 0-8 or 1,2,5-10.", param, ctx)
            first, end = int(match[1]), int(match[2] or match[1])
            if not 0 <= end - first < self.most:
                self.fail(
                    f"{part.strip()!r} counts down, or names more than {self.most:,} seeds; write "
                    "the smaller one first, as in 0-8.",
                    param,
                    ctx,
                )
            seeds += range(first, end + 1)
        return seeds


def stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help lists them."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


offline_option = click.option("--offline", is_flag=True, help="Open no connection.")


def spacing_option(default: str | None = None, *, latents: bool = True) -> Callable[[F], F]:
    """`--spacing`; by default that of the latents given, for a command that takes some."""
    found = "" if default else f"  {_unless_found('log-snr', latents)}"
    return click.option(
        "--spacing", type=click.Choice(SPACINGS), default=default, help=f"How they are laid.{found}"
    )


def plan_parameters(*, latents: bool = True) -> Callable[[F], F]:
    """Options that say how to walk; `latents`: for a command that may be given some."""

    def default(value: str) -> str:
        return _unless_found(value, latents)

    return stack(
        click.option("--steps", type=int, help=f"Steps along the noise axis.  {default('20')}"),
        spacing_option(latents=latents),
        click.option(
            "--solver",
            type=click.Choice(SOLVERS),
            help="How each is taken; auto: the cheapest that gives your pictures back exactly.  "
            + default("auto"),
        ),
        click.option(
            "--depth",
            type=click.FloatRange(0, 1, min_open=True),
            help="How far up the noise axis; short of 1, latents still hold the coarse picture.  "
            + default("1.0"),
        ),
    )


def dither_option(default: bool | None = None, *, latents: bool = True) -> Callable[[F], F]:
    """`--dither`; by default as the latents given were found, for a command that takes some."""
    found = f"  {_unless_found('dither', latents)}" if default is None else ""
    return click.option(
        "--dither/--no-dither",
        default=default,
        help="Give pictures the noise that the model expects at t = 0, and take it off again in "
        f"the end.{found}",
    )


def noise_parameters(*, latents: bool = True) -> Callable[[F], F]:
    """Options that say what pictures are given before; `latents` as in `plan_parameters`."""
    return stack(
        dither_option(latents=latents),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            metavar="N",
            help="Another draw of the noise that pictures are given; films differ a little.  "
            + _unless_found("0", latents),
        ),
    )


def _unless_found(value: str, latents: bool) -> str:
    found = "as the latents given were found; else " if latents else ""
    return f"[default: {found}{value}]"


def plan_options(*, latents: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of a `Plan`, and hand over those that were given, by name."""
    return lambda function: _with_wishes(function, WALK, plan_parameters(latents=latents))


def inverting_options(
    *, latents: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`plan_options` for a command that may be given pictures, with what is done to them before."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(*arguments: Any, wishes: dict[str, Any], **values: Any) -> Any:
            check_noise(wishes, values.get("repair"))
            return function(*arguments, wishes=wishes, **values)

        parameters = stack(plan_parameters(latents=latents), noise_parameters(latents=latents))
        return _with_wishes(command, (*WALK, *NOISE), parameters)

    return decorate


def check_noise(wishes: dict[str, Any], repair: str | None) -> None:
    """Refuse a seed of noise that nothing is given.

    Raises:
        UsageError: One is wished for, and no noise.
    """
    if wishes["seed"] is not None and wishes["dither"] is False and repair is None:
        raise click.UsageError("--seed draws the noise that --no-dither does without; give one.")


def _with_wishes(
    function: Callable[..., Any],
    names: tuple[str, ...],
    options: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Callable[..., Any]:
    @wraps(function)
    def command(*arguments: Any, **values: Any) -> Any:
        wishes = {name: values.pop(name) for name in names}
        return function(*arguments, wishes=wishes, **values)

    return options(command)


blend_option = click.option(
    "--blend", type=click.Choice(BLENDS), default="slerp", help="Curve between keyframes."
)

raw_option = click.option(
    "--raw", is_flag=True, help="Leave pictures as they are decoded, at keyframes too."
)

strict_option = click.option("--strict", is_flag=True, help="Exit with 1 if a verdict is bad.")

repair_option = click.option(
    "--repair",
    metavar="NAME",
    help="Make latents more like noise: renormalise, channels, or forward-2 to draw two steps.",
)

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")

talk_options = stack(
    json_option,
    click.option("-q", "--quiet", is_flag=True, help="No progress, no messages."),
)


def output_option(what: str) -> Callable[[F], F]:
    """`-o`, with a word on what it becomes."""
    return click.option("-o", "--out", type=FILE, metavar="OUT", required=True, help=what)
