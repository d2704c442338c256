"""Every option that means the same to more than one command, spelled once.

--steps --spacing --solver --depth      how to walk the noise axis: a `Plan`
--dither --seed --repair                what is done to pictures before, to latents after
--blend --raw                           what is seen between keyframes, and at them
--strict                                what a bad verdict means
-o                                      what to write

and these, which `run_options` hands to a command in one piece, as a `Run`:

--model --class-label                   which model
--device --dtype --compile --offline    where, and how
--batch-size                            pictures in the network at once
--overwrite                             whether to replace an output
--resume --allow-drift --cache          what to keep of a run, for the next
--json -q -v                            what to say
"""

import gc
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ddim_interp.hub import Located
    from ddim_interp.pipeline import DDIMPipeline
    from ddim_interp.production import Order, Product

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
    "Run",
    "Seeds",
    "blend_option",
    "check_noise",
    "dither_option",
    "echo_path",
    "fetch",
    "inverting_options",
    "json_option",
    "noise_parameters",
    "offline_option",
    "output_option",
    "overwrite_option",
    "plan_options",
    "plan_parameters",
    "print_json",
    "raw_option",
    "repair_option",
    "run_options",
    "say",
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


_AS_FOUND = "[default: as the latents given were found; else"

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
            self.fail(f"{value!r} is no list of {whole}; write them as in 0,2,3.", param, ctx)


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

_model_options = stack(
    click.option(
        "--model",
        type=FILE,
        metavar="MODEL",
        help="A folder, a checkpoint, org/name[@revision]; the model in the package if not given.",
    ),
    click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu."),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        help="Precision of the network; auto: float32 to invert, the fastest faithful for frames.",
    ),
    click.option(
        "--compile/--no-compile",
        "compiled",
        default=False,
        help="Compile the network for frames, which takes a minute. On a GPU diffusers' networks "
        "are faster without, by kernels of our own.",
    ),
    offline_option,
    click.option(
        "--class-label",
        type=click.IntRange(min=0),
        metavar="N",
        help="What to draw, for a model that was trained with classes.",
    ),
)


def spacing_option(default: str | None = None) -> Callable[[F], F]:
    """`--spacing`; by default that of the latents given, for a command that takes some."""
    found = "" if default else f"  {_AS_FOUND} log-snr]"
    return click.option(
        "--spacing", type=click.Choice(SPACINGS), default=default, help=f"How they are laid.{found}"
    )


plan_parameters = stack(
    click.option("--steps", type=int, help=f"Steps along the noise axis.  {_AS_FOUND} 20]"),
    spacing_option(),
    click.option(
        "--solver",
        type=click.Choice(SOLVERS),
        help="How each is taken; auto: the cheapest that gives your pictures back exactly.  "
        f"{_AS_FOUND} auto]",
    ),
    click.option(
        "--depth",
        type=click.FloatRange(0, 1, min_open=True),
        help="How far up the noise axis; short of 1, latents still hold the coarse picture.  "
        f"{_AS_FOUND} 1.0]",
    ),
)


def dither_option(default: bool | None = None) -> Callable[[F], F]:
    """`--dither`; by default as the latents given were found, for a command that takes some."""
    found = f"  {_AS_FOUND} dither]" if default is None else ""
    return click.option(
        "--dither/--no-dither",
        default=default,
        help="Give pictures the noise that the model expects at t = 0, and take it off again in "
        f"the end.{found}",
    )


noise_parameters = stack(
    dither_option(),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        metavar="N",
        help="Another draw of the noise that pictures are given; films differ a little.  "
        f"{_AS_FOUND} 0]",
    ),
)


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a `Plan`, and hand over those that were given, by name."""
    return _with_wishes(function, WALK, plan_parameters)


def inverting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`plan_options` for a command that may be given pictures, with what is done to them before."""

    @wraps(function)
    def command(*arguments: Any, wishes: dict[str, Any], **values: Any) -> Any:
        check_noise(wishes, values.get("repair"))
        return function(*arguments, wishes=wishes, **values)

    return _with_wishes(command, (*WALK, *NOISE), stack(plan_parameters, noise_parameters))


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

_batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    help="Pictures in the network at once; by their size if not given.",
)

repair_option = click.option(
    "--repair",
    metavar="NAME",
    help="Make latents more like noise: renormalise, channels, or forward-2 to draw two steps.",
)

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")

_resume_options = stack(
    click.option(
        "--cache/--no-cache",
        default=True,
        help="Remember inversions, so that the next film of these pictures inverts nothing.",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Keep what is done if the run is interrupted, and go on from what such a run kept.",
    ),
    click.option(
        "--allow-drift",
        is_flag=True,
        help="Resume though versions, threads or batch size changed, and last bits with them.",
    ),
)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")

talk_options = stack(
    json_option,
    click.option("-q", "--quiet", is_flag=True, help="No progress, no messages."),
)


_verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Say what is done, with what, and how long it takes."
)


def output_option(what: str) -> Callable[[F], F]:
    """`-o`, with a word on what it becomes."""
    return click.option("-o", "--out", type=FILE, metavar="OUT", required=True, help=what)


@dataclass(frozen=True)
class Run:
    """The options that say how a command works, whatever it makes."""

    model: str | None
    class_label: int | None
    device: str
    dtype: str
    offline: bool
    batch_size: int | None
    as_json: bool
    quiet: bool
    verbose: bool
    overwrite: bool = False
    resume: bool = False
    allow_drift: bool = False
    cache: bool = False
    compiled: bool = False

    def load(self) -> "DDIMPipeline":
        """The model that they name; from here on, the process is one that works."""
        from ddim_interp.allocator import keep_large_blocks
        from ddim_interp.diagnosis import in_words
        from ddim_interp.pipeline import DDIMPipeline
        from ddim_interp.progress import told

        keep_large_blocks()
        if not gc.isenabled():  # see `main`
            gc.freeze()
            gc.enable()
        where = fetch(self.model, self.offline, self.silent)
        pipe = DDIMPipeline.from_located(
            where, device=self.device, dtype=self.dtype, class_label=self.class_label
        )
        if self.verbose:
            pipe.watch_by(told(self.detail))
            self.detail(in_words(pipe.model, pipe.unet, pipe.precision))
        else:
            pipe.set_progress_bar_config(disable=self.silent or not sys.stderr.isatty())
        if pipe.warning:
            self.say(pipe.warning)
        if self.compiled:
            pipe.compile(self.say, self.batch_size)
        return pipe

    def produce(self, order: "Order") -> "Product":
        """Carry an order out, and print what came of it if that is to be JSON."""
        from ddim_interp.production import produce

        if self.allow_drift and not self.resume:
            raise click.UsageError("--allow-drift says how to --resume; give both.")
        product = produce(
            order,
            self.load,
            batch_size=self.batch_size,
            overwrite=self.overwrite,
            resume=self.resume,
            allow_drift=self.allow_drift,
            cache=self.cache,
            say=self.say,
        )
        facts = product.document
        self.detail(
            f"{facts['nfe']} network evaluations, {facts['batch_size']} pictures at once at most, "
            f"{facts['seconds']:.2f} s in all"
        )
        if self.as_json:
            print_json(facts)
        return product

    @property
    def silent(self) -> bool:
        """Whether stderr is for errors only."""
        return self.quiet or self.as_json

    def echo(self, line: str) -> None:
        """A line of the result, on stdout, where that is not for JSON."""
        if not self.as_json:
            click.echo(_tame(line))

    def echo_output(self, path: str) -> None:
        """Where the output is, on stdout, where that is not for JSON."""
        if not self.as_json:
            echo_path(path)

    def say(self, message: str) -> None:
        """A message for the user, on stderr."""
        say(message, self.silent)

    def detail(self, message: str) -> None:
        """A message, on stderr, for a user who wants to know it all."""
        say(message, not self.verbose)


def run_options(
    *, writes: bool = True, resume: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of a `Run`, and hand it over as its first argument.

    Args:
        writes: Whether it has an output, which may be there already.
        resume: Whether it can go on where it was interrupted.
    """
    options = [_batch_size_option, _model_options]
    options += [overwrite_option] if writes else []
    options += [_resume_options] if resume else []
    options += [talk_options, _verbose_option]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**values: Any) -> Any:
            of_run = {name: values.pop(name) for name in Run.__annotations__ if name in values}
            if of_run["quiet"] and of_run["verbose"]:
                raise click.UsageError("-q asks for no word, -v for more; give one.")
            return function(Run(**of_run), **values)

        return stack(*options)(command)

    return decorate


def fetch(model: str | None, offline: bool, quiet: bool) -> "Located":
    """Where the model is, fetched from the hub if it has to be."""
    from ddim_interp.hub import locate
    from ddim_interp.progress import byte_bar

    watched = not quiet and sys.stderr.isatty()
    return locate(model, offline=offline, progress=byte_bar("fetching") if watched else None)


def say(message: str, quiet: bool = False) -> None:
    """A message for the user, on stderr."""
    if not quiet:
        click.echo(_tame(message), err=True)


def echo_path(path: str) -> None:
    """Where an output is, on stdout: to the letter where a program reads it."""
    click.echo(_tame(path) if sys.stdout.isatty() else path)


def _tame(line: str) -> str:
    """A line that cannot steer a terminal, whatever the names in it hold."""
    from ddim_interp.recipe import printable

    return printable(line)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=True, allow_nan=False))
