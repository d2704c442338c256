"""Break things many times over, and count: what `make soak` runs, and the tests in small.

Each campaign breaks runs of the program in one way and returns a `Tally`. In all of them a run must
end as documented, in one line, and what stands under the film's name must be the whole film.

    python tests/soak.py --scale 1 --write docs/reliability.md
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from broken_runs import ERRNOS, Nursery, Outcome


@dataclass
class Tally:
    """What a campaign counted.

    Args:
        goal: Which of the goals it is about.
        what: What was done to the runs.
        tried: How often.
        clean: Runs that failed in one line, with a documented exit code.
        passed: Runs that came through with the right result.
        uncaught: Runs that ended with a traceback, or an undocumented code.
        partial: Times something stood under a final name that was not the whole film.
        left: Times a temporary file stayed behind that could have been removed.
        resumed: Runs gone on with afterwards.
        identical: Those of them that ended with the bytes of an unbroken run.
        wrong: What to look at, if something is wrong.
    """

    goal: str
    what: str
    tried: int = 0
    clean: int = 0
    passed: int = 0
    uncaught: int = 0
    partial: int = 0
    left: int = 0
    resumed: int = 0
    identical: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        kept = not (self.uncaught or self.partial or self.left)
        return kept and self.resumed == self.identical and not self.wrong and self.tried > 0

    def blame(self, kind: str, outcome: object) -> None:
        """Count something that must not happen."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.wrong.append(f"{kind}: {outcome}"[-700:])


class Workshop:
    """A model, two pictures, a nursery, and the films an unbroken run makes of them."""

    def __init__(self, nursery: Nursery, model: Path, pictures: list[Path], folder: Path) -> None:
        self.nursery = nursery
        self.folder = folder
        self._common = ("--model", model, "--steps", 2, "--device", "cpu")
        self._pictures = pictures
        self._films: dict[tuple[Any, ...], Any] = {}
        self._numbers = iter(range(1_000_000))

    def place(self, suffix: str) -> Path:
        """Where a film is to be made, in a folder of its own; or `sheet.png`, `grid.png` …"""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        return folder / (suffix if "." in suffix[1:] else f"film{suffix}")

    def command(self, out: Path, *more: object) -> tuple[object, ...]:
        """The command that makes it."""
        if out.suffix == ".safetensors":
            return ("invert", *self._pictures, "-o", out, *self._common, *self._size(more), *more)
        if out.name == "sheet.png":
            return ("sample", "--seeds", "0-9", "-o", out, *self._common, *self._size(more), *more)
        if out.name == "grid.png":
            corners = (*self._pictures, "seed:1", "seed:2", "--rows", 3, "--columns", 3)
            return ("grid", *corners, "-o", out, *self._common, *self._size(more), *more)
        if out.suffix == ".html":
            few = ("--steps", "2,3", *self._common[:2], "--device", "cpu")
            return ("check", *self._pictures, "--report", out, *few, *self._size(more), *more)
        journey = (self._pictures[0], "seed:3", self._pictures[1])
        short = ("--frames", 10, "--upscale", 1)
        return ("morph", *journey, "-o", out, *self._common, *short, *self._size(more), *more)

    def _size(self, more: Sequence[object]) -> tuple[object, ...]:
        return ("-q",) if "--batch-size" in more else ("--batch-size", 4, "-q")

    def run(self, out: Path, *more: object, **trouble: Any) -> Outcome:
        """Make it, in trouble."""
        return self.nursery.run(*self.command(out, *more), **trouble)

    def whole(self, suffix: str, *more: object) -> Any:
        """The bytes of an unbroken run."""
        key = suffix, *more
        if key not in self._films:
            out = self.place(suffix)
            outcome = self.run(out, *more)
            assert outcome.code == 0, outcome
            self._films[key] = content(out)
        return self._films[key]

    def judge(self, tally: Tally, outcome: Outcome, out: Path, whole: Any, kept: bool) -> bool:
        """Count one broken run; True if the film is there."""
        tally.tried += 1
        if outcome.uncaught or not outcome.clean:
            tally.blame("uncaught", outcome)
        found = content(out)
        if found not in (None, whole):
            tally.blame("partial", outcome)
        if outcome.code == 0 and found == whole:
            tally.passed += 1
        elif outcome.code == 0:
            tally.blame("partial", outcome)
        elif outcome.code > 0:
            tally.clean += 1
        others = [path.name for path in out.parent.iterdir() if path != out]
        removable = outcome.code >= 0 and outcome.failed not in ("unlink", "rmdir", "close")
        if removable and [name for name in others if not (kept and name.endswith(".work"))]:
            tally.blame("left", (outcome, others))
        return found is not None

    def resume(self, tally: Tally, out: Path, whole: Any) -> None:
        """Go on with a broken run, and compare."""
        tally.resumed += 1
        outcome = self.run(out, "--resume")
        if outcome.code == 0 and content(out) == whole and list(out.parent.iterdir()) == [out]:
            tally.identical += 1
            shutil.rmtree(out.parent)
        else:
            tally.wrong.append(f"resumed: {outcome}"[-700:])


def content(path: Path) -> Any:
    """What stands under a name: bytes, the files of a folder, or None."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir()}
    return path.read_bytes() if path.exists() else None


def kill_at_calls(shop: Workshop, suffix: str, number: int) -> Tally:
    """Kill -9 before calls of the operating system, spread over a whole run; resume each."""
    tally = Tally("R6", f"kill -9 before a system call, {suffix or 'folder'}")
    whole = shop.whole(suffix)
    out = shop.place(suffix)
    calls = shop.run(out, "--resume").calls
    for kill_at in spread(calls, number):
        out = shop.place(suffix)
        shop.judge(tally, shop.run(out, "--resume", kill_at=kill_at), out, whole, True)
        shop.resume(tally, out, whole)
    return tally


def kill_at_random(shop: Workshop, suffix: str, number: int, seed: int = 0) -> Tally:
    """Kill -9 at any moment, the same film again and again until it is done."""
    tally = Tally("R6", f"kill -9 at random moments, {suffix or 'folder'}")
    rng = np.random.default_rng(seed)
    whole = shop.whole(suffix)
    typical = shop.run(shop.place(suffix), "--resume").seconds
    while tally.tried < number:
        out = shop.place(suffix)
        for _ in range(int(rng.integers(1, 4))):
            after = float(rng.uniform(0, 1.1 * typical))
            trouble = {"after": after, "signal": signal.SIGKILL}
            if shop.judge(tally, shop.run(out, "--resume", **trouble), out, whole, True):
                break
        shop.resume(tally, out, whole)
    return tally


def interrupt(shop: Workshop, suffix: str, number: int, seed: int = 1) -> Tally:
    """SIGINT and SIGTERM at any moment; half of them of runs that can be resumed."""
    tally = Tally("R22", f"SIGINT, SIGTERM at random moments, {suffix or 'folder'}")
    rng = np.random.default_rng(seed)
    whole = shop.whole(suffix)
    typical = shop.run(shop.place(suffix)).seconds
    for i in range(number):
        out, asked = shop.place(suffix), (signal.SIGINT, signal.SIGTERM)[i % 2]
        more = ("--resume",) if i % 4 < 2 else ()
        after = float(rng.uniform(0.1, 1)) * typical
        outcome = shop.run(out, *more, after=after, signal=asked)
        shop.judge(tally, outcome, out, whole, bool(more))
        if outcome.code not in (0, 128 + asked) or outcome.orphans or outcome.seconds > 5:
            tally.blame("uncaught", outcome)
        if more:
            shop.resume(tally, out, whole)
    return tally


def fail_calls(shop: Workshop, suffix: str, number: int, *more: str, every: bool = False) -> Tally:
    """Let calls of the operating system fail, from the first to the last of a run."""
    name = {"": "folder", ".safetensors": "invert"}.get(suffix, suffix)
    tally = Tally("R9", " ".join((f"a system call fails, {name}", *more)))
    whole = shop.whole(suffix)
    calls = shop.run(shop.place(suffix), *more).calls
    for i, fail_at in enumerate(spread(calls, number)):
        for error in ERRNOS if every else (ERRNOS[i % 3],):
            out = shop.place(suffix)
            outcome = shop.run(out, *more, fail_at=fail_at, errno=error)
            shop.judge(tally, outcome, out, whole, bool(more))
            if more:
                shop.resume(tally, out, whole)
    return tally


def fill_disk(shop: Workshop, suffix: str, number: int) -> Tally:
    """Let no file grow beyond a size, from nothing to just short of enough; then make room."""
    tally = Tally("R7", f"no room (file size limit), {suffix}")
    whole = shop.whole(suffix)
    for size in spread(len(whole) - 1, number):
        out = shop.place(suffix)
        outcome = shop.run(out, "--resume", fsize=size)
        shop.judge(tally, outcome, out, whole, True)
        if outcome.code != 74:
            tally.wrong.append(f"not 74: {outcome}"[-700:])
        shop.resume(tally, out, whole)
    return tally


def run_out_of_memory(shop: Workshop, number: int) -> Tally:
    """Let one run of the network fail for want of memory; the batch is halved."""
    tally = Tally("R10", "out of memory at a run of the network")
    whole, smaller = (shop.whole(".gif", "--batch-size", str(size)) for size in (4, 2))
    forwards = shop.run(shop.place(".gif")).forwards
    for at in spread(forwards, number):
        out = shop.place(".gif")
        outcome = shop.run(out, "--json", oom_at=[at])
        shop.judge(tally, outcome, out, smaller, False)
        if outcome.code or json.loads(outcome.out)["batch_size"] != 2 or whole == smaller:
            tally.wrong.append(f"not halved: {outcome}"[-700:])
    out = shop.place(".gif")
    shop.judge(tally, shop.run(out, oom_above=0), out, whole, False)
    return tally


def cap_memory(shop: Workshop, number: int) -> Tally:
    """Cap the address space of a run at more and more above what it has at its start."""
    tally = Tally("R10", "address space capped")
    films = [shop.whole(".gif", "--batch-size", str(size)) for size in (4, 2, 1)]
    for i in range(number):
        out = shop.place(".gif")
        outcome = shop.run(out, memory=2**20 + int(i * 300 * 2**20 / number))
        found = content(out)
        whole = found if found in films else films[0]
        shop.judge(tally, outcome, out, whole, False)
    return tally


def draw_long_films(shop: Workshop, frames: int) -> Tally:
    """Films of many frames take the memory of short ones."""
    tally = Tally("R10", f"{frames} frames in at most 1.1 times the memory of 50")
    for suffix, more in ((".gif", ()), (".mp4", ("--resume",)), ("", ("--boomerang",))):
        peaks = []
        for number in (50, frames):
            out = shop.place(suffix)
            seeds = ("seed:1", "seed:2", "-o", out, "--frames", number, "--steps", 1)
            common = shop.command(out)[6:8]
            size = ("--batch-size", 8, "--upscale", 1)
            outcome = shop.nursery.run("morph", *seeds, *common, *size, *more)
            peaks.append(outcome.peak)
        tally.tried += 1
        if outcome.code == 0 and peaks[1] <= 1.1 * peaks[0]:
            tally.passed += 1
        else:
            tally.wrong.append(f"{suffix} {more}: {peaks} {outcome}"[-700:])
    return tally


def spoil_numbers(shop: Workshop, number: int) -> Tally:
    """Let the network answer NaN for one picture, once."""
    tally = Tally("R11", "the network answers NaN once")
    forwards = shop.run(shop.place(".gif")).forwards
    for i, at in enumerate(spread(forwards, number)):
        for dtype in ("fp32", "bf16"):
            out = shop.place(".gif")
            outcome = shop.run(out, "--dtype", dtype, nan_at=at, row=i)
            # It may be asked again and come out a little differently; it may not be spoilt.
            shop.judge(tally, outcome, out, content(out), False)
            if outcome.code not in (0, 70):
                tally.wrong.append(f"NaN: {outcome}"[-700:])
    return tally


def race(shop: Workshop, number: int) -> Tally:
    """Start two runs on one output at the same time."""
    tally = Tally("R16", "two runs on one output")
    whole = shop.whole(".gif")
    for _ in range(number):
        out = shop.place(".gif")
        outcomes = shop.nursery.run_together([shop.command(out)] * 2)
        for outcome in outcomes:
            shop.judge(tally, outcome, out, whole, False)
        # 73 where the second came when the first had just ended
        if sorted(outcome.code for outcome in outcomes) not in ([0, 75], [0, 73]):
            tally.wrong.append(f"race: {outcomes}"[-700:])
    return tally


def repeat(shop: Workshop, number: int) -> Tally:
    """Make the same film again and again."""
    tally = Tally("R12", "the same film again")
    for i in range(number):
        suffix = (".gif", ".mp4", ".webp", "")[i % 4]
        out = shop.place(suffix)
        shop.judge(tally, shop.run(out), out, shop.whole(suffix), False)
    return tally


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, a piece cut out, or the end cut off."""
    mutant = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 8)):
        mutant[place] = rng.integers(256)
    if rng.random() < 0.3:
        start, length = rng.integers(0, len(data)), rng.integers(1, 64)
        del mutant[start : start + length]
    if rng.random() < 0.3:
        del mutant[int(rng.integers(1, len(data))) :]
    return bytes(mutant)


def try_inputs(tally: Tally, inputs: Iterable[bytes], read: Callable[[bytes], Any]) -> Tally:
    """Count which inputs are read, and which are refused by an error of ours in one line."""
    from ddim_interp.errors import DdimInterpError

    for data in inputs:
        tally.tried += 1
        try:
            read(data)
            tally.passed += 1
        except DdimInterpError as error:
            tally.clean += 1
            if "\n" in str(error) or not str(error).isprintable():
                tally.blame("uncaught", repr(error))
        except Exception as error:
            tally.blame("uncaught", repr(error))
    return tally


def spoil_pictures(folder: Path, number: int, seed: int = 2) -> Tally:
    """Damaged pictures of seven formats."""
    from PIL import Image

    from ddim_interp.images import open_image

    rng = np.random.default_rng(seed)
    noise = np.kron(rng.integers(0, 256, (12, 10, 3)), np.ones((3, 3, 1))).astype(np.uint8)
    whole = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        buffer = BytesIO()
        Image.fromarray(noise).save(buffer, kind)
        whole.append(buffer.getvalue())
    path = folder / "picture"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        open_image(path, 16)

    mutants = (damage(whole[i % len(whole)], rng) for i in range(number))
    return try_inputs(Tally("R1", "damaged pictures, 7 formats"), mutants, read)


def spoil_model(
    model: Path, folder: Path, file: str, number: int, goal: str, seed: int = 3
) -> Tally:
    """Damaged weights or configs."""
    from ddim_interp.checkpoint import read_checkpoint

    rng = np.random.default_rng(seed)
    copy = folder / f"model-{goal}"
    shutil.copytree(model, copy)
    whole = (copy / file).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little") if file.endswith("safetensors") else 0

    def read(data: bytes) -> None:
        (copy / file).write_bytes(data)
        read_checkpoint(copy)

    def mutants() -> Iterator[bytes]:
        for i in range(number):
            if header and i % 2:  # what is not weights is the most fragile part
                yield damage(whole[:header], rng) + whole[header:]
            else:
                yield damage(whole, rng)

    return try_inputs(Tally(goal, f"damaged {Path(file).name}"), mutants(), read)


def spoil_films(films: Iterable[bytes], number: int, folder: Path, seed: int = 4) -> Tally:
    """`info` of damaged films and latent files."""
    from ddim_interp.cli import cli

    rng = np.random.default_rng(seed)
    whole = list(films)
    path = folder / "film"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        said = StringIO()
        with redirect_stdout(said):
            cli.main(["info", str(path)], standalone_mode=False)
        assert said.getvalue().replace("\n", "").isprintable()

    mutants = (damage(whole[i % len(whole)], rng) for i in range(number))
    return try_inputs(Tally("R18", "info of damaged films"), mutants, read)


def try_names(shop: Workshop, number: int) -> Tally:
    """Films and pictures under names that mean something to a shell, a terminal or a URL."""
    tally = Tally("R17", "hostile names of pictures and films")
    names = [
        "-o", "--help", "%d", "%n%s", "{a.__class__}", "a b", "a\nb", "\x1b[31m", "con:cat", "CON",
        "nul.", "trailing ", "file:a", "concat:a|b", "http:x", "..a", "a..", "~", "$HOME", "`id`",
        "*", "?", "[ab]", "a#1", "seed:x", "e\u0301", "\u00e9", "\u202egpj", "x" * 200, "a;b",
        "a&b", "<b>", "'", '"', "\\\\unc\\a", "C:a", ".hidden", "a\tb", "@file", "水彩",
    ]  # fmt: skip
    for name in names[:number]:
        out = shop.place(".mp4").with_name(f"{name}.mp4")
        # "seed:x.png" is a seed that cannot be meant, so pictures are named with their folder.
        picture = out.with_name(f"{name}.png")
        shutil.copy(shop.command(out)[1], picture)
        before = {path for path in shop.folder.rglob("*")}
        journey = (picture, "seed:1", "--frames", 2, "--steps", 1, "--upscale", 1, "-q")
        common = shop.command(out)[6:10]
        outcome = shop.nursery.run("morph", *journey, "-o", out, *common)
        tally.tried += 1
        added = {path for path in shop.folder.rglob("*")} - before
        if outcome.uncaught or not outcome.clean:
            tally.blame("uncaught", outcome)
        elif outcome.code == 0 and added == {out}:
            tally.passed += 1
        elif outcome.code and not added:
            tally.clean += 1
        else:
            tally.blame("left", (outcome, added))
    return tally


def open_again(folder: Path, number: int, seed: int = 5) -> Tally:
    """Films of any size, length and rate, opened again: every frame is there, the time is right."""
    from PIL import Image

    from ddim_interp.sinks import SINKS, open_sink
    from ddim_interp.sinks.video import count_frames

    tally = Tally("R23", "films of 1–66 pixels, 1–40 frames, 1–50 frames a second")
    rng = np.random.default_rng(seed)
    for i in range(number):
        suffix = [suffix for suffix in SINKS if suffix not in ("", ".png")][i % 5]
        height, width = rng.integers(1, 67, 2)
        frames, fps = int(rng.integers(1, 41)), float(rng.integers(1, 51))
        still = rng.random() < 0.2
        path = folder / f"again-{i}{suffix}"
        tally.tried += 1
        with open_sink(path, fps=fps, frame_count=frames) as sink:
            frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
            for _ in range(frames):
                sink.write(frame)
                frame = frame if still else np.roll(frame, 1, 0) ^ np.uint8(1)
        if suffix in (".mp4", ".webm"):
            right = count_frames(path) == frames
        else:
            with Image.open(path) as film:
                right = getattr(film, "n_frames", 1) == frames
                shown = 0.0
                for index in range(frames):
                    film.seek(index)
                    film.load()
                    shown += film.info.get("duration", 0)
            right = right and (frames == 1 or abs(shown / 1000 - frames / fps) < 0.0101)
        if right:
            tally.passed += 1
        else:
            tally.blame("partial", (suffix, height, width, frames, fps))
        path.unlink()
    return tally


def spread(end: int, number: int) -> list[int]:
    """At most `number` whole numbers from 1 to `end`, both among them."""
    return sorted({round(x) for x in np.linspace(1, end, min(end, number))})


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
        film = pipe.morph(["seed:1", "seed:2"], plan=Plan(8), batch_size=batch_size, frames=4)
        return np.stack(list(film.draw())).astype(int)

    rows = []
    for dtype in ("fp32", "bf16"):
        first = draw(4, 2, dtype)
        for batch_size, threads in ((4, 2), (2, 2), (1, 2), (4, 1), (1, 1)):
            gap = np.abs(draw(batch_size, threads, dtype) - first)
            what = f"{dtype}, batch {batch_size}, {threads} thread{'s' * (threads > 1)}"
            rows.append(Difference(what, float((gap == 0).mean()), int(gap.max())))
    return rows


def make_model(folder: Path) -> Path:
    """The tests' tiny model, on disk."""
    import torch

    from ddim_interp import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    DDIMPipeline(unet, scheduler).save_pretrained(folder / "tiny")
    return folder / "tiny"


def make_pictures(folder: Path) -> list[Path]:
    """Two small pictures."""
    from PIL import Image

    ramp = np.linspace(0, 255, 20)[:, None, None] * np.array([1.0, 0.7, 0.3])
    paths = [folder / "dawn.png", folder / "dusk.png"]
    for path, pixels in zip(paths, (ramp, ramp[::-1]), strict=True):
        wide = np.broadcast_to(pixels, (20, 24, 3))
        Image.fromarray(np.ascontiguousarray(wide).astype(np.uint8)).save(path)
    return paths


def campaigns(shop: Workshop, model: Path, scale: float) -> Iterator[Tally]:
    """All of them; at scale 1 in the sizes that the documentation reports."""

    def times(number: int) -> int:
        return max(2, round(number * scale))

    unet = "unet/diffusion_pytorch_model.safetensors"
    yield spoil_pictures(shop.folder, times(20_000))
    yield spoil_model(model, shop.folder, unet, times(10_000), "R2")
    yield spoil_model(model, shop.folder, "unet/config.json", times(3_000), "R3")
    for suffix in ("", ".gif", ".mp4"):
        yield kill_at_calls(shop, suffix, times(200))
        yield kill_at_random(shop, suffix, times(140))
    yield fill_disk(shop, ".mp4", times(60))
    yield fail_calls(shop, "", times(500), every=True)
    yield fail_calls(shop, ".gif", times(500), "--resume", every=True)
    yield fail_calls(shop, ".mp4", times(500), every=True)
    yield fail_calls(shop, ".safetensors", times(500), every=True)
    yield run_out_of_memory(shop, times(50))
    yield cap_memory(shop, times(12))
    yield draw_long_films(shop, 50 * times(40))
    yield spoil_numbers(shop, times(200))
    yield repeat(shop, times(50))
    yield race(shop, times(25))
    films = [shop.whole(suffix) for suffix in (".gif", ".mp4", ".webm", ".webp", ".apng", ".png")]
    yield spoil_films(films, times(3_000), shop.folder)
    yield interrupt(shop, ".mp4", times(200))
    yield try_names(shop, times(1000))
    yield open_again(shop.folder, times(400))


def report(tallies: list[Tally], drift: list[Difference], scale: float, seconds: float) -> str:
    """The tables, in Markdown."""
    import av
    import PIL
    import torch

    import ddim_interp

    lines = [
        f"{datetime.date.today()}, scale {scale:g} of the full soak, {seconds / 60:.0f} minutes; "
        f"ddim_interp {ddim_interp.__version__}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}, Pillow {PIL.__version__}, PyAV {av.__version__}, "
        f"{platform.system()}, {os.cpu_count()} cores.",
        "",
        "| goal | what was done | tried | passed | refused or stopped cleanly | uncaught | partial "
        "| left behind | resumed | identical |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for t in tallies:
        numbers = (t.tried, t.passed, t.clean, t.uncaught, t.partial, t.left)
        again = (t.resumed, t.identical) if t.resumed else ("", "")
        lines.append(f"| {t.goal} | {t.what} | {' | '.join(map(str, (*numbers, *again)))} |")
    lines += [
        "",
        "| embedded model, against batch 4, 2 threads | equal values | largest difference |",
        "|---|--:|--:|",
    ]
    lines += [f"| {row.what} | {row.equal:.3%} | {row.most} |" for row in drift]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the soak; the exit code says whether every promise was kept."""
    parser = argparse.ArgumentParser(description="Break things many times over, and count.")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of runs")
    parser.add_argument("--write", type=Path, help="a Markdown file whose tables to renew")
    options = parser.parse_args()
    started = time.monotonic()
    tallies = []
    with tempfile.TemporaryDirectory() as name, Nursery() as nursery:
        folder = Path(name)
        model, pictures = make_model(folder), make_pictures(folder)
        for tally in campaigns(Workshop(nursery, model, pictures, folder), model, options.scale):
            tallies.append(tally)
            print(f"{tally.goal:4} {tally.what}: {tally.tried} tried", file=sys.stderr)
            for wrong in tally.wrong[:5]:
                print(f"     {wrong}", file=sys.stderr)
    text = report(tallies, measure_drift(), options.scale, time.monotonic() - started)
    print(text)
    if options.write:
        mark = "<!-- measured -->\n"
        before = options.write.read_text().split(mark)[0]
        options.write.write_text(before + mark + "\n" + text)
    return 0 if all(tally.good for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
