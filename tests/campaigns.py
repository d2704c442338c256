"""Ways to break runs of the program, many times over: for the fault tests and for the soak.

Each campaign breaks runs in one way and returns a `Tally`. In all of them a run must end as
documented, in one line, and what stands under the film's name must be the whole film.
"""

import json
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from broken_runs import ERRNOS, Nursery, Outcome

T = TypeVar("T")


COUNTS = ("tried", "passed", "clean", "uncaught", "partial", "left", "resumed", "identical")
"""What a tally counts."""


@dataclass
class Tally:
    """What a campaign counted.

    Args:
        goal: Which of the goals it is about.
        what: What was done to the runs.
        figure: How often it should be tried.
        tried: How often it was.
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
    figure: int = 0
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

    def add(self, other: "Tally") -> None:
        """Take in what another worker counted of the same campaign."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.figure = max(self.figure, other.figure)
        self.wrong += other.wrong

    def blame(self, kind: str, outcome: object) -> None:
        """Count something that must not happen."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.wrong.append(f"{kind}: {outcome}"[-700:])


class Workshop:
    """A model, two pictures, a nursery, and what an unbroken run makes of them.

    Args:
        nursery: Where runs are started.
        model: A model folder.
        pictures: Two pictures.
        folder: Where to work.
        share: Which of how many workers this is; each takes its share of the cases.
        deadline: When to take no more cases, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        nursery: Nursery,
        model: Path,
        pictures: list[Path],
        folder: Path,
        share: tuple[int, int] = (0, 1),
        deadline: float = float("inf"),
    ) -> None:
        self.nursery = nursery
        self.model = model
        self.folder = folder
        self.messages: set[str] = set()
        self._share = share
        self._deadline = deadline
        self.common = ("--model", model, "--steps", 2, "--device", "cpu")
        self._pictures = pictures
        self._whole: dict[tuple[Any, ...], Any] = {}
        self._numbers = iter(range(1_000_000))

    def mine(self, cases: Iterable[T]) -> Iterator[T]:
        """This worker's share of the cases, spread over all of them, while there is time."""
        cases, (worker, workers) = list(cases), self._share
        for i in np.random.default_rng(0).permutation(len(cases))[worker::workers]:
            if time.monotonic() > self._deadline:
                return
            yield cases[i]

    def place(self, name: str) -> Path:
        """Where something is to be made, in a folder of its own: `.gif`, `grid.png`, …"""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        return folder / (name if "." in name[1:] else f"film{name}")

    def command(self, out: Path, *more: object) -> tuple[object, ...]:
        """The command that makes it."""
        size = ("-q",) if "--batch-size" in more else ("--batch-size", 4, "-q")
        common = ("-o", out, *self.common, *size, *more)
        if out.suffix == ".safetensors":
            return ("invert", *self._pictures, *common)
        if out.name == "sheet.png":
            return ("sample", "--seeds", "0-9", *common)
        if out.name == "grid.png":
            return ("grid", *self._pictures, "seed:1", "seed:2", *common)
        if out.suffix == ".html":
            few = ("--model", self.model, "--device", "cpu", "--steps", "2,3")
            return ("check", *self._pictures, "--report", out, *few, *size, *more)
        journey = (self._pictures[0], "seed:3", self._pictures[1])
        return ("morph", *journey, "--frames", 10, "--upscale", 1, *common)

    def run(self, out: Path, *more: object, **trouble: Any) -> Outcome:
        """Make it, in trouble."""
        outcome = self.nursery.run(*self.command(out, *more), **trouble)
        self.messages.update(_without_names(outcome.err, self.folder).splitlines())
        return outcome

    def whole(self, name: str, *more: object) -> Any:
        """The bytes of an unbroken run."""
        key = name, *more
        if key not in self._whole:
            out = self.place(name)
            outcome = self.run(out, *more)
            assert outcome.code == 0, outcome
            self._whole[key] = content(out)
        return self._whole[key]

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


def _without_names(message: str, folder: Path) -> str:
    """A message without what differs from run to run."""
    return re.sub(r"[\d,.]*\d", "#", re.sub(rf"{re.escape(str(folder))}(/\d+)?", "…", message))


def content(path: Path) -> Any:
    """What stands under a name: bytes, the files of a folder, or None; of a report, no figures."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir()}
    if not path.exists():
        return None
    data = path.read_bytes()
    # A report tells how long things took.
    return re.sub(rb"[\d.]+", b"#", data) if path.suffix == ".html" else data


def kill_at_calls(shop: Workshop, name: str, number: int) -> Tally:
    """Kill -9 before calls of the operating system, spread over a whole run; resume each."""
    tally = Tally("R6", f"kill -9 before a system call, {title(name)}")
    whole = shop.whole(name)
    calls = shop.run(shop.place(name), "--resume").calls
    cases = spread(calls, number)
    tally.figure = len(cases)
    for kill_at in shop.mine(cases):
        out = shop.place(name)
        shop.judge(tally, shop.run(out, "--resume", kill_at=kill_at), out, whole, True)
        shop.resume(tally, out, whole)
    return tally


def kill_at_random(shop: Workshop, name: str, number: int) -> Tally:
    """Kill -9 at any moment, up to three times in a row; then go on until it is done."""
    tally = Tally("R6", f"kill -9 at random moments, up to thrice in a row, {title(name)}")
    whole = shop.whole(name)
    typical = shop.run(shop.place(name), "--resume").seconds
    for case in shop.mine(range(number)):
        rng = np.random.default_rng([0, case])
        out = shop.place(name)
        for _ in range(int(rng.integers(1, 4))):
            after = float(rng.uniform(0, 1.1 * typical))
            trouble = {"after": after, "signal": signal.SIGKILL}
            if shop.judge(tally, shop.run(out, "--resume", **trouble), out, whole, True):
                break
        shop.resume(tally, out, whole)
    return tally


def interrupt(shop: Workshop, name: str, number: int) -> Tally:
    """SIGINT and SIGTERM at any moment; half of them of runs that can be resumed."""
    tally = Tally("R22", f"SIGINT, SIGTERM at random moments, {title(name)}")
    whole = shop.whole(name)
    typical = shop.run(shop.place(name)).seconds
    for case in shop.mine(range(number)):
        rng = np.random.default_rng([1, case])
        out, asked = shop.place(name), (signal.SIGINT, signal.SIGTERM)[case % 2]
        more = ("--resume",) if case % 4 < 2 else ()
        after = float(rng.uniform(0.1, 1)) * typical
        outcome = shop.run(out, *more, after=after, signal=asked)
        if outcome.code == -asked:  # before the program listened; a shell calls it the same
            outcome = replace(outcome, code=128 + asked)
        shop.judge(tally, outcome, out, whole, bool(more))
        if outcome.code not in (0, 128 + asked) or outcome.orphans or outcome.seconds > 5:
            tally.blame("uncaught", outcome)
        if more:
            shop.resume(tally, out, whole)
        else:
            shutil.rmtree(out.parent)
    return tally


def fail_calls(shop: Workshop, name: str, number: int, *more: str, every: bool = False) -> Tally:
    """Let calls of the operating system fail, from the first to the last of a run."""
    tally = Tally("R9", " ".join((f"a system call fails, {title(name)}", *more)))
    whole = shop.whole(name)
    calls = shop.run(shop.place(name), *more).calls
    cases = [
        (fail_at, error)
        for i, fail_at in enumerate(spread(calls, number))
        for error in (ERRNOS if every else (ERRNOS[i % 3],))
    ]
    tally.figure = len(cases)
    for fail_at, error in shop.mine(cases):
        out = shop.place(name)
        outcome = shop.run(out, *more, fail_at=fail_at, errno=error)
        shop.judge(tally, outcome, out, whole, bool(more))
        if more:
            shop.resume(tally, out, whole)
        else:
            shutil.rmtree(out.parent)
    return tally


def limit_files(shop: Workshop, name: str, number: int) -> Tally:
    """Let no file grow beyond a size, from nothing to just short of enough; then make room."""
    tally = Tally("R7", f"no room (file size limit), {title(name)}")
    whole = shop.whole(name)
    for size in shop.mine(spread(len(whole) - 1, number)):
        out = shop.place(name)
        outcome = shop.run(out, "--resume", fsize=size)
        shop.judge(tally, outcome, out, whole, True)
        if outcome.code != 74:
            tally.wrong.append(f"not 74: {outcome}"[-700:])
        shop.resume(tally, out, whole)
    return tally


def fill_disk(shop: Workshop, name: str, number: int) -> Tally:
    """Make it on a disk of its own, from one that is full to one with room; then make room."""
    tally = Tally("R7", f"a small disk, {title(name)}")
    whole = shop.whole(name)
    for pages in shop.mine(range(1, number + 1)):
        place = shop.place(name)
        with small_disk(place.parent, 4096 * pages) as change:
            out = place.parent / "folder" / place.name
            out.parent.mkdir()
            outcome = shop.run(out, "--resume")
            shop.judge(tally, outcome, out, whole, True)
            if outcome.code not in (0, 74):
                tally.wrong.append(f"not 74: {outcome}"[-700:])
            change("size=16m")
            shop.resume(tally, out, whole)
    return tally


def can_have_disks() -> bool:
    """Whether this user may mount one."""
    with TemporaryDirectory() as folder, suppress(OSError, subprocess.CalledProcessError):
        with small_disk(Path(folder), 4096):
            return True
    return False


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[str], None]]:
    """A disk of so many bytes at `folder`, in memory. Yields what changes it: `size=…`, `ro`."""
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, f"size={size}", "none", folder], check=True, capture_output=True)

    def change(how: str) -> None:
        subprocess.run([*mount, f"remount,{how}", "none", folder], check=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", folder], check=True)


def run_out_of_memory(shop: Workshop, number: int) -> Tally:
    """Let one run of the network fail for want of memory; the batch is halved."""
    tally = Tally("R10", "out of memory at a run of the network")
    whole, smaller = (shop.whole(".gif", "--batch-size", str(size)) for size in (4, 2))
    forwards = shop.run(shop.place(".gif")).forwards
    cases = [*spread(forwards, number), 0]
    tally.figure = len(cases)
    for at in shop.mine(cases):
        out = shop.place(".gif")
        outcome = shop.run(out, "--json", oom_at=[at]) if at else shop.run(out, oom_above=0)
        shop.judge(tally, outcome, out, smaller, False)
        halved = at and outcome.code == 0 and json.loads(outcome.out)["batch_size"] == 2
        if (not halved and at) or (not at and outcome.code != 75) or whole == smaller:
            tally.wrong.append(f"not halved: {outcome}"[-700:])
    return tally


def cap_memory(shop: Workshop, number: int) -> Tally:
    """Cap the address space of a run at more and more above what it has at its start.

    oneDNN sometimes uses memory that it was not given. A run that ends so is one that was killed.
    """
    tally = Tally("R10", "address space capped")
    films = [shop.whole(".gif", "--batch-size", str(size)) for size in (4, 2, 1)]
    for case in shop.mine(range(number)):
        out = shop.place(".gif")
        outcome = shop.run(out, memory=2**20 + int(case * 150 * 2**20 / number))
        if outcome.code in (-signal.SIGSEGV, -signal.SIGABRT):
            outcome = replace(outcome, code=-signal.SIGKILL, err="")
        found = content(out)
        whole = found if found in films else films[0]
        shop.judge(tally, outcome, out, whole, False)
    return tally


def draw_long_films(shop: Workshop, frames: int) -> Tally:
    """Films of many frames take the memory of short ones."""
    tally = Tally("R10", f"{frames} frames in at most 1.1 times the memory of 50")
    kinds = ((".gif", ()), (".mp4", ("--resume",)), ("", ("--boomerang",)))
    for suffix, more in shop.mine(kinds):
        peaks = []
        for number in (50, frames):
            out = shop.place(suffix)
            film = ("seed:1", "seed:2", "-o", out, "--frames", number, "--steps", 1)
            how = ("--model", shop.model, "--device", "cpu", "--batch-size", 8, "--upscale", 1)
            outcome = shop.nursery.run("morph", *film, *how, *more)
            peaks.append(outcome.peak)
        tally.tried += 1
        if outcome.code == 0 and peaks[1] <= 1.1 * peaks[0]:
            tally.passed += 1
        else:
            tally.wrong.append(f"{suffix} {more}: {peaks} {outcome}"[-700:])
    return tally


def spoil_numbers(shop: Workshop, number: int) -> Tally:
    """Let the network answer NaN or infinity once, for a picture or one value of it.

    In half precision it is asked again, in float32, and the run says so. In float32 an inversion
    may find its way all the same, as the exact solvers ask several times; or another solver takes
    its place, and the run says that; else it stops. A film by the same solver is about the same,
    and nowhere black or grey.
    """
    tally = Tally("R11", "the network answers NaN or infinity once")
    forwards = shop.run(shop.place("")).forwards
    cases = [
        (at, dtype, bad, place)
        for at in spread(forwards, forwards)
        for dtype in ("fp32", "bf16", "fp16")
        for bad in ("nan", "inf", "-inf")
        for place in (slice(None), 77)
    ]
    chosen = np.random.default_rng(2).permutation(len(cases))[:number]
    for i in shop.mine(chosen):
        at, dtype, bad, place = cases[i]
        out = shop.place("")
        trouble = {"nan_at": at, "row": int(i) % 4, "number": bad}
        trouble |= {} if isinstance(place, slice) else {"place": place}
        outcome = shop.run(out, "--dtype", dtype, "--json", **trouble)
        film = content(out)
        shop.judge(tally, outcome, out, film, False)
        if outcome.code:
            right = outcome.code == 70 and dtype == "fp32"
            right = right and re.search(r"[Ss]tep \d+.*picture \d.*float32", outcome.err)
            said = outcome.err
        else:
            told = json.loads(outcome.out)
            retries, passed_over = told["retries"], " ".join(told["passed_over"])
            apart = _levels_apart(film, shop.whole("", "--dtype", dtype))
            right = (dtype == "fp32" or retries > 0) and apart < 4
            right |= dtype == "fp32" and "NaN or infinity" in passed_over
            said = f"{retries} retries, {apart:.2f} levels apart"
        if not right:
            tally.wrong.append(f"{cases[i]}: {outcome.code}, {said}")
        shutil.rmtree(out.parent)
    return tally


def _levels_apart(film: dict[str, bytes], other: dict[str, bytes]) -> float:
    """The mean difference between two folders' frames, in 8-bit levels, where it is largest."""
    from PIL import Image

    def pixels(folder: dict[str, bytes]) -> Any:
        names = sorted(name for name in folder if name.endswith(".png"))
        frames = [np.asarray(Image.open(BytesIO(folder[name]))) for name in names]
        return np.stack(frames).astype(float)

    return float(np.abs(pixels(film) - pixels(other)).mean((1, 2, 3)).max())


def race(shop: Workshop, number: int) -> Tally:
    """Start two runs on one output at the same time."""
    tally = Tally("R16", "two runs on one output")
    names = (".gif", "z.safetensors", "grid.png", "sheet.png", "")
    for case in shop.mine(range(number)):
        name = names[case % len(names)]
        whole, out = shop.whole(name), shop.place(name)
        outcomes = shop.nursery.run_together([shop.command(out)] * 2)
        for outcome in outcomes:
            shop.judge(tally, outcome, out, whole, False)
        # 73 where the second came when the first had just ended
        if sorted(outcome.code for outcome in outcomes) not in ([0, 75], [0, 73]):
            tally.wrong.append(f"race: {outcomes}"[-700:])
    return tally


def fetch_together(shop: Workshop, rounds: int, runs: int = 40) -> Tally:
    """Many runs fetch one model into one empty cache at the same time; each must get it whole."""
    from fake_hub import FIRST, REPO, FakeHub, contents

    from ddim_interp.checkpoint import read_checkpoint

    tally = Tally("R16", f"{runs} runs fetch one model into an empty cache")
    tally.figure = runs * rounds
    with FakeHub() as hub:
        hub.commits[FIRST], hub.branches["main"] = contents(shop.model), FIRST
        threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
        for _ in shop.mine(range(rounds)):
            cache = shop.place("cache").parent
            trouble = {"hub": hub.url, "cache": str(cache)}
            command = ("models", "pull", REPO)
            outcomes = shop.nursery.run_together([command] * runs, **trouble)
            for outcome in outcomes:
                tally.tried += 1
                if (outcome.code, outcome.out, outcome.err) == (0, f"{REPO}\t{FIRST}\n", ""):
                    tally.passed += 1
                else:
                    tally.blame("uncaught", outcome)
            model = next(cache.glob("models--*/snapshots/*"))
            if contents(model) != hub.commits[FIRST]:
                tally.blame("partial", model)
            read_checkpoint(model)
            if left := list(cache.rglob("*.incomplete")):
                tally.blame("left", left)
            shutil.rmtree(cache)
        hub.shutdown()
    return tally


def repeat(shop: Workshop, number: int) -> Tally:
    """Make the same film again and again."""
    tally = Tally("R12", "the same output again")
    names = (".gif", ".mp4", ".webp", "", "z.safetensors", "grid.png", "sheet.png")
    for case in shop.mine(range(number)):
        name = names[case % len(names)]
        out = shop.place(name)
        shop.judge(tally, shop.run(out), out, shop.whole(name), False)
        shutil.rmtree(out.parent) if out.exists() else None
    return tally


def undo_steps(shop: Workshop, number: int) -> Tally:
    """Steps of DDIM anywhere on any grid, undone: to 1e-5 in float32, to 1e-12 in float64.

    Grids of one or two steps are left out: one of those carries a picture 157-fold, and float32
    brings it back to 2e-5.
    """
    import torch

    from ddim_interp.denoiser import Prediction, predict_x0
    from ddim_interp.grid import SPACINGS, make_grid
    from ddim_interp.latents import draw
    from ddim_interp.schedule import NoiseSchedule
    from ddim_interp.solver import DDIM, State

    tally = Tally("R13", "a step of DDIM undone, any spacing and number of steps")
    schedule, solver = NoiseSchedule.from_config({}), DDIM()
    grids = {}
    for case in shop.mine(range(number)):
        rng = np.random.default_rng([7, case])
        spacing = list(SPACINGS)[case % len(SPACINGS)]
        steps = int(rng.choice([3, 7, 10, 20, 33, 50, 99, 100, 250, 500]))
        grid = grids.setdefault((spacing, steps), make_grid(schedule, steps, spacing))
        i = int(rng.integers(0, len(grid) - 1))
        t, s = grid[i], grid[i + 1]
        dtype, gap = ((torch.float32, 1e-5), (torch.float64, 1e-12))[case // 7 % 2]
        x, eps = draw([2 * case, 2 * case + 1], (1, 4, 4)).to(dtype).split(1)

        def same(x_t: Any, level: Any, eps: Any = eps) -> Prediction:
            return Prediction(predict_x0(x_t, eps, level), eps)

        back = solver.step(same, solver.inverse(same, State(x, s), t), s).x
        tally.tried += 1
        if float((back - x).abs().max()) <= gap:
            tally.passed += 1
        else:
            apart = float((back - x).abs().max())
            tally.wrong.append(f"{spacing} {steps} step {i} {dtype}: {apart:.1e}")
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


def try_inputs(
    shop: Workshop, tally: Tally, inputs: Iterable[bytes], read: Callable[[bytes], Any]
) -> Tally:
    """Count which inputs are read, and which are refused by an error of ours in one line.

    None may take more than two seconds of the processor, and all of them no more than 256 MB.
    """
    from ddim_interp.errors import DdimInterpError

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in inputs:
        tally.tried += 1
        started = time.process_time()
        try:
            read(data)
            tally.passed += 1
        except DdimInterpError as error:
            tally.clean += 1
            shop.messages.add(_without_names(str(error), shop.folder))
            if "\n" in str(error) or not str(error).isprintable():
                tally.blame("uncaught", repr(error))
        except Exception as error:
            tally.blame("uncaught", repr(error))
        if time.process_time() - started > 2:
            tally.wrong.append(f"{time.process_time() - started:.1f} s for {data[:200]!r}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if grown > 256 * 1024:
        tally.wrong.append(f"{grown} kB more memory")
    return tally


def spoil_pictures(shop: Workshop, number: int) -> Tally:
    """Damaged pictures of seven formats."""
    from PIL import Image

    from ddim_interp.images import open_image

    noise = np.random.default_rng(2).integers(0, 256, (12, 10, 3))
    large = np.kron(noise, np.ones((3, 3, 1))).astype(np.uint8)
    whole = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        buffer = BytesIO()
        Image.fromarray(large).save(buffer, kind)
        whole.append(buffer.getvalue())
    path = shop.folder / "picture"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        open_image(path, 16)

    mutants = (
        damage(whole[case % len(whole)], np.random.default_rng([2, case]))
        for case in shop.mine(range(number))
    )
    return try_inputs(shop, Tally("R1", "damaged pictures, 7 formats"), mutants, read)


def spoil_model(shop: Workshop, model: Path, file: str, number: int, goal: str) -> Tally:
    """Damaged weights or configs."""
    from ddim_interp.checkpoint import read_checkpoint

    copy = shop.folder / f"model-{goal}-{Path(file).name}"
    shutil.copytree(model, copy)
    whole = (copy / file).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little") if file.endswith("safetensors") else 0

    def read(data: bytes) -> None:
        (copy / file).write_bytes(data)
        read_checkpoint(copy)

    def mutants() -> Iterator[bytes]:
        for case in shop.mine(range(number)):
            rng = np.random.default_rng([3, case])
            if header and case % 2:  # what is not weights is the most fragile part
                yield damage(whole[:header], rng) + whole[header:]
            else:
                yield damage(whole, rng)

    return try_inputs(shop, Tally(goal, f"damaged {Path(file).name}"), mutants(), read)


def spoil_latents(shop: Workshop, number: int) -> Tally:
    """Damaged latent files, read as keyframes are."""
    from ddim_interp.keyframes import find_keyframes
    from ddim_interp.model import Plan
    from ddim_interp.pipeline import DDIMPipeline

    whole = shop.whole("z.safetensors")
    header = 8 + int.from_bytes(whole[:8], "little")
    model = DDIMPipeline.from_pretrained(shop.model, device="cpu", dtype="fp32").model
    path = shop.folder / "latents.safetensors"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        find_keyframes(model, [path], Plan(2), 4)

    def mutants() -> Iterator[bytes]:
        for case in shop.mine(range(number)):
            rng = np.random.default_rng([6, case])
            yield damage(whole[:header], rng) + whole[header:] if case % 2 else damage(whole, rng)

    return try_inputs(shop, Tally("R2", "damaged latent files"), mutants(), read)


def spoil_films(shop: Workshop, number: int) -> Tally:
    """`info` of damaged films and latent files."""
    from ddim_interp.cli import cli

    kinds = (".gif", ".mp4", ".webm", ".webp", ".apng", ".png", "z.safetensors")
    whole = [shop.whole(kind) for kind in kinds]

    def read(data: bytes) -> None:
        path = shop.folder / ("film" if data[8:9] != b"{" else "film.safetensors")
        path.write_bytes(data)
        said = StringIO()
        with redirect_stdout(said):
            cli.main(["info", str(path)], standalone_mode=False)
        assert said.getvalue().replace("\n", "").isprintable()

    mutants = (
        damage(whole[case % len(whole)], np.random.default_rng([4, case]))
        for case in shop.mine(range(number))
    )
    return try_inputs(shop, Tally("R18", "info of damaged films and latents"), mutants, read)


NAMES = (
    "-o", "--help", "%d", "%n%s", "{a.__class__}", "a b", "a\nb", "\x1b[31m", "con:cat", "CON",
    "nul.", "trailing ", "file:a", "concat:a|b", "http:x", "..a", "a..", "~", "$HOME", "`id`",
    "*", "?", "[ab]", "a#1", "seed:x", "e\u0301", "\u00e9", "\u202egpj", "x" * 200, "a;b",
    "a&b", "<b>", "'", '"', "\\\\unc\\a", "C:a", ".hidden", "a\tb", "@file", "水彩", "\x07",
    "\x9b2J", "\u2028", "\ufeff", "é" * 100, "x" * 300, "NUL.png", "a.safetensors#1", "-", "\udc80",
)  # fmt: skip
"""What means something to a shell, a terminal, a URL, FFmpeg or another operating system."""


def try_names(shop: Workshop, number: int) -> Tally:
    """Films and pictures under names that mean something elsewhere."""
    tally = Tally("R17", "hostile names of pictures and outputs")
    shapes = ("{}", "a{}", "{}a", "{}{}")
    cases = [
        (role, shape.replace("{}", name))
        for role in (".mp4", "", "z.safetensors", "picture")
        for shape in shapes
        for name in NAMES
    ]
    picture = shop.command(Path("film.gif"))[1]
    for role, name in shop.mine(cases[:number]):
        tally.tried += 1
        place = shop.place(".gif" if role == "picture" else role)
        world = place.parent
        (world / "in").mkdir()
        (world / "out").mkdir()
        try:
            # With its folder, or "seed:x.png" would be a seed that cannot be meant.
            source = world / "in" / (f"{name}.png" if role == "picture" else "picture.png")
            shutil.copy(picture, source)
        except (OSError, ValueError):
            tally.passed += 1  # this system has no such names
            continue
        out = world / "out" / (place.name if role == "picture" else f"{name}{place.suffix}")
        before = set(world.rglob("*"))
        words = list(shop.command(place))
        words[words.index("-o") + 1] = out
        words = [source if word == picture else word for word in words if word != "-q"]
        outcome = shop.nursery.run(*words)
        shop.messages.update(_without_names(outcome.err, shop.folder).splitlines())
        added = {path for path in set(world.rglob("*")) - before if path.parent != out}
        escaped = not outcome.err.replace("\n", "").isprintable()
        if outcome.uncaught or not outcome.clean or escaped:
            tally.blame("uncaught", outcome)
        elif outcome.code == 0 and added == {out}:
            tally.passed += 1
        elif outcome.code and not added:
            tally.clean += 1
        else:
            tally.blame("left", (outcome, added))
        shutil.rmtree(world)
    return tally


def break_batches(shop: Workshop, number: int, how: str) -> Tally:
    """Break a batch of five films, one of which cannot be made, and go on until it ends.

    Args:
        shop: Where.
        number: How often.
        how: `kill`, before a call of the system; or `fail`, so that one call fails.
    """
    what = {"kill": "kill -9 before a system call", "fail": "a system call fails"}[how]
    tally = Tally("R21", f"{what}, batch of 5 films, one without a picture")

    def films(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("*.gif")}

    def run(folder: Path, *more: object, **trouble: Any) -> Outcome:
        command = ("batch", table, "-o", folder, *shop.common, *more, "--batch-size", 4)
        return shop.nursery.run(*command, "--format", "gif", "--frames", 4, "-q", **trouble)

    table = shop.place("films.csv")
    rows = [f"seed:{i},seed:{i + 1}" for i in range(4)]
    table.write_text("\n".join([*rows[:2], "seed:1,gone.png", *rows[2:]]))
    first = shop.place("films").with_name("whole")
    unbroken = run(first)
    whole = films(first)
    assert unbroken.code == 1 and len(whole) == 4, unbroken
    tally.figure = min(number, unbroken.calls)
    for i, call in shop.mine(enumerate(spread(unbroken.calls, number))):
        folder = shop.place("films").with_name("broken")
        trouble = {"kill_at": call} if how == "kill" else {"fail_at": call, "errno": ERRNOS[i % 3]}
        outcome = run(folder, **trouble)
        tally.tried += 1
        if outcome.uncaught or (outcome.code >= 0 and not outcome.clean):
            tally.blame("uncaught", outcome)
        elif outcome.code > 0:
            tally.clean += 1
        if any(whole.get(name) != film for name, film in films(folder).items()):
            tally.blame("partial", outcome)
        tally.resumed += 1
        last = run(folder, "--resume")
        entered = (folder / "results.jsonl").read_text().splitlines()
        left = {path.name for path in folder.iterdir()} - whole.keys()
        same = films(folder) == whole and {json.loads(line)["name"] for line in entered} == {
            Path(name).stem for name in whole
        }
        if last.code == 1 and same and left == {"results.jsonl", "failures.jsonl"}:
            tally.identical += 1
            shutil.rmtree(folder.parent)
        else:
            tally.wrong.append(f"resumed: {last} {sorted(left)} after {outcome}"[-900:])
    return tally


def open_again(shop: Workshop, number: int) -> Tally:
    """Films of any size, length and rate, opened again: every frame is there, the time is right."""
    from PIL import Image

    from ddim_interp.sinks import SINKS, open_sink
    from ddim_interp.sinks.video import count_frames

    tally = Tally("R23", "films of 1–66 pixels, 1–300 frames, 1–50 frames a second")
    for case in shop.mine(range(number)):
        rng = np.random.default_rng([5, case])
        suffix = [suffix for suffix in SINKS if suffix not in ("", ".png")][case % 5]
        height, width = rng.integers(1, 67, 2)
        frames, fps = int(300 ** rng.random()), float(rng.integers(1, 51))
        still = rng.random() < 0.2
        path = shop.folder / f"again-{case}{suffix}"
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


def title(name: str) -> str:
    """What something that is made is called in the tables."""
    return {"": "folder", "z.safetensors": "invert", "grid.png": "grid", "sheet.png": "sample"}.get(
        name, name
    )


def spread(end: int, number: int) -> list[int]:
    """At most `number` whole numbers from 1 to `end`, both among them."""
    return sorted({round(x) for x in np.linspace(1, end, min(end, number))})


def make_smallest_model(folder: Path) -> Path:
    """As small a model as there can be: what goes wrong around it does not depend on it."""
    return _save(folder / "small", sample_size=8, block_out_channels=(8,), kinds=("Down", "Up"))


def make_tiny_model(folder: Path) -> Path:
    """A model with weights of more kinds: random, 16×16, a few kilobytes, quick to run."""
    kinds = ("Down", "AttnDown", "AttnUp", "Up")
    return _save(folder / "tiny", sample_size=16, block_out_channels=(8, 16), kinds=kinds)


def _save(folder: Path, kinds: tuple[str, ...], **options: Any) -> Path:
    import torch

    from ddim_interp import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        down_block_types=tuple(f"{kind}Block2D" for kind in kinds if "Down" in kind),
        up_block_types=tuple(f"{kind}Block2D" for kind in kinds if "Up" in kind),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        **options,
    )
    # With v-prediction random weights still make a tame flow: errors are not blown up on the way.
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    DDIMPipeline(unet, scheduler).save_pretrained(folder)
    return folder


def make_pictures(folder: Path) -> list[Path]:
    """Two small pictures."""
    from PIL import Image

    ramp = np.linspace(0, 255, 20)[:, None, None] * np.array([1.0, 0.7, 0.3])
    paths = [folder / "dawn.png", folder / "dusk.png"]
    for path, pixels in zip(paths, (ramp, ramp[::-1]), strict=True):
        wide = np.broadcast_to(pixels, (20, 24, 3))
        Image.fromarray(np.ascontiguousarray(wide).astype(np.uint8)).save(path)
    return paths
