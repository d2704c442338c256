"""How a command works, whatever it makes, and how it speaks.

--model --class-label                   which model
--device --dtype --compile --offline    where, and how
--batch-size                            pictures in the network at once
--overwrite                             whether to replace an output
--resume --allow-drift --cache          what to keep of a run, for the next
--json -q -v                            what to say

`run_options` hands these to a command in one piece, as a `Run`.
"""

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ddim_interp.cli.options import (
    DTYPES,
    FILE,
    offline_option,
    overwrite_option,
    stack,
    talk_options,
)

if TYPE_CHECKING:
    from ddim_interp.hub import Located
    from ddim_interp.pipeline import DDIMPipeline
    from ddim_interp.production import Order, Product

__all__ = ["Run", "echo_path", "fetch", "print_json", "run_options", "say"]

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

_batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    help="Pictures in the network at once; by their size if not given.",
)

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

_verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Say what is done, with what, and how long it takes."
)


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
