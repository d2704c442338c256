"""Every option that more than one command takes, spelled once.

--model --class-label                   which model
--device --dtype --offline              where                         `load_pipeline` takes them
--steps --spacing --solver --depth      how to walk the noise axis    a `Plan`
--batch-size                            pictures in the network at once
-o --overwrite                          what to write
--resume --allow-drift                  what to keep of an interrupted run
--json -q                               what to say
"""

import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ddim_interp.hub import Located
    from ddim_interp.pipeline import DDIMPipeline

__all__ = [
    "BLENDS",
    "DTYPES",
    "FILE",
    "PACES",
    "SOLVERS",
    "SPACINGS",
    "Seeds",
    "batch_size_option",
    "fetch",
    "load_pipeline",
    "model_options",
    "output_option",
    "overwrite_option",
    "plan_options",
    "print_json",
    "repair_option",
    "resume_options",
    "say",
    "talk_options",
]

F = TypeVar("F", bound=Callable[..., Any])

_CLASS = "ddim_interp.class_label"

# Copies of the registries' keys: importing those would import torch, and `-h` should be instant.
# A test compares them.
BLENDS = ("slerp", "lerp", "nlerp", "lol", "adain")
PACES = ("uniform", "perceptual")
SPACINGS = ("leading", "linspace", "trailing", "uniform", "quad", "log-snr", "karras")
SOLVERS = (
    "ddim",
    "ddim-naive",
    "heun",
    "heun-exact",
    "trapezoid",
    "dpmpp-2m",
    "rk45",
    "leapfrog",
    "bdia",
    "o-belm",
    "edict",
)
DTYPES = ("auto", "fp32", "bf16", "fp16")


FILE = click.Path(readable=False)
"""Something that may be a file: shells complete its name, and nothing is checked."""


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
                self.fail(f"{part.strip()!r} counts down, or names too many seeds.", param, ctx)
            seeds += range(first, end + 1)
        return seeds


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = _stack(
    click.option(
        "--model",
        type=FILE,
        metavar="MODEL",
        help="A folder, org/name or org/name@revision; the model in the package if not given.",
    ),
    click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps."),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        help="Precision of the network; auto: float32 to invert, the fastest faithful for frames.",
    ),
    click.option("--offline", is_flag=True, help="Open no connection."),
    click.option(
        "--class-label",
        type=click.IntRange(min=0),
        metavar="N",
        expose_value=False,  # commands hand it on unseen, to `load_pipeline`
        callback=lambda context, option, value: context.meta.update({_CLASS: value}),
        help="What to draw, for a model that was trained with classes.",
    ),
)

plan_options = _stack(
    click.option("--steps", type=int, default=20, help="Steps along the noise axis."),
    click.option(
        "--spacing", type=click.Choice(SPACINGS), default="log-snr", help="How they are laid."
    ),
    click.option("--solver", type=click.Choice(SOLVERS), default="ddim", help="How each is taken."),
    click.option(
        "--depth",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        help="How far up the noise axis; short of 1, latents still hold the coarse picture.",
    ),
)

batch_size_option = click.option(
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

resume_options = _stack(
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

talk_options = _stack(
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no messages."),
)


def output_option(what: str) -> Callable[[F], F]:
    """`-o`, with a word on what it becomes."""
    return click.option("-o", "--out", type=FILE, metavar="OUT", required=True, help=what)


def load_pipeline(
    model: str | None, device: str, dtype: str, offline: bool, quiet: bool
) -> "DDIMPipeline":
    """The model that the options name."""
    from ddim_interp.pipeline import DDIMPipeline

    label = click.get_current_context().meta.get(_CLASS)
    where = fetch(model, offline, quiet)
    pipe = DDIMPipeline.from_located(where, device=device, dtype=dtype, class_label=label)
    pipe.set_progress_bar_config(disable=quiet or not sys.stderr.isatty())
    if pipe.warning:
        say(pipe.warning, quiet)
    return pipe


def fetch(model: str | None, offline: bool, quiet: bool) -> "Located":
    """Where the model is, fetched from the hub if it has to be."""
    from ddim_interp.hub import locate
    from ddim_interp.progress import byte_bar

    watched = not quiet and sys.stderr.isatty()
    return locate(model, offline=offline, progress=byte_bar("fetching") if watched else None)


def say(message: str, quiet: bool = False) -> None:
    """A message for the user, on stderr."""
    if not quiet:
        click.echo(message, err=True)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=True, allow_nan=False))
