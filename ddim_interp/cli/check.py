"""`ddim-interp check`: can this model be trusted with these pictures?"""

from collections.abc import Mapping
from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import Run, run_options

__all__ = ["check"]

_REFERENCE = "auto"


@click.command(epilog="Example:  ddim-interp check a.png b.png --report report.html")
@click.argument("images", nargs=-1, type=options.FILE, metavar="[IMAGE…]")
@click.option(
    "--steps",
    type=options.Numbers(int),
    default="10,20,50,100",
    metavar="STEPS",
    help="Numbers of steps, with commas.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="A solver, or all; may be given several times.  [default: ddim-naive, auto]",
)
@options.spacing_option("log-snr")
@click.option(
    "--seeds", "--seed", type=options.Seeds(), default="0,1", help="Noise to take there and back."
)
@click.option(
    "--report",
    "report_file",
    type=options.FILE,
    metavar="FILE",
    help="Also write it all to an HTML file.",
)
@click.option("--repairs", is_flag=True, help="Also show what repairs of the latents would cost.")
@options.dither_option(True)
@options.strict_option
@run_options(resume=False)
def check(
    run: Run,
    images: tuple[str, ...],
    steps: tuple[int, ...],
    methods: tuple[str, ...],
    spacing: str,
    seeds: list[int],
    report_file: str | None,
    repairs: bool,
    dither: bool,
    strict: bool,
) -> int:
    """Take pictures into noise space and back, in several ways, and say how well that went.

    Without pictures, it takes some that the model draws itself. Mean squared errors are of pixels
    in [0, 1], and of the inversion alone: what an autoencoder loses is said apart. Evaluations and
    seconds are for one picture, there and back.
    """
    from ddim_interp.production.findings import FindingsOrder
    from ddim_interp.solver import SOLVERS

    chosen = (*SOLVERS, _REFERENCE) if "all" in methods else methods or ("ddim-naive", _REFERENCE)
    if _REFERENCE in chosen:  # the verdict is about the last
        chosen = (*(name for name in chosen if name != _REFERENCE), _REFERENCE)
    numbers = sorted(set(steps))
    order = FindingsOrder(images, report_file, numbers, chosen, spacing, seeds, repairs, dither)
    found = run.produce(order)
    for line in _summary(found.facts):
        run.echo(line)
    if report_file is not None:
        run.say(report_file)
    return 1 if strict and not found.good else 0


def _summary(facts: Mapping[str, Any]) -> list[str]:
    """What was found, as lines for a terminal."""
    prices = [
        f"repair {price['name']}: error {price['mse']:.1e}, |z|²/d {price['latent_power']:.3f}, "
        f"patch correlation {price['whiteness']:.1f} × noise"
        for price in facts["repairs"]
    ]
    verdicts = [f"{entry['source']}: {entry['verdict']}" for entry in facts["pictures"]]
    return [*_table(facts["table"]), *prices, *verdicts, facts["verdict"]]


_COLUMNS = (
    *("steps", "method", "nfe", "mse", "psnr", "level"),
    *("|z|²/d", "patch corr", "latent mse", "s"),
)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """The table as lines for a terminal."""
    cells = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return ["  ".join(map(str.rjust, line, widths)).rstrip() for line in cells]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    head = (str(row["steps"]), row["method"])
    if row["trouble"]:
        return (*head, "–", "–", "fails", "–", "–", "–", "–", "–")
    return (
        *head,
        f"{row['nfe']:.0f}",
        f"{row['mse']:.1e}",
        "exact" if row["psnr"] is None else f"{row['psnr']:.1f}",
        str(row["max_level"]),
        f"{row['latent_power']:.3f}",
        f"{row['patch_correlation']:.3f}",
        f"{row['latent_mse']:.1e}",
        f"{row['seconds']:.2f}",
    )
