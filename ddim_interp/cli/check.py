"""`ddim-interp check`: can this model be trusted with these pictures?"""

import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ddim_interp.cli import options

if TYPE_CHECKING:
    from ddim_interp.consistency import Consistency

__all__ = ["check"]

_REFERENCE = "ddim"


class _Steps(click.ParamType[tuple[int, ...]]):
    """`10,20,50`: numbers of steps."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(sorted({int(part) for part in value.split(",")}))
        except ValueError:
            self.fail(f"{value!r} is no list of steps; write 20, or 10,20,50.", param, ctx)


@click.command(epilog="Example:  ddim-interp check a.png b.png --report report.html")
@click.argument("images", nargs=-1, type=options.FILE, metavar="[IMAGE…]")
@click.option(
    "--steps", type=_Steps(), default="10,20,50,100", help="Numbers of steps, with commas."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="A solver, or all; may be given several times.  [default: ddim-naive, ddim]",
)
@click.option(
    "--spacing", type=click.Choice(options.SPACINGS), default="log-snr", help="How steps are laid."
)
@click.option("--seeds", type=options.Seeds(), default="0,1", help="Noise to take there and back.")
@click.option(
    "--report",
    "report_file",
    type=options.FILE,
    metavar="FILE",
    help="Also write it all to an HTML file.",
)
@click.option("--repairs", is_flag=True, help="Also show what repairs of the latents would cost.")
@click.option("--strict", is_flag=True, help="Exit with 1 if the verdict is bad.")
@options.batch_size_option
@options.model_options
@options.overwrite_option
@options.talk_options
def check(
    images: tuple[str, ...],
    steps: tuple[int, ...],
    methods: tuple[str, ...],
    spacing: str,
    seeds: list[int],
    report_file: str | None,
    repairs: bool,
    strict: bool,
    batch_size: int | None,
    model: str | None,
    device: str,
    dtype: str,
    offline: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Take pictures into noise space and back, in several ways, and say how well that went.

    Without pictures, it takes some that the model draws itself. Mean squared errors are of pixels
    in [0, 1]; evaluations and seconds are for one picture, there and back.
    """
    started = time.monotonic()
    quiet = quiet or as_json
    from ddim_interp.consistency import check_model
    from ddim_interp.files import check_output, write_bytes
    from ddim_interp.images import open_image
    from ddim_interp.inversion import sample_latents
    from ddim_interp.keyframes import check_sources
    from ddim_interp.latents import draw
    from ddim_interp.model import Plan
    from ddim_interp.morph import default_batch_size
    from ddim_interp.repair import price_repairs
    from ddim_interp.solver import SOLVERS

    check_sources(images)
    if report_file is not None:
        if not report_file.lower().endswith((".html", ".htm")):
            raise click.UsageError(
                f"A report is a web page; {report_file!r} does not end in .html."
            )
        check_output(report_file, overwrite=overwrite)
    chosen = tuple(SOLVERS) if "all" in methods else methods or ("ddim-naive", _REFERENCE)
    if _REFERENCE in chosen:  # the verdict is about the last
        chosen = (*(name for name in chosen if name != _REFERENCE), _REFERENCE)
    pipe = options.load_pipeline(model, device, dtype, offline, quiet)
    channels, height, width = pipe.model.shape
    plan = Plan(spacing=spacing)
    import torch

    latents = draw(seeds, pipe.model.shape)
    if images:
        opened = [open_image(image, (height, width), channels=channels) for image in images]
        names = [picture.name for picture in opened]
        pictures = torch.stack([picture.pixels for picture in opened])
    else:
        names = [f"seed:{seed}" for seed in seeds]
        drawn = sample_latents(pipe.model, latents, plan, pipe.progress_bar)
        pictures = drawn.clamp(-1, 1)
    found = check_model(
        pipe.model,
        pictures,
        latents,
        plan,
        steps=steps,
        methods=chosen,
        batch_size=batch_size or default_batch_size(pipe.model.shape),
        watch=pipe.progress_bar,
    )
    document = describe(found, names)
    document |= {"model": pipe.name, "spacing": spacing, "repairs": []}
    if repairs:
        final = Plan(steps[-1], spacing, found.method)
        prices = price_repairs(pipe.model, found.inversion, final, watch=pipe.progress_bar)
        document["repairs"] = [asdict(price) for price in prices]
    document["seconds"] = round(time.monotonic() - started, 3)
    if report_file is not None:
        from ddim_interp.report import render_report

        write_bytes(report_file, render_report(document, found).encode(), overwrite=overwrite)
        document["outputs"] = [report_file]
    if as_json:
        options.print_json(document)
    else:
        for line in _table(document["table"]):
            click.echo(line)
        for price in document["repairs"]:
            click.echo(
                f"repair {price['name']}: error {price['mse']:.1e}, |z|²/d "
                f"{price['latent_power']:.3f}, patch correlation {price['whiteness']:.1f} × noise"
            )
        for entry in document["pictures"]:
            click.echo(f"{entry['source']}: {entry['verdict']}")
        click.echo(document["verdict"])
        if report_file is not None:
            options.say(report_file, quiet)
    return 1 if strict and not found.good else 0


def describe(found: "Consistency", names: list[str]) -> dict[str, Any]:
    """What was found, as the JSON document says it."""
    return {
        "table": [
            {
                "steps": trip.steps,
                "method": trip.method,
                "nfe": round(trip.nfe, 2),
                "mse": _finite(trip.mse),
                "psnr": _finite(trip.fidelity.psnr),
                "max_level": trip.max_level,
                "latent_power": _finite(trip.latent_power),
                "patch_correlation": _finite(trip.patch_correlation),
                "latent_mse": _finite(trip.latent_mse),
                "seconds": round(trip.seconds, 4),
                "trouble": trip.trouble or None,
            }
            for trip in found.table
        ],
        "method": found.method,
        "doubling": [
            {
                "steps": each.steps,
                "mse": _finite(each.fidelity.mse),
                "psnr": _finite(each.fidelity.psnr),
            }
            for each in found.doublings
        ],
        "self_interpolation": {
            "mse": _finite(found.standing.mse),
            "psnr": _finite(found.standing.psnr),
            "max_level": found.standing.max_level,
        },
        "pictures": [
            {
                "source": name,
                "grade": certificate.grade,
                "roundtrip_mse": certificate.roundtrip_mse,
                "roundtrip_max_level": certificate.roundtrip_max_level,
                "latent_power": certificate.latent_power,
                "whiteness": certificate.whiteness,
                "kurtosis": certificate.kurtosis,
                "neighbour_correlation": certificate.neighbour_correlation,
                "verdict": certificate.verdict,
            }
            for name, certificate in zip(names, found.certificates, strict=True)
        ],
        "good": found.good,
        "verdict": found.verdict,
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity: None stands for equal pictures, or for no figure."""
    return value if math.isfinite(value) else None


_COLUMNS = ("steps", "method", "nfe", "mse", "psnr", "|z|²/d", "patch corr", "latent mse", "s")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """The table as lines for a terminal."""
    cells = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return ["  ".join(map(str.rjust, line, widths)).rstrip() for line in cells]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    head = (str(row["steps"]), row["method"])
    if row["trouble"]:
        return (*head, "–", "–", "fails", "–", "–", "–", "–")
    return (
        *head,
        f"{row['nfe']:.0f}",
        f"{row['mse']:.1e}",
        "exact" if row["psnr"] is None else f"{row['psnr']:.1f}",
        f"{row['latent_power']:.3f}",
        f"{row['patch_correlation']:.3f}",
        f"{row['latent_mse']:.1e}",
        f"{row['seconds']:.2f}",
    )
