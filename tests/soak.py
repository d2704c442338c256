"""Break things many times over, and count: what `make soak` runs.

    python tests/soak.py                              all of it, on every core
    python tests/soak.py --only R6 R9:2 --minutes 20  a goal and a part of one, as far as one gets

Counts are kept in soak.json, a row for each campaign with its date and versions, so that the soak
can be run in parts; the table in docs/reliability.md is written from it.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from broken_runs import Nursery
from campaigns import (
    COUNTS,
    Tally,
    Workshop,
    break_batches,
    cap_memory,
    draw_long_films,
    fail_calls,
    fetch_together,
    fill_disk,
    interrupt,
    kill_at_calls,
    kill_at_random,
    limit_files,
    make_pictures,
    make_smallest_model,
    make_tiny_model,
    open_again,
    race,
    repeat,
    run_out_of_memory,
    spoil_films,
    spoil_latents,
    spoil_model,
    spoil_numbers,
    spoil_pictures,
    try_names,
    undo_steps,
)

ROWS = Path(__file__).with_name("soak.json")
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
MARK = "<!-- measured -->\n"

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
EVERY = 100_000
"""More system calls than any run makes."""


@dataclass(frozen=True)
class Campaign:
    """One row of the table: what is done, and how often at full size."""

    goal: str
    figure: int
    run: Callable[[Workshop, int], Tally]


def spoil_tiny(file: str, goal: str) -> Callable[[Workshop, int], Tally]:
    """Damage a file of a model that has weights of many kinds."""
    return lambda shop, n: spoil_model(
        shop, make_tiny_model(shop.folder / f"of-{goal}"), file, n, goal
    )


CAMPAIGNS = [
    Campaign("R1", 20_000, spoil_pictures),
    Campaign("R2", 10_000, spoil_tiny(WEIGHTS, "R2")),
    Campaign("R2", 3_000, spoil_latents),
    Campaign("R3", 1_500, spoil_tiny("unet/config.json", "R3")),
    Campaign("R3", 1_000, spoil_tiny("scheduler/scheduler_config.json", "R3")),
    Campaign("R3", 500, spoil_tiny("model_index.json", "R3")),
    *(
        Campaign("R6", number, lambda shop, n, name=name: kill_at_calls(shop, name, n))
        for name, number in (
            ("", 200),
            (".gif", 200),
            (".mp4", 200),
            ("z.safetensors", 60),
            ("grid.png", 60),
            ("sheet.png", 60),
        )
    ),
    *(
        Campaign("R6", 120, lambda shop, n, name=name: kill_at_random(shop, name, n))
        for name in ("", ".gif", ".mp4")
    ),
    Campaign("R7", 60, lambda shop, n: limit_files(shop, ".mp4", n)),
    Campaign("R7", 60, lambda shop, n: fill_disk(shop, ".mp4", n)),
    *(
        Campaign(
            "R9",
            EVERY,
            lambda shop, n, how=how: fail_calls(shop, *how[:1], n, *how[1:], every=True),
        )
        for how in (
            ("",),
            (".gif", "--resume"),
            (".mp4",),
            ("z.safetensors",),
            ("grid.png", "--resume"),
            ("sheet.png",),
            ("report.html",),
        )
    ),
    Campaign("R10", 50, run_out_of_memory),
    Campaign("R10", 150, cap_memory),
    Campaign("R10", 3, lambda shop, n: draw_long_films(shop, 2000 if n == 3 else 200)),
    Campaign("R11", 400, spoil_numbers),
    Campaign("R12", 50, repeat),
    Campaign("R13", 10_000, undo_steps),
    Campaign("R16", 25, race),
    Campaign("R16", 25, fetch_together),
    Campaign("R17", 400, try_names),
    Campaign("R18", 3_000, spoil_films),
    *(
        Campaign("R21", 400, lambda shop, n, how=how: break_batches(shop, n, how))
        for how in ("kill", "fail")
    ),
    Campaign("R22", 200, lambda shop, n: interrupt(shop, ".mp4", n)),
    Campaign("R23", 400, open_again),
]


def work(
    wanted: list[int], scale: float, deadline: float, share: tuple[int, int]
) -> tuple[list[tuple[int, Tally]], set[str]]:
    """One worker's share of the campaigns with these numbers."""
    tallies = []
    with tempfile.TemporaryDirectory() as name, Nursery() as nursery:
        folder = Path(name)
        model, pictures = make_smallest_model(folder), make_pictures(folder)
        shop = Workshop(nursery, model, pictures, folder, share, deadline)
        for number in wanted:
            campaign = CAMPAIGNS[number]
            started = time.monotonic()
            if started > deadline:
                break
            try:
                tally = campaign.run(shop, max(2, round(scale * campaign.figure)))
            except Exception:  # of the soak itself; what others have counted should not be lost
                traceback.print_exc()
                continue
            tally.figure = tally.figure or campaign.figure
            tallies.append((number, tally))
            took = time.monotonic() - started
            print(
                f"{share[0]}: {tally.goal} {tally.what}: {tally.tried} in {took:.0f} s",
                file=sys.stderr,
            )
            for wrong in tally.wrong[:5]:
                print(f"     {wrong}", file=sys.stderr)
    return tallies, shop.messages


def versions() -> str:
    """What was tried, and where."""
    import av
    import PIL
    import torch

    import ddim_interp

    return (
        f"ddim_interp {ddim_interp.__version__}, Python {platform.python_version()}, PyTorch "
        f"{torch.__version__}, Pillow {PIL.__version__}, PyAV {av.__version__}, "
        f"{platform.system()}, {os.cpu_count()} cores"
    )


@dataclass(frozen=True)
class Difference:
    """How far the same film drifts under other circumstances.

    Args:
        what: The circumstances.
        equal: Share of pixel values that are equal.
        most: Largest difference, in levels.
    """

    what: str
    equal: float
    most: int


def measure_drift() -> list[Difference]:
    """The same frames of the embedded model with other batches and threads (R12)."""
    import torch

    from ddim_interp import DDIMPipeline, Plan

    def draw(batch_size: int, threads: int, dtype: str) -> Any:
        torch.set_num_threads(threads)
        pipe = DDIMPipeline.from_pretrained(device="cpu", dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        film = pipe.morph(["seed:1", "seed:2"], plan=Plan(8), batch_size=batch_size, frames=32)
        return np.stack(list(film.draw())).astype(int)

    rows = []
    for dtype in ("fp32", "bf16"):
        first = draw(16, 2, dtype)
        for batch_size, threads in ((16, 2), (8, 2), (1, 2), (16, 1), (1, 1)):
            gap = np.abs(draw(batch_size, threads, dtype) - first)
            what = f"{dtype}, batch {batch_size}, {threads} thread{'s' * (threads > 1)}"
            rows.append(Difference(what, float((gap == 0).mean()), int(gap.max())))
    return rows


def merge(rows: list[dict[str, Any]], tallies: list[Tally]) -> list[dict[str, Any]]:
    """The rows kept, those just counted in place of older ones, in the order of the goals."""
    merged = {row["what"]: row for row in rows}
    for tally in tallies:
        row = {"goal": tally.goal, "what": tally.what, "figure": tally.figure}
        row |= {name: getattr(tally, name) for name in COUNTS}
        row |= {"wrong": len(tally.wrong), "date": f"{datetime.date.today()}", "with": versions()}
        merged[tally.what] = row
    return sorted(merged.values(), key=lambda row: int(row["goal"][1:]))


def report(kept: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    lines = [
        "| goal | what was done | of | tried | passed | refused or stopped cleanly | uncaught | "
        "partial | left behind | resumed | identical | date |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in kept["rows"]:
        counts = [row[name] for name in COUNTS]
        if not row["resumed"]:
            counts[-2:] = ["", ""]
        cells = [row["goal"], row["what"], row["figure"], *counts, row["date"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        *(f"With {words}." for words in dict.fromkeys(row["with"] for row in kept["rows"])),
        "",
        "| 32 frames against batch 16, 2 threads | equal values | largest difference |",
        "|---|--:|--:|",
    ]
    lines += [f"| {r['what']} | {r['equal']:.3%} | {r['most']} |" for r in kept["drift"]]
    return "\n".join(lines) + "\n"


def names_of(campaigns: Sequence[Campaign]) -> Iterator[set[str]]:
    """What each may be called by: its goal, and its place among those of that goal."""
    seen: Counter[str] = Counter()
    for campaign in campaigns:
        seen[campaign.goal] += 1
        yield {campaign.goal, f"{campaign.goal}:{seen[campaign.goal]}"}


def main() -> int:
    """Run the soak; the exit code says whether every promise was kept."""
    parser = argparse.ArgumentParser(description="Break things many times over, and count.")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="GOAL",
        help="some goals, or R9:2, the second thing done for one, and drift",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of runs")
    parser.add_argument("--minutes", type=float, default=1e6, help="take no new case after these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="workers")
    parser.add_argument("--messages", type=Path, help="where to write every message there was")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    chosen = options.only or [*(campaign.goal for campaign in CAMPAIGNS), "drift"]
    wanted = [i for i, names in enumerate(names_of(CAMPAIGNS)) if names & {*chosen}]
    tallies: dict[int, Tally] = {}
    messages: set[str] = set()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        shares = [
            pool.submit(work, wanted, options.scale, deadline, (worker, options.jobs))
            for worker in range(options.jobs)
        ]
        for share in shares:
            counted, said = share.result()
            messages |= said
            for number, tally in counted:
                tallies[number].add(tally) if number in tallies else tallies.update({number: tally})
    kept = json.loads(ROWS.read_text()) if ROWS.exists() else {"rows": [], "drift": []}
    found = [tally for tally in tallies.values() if tally.tried]
    kept["rows"] = merge(kept["rows"], found)
    if "drift" in chosen:
        kept["drift"] = [asdict(difference) for difference in measure_drift()]
    ROWS.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(PAGE.read_text().split(MARK)[0] + MARK + "\n" + report(kept))
    if options.messages:
        options.messages.write_text("\n".join(sorted(messages)))
    return 0 if all(tally.good for tally in found) else 1


if __name__ == "__main__":
    sys.exit(main())
