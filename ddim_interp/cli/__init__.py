"""`ddim-interp`: the command line. One command a file; nothing heavy is imported until one runs."""

import atexit
import gc
import importlib
import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import click

from ddim_interp import __version__
from ddim_interp.errors import DdimInterpError
from ddim_interp.memory import OUT_OF_MEMORY, ran_out_of_memory
from ddim_interp.threads import wait_briefly

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "morph": "Glide from picture to picture through noise space.",
    "invert": "Find the latents of pictures, with a certificate.",
    "sample": "Draw pictures from seeds or latents.",
    "grid": "Fill a grid between four corners.",
    "batch": "Make a film for each row of a table.",
    "encode": "Write finished frames as another film.",
    "check": "Measure how far a model can be trusted.",
    "bench": "Measure speed and fidelity on this machine.",
    "explore": "Explore noise space on a page in the browser.",
    "info": "Show the recipe inside an output.",
    "models": "List, fetch, show and convert models.",
    "doctor": "Report the state of this machine.",
    "completion": "Print a completion script for bash, zsh or fish.",
}
"""Commands and what they do, in the order of `--help`; each lives in a module of its name."""


class _LazyGroup(click.Group):
    """Imports a command's module when it is run, or asked for its own help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:  # as some programs have it: `help`, `help morph`
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            if near := get_close_matches(name, COMMANDS, 1):
                raise click.UsageError(f"No such command {name!r}. Did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="A first film:  ddim-interp morph a.png b.png -o morph.mp4",
)
@click.version_option(__version__, "-V", "--version", prog_name="ddim-interp")
def cli() -> None:
    """Carry pictures into a diffusion model's noise space and back, and travel between them.

    Results go to stdout, progress and messages to stderr. COMMAND -h explains each command.
    """


def main() -> NoReturn:
    """Run the program, and turn whatever ends it into an exit code: the one place that does."""
    gc.disable()  # imports leave no garbage, and looking for it is a tenth of the start
    _open_streams()
    wait_briefly()
    atexit.register(_leave)  # registered first, called last
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # it is, under nohup, or in a script's &
            signal.signal(number, _stop)
    sys.unraisablehook = _insist
    logging.disable()  # what libraries log is not for the one who typed a command
    try:
        _ended[:] = [_run()]
    except _Stopped as again:  # while it was being told how it ended
        _ended[:] = [128 + again.args[0]]
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(_ended[0])


def _open_streams() -> None:
    """Give the streams that a process began without (`>&-`, a daemon) a place that takes all.

    stdin too: in order, each gets the number that is its own, which otherwise the first file opened
    would get, and with it whatever a library in C says.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(nothing, mode, encoding="utf-8", errors="replace"))


_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):  # the terminal was closed
    _SIGNALS.append(signal.SIGHUP)

_ended: list[int] = []  # how, once there is nothing left to do


def _leave() -> None:
    """End the process as it stands: to take a thousand modules apart takes half a second."""
    if _ended:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(_ended[0])


class _Stopped(BaseException):
    """A signal asked the program to end; click's own handling would add lines to ours."""

    def __del__(self) -> None:
        if _asked:  # torch as it starts imports numpy, and drops what comes of that
            _once_more(self.args[0])


_asked: list[int] = []  # the signals that have come, and have not ended it yet


def _stop(number: int, frame: FrameType | None) -> None:
    if _ended:
        return  # all is done
    _asked.append(number)
    raise _Stopped(number)


def _insist(lost: "sys.UnraisableHookArgs") -> None:
    """A signal that came while Python tidied up an object, where exceptions are lost."""
    if not isinstance(lost.exc_value, _Stopped):  # that one is told again when it is gone
        sys.__unraisablehook__(lost)


def _once_more(number: int) -> None:
    """Tell the program of a signal again, of which it was told where nobody listened."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: _stop(number, None))
        signal.setitimer(signal.ITIMER_REAL, 0.01)


def _run() -> int:
    _ended.clear()
    stdout = sys.stdout
    try:
        try:
            code: Any = cli.main(standalone_mode=False, prog_name="ddim-interp")
        except Exception as instead:
            if _asked:  # compiled code, where the signal came, made an error of its own of it
                stopped = _Stopped(_asked[0])
                for note in getattr(instead, "__notes__", ()):
                    stopped.add_note(note)
                raise stopped from instead
            raise
        sys.stdout.flush()
        _ended[:] = [code if isinstance(code, int) else 0]
        return _ended[0]
    except DdimInterpError as error:
        return _say(_with_notes(error, str(error)), error.exit_code)
    except _Stopped as stopped:
        _asked.clear()
        kept = hasattr(stopped, "__notes__")
        said = "Stopped." if kept else "Stopped; nothing half-made was left behind."
        return _say(_with_notes(stopped, said), 128 + stopped.args[0])
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        _tell(error.format_message())  # all of the help, and not one line of it
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" Try '{context.command_path} -h'." if context else ""
        said = error.format_message()
        stop = "" if said.endswith((".", "?")) else "."  # some of click's end without
        return _say(f"{said}{stop}{hint}", error.exit_code)
    except (BrokenPipeError, SystemExit) as left:
        # Whoever read our output has left; there is nobody to tell. Click makes an exit of it, and
        # puts something quiet in the place of stdout.
        if isinstance(left, SystemExit) and sys.stdout is stdout:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if ran_out_of_memory(error):
            return _say(OUT_OF_MEMORY, 75)

        from ddim_interp.files import DISK_ERRORS, disk_remedy

        if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
            raise
        reason = str(error.strerror).lower()
        return _say(f"The disk took no more: {reason}; {disk_remedy(error)}.", 74)


def _with_notes(error: BaseException, message: str) -> str:
    """What went wrong, and what was noted on the way out."""
    return " ".join([message, *getattr(error, "__notes__", ())])


def _say(message: str, code: int) -> int:
    """One line on stderr, whatever the message was made of."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(message.split()))
    _tell(f"ddim-interp: {line}")
    return code


def _tell(text: str) -> None:
    """On stderr, if it takes it: what went wrong is in the exit code as well."""
    with suppress(OSError):
        click.echo(text, err=True)
