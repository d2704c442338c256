"""`ddim-interp bench`: speed and fidelity on this machine."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from ddim_interp.cli import options
from ddim_interp.cli.run import Run, run_options

__all__ = ["bench"]


@click.command(epilog="Example:  ddim-interp bench --peer --config celebahq-256")
@click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="NAME",
    help="Instead of the model: cifar10-32, celebahq-256, church-256 or adm-256, with random "
    "weights; may be given several times.",
)
@click.option("--peer", is_flag=True, help="Run diffusers beside us, if it is installed.")
@click.option("--films", is_flag=True, help="Also whole films of 60 frames, in 50 steps of DDIM.")
@click.option("--growth", is_flag=True, help="Also how time grows with frames, steps, keyframes.")
@click.option("--processes", is_flag=True, help="Also start-up, and the memory of long films.")
@click.option("--rounds", default=5, help="How often each contestant runs.")
@options.plan_options(latents=False)
@run_options(resume=False)
def bench(
    run: Run,
    configs: tuple[str, ...],
    peer: bool,
    films: bool,
    growth: bool,
    processes: bool,
    rounds: int,
    wishes: dict[str, Any],
) -> None:
    """Measure this model on this machine: speed, and what the precision of frames costs.

    All contestants run in turns, a large matrix product among them: the share is that of the
    product's speed which a network reaches. Seconds are medians. With --compile, all run through
    torch.compile as well, which takes minutes.
    """
    from ddim_interp.production.bench import BenchOrder
    from ddim_interp.sources import plan_for

    order = BenchOrder(
        configs, peer, run.compiled, films, growth, processes, rounds, plan_for((), **wishes)
    )
    for line in _lines(run.produce(order).facts):
        run.echo(line)


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, for a terminal."""
    yield from _table(
        ("network", "contestant", "seconds", "GFLOP/s", "share", "times as fast", "gap"),
        [
            (
                f"{row['network']} × {row['batch']}",
                row["who"],
                f"{row['seconds']:.3f}",
                f"{row['flops'] / row['seconds'] / 1e9:.0f}",
                f"{row['share']:.0%}",
                f"{row['speedup']:.2f}",
                f"{row['gap']:.1e}",
            )
            for row in facts["forwards"]
        ],
    )
    if draft := facts.get("draft"):
        psnr = "the same" if draft["psnr"] is None else f"{draft['psnr']:.1f} dB"
        levels = f"{draft['max_level']} levels of 255 at most"
        yield f"frames in the precision of frames, against float32: {psnr}, {levels}"
    if films := facts.get("films"):
        yield from _table(
            ("film of", "contestant", "steps", "evaluations", "seconds", "times as fast", "PSNR"),
            [
                (
                    f"{film['network']} × {film['frames']}",
                    film["who"],
                    str(film["steps"]),
                    str(film["nfe"]),
                    f"{film['seconds']:.2f}",
                    f"{film['speedup']:.2f}",
                    "the same" if film["psnr"] is None else f"{film['psnr']:.1f} dB",
                )
                for film in films
            ],
        )
    if growth := facts.get("growth"):
        yield from _table(
            ("what grows", "to", "seconds", "evaluations"),
            [(g["what"], str(g["amount"]), f"{g['seconds']:.2f}", str(g["nfe"])) for g in growth],
        )
    if processes := [*facts.get("start", ()), *facts.get("memory", ())]:
        yield from _table(
            ("program", "seconds", "MB at most"),
            [(p["what"], f"{p['seconds']:.2f}", f"{p['megabytes']:.0f}") for p in processes],
        )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
