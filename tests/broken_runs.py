"""Run the program and have things go wrong: the harness of the fault tests and of the soak.

A nursery process imports everything once; each run is a fork of it, so that a run costs no start-up
and can be killed, starved or lied to without harm to the one who asks.
"""

import errno
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

DOCUMENTED = {0, 1, 2, 65, 66, 69, 70, 73, 74, 75, 78, 129, 130, 143}
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EINTR)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        code: Its exit code; the negative number of the signal that killed it.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
        seconds: How long it took; from the signal on, if it was sent one.
        calls: Calls of the operating system that `files` made.
        failed: The name of the one that was made to fail.
        forwards: Times the network ran.
        peak: The most memory it held, in bytes.
        orphans: Whether a process of it was still there after its end.
    """

    code: int
    out: str
    err: str
    seconds: float
    calls: int = 0
    failed: str = ""
    forwards: int = 0
    peak: int = 0
    orphans: bool = False

    @property
    def uncaught(self) -> bool:
        """Whether it ended otherwise than the documentation says: a traceback, a strange code."""
        killed = self.code == -signal.SIGKILL
        return "Traceback" in self.err or not (killed or self.code in DOCUMENTED)

    @property
    def clean(self) -> bool:
        """Whether it succeeded, or failed in one line."""
        lines = self.err.count("\n")
        return not self.uncaught and (lines <= 1 if self.code else True)


class Nursery:
    """Starts runs; one at a time, or several at once.

    What can be asked of a run, besides its arguments:

        fail_at, errno      the call number `fail_at` of `os` in `files` fails with this error
        kill_at             before that call, the run is killed
        after, signal       so many seconds after its start it is sent this signal
        oom_at              these runs of the network fail for want of memory
        oom_above           as do all with more pictures than this
        nan_at, row         this run of the network answers no number for this picture
        number, place       which: NaN, or an infinity; in all of the picture, or one value of it
        fsize, memory       no file may grow larger, nor the process, in bytes
        threads             of PyTorch; 1 if not given
        environment         variables, besides those of whoever asks
        hub, cache          where the model hub is, and the folder for what comes from it
    """

    def __init__(self) -> None:
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "OMP_WAIT_POLICY": "passive",
            "DDIM_INTERP_CACHE": "off",  # what one run inverts, the next should find undone
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, *arguments: object, **trouble: Any) -> Outcome:
        """One run of `ddim-interp ARGUMENTS`."""
        return self.run_together([arguments], **trouble)[0]

    def run_together(self, commands: list[Any], **trouble: Any) -> list[Outcome]:
        """Several at the same time."""
        orders = [trouble | {"arguments": [str(word) for word in words]} for words in commands]
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        return [Outcome(**answer) for answer in json.loads(self._process.stdout.readline())]


def modules_of_files() -> list[ModuleType]:
    """The modules of `ddim_interp.files`, each of which has a name `os` of its own."""
    from ddim_interp import files

    return [
        importlib.import_module(f"{files.__name__}.{found.name}")
        for found in pkgutil.iter_modules(files.__path__)
    ]


class FaultyOS:
    """`os`, of which one call goes wrong."""

    calls_that_fail = frozenset(
        "open read write fsync replace rename unlink mkdir rmdir close ftruncate lseek "
        "lstat fstat listdir".split()
    )

    def __init__(self, order: dict[str, Any]) -> None:
        self.calls = 0
        self.failed = ""
        self._order = order

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in self.calls_that_fail:
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self._order.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.calls != self._order.get("fail_at"):
                return function(*args, **kwargs)
            self.failed = name
            if name == "close":  # a close that fails has closed all the same
                function(*args)
            number = self._order["errno"]
            raise OSError(number, os.strerror(number))

        return call


def _serve() -> None:
    """Fork a run for each order that comes on stdin."""
    from ddim_interp.cli import COMMANDS

    for name in ("film", "findings", "grid", "latents", "pictures"):
        importlib.import_module(f"ddim_interp.production.{name}")
    for name in ("report", "batch", *(f"cli.{command}" for command in COMMANDS)):
        importlib.import_module(f"ddim_interp.{name}")

    gc.collect()
    gc.freeze()  # or each run would look through all modules for garbage, and copy them for it
    for line in sys.stdin:
        orders = json.loads(line)
        started = time.monotonic()
        children = [_fork(order) for order in orders]
        answers = []
        for order, (pid, pipe, folder) in zip(orders, children, strict=True):
            if "signal" in order:
                time.sleep(max(0.0, started + order["after"] - time.monotonic()))
                started = time.monotonic()
                os.kill(pid, order["signal"])
            _, status = os.waitpid(pid, 0)
            seconds = time.monotonic() - started
            with os.fdopen(pipe) as report:
                text = report.read()
            answers.append(
                {
                    "code": os.waitstatus_to_exitcode(status),
                    "out": Path(folder.name, "out").read_text(errors="surrogateescape"),
                    "err": Path(folder.name, "err").read_text(errors="surrogateescape"),
                    "seconds": seconds,
                    "orphans": _is_alive(pid),
                    **(json.loads(text) if text else {}),
                }
            )
            folder.cleanup()
        print(json.dumps(answers), flush=True)


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _fork(order: dict[str, Any]) -> tuple[int, int, "tempfile.TemporaryDirectory[str]"]:
    folder = tempfile.TemporaryDirectory()
    for name in ("out", "err"):
        Path(folder.name, name).touch()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading, folder
    os.setpgid(0, 0)
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked, signal.SIG_DFL)  # whoever runs the tests may have begun without
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder.name}/{name}", os.O_WRONLY), number)
    code = 1
    try:
        code = _run(order, writing)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(order: dict[str, Any], report: int) -> int:
    import torch

    from ddim_interp import cli

    torch.set_num_threads(order.get("threads", 1))
    os.environ.update(order.get("environment", {}))
    if "hub" in order:
        _point_at(order["hub"], order["cache"])
    tempfile.tempdir = None  # so that TMPDIR is looked at again
    faulty = FaultyOS(order)
    for module in modules_of_files():
        module.os = faulty  # type: ignore[attr-defined]
    count = _disturb_network(order)
    if "fsize" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["fsize"],) * 2)
    if "memory" in order:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + order["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = ["ddim-interp", *order["arguments"]]
    try:
        cli.main()
    except SystemExit as leaving:
        facts = {
            "calls": faulty.calls,
            "failed": faulty.failed,
            "forwards": count[0],
            "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        os.write(report, json.dumps(facts).encode())
        return int(leaving.code or 0)


def _point_at(hub: str, cache: str) -> None:
    """Another model hub; its client has read its variables long ago."""
    from huggingface_hub import constants

    constants.ENDPOINT = hub
    constants.HUGGINGFACE_CO_URL_TEMPLATE = hub + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_CACHE = cache
    constants.HF_HUB_OFFLINE = False
    os.environ.pop("HF_HUB_OFFLINE")


def _disturb_network(order: dict[str, Any]) -> list[int]:
    """Let some runs of the network fail; returns where they are counted."""
    import torch

    from ddim_interp.unet import UNet2DModel

    forward, count = UNet2DModel.forward, [0]
    most = order.get("oom_above", 1_000_000)

    def disturbed(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] in order.get("oom_at", ()) or len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (staged).")
        output = forward(self, x, *args, **kwargs)
        if count[0] == order.get("nan_at"):
            spoilt = output[order["row"] % len(output)].flatten()
            spoilt[order.get("place", slice(None))] = float(order.get("number", "nan"))
            output[order["row"] % len(output)] = spoilt.view_as(output[0])
        return output

    UNet2DModel.forward = disturbed  # type: ignore[method-assign]
    return count


if __name__ == "__main__":
    _serve()
