"""`ddim-interp batch`: many films from a table."""

import re
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.film import film_options, film_order, film_parameters
from ddim_interp.cli.run import Run, fetch, print_json, run_options
from ddim_interp.errors import ArgumentError, DdimInterpError, TableError

if TYPE_CHECKING:
    from ddim_interp.batch import Engine, Outcome, Row, Task
    from ddim_interp.pipeline import DDIMPipeline

__all__ = ["batch"]

FORMATS = ("mp4", "webm", "webp", "apng", "gif", "png", "folder")


class _Part(click.ParamType[tuple[int, int]]):
    """`3/16`: the third of sixteen."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value, re.ASCII)
        part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= part <= parts:
            self.fail(f"{value!r} is no part; write 3/16 for the third of sixteen.", param, ctx)
        return part, parts


@click.command(epilog="Example:  ddim-interp batch pairs.csv -o films --frames 90 --resume")
@click.argument("table", type=options.FILE)
@options.output_option("The folder for the films; a table of what came of them goes there, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="mp4",
    help="Of the films; png: a filmstrip, folder: frames.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Processes that make films side by side, by Ray, each with a GPU or its share of the "
    "cores.  [default: one a GPU]",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="A cluster of Ray to have them made by; its machines must see the same files.",
)
@click.option(
    "--part",
    type=_Part(),
    metavar="K/N",
    help="Make every N-th film, from the K-th on: one of N runs that share a table and a folder.",
)
@click.option(
    "--tries",
    type=click.IntRange(1, 100),
    default=3,
    help="How often a film may end the process that makes it before it is left out.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long a worker may be at one film; no limit if not given.",
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    metavar="N",
    help="Stop when more films than these have failed; no limit if not given.",
)
@film_options
@options.strict_option
@run_options()
def batch(
    run: Run,
    table: str,
    out: str,
    form: str,
    workers: int | None,
    ray_address: str | None,
    part: tuple[int, int] | None,
    tries: int,
    timeout: float | None,
    max_failures: int | None,
    film: dict[str, Any],
    strict: bool,
) -> int:
    """Make a film for each row of a table.

    TABLE is a .csv or .tsv with the keyframes of a film in each row, or a .jsonl with {"keyframes":
    [...]} in each line. Files are meant from its folder. With titles in the first row, `name` is
    what a film is called, and options of morph (frames, loop, ease …) hold for that row alone;
    those given here hold for all others.

    A film that fails stops no other: it is entered in OUT/failures.jsonl, and the rest in
    OUT/results.jsonl. With --resume, what is made is not made again, and what failed is tried anew.
    """
    from ddim_interp.batch import Tally, Task, check_apart, make_all, open_ledger, read_table
    from ddim_interp.files import shown
    from ddim_interp.sinks import check_sink

    started = time.monotonic()
    if timeout is not None and workers is None and ray_address is None:
        raise click.UsageError("--timeout ends a worker that takes too long; give --workers, too.")
    rows = read_table(table, film_parameters())
    if part is not None:
        rows = rows[part[0] - 1 :: part[1]]
    looks = [film | _wishes(row, shown(table)) for row in rows]
    film_order(("seed:0", "seed:1"), out, film).style.check()  # what holds for all
    suffix = "" if form == "folder" else f".{form}"
    planned = [
        _plan(row, Path(out, f"{row.name}{suffix}"), look)
        for row, look in zip(rows, looks, strict=True)
    ]
    if run.overwrite:
        check_apart([each for each in planned if isinstance(each, Task)])
    tally = Tally()
    outputs: list[str] = []
    with open_ledger(out, part=part, resume=run.resume, overwrite=run.overwrite) as ledger:
        check_sink(
            ledger.folder / f"film{suffix}",
            fps=film["fps"],
            frame_count=film["frames"],
            overwrite=True,
        )
        engine = _engine(run, ledger.ends, workers, ray_address, tries, timeout)
        try:
            with closing(make_all(planned, engine, ledger, max_failures=max_failures)) as coming:
                for number, outcome in enumerate(coming, 1):
                    tally = tally.plus(outcome)
                    outputs += outcome.entry.get("outputs", ())
                    _tell(run, outcome, f"[{number}/{len(rows)}] " if sys.stdout.isatty() else "")
        except BaseException as error:
            if tally != Tally():  # instead of what a film alone would say
                error.__notes__ = [
                    f"{tally.in_words}; the same command with --resume goes on from there."
                ]
            raise
    run.say(tally.in_words + (f"; see {shown(ledger.failures)}" if tally.failed else ""))
    if run.as_json:
        print_json(
            {
                "outputs": outputs,
                "films": len(rows),
                **asdict(tally),
                "seconds": round(time.monotonic() - started, 3),
                "results": str(ledger.results),
                "failures": str(ledger.failures) if tally.failed else None,
            }
        )
    return 1 if tally.failed or (strict and tally.bad) else 0


def _wishes(row: "Row", table: str) -> dict[str, Any]:
    """What a row of the table wishes, as the options of its columns read it.

    Raises:
        TableError: An option cannot have such a value.
    """
    wishes = {}
    for name, said in row.wishes.items():
        parameter = film_parameters()[name]
        text = ",".join(map(str, said)) if isinstance(said, list) else str(said)
        try:
            wishes[name] = parameter.type_cast_value(click.Context(batch), text)
        except click.BadParameter as bad:
            raise TableError(
                f"{table}, line {row.line}, has {name} = {text!r:.60}: "
                f"{bad.message.rstrip('.')}; `ddim-interp morph -h` says what it may be."
            ) from None
    return wishes


def _plan(row: "Row", out: Path, look: dict[str, Any]) -> "Task | Outcome":
    """The film of a row; or that it failed, if it cannot even be ordered."""
    from ddim_interp.batch import Outcome, Task

    try:
        return Task(row.name, film_order(row.sources, out, look))
    except DdimInterpError as error:
        return Outcome.failure(row.name, row.sources, error)
    except click.UsageError as error:
        return Outcome.failure(row.name, row.sources, ArgumentError(error.message))


def _engine(
    run: Run,
    ends: Path,
    workers: int | None,
    address: str | None,
    tries: int,
    timeout: float | None,
) -> "Engine":
    """Who makes the films: this process, unless there are several GPUs, or it is told otherwise."""
    from ddim_interp.batch import Crew, Inline, Maker

    anew = run.overwrite and not run.resume
    maker = Maker(_loader(run), run.batch_size, run.overwrite, anew, run.allow_drift, run.cache)
    if workers is None and address is None:
        cards = _cards(run.device)
        if cards < 2:
            return Inline(maker, ends, tries)
        workers = cards
    kind, _, number = run.device.partition(":")
    if number:
        raise click.UsageError(
            f"--device {run.device} is one, and Ray gives each worker its own; say which GPUs "
            "there are to give by CUDA_VISIBLE_DEVICES."
        )
    gpu = {"auto": None, "cuda": True}.get(kind, False)
    return Crew(maker, workers, gpu, tries, timeout, address)


def _cards(device: str) -> int:
    """GPUs that workers may have."""
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _loader(run: Run) -> "Callable[[], DDIMPipeline]":
    """What gives the model, here or in another process, where nobody watches.

    It is fetched now, so that nobody waits for workers to find out that there is none; and they all
    take the same commit, without asking.
    """
    where = fetch(run.model, run.offline, run.silent)
    if where.warning:
        run.say(where.warning)
    model = run.model
    if where.revision:
        model = f"{where.name}@{where.revision}"
    elif model not in (None, "embedded"):
        model = str(where.folder.resolve())
    return replace(run, model=model, quiet=not run.verbose).load


def _tell(run: Run, outcome: "Outcome", count: str) -> None:
    if outcome.failed:
        run.say(f"{count}{outcome.name}: {outcome.entry['error']}")
        return
    if not outcome.found:
        (path,) = outcome.entry["outputs"]
        if count:
            run.echo(f"{count}{path}")
        else:
            run.echo_output(path)
