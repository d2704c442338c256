"""Many films, made one after the other or side by side: what `ddim-interp batch` does.

    table      which: a row for each, of a .csv or .jsonl
    task       one of them to be made, and what came of it
    maker      makes one after another with one model
    inline     in this process
    crew       by processes beside it, or on other machines
    cluster    where those run: the door of Ray
    ledger     what has come of them so far, in the folder where they are
    tally      how many, of what kind

Nothing a film may do ends the batch: it is entered as failed, and the next one is made. What is
done is known from the files alone, so that a batch that was killed goes on where it stood.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Protocol

from ddim_interp.batch.crew import Crew
from ddim_interp.batch.inline import Inline
from ddim_interp.batch.ledger import Ledger, open_ledger
from ddim_interp.batch.maker import Maker
from ddim_interp.batch.table import Row, read_table
from ddim_interp.batch.tally import Tally
from ddim_interp.batch.task import Outcome, Task, check_apart

__all__ = [
    "Crew",
    "Engine",
    "Inline",
    "Ledger",
    "Maker",
    "Outcome",
    "Row",
    "Tally",
    "Task",
    "check_apart",
    "make_all",
    "open_ledger",
    "read_table",
]


class Engine(Protocol):
    """What has films made."""

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome]:
        """Have them made, in any order; what came of each, as it comes.

        Raises:
            DdimInterpError: None can be made: there is no model, or no room on the disk.
        """


def make_all(
    planned: Sequence[Task | Outcome],
    engine: Engine,
    ledger: Ledger,
    *,
    max_failures: int | None = None,
) -> Generator[Outcome]:
    """Have films made, and enter what comes of each before it is told.

    Args:
        planned: The films; what cannot even be ordered has failed already.
        engine: Who makes them.
        ledger: Where it is entered. What it knows as made, and is, is not made again.
        max_failures: How many may fail; with one more, the rest is left.

    Yields: An outcome for each film, in the order in which they come.

    Raises:
        DdimInterpError: None can be made: there is no model, or no room on the disk.

    Example:
        >>> import tempfile
        >>> from ddim_interp import DDIMPipeline, DDIMScheduler, Plan, Style, UNet2DModel
        >>> from ddim_interp.production.film import FilmOrder
        >>> unet = UNet2DModel(16, block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
        >>> maker = Maker(lambda: DDIMPipeline(unet, DDIMScheduler()))
        >>> with tempfile.TemporaryDirectory() as folder, open_ledger(folder) as ledger:
        ...     out = ledger.folder / "one.gif"
        ...     order = FilmOrder(("seed:1", "seed:2"), out, Plan(2), Style(frames=4))
        ...     films = make_all([Task("one", order)], Inline(maker, ledger.ends), ledger)
        ...     [(film.name, film.failed) for film in films]
        [('one', False)]
    """
    hopeless = [each for each in planned if isinstance(each, Outcome)]
    tasks = [
        replace(each, entry=ledger.made.get(each.name))
        for each in planned
        if isinstance(each, Task)
    ]
    failed = 0
    with closing(engine.run(tasks)) as coming:
        for outcome in chain(hopeless, coming if tasks else ()):
            ledger.enter(outcome)
            yield outcome
            failed += outcome.failed
            if max_failures is not None and failed > max_failures:
                return
