"""What does a program cost as a user starts it: until it answers, and at its peak of memory?"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = ["Process", "measure_memory", "measure_start"]

_FIRST_FRAME = """
from ddim_interp import DDIMPipeline
pipe = DDIMPipeline.from_pretrained()
pipe.set_progress_bar_config(disable=True)
next(iter(pipe.morph(["seed:0", "seed:1"], batch_size=1).draw()))
"""

_STARTS = {
    "python": ["-c", "pass"],
    "ddim-interp --help": ["-m", "ddim_interp", "--help"],
    "import torch": ["-c", "import torch"],
    "import ddim_interp.pipeline": ["-c", "import ddim_interp.pipeline"],
    "a model, loaded": ["-c", "from ddim_interp import *; DDIMPipeline.from_pretrained()"],
    "the first frame": ["-c", _FIRST_FRAME],
}

# A program's peak begins at that of the program which started it, so a small one starts it.
_WATCHER = """
import os, sys, time
started = time.perf_counter()
child = os.posix_spawn(
    sys.argv[1], sys.argv[1:], os.environ,
    file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
)
_, status, used = os.wait4(child, 0)
seconds = time.perf_counter() - started
print(seconds, used.ru_maxrss / (1024 if sys.platform == "darwin" else 1))  # bytes there
sys.exit(os.waitstatus_to_exitcode(status))
"""

_FILM = ["-m", "ddim_interp", "morph", "seed:0", "seed:1", "-q", "--steps", "2"]


@dataclass(frozen=True)
class Process:
    """A program, run to its end.

    Args:
        what: What it did.
        seconds: From its start to its end.
        megabytes: Most memory it held at once.
    """

    what: str
    seconds: float
    megabytes: float


def measure_start(rounds: int = 5) -> list[Process]:
    """Start programs in turns, each doing a little more than the one before; medians."""
    runs: dict[str, list[Process]] = {what: [] for what in _STARTS}
    for _ in range(rounds):
        for what, command in _STARTS.items():
            runs[what].append(_run(what, command))
    return [
        Process(what, median(p.seconds for p in each), median(p.megabytes for p in each))
        for what, each in runs.items()
    ]


def measure_memory(frames: Sequence[int] = (50, 2000)) -> list[Process]:
    """Make a short and a long film of the model in the package, of two steps a frame."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            _run(
                f"{count} frames",
                [*_FILM, "--frames", str(count), "-o", str(Path(folder) / f"{count}.mp4")],
            )
            for count in frames
        ]


def _run(what: str, command: Sequence[str]) -> Process:
    """One run; its own memory, not that of others.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    watched = [sys.executable, "-c", _WATCHER, sys.executable, *command]
    told = subprocess.run(watched, stdout=subprocess.PIPE, check=True, text=True).stdout
    seconds, kilobytes = map(float, told.split())
    return Process(what, seconds, kilobytes / 1024)
