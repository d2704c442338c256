"""What lies on the table: keyframes, the film between them, a map, some seeds. No HTTP.

    add, arrange, wish     change what lies there; the film begins anew
    describe               tells all of it, as JSON values
    look, survey           a point of the map, and an overview
    offer                  pictures of seeds
    keep                   a file to take home

Any thread may call them. The model belongs to the worker's.
"""

import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError, DdimInterpError
from ddim_interp.keyframes import Keyframes, decode_keyframes, find_keyframes
from ddim_interp.memory import OUT_OF_MEMORY, halve_until_it_fits, ran_out_of_memory
from ddim_interp.model import Model, Plan
from ddim_interp.morph import Morph
from ddim_interp.precision import default_batch_size
from ddim_interp.shapes import Frame
from ddim_interp.sources import in_words
from ddim_interp.web.attention import Attentive, Progress, Watched
from ddim_interp.web.cards import Card, lay_cards, told_apart, upload_card
from ddim_interp.web.chart import CORNERS, Chart
from ddim_interp.web.drawing import Drawing
from ddim_interp.web.jobs import Lane, Superseded, Worker
from ddim_interp.web.keepsakes import Keepsake, Keepsakes
from ddim_interp.web.remembered import Remembered
from ddim_interp.web.seeds import AT_ONCE, SeedPictures, check_seed
from ddim_interp.web.sketch import sketch_of, sketch_plan
from ddim_interp.web.wish import FilmWish, command_line

__all__ = ["MOST_KEYFRAMES", "SHEET", "Setting", "Studio", "what_happened"]

MOST_KEYFRAMES = 32
SHEET = 16
"""Seeds shown at once."""

_LANES = {
    "open": Lane(),
    "look": Lane(newest_wins=True),
    "seeds": Lane(newest_wins=True),
    "map": Lane(newest_wins=True),
    "keep": Lane(most=3),
    "film": Lane(newest_wins=True),
}


@dataclass(frozen=True)
class Setting:
    """What `explore` was told on the command line, and the page cannot change.

    Args:
        plan: Fields of `Plan` that were given; see `plan_for`.
        batch_size: Pictures in the network at once; by their size if None.
        options: How `morph` is told the same, by option.
    """

    plan: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Studio:
    """The table, and who works at it.

    Args:
        model: The model.
        folder: An empty folder for files to take home.
        setting: What cannot be changed here.
    """

    def __init__(self, model: Model, folder: Path, setting: Setting | None = None) -> None:
        self.model = model
        self.setting = setting or Setting()
        self._size = self.setting.batch_size or default_batch_size(model.shape, model.device)
        self._folder = folder
        self._keepsakes = Keepsakes(folder)
        self._lock = threading.RLock()
        self._cards: tuple[Card, ...] = ()
        self._wish = FilmWish()
        self._chart: Chart | None = None
        self._hung: tuple[str, ...] = ()  # the keyframes that the map hangs on
        self._walk: str | None = None  # how latents are decoded, in words
        self._drawing: Drawing | None = None
        self._begun = 0  # films, in all
        self._trouble: str | None = None
        self._progress: Progress | None = None
        self._remembered = Remembered()
        self._seeds = SeedPictures(model)
        self._first_seed: int | None = None
        self._worker = Worker(_LANES)

    def __enter__(self) -> "Studio":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def stop(self) -> None:
        """Let go of all work, and of those who wait for it."""
        self._worker.close(patience=0)

    def close(self) -> None:
        """Stop all work, and forget the film."""
        self._worker.close()
        with self._lock:
            if self._drawing:
                self._drawing.close()

    # ---- the table ----

    def add(self, *sources: str) -> None:
        """Put down what is named so, as a command line would: files, seeds.

        Raises:
            DdimInterpError: One of them is not there, or cannot be used.
        """
        self._put(card for source in sources for card in lay_cards(source, self.model))

    def add_seed(self, number: int) -> None:
        """Put down a seed.

        Raises:
            ArgumentError: It is no seed, or too many keyframes lie there.
        """
        check_seed(number)
        self.add(f"seed:{number}")

    def upload(self, path: Path, name: str) -> "Future[None]":
        """Put down a picture that came from the page; see `upload_card`.

        Raises:
            BusyError: Too many wait to be opened.
        """
        return self._worker.ask("open", lambda: self._put([upload_card(path, name, self.model)]))

    def arrange(self, ids: Sequence[str]) -> None:
        """Keep these keyframes, in this order.

        Raises:
            ArgumentError: Some are not there, or are named twice.
        """
        with self._lock:
            there = {card.id: card for card in self._cards}
            if len(set(ids)) != len(ids) or not set(ids) <= set(there):
                raise ArgumentError(
                    "These keyframes are not those on the page, or one is named twice; load the "
                    "page anew."
                )
            self._cards = tuple(there[each] for each in ids)
            self._begin()

    def wish(self, wish: FilmWish) -> None:
        """Ask for another film.

        Raises:
            DdimInterpError: It cannot be meant.
        """
        with self._lock:
            before, self._wish = self._wish, wish
            if before.drawn != wish.drawn:
                self._begin()

    def describe(self) -> dict[str, Any]:
        """All that the page shows, as JSON values."""
        with self._lock:
            progress, drawing = self._progress, self._drawing
            return {
                "keyframes": [card.describe() for card in self._cards],
                "wish": self._wish.describe(),
                "walk": self._walk,
                "film": drawing and drawing.describe(),
                "working": bool(self._worker.busy),
                "progress": progress and {"doing": progress.doing, "share": progress.share},
                "trouble": self._trouble,
                "map": chart.describe() if (chart := self._current_chart) else None,
                "seeds": None
                if self._first_seed is None
                else [{"seed": s, "pictured": self._seeds[s] is not None} for s in self._offered],
                "command": self.command("morph.mp4"),
            }

    def command(self, out: str) -> str | None:
        """What to type for the same film, if there is one."""
        with self._lock:
            if len(self._cards) < 2:
                return None
            names = [card.spelling for card in self._cards]
            return command_line(names, self._wish, out, self.setting.options)

    def picture(self, card_id: str) -> Frame | None:
        """What a keyframe looks like."""
        with self._lock:
            return next((card.picture for card in self._cards if card.id == card_id), None)

    def frame(self, film_id: str, kind: str, number: int) -> Frame | None:
        """A frame of the film, if it is that film, and there."""
        with self._lock:
            drawing = self._drawing
        if drawing is None or drawing.id != film_id:
            return None
        return drawing.frame(kind, number)

    # ---- seeds ----

    def offer(self, first: int) -> None:
        """Draw the pictures of `SHEET` seeds, from this one on.

        Raises:
            ArgumentError: They are no seeds.
        """
        check_seed(first)
        check_seed(first + SHEET - 1)
        if (depth := self.setting.plan.get("depth") or 1) < 1:
            raise ArgumentError(
                f"Seeds are pure noise, and depth {depth:g} stops where pictures are still half "
                "there; add pictures, or leave the depth at 1."
            )

        def draw() -> None:
            for _ in self._seeds.draw(range(first, first + SHEET), self._watch()):
                self._worker.glance()

        with self._lock:
            self._first_seed = first
            self._worker.ask("seeds", partial(self._telling, draw))

    def seed_picture(self, number: int) -> Frame | None:
        """What a seed looks like, if it was drawn."""
        return self._seeds[number]

    # ---- the map ----

    def look(self, down: float, across: float, *, fine: bool) -> "Future[Frame]":
        """The picture at a point of the map between the first three or four keyframes.

        Args:
            down: 0 is the upper edge, 1 the lower.
            across: 0 is the left edge, 1 the right.
            fine: Whether in all steps, or as a sketch.

        Raises:
            ArgumentError: There is no such point, or no map yet.
        """
        chart = self._need_chart(down, across)
        plan = None if fine else sketch_plan(self.model, chart.plan)
        return self._worker.ask("look", lambda: chart.picture(down, across, plan, self._watch()))

    def survey(self) -> None:
        """Draw an overview of the map.

        Raises:
            ArgumentError: There is no map yet.
        """
        chart = self._need_chart()
        plan = sketch_plan(self.model, chart.plan)

        def draw() -> None:
            for _ in chart.draw(plan, self._watch()):
                self._worker.glance()

        self._worker.ask("map", partial(self._telling, draw))

    def surveyed(self, chart_id: str, number: int) -> Frame | None:
        """A picture of the overview, if it is of that map, and there."""
        with self._lock:
            chart = self._chart
        if chart is None or chart.id != chart_id or not 0 <= number < len(chart.survey):
            return None
        return chart.survey[number]

    @property
    def _current_chart(self) -> Chart | None:
        """The map, if it is that of the keyframes on the table and of the blend that is wished."""
        here = tuple(card.id for card in self._cards)[:4]
        chart = self._chart
        if chart is None or self._hung != here or chart.blend != self._wish.blend:
            return None
        return chart

    def _need_chart(self, down: float = 0.0, across: float = 0.0) -> Chart:
        """The map, which has such a point."""
        if not (0 <= down <= 1 and 0 <= across <= 1):
            raise ArgumentError("That point is not on the map; give numbers from 0 to 1.")
        with self._lock:
            chart = self._current_chart
        if chart is None:
            raise ArgumentError(
                "A map needs three or four keyframes in noise space; add some, or wait for them."
            )
        return chart

    # ---- to take home ----

    def keep(self, format: str, number: int = 0) -> "Future[Keepsake]":
        """Write the film, one of its frames or its latents as a file.

        Args:
            format: A name from `FORMATS`.
            number: Which frame, if it is one.

        Raises:
            ArgumentError: There is no such format, or nothing to write.
            BusyError: Too many are being written.
        """
        with self._lock:
            drawing, fps = self._drawing, self._wish.fps
        if drawing is None:
            raise ArgumentError("There is no film yet; add two keyframes.")
        write = self._keepsakes.plan(format, drawing, fps, number, self._worker.glance)
        return self._worker.ask("keep", write)

    def keep_point(self, down: float, across: float) -> "Future[Keepsake]":
        """Write the picture at a point of the map; see `look`.

        Raises:
            ArgumentError: There is no such point, or no map yet.
            BusyError: Too many files are being written.
        """
        chart = self._need_chart(down, across)

        def write() -> Keepsake:
            frame = chart.picture(down, across, None, self._watch())
            return self._keepsakes.picture("point.png", frame, chart.recipe(down, across))

        return self._worker.ask("keep", write)

    def keepsake(self, id: str) -> Keepsake | None:
        """A file that was kept, if it still is."""
        return self._keepsakes.find(id)

    # ---- at work ----

    def _put(self, cards: Iterable[Card]) -> None:
        new = tuple(cards)
        with self._lock:
            if len(self._cards) + len(new) > MOST_KEYFRAMES:
                raise ArgumentError(
                    f"{MOST_KEYFRAMES} keyframes are as many as this page holds; remove some first."
                )
            for card in new:
                self._cards += (told_apart(self._with_picture(card), self._cards),)
            self._begin()

    def _with_picture(self, card: Card) -> Card:
        """A seed that was offered has been drawn already."""
        if card.kind != "seed":
            return card
        return replace(card, picture=self._seeds[int(card.name.removeprefix("seed:"))])

    def _begin(self) -> None:
        """Draw what lies on the table now, and no longer what lay there before."""
        if self._drawing:
            self._drawing.close()
        self._drawing, self._trouble = None, None
        self._begun += 1
        if self._cards:
            draw = partial(self._draw, self._begun, self._cards, self._wish)
            self._worker.ask("film", partial(self._telling, draw))
        else:
            self._worker.drop("film")

    def _telling(self, work: Callable[[], None]) -> None:
        """Work that nobody waits for: whatever goes wrong is told on the page."""
        try:
            work()
        except DdimInterpError as error:
            self._worker.glance()  # whether anybody wants to know
            self._trouble = str(error)
        except Exception as bug:
            self._worker.glance()
            self._trouble = what_happened(bug)
            raise

    def _draw(self, number: int, cards: Sequence[Card], wish: FilmWish) -> None:
        """The film of that number."""
        try:
            halve_until_it_fits(partial(self._draw_in, number, cards, wish), self._size)
        finally:
            self._progress = None

    def _draw_in(self, number: int, cards: Sequence[Card], wish: FilmWish, batch_size: int) -> None:
        """Find keyframes, sketch, draw."""
        sources = [card.source for card in cards]
        plan = wish.plan(sources, **self.setting.plan)
        # One by one: a new picture then costs its own inversion, and no other's.
        found = find_keyframes(
            self.model,
            sources,
            plan,
            1,
            self._watch("Looking for pictures in noise space"),
            self._remembered.of(plan),
            take_notes=True,
        )
        self._tell(cards, found)
        if len(cards) < 2:
            return
        film = Morph(self.model, found, wish.style, batch_size)
        with self._lock:
            if number != self._begun:
                raise Superseded
            if self._drawing:  # memory ran out, and all begins again
                self._drawing.close()
            self._drawing = drawing = Drawing(film)
        if sketch := sketch_of(film):
            for frame in sketch.draw(self._counted(), self._watch("Sketching")):
                drawing.append("sketch", frame)
        watch = self._watch("Drawing", drawing)
        for frame in film.draw(self._counted(), watch):
            drawing.append("frames", frame)

    def _tell(self, cards: Sequence[Card], found: Keyframes) -> None:
        """Put down what was found, and what latents and seeds look like."""
        known = {card.id: each for card, each in zip(cards, found.each, strict=True)}
        with self._lock:
            self._cards = tuple(
                replace(card, keyframe=known.get(card.id, card.keyframe)) for card in self._cards
            )
            self._walk = in_words(found.plan.describe())
            self._hang(tuple(card.id for card in cards)[:4], found[:4])
            blank = {card.id for card in self._cards if card.picture is None}
        ids = [card.id for card in cards if card.id in blank]
        frames = decode_keyframes(
            self.model,
            [known[card_id] for card_id in ids],
            sketch_plan(self.model, found.plan, Plan.quick().steps),
            AT_ONCE,
            self._watch("Drawing seeds and latents"),
        )
        for card_id, frame in zip(ids, frames, strict=True):
            with self._lock:
                self._cards = tuple(
                    replace(card, picture=frame) if card.id == card_id else card
                    for card in self._cards
                )

    def _hang(self, ids: tuple[str, ...], corners: Keyframes) -> None:
        """A map of these, unless there is one."""
        chart = self._current_chart
        if len(ids) not in CORNERS:
            self._chart, self._hung = None, ()
        elif chart is None or chart.plan != corners.plan:
            self._chart, self._hung = Chart(self.model, corners, self._wish.blend), ids

    @property
    def _offered(self) -> range:
        return range(self._first_seed or 0, (self._first_seed or 0) + SHEET)

    def _counted(self) -> CountCalls:
        """The denoiser for frames, with a glance up before each batch."""
        return CountCalls(Attentive(self.model.for_frames, self._worker.glance))

    def _watch(self, doing: str = "", drawing: Drawing | None = None) -> Watched:
        """Glance up at every step, and say how far the work is, if it has a name."""
        return Watched(self._worker.glance, doing, self._say, drawing)

    def _say(self, progress: Progress) -> None:
        self._progress = progress


def what_happened(bug: Exception) -> str:
    """One line on an error that nobody meant; where it arose is for the terminal."""
    if ran_out_of_memory(bug):
        return OUT_OF_MEMORY
    traceback.print_exception(bug)
    return f"This should not happen: {type(bug).__name__}, {' '.join(str(bug).split())[:200]}"
