"""A file stands under its name whole, or not at all, whatever call of the system fails."""

import contextlib
import dis
import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import broken_runs
import pytest
from broken_runs import modules_of_files

from ddim_interp.errors import (
    BusyError,
    ImageError,
    InputMissingError,
    OutputError,
    StorageError,
)
from ddim_interp.files import (
    append_line,
    atomic_file,
    atomic_folder,
    check_output,
    claim,
    is_there,
    list_input,
    make_folder,
    open_input,
    open_part,
    parts,
    read_lines,
    sha256_file,
    shown,
    sweep_orphans,
    work_folder,
    write_bytes,
    writing,
)

PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")
FRAMES = re.compile(r"frame_\d\.png")


class FaultyOS(broken_runs.FaultyOS):
    """`os`, of which the call number `fail_at` (those that change something) fails."""

    calls_that_fail = frozenset("open write fsync replace rename unlink mkdir rmdir close".split())

    def __init__(self, fail_at: int, number: int) -> None:
        super().__init__({"fail_at": fail_at, "errno": number})


def replace_os(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every module of `files` call `other` where it would call `os`."""
    for module in modules_of_files():
        monkeypatch.setattr(module, "os", other)


def write_film(path: Path, overwrite: bool) -> None:
    with atomic_file(path, overwrite=overwrite) as part, open_part(part) as file:
        file.write(b"new ")
        file.write(b"film")


def write_frames(path: Path, overwrite: bool) -> None:
    with atomic_folder(path, overwrite=overwrite, members=FRAMES) as partial:
        for i in range(2):
            write_bytes(partial / f"frame_{i}.png", b"new frame")


def places(folder: Path) -> Iterator[tuple[int, Path]]:
    """Where an output may be made, each in a folder of its own: 1 and its path, 2 and its path …"""
    for number in count(1):
        path = folder / str(number) / "out"
        path.parent.mkdir()
        yield number, path


def content(path: Path) -> Any:
    if path.is_dir():
        return {p.name: p.read_bytes() for p in path.iterdir() if not PART.fullmatch(p.name)}
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
@pytest.mark.parametrize("old", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("write", [write_film, write_frames])
def test_any_call_of_the_system_may_fail(
    write: Callable[[Path, bool], None],
    old: bool,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for k, path in places(tmp_path):
        if old:
            if write is write_film:
                write_bytes(path, b"old film")
            else:
                path.mkdir()
                write_bytes(path / "frame_0.png", b"old frame")
        before = content(path)
        faulty = FaultyOS(k, number)
        replace_os(faulty, monkeypatch)
        error: Exception | None = None
        try:
            write(path, old)
        except (OutputError, StorageError) as caught:
            error = caught
        monkeypatch.undo()
        whole = [b"new film", {"frame_0.png": b"new frame", "frame_1.png": b"new frame"}]
        if error is None:
            assert content(path) in whole
        else:
            assert "\n" not in str(error)
            assert "try again" in str(error) or number != errno.EINTR or "created" in str(error)
            # A folder is replaced in two renames; between them, the old one stands aside.
            aside = [content(p) for p in path.parent.iterdir() if PART.fullmatch(p.name)]
            assert content(path) in [before, *whole] or before in aside
        left = {p.name for p in path.parent.iterdir()} - {"out"}
        if faulty.failed not in ("unlink", "rmdir"):
            assert not left
        assert all(PART.fullmatch(name) or name == "out.partial" for name in left)
        if faulty.calls < k:
            assert error is None
            break
    assert k > 10  # there were calls to fail


def test_a_film_is_there_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    with atomic_file(path) as part:
        assert part.parent == path.parent and PART.fullmatch(part.name)
        with open_part(part) as file:
            file.write(b"GIF")
            assert file.tell() == 3
            file.seek(0)
            assert file.read() == b"GIF"
        assert not path.exists()
    assert path.read_bytes() == b"GIF"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, BrokenPipeError, SystemExit])
def test_an_exception_leaves_nothing_and_passes(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), atomic_file(tmp_path / "film") as part:
        part.write_bytes(b"half")
        raise error
    with pytest.raises(error), atomic_folder(tmp_path / "frames", members=FRAMES) as partial:
        write_bytes(partial / "frame_0.png", b"half")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_room_there_is(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"no space left.*\([\d,]+ bytes free\); make room"),
        atomic_file(tmp_path / "film"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_limit_on_file_size_is_told_from_a_full_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"too large; raise the limit on file size") as caught,
        atomic_file(tmp_path / "film"),
    ):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert "make room" not in str(caught.value)


def test_a_killed_run_leaves_an_orphan_that_is_swept_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom ddim_interp.files import *\n"
        f"with atomic_file({os.fspath(tmp_path / 'film')!r}) as part:\n"
        "    part.write_bytes(b'half'); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    assert sweep_orphans(tmp_path) == 0  # it lives
    child.kill()
    child.wait()
    child.stdout.close()
    (tmp_path / ".vimrc.part").touch()
    (tmp_path / "film.part").touch()
    assert [PART.fullmatch(p.name) is not None for p in sorted(tmp_path.iterdir())].count(True) == 1
    assert sweep_orphans(tmp_path) == 1
    assert {p.name for p in tmp_path.iterdir()} == {".vimrc.part", "film.part"}


def test_a_file_swept_before_it_was_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = parts.try_lock

    def swept_once(descriptor: int) -> bool:
        monkeypatch.setattr(parts, "try_lock", lock)
        assert sweep_orphans(tmp_path) == 1
        return lock(descriptor)

    monkeypatch.setattr(parts, "try_lock", swept_once)
    write_bytes(tmp_path / "film", b"whole")
    assert (tmp_path / "film").read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "film"]


def test_a_claim_whose_file_went_before_it_was_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = parts.try_lock

    def let_go(descriptor: int) -> bool:
        monkeypatch.setattr(parts, "try_lock", lock)
        for path in tmp_path.iterdir():
            path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(parts, "try_lock", let_go)
    with claim(tmp_path / "film"), pytest.raises(BusyError), claim(tmp_path / "film"):
        pytest.fail("two hold one claim")


def test_a_link_is_nobodys_orphan(tmp_path: Path) -> None:
    (tmp_path / "treasure").write_bytes(b"gold")
    link = tmp_path / ".film.0123456789ab.part"
    link.symlink_to(tmp_path / "treasure")
    assert sweep_orphans(tmp_path) == 0 and link.read_bytes() == b"gold"


def test_a_claim_does_not_follow_a_link_in_its_place(tmp_path: Path) -> None:
    with claim(tmp_path / "film"):
        (lock,) = tmp_path.iterdir()
    lock.symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError), claim(tmp_path / "film"):
        pytest.fail("it was claimed")
    assert list(tmp_path.iterdir()) == [lock]


@pytest.mark.parametrize("write", [write_film, write_frames])
def test_what_stands_under_its_name_lasts_through_a_power_cut(
    write: Callable[[Path, bool], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents are on the disk before the name is, and the name before it is said to be."""
    out, told = tmp_path / "film", []

    class Told:
        def __getattr__(self, name: str) -> Any:
            if name in ("replace", "rename"):
                told.append("named")
            return getattr(os, name)

        def fsync(self, descriptor: int) -> None:
            told.append("folder" if os.path.sameopenfile(descriptor, folder) else "contents")
            os.fsync(descriptor)

    folder = os.open(tmp_path, os.O_RDONLY)
    replace_os(Told(), monkeypatch)
    write(out, False)
    os.close(folder)
    assert told[-3:] == ["contents", "named", "folder"]


def test_overwriting_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "film"
    write_bytes(path, b"old")
    for refused in (lambda: check_output(path), lambda: write_bytes(path, b"new")):
        with pytest.raises(OutputError, match="exists; choose another name, or allow it"):
            refused()
    assert path.read_bytes() == b"old"
    check_output(path, overwrite=True)
    write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"


def test_who_comes_second_does_not_overwrite_who_came_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "film"
    with pytest.raises(OutputError, match="exists"), atomic_file(path):
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"


def test_overwriting_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "treasure").write_bytes(b"gold")
    (tmp_path / "film").symlink_to(tmp_path / "treasure")
    write_bytes(tmp_path / "film", b"new", overwrite=True)
    assert (tmp_path / "treasure").read_bytes() == b"gold"
    assert (tmp_path / "film").read_bytes() == b"new"


def test_outputs_that_cannot_be_are_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    cases = {
        tmp_path / "nowhere" / "film": "no folder .*nowhere; create it first",
        tmp_path / "file" / "film": "not a directory",
        tmp_path: "is a folder",
        tmp_path / "pipe": "is a pipe or a device",
        Path("/dev/null"): "is a pipe or a device",
        tmp_path / ("x" * 300): "file name too long; choose a shorter name",
        tmp_path / "a\0b": r"a\\x00b names no file",
        Path(): "names no file",
        tmp_path / "..": "names no file",
    }
    for path, why in cases.items():
        for refused in (check_output, lambda path, **how: write_bytes(path, b"", **how)):
            with pytest.raises(OutputError, match=why):
                refused(path, overwrite=True)
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_output(tmp_path / "file", members=FRAMES)
    for device in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(OutputError, match="is a pipe or a device; give a folder's name"):
            check_output(device, members=FRAMES)
    with pytest.raises(OutputError, match="choose a shorter name"):
        write_frames(tmp_path / ("x" * 255), False)  # its .partial would be longer


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_may_not_be_written_is_found_before_any_work(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_os(FaultyOS(1, number), monkeypatch)
    with pytest.raises(OutputError, match="choose a folder you may write to"):
        check_output(tmp_path / "film")


def test_checking_an_output_leaves_nothing(tmp_path: Path) -> None:
    check_output(tmp_path / "film")
    check_output(tmp_path / "frames", members=FRAMES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ü" * 127, "x" * 255, "a\nb\x1b[31m", "-o", "%d", "con:cat"])
def test_any_name_the_system_takes_can_be_written(name: str, tmp_path: Path) -> None:
    check_output(tmp_path / name)
    write_bytes(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"
    assert shown(name).isprintable()


def test_a_folder_is_there_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.mkdir()  # an empty one is no obstacle
    with atomic_folder(path, members=FRAMES) as partial:
        write_bytes(partial / "frame_0.png", b"a")
        assert not list(path.iterdir())
    assert content(path) == {"frame_0.png": b"a"}
    with (
        pytest.raises(OutputError, match="exists"),
        atomic_folder(path, members=FRAMES),
    ):
        pass
    with atomic_folder(path, members=FRAMES, overwrite=True) as partial:
        write_bytes(partial / "frame_1.png", b"b")
    assert content(path) == {"frame_1.png": b"b"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_somebody_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "Pictures"
    path.mkdir()
    (path / "wedding.jpg").write_bytes(b"dear")
    with (
        pytest.raises(OutputError, match=r"other files, such as wedding\.jpg"),
        atomic_folder(path, members=FRAMES, overwrite=True),
    ):
        pass
    assert content(path) == {"wedding.jpg": b"dear"}


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with (
        pytest.raises(OutputError, match="other files"),
        atomic_folder(path, members=FRAMES, overwrite=True) as partial,
    ):
        write_bytes(partial / "frame_0.png", b"ours")
        path.mkdir()
        (path / "wedding.jpg").write_bytes(b"dear")
    assert content(path) == {"wedding.jpg": b"dear"} and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_half_wrote_in_a_work_folder_goes(tmp_path: Path) -> None:
    members = re.compile(r"batch-\d")
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path / "film", members) as folder:
        for name in ("batch-1", ".batch-2.0123456789ab.part"):
            (folder / name).touch()
        raise KeyboardInterrupt
    with work_folder(tmp_path / "film", members) as folder:
        assert [path.name for path in folder.iterdir()] == ["batch-1"]


def test_a_file_system_that_cannot_sync_a_folder_is_put_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", sync)
    write_bytes(tmp_path / "film", b"whole")
    assert (tmp_path / "film").read_bytes() == b"whole"


def test_the_folder_of_a_killed_run_is_emptied_and_used(tmp_path: Path) -> None:
    left = tmp_path / "frames.partial"
    left.mkdir()
    for name in ("frame_0.png", ".frame_1.png.0123456789ab.part"):
        (left / name).touch()
    with atomic_folder(tmp_path / "frames", members=FRAMES) as partial:
        assert partial == left and not list(partial.iterdir())
        write_bytes(partial / "frame_2.png", b"")
    assert content(tmp_path / "frames").keys() == {"frame_2.png"}
    assert [p.name for p in tmp_path.iterdir()] == ["frames"]


def test_two_runs_cannot_fill_one_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "frames", members=FRAMES) as partial:
        write_bytes(partial / "frame_0.png", b"first")
        with (
            pytest.raises(BusyError, match="being filled by another run"),
            atomic_folder(tmp_path / "frames", members=FRAMES),
        ):
            pass
        assert (partial / "frame_0.png").read_bytes() == b"first"


def test_inputs_that_are_no_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, kind, why in [
        (tmp_path / "pipe", ImageError, "is a pipe or a device"),
        (Path("/dev/zero"), ImageError, "is a pipe or a device"),
        (tmp_path, ImageError, "is a folder"),
        (tmp_path / "loop", ImageError, "symbolic links"),
        (tmp_path / "none", InputMissingError, "is not there"),
        (tmp_path / "pipe" / "none", InputMissingError, "is not there"),
        ("a\0b", ImageError, r"a\\x00b cannot be opened"),
    ]:
        with pytest.raises(kind, match=why):
            open_input(path)


@pytest.mark.parametrize("name", ["nosuch", "x" * 300, "nosuch/", "a\0b", "a/" * 3000])
def test_a_name_that_no_file_can_have_is_not_there(name: str, tmp_path: Path) -> None:
    assert is_there(tmp_path) and not is_there(tmp_path / name) and not is_there("")


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea")
    with pytest.raises(InputMissingError, match="is a folder"):
        sha256_file(tmp_path)


@pytest.mark.parametrize("call", ["open", "fstat", "listdir", "read"])
@pytest.mark.parametrize(
    ("number", "kind", "why"),
    [
        (errno.EIO, StorageError, "Reading .* failed: .*; try again"),
        (errno.EMFILE, StorageError, "Reading .* failed: too many open files; try again"),
        (errno.EACCES, InputMissingError, "may not be read by this user"),
        (errno.ENOTDIR, InputMissingError, "check the name"),
    ],
)
def test_what_keeps_a_file_from_being_read_is_told(
    call: str, number: int, kind: type[Exception], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing device is not taken for a wrong name, nor the other way round."""

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    if call == "read":
        monkeypatch.setattr("hashlib.file_digest", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    if call in ("fstat", "read"):  # the name is right: it was opened
        kind, why = StorageError, "Reading .* failed: "
    with pytest.raises(kind, match=why) as told:
        list_input(__file__) if call == "listdir" else sha256_file(__file__)
    monkeypatch.undo()
    assert "\n" not in str(told.value)


def test_a_folder_is_listed_by_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert list_input(tmp_path) == [tmp_path / "a.png"]
    with pytest.raises(InputMissingError, match="is no folder; check the name"):
        list_input(tmp_path / "a.png")


def fail_to_sync(path: Path) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))


class Stopped(BaseException):
    """What the program makes of a signal."""


class Signal:
    """Raises `Stopped` at the `at`-th place where Python looks whether a signal has come.

    Those are the start of a function, the jump back of a loop, and the return of a call; it does
    so within `files` and the context managers made there.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.places = 0
        self.where = ""
        self._last: dict[int, str] = {}
        self._files = {
            contextlib.__file__,
            *(module.__file__ for module in modules_of_files()),
        }

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            before = self._last.get(id(frame), "")
            self._last[id(frame)] = now = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if now == "RESUME" or before.startswith(("CALL", "JUMP_BACKWARD")):
                self.places += 1
                if self.places == self.at:
                    self.where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                    raise Stopped
        elif event == "return":
            self._last.pop(id(frame), None)
        return self


def claim_and_write(path: Path, overwrite: bool) -> None:
    check_output(path, overwrite=overwrite)
    with claim(path), work_folder(path, FRAMES):
        write_film(path, overwrite)


@pytest.mark.parametrize("old", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("fails", [False, True], ids=["well", "failing"])
@pytest.mark.parametrize("write", [write_film, write_frames, claim_and_write])
def test_a_signal_at_any_moment_leaves_nothing_half_made(
    write: Callable[[Path, bool], None],
    fails: bool,
    old: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # or one waits on the disk
    for k, path in places(tmp_path):
        if old:
            (write_frames if write is write_frames else write_film)(path, True)
        before, signal, end = content(path), Signal(k), ""
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr(writing, "_sync", fail_to_sync)
            tracing = sys.gettrace()
            sys.settrace(signal)
            try:
                write(path, old)
            except (Stopped, StorageError) as caught:
                end = type(caught).__name__
            finally:
                sys.settrace(tracing)
        assert content(path) in [
            before,
            b"new film",
            {f"frame_{i}.png": b"new frame" for i in "01"},
        ]
        assert [p.name for p in path.parent.iterdir() if p != path] == [], signal.where
        shutil.rmtree(path.parent)
        if signal.places < k:  # it has come through without one
            break
        assert end == "Stopped" or fails
    assert k > 50 and end == ("StorageError" if fails else "")


@pytest.mark.parametrize("fails", [False, True], ids=["well", "failing"])
def test_what_was_opened_is_closed(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(Path("/dev/fd").iterdir())
    if fails:
        monkeypatch.setattr(os, "fsync", lambda _: fail_to_sync(tmp_path))
    for write in (write_film, write_frames, claim_and_write, lambda path, _: append_line(path, "")):
        for overwrite in (False, True):
            with pytest.raises(StorageError) if fails else contextlib.nullcontext():
                write(tmp_path / write.__name__, overwrite)
    (tmp_path / "abc").touch()
    sha256_file(tmp_path / "abc")
    read_lines(tmp_path / "abc")
    with pytest.raises(ImageError):
        open_input(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(os, "fstat", lambda _: fail_to_sync(tmp_path))
        open_input(tmp_path / "abc")
    assert sorted(Path("/dev/fd").iterdir()) == before


# ---- journals ----


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
def test_a_line_is_in_a_journal_whole_or_not_at_all(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    append_line(path, "one")
    failed = []
    for k in count(1):
        faulty = FaultyOS(k, number)
        replace_os(faulty, monkeypatch)
        try:
            append_line(path, "two")
        except StorageError as error:
            assert "\n" not in str(error)
        monkeypatch.undo()
        if not faulty.failed:
            break
        failed.append(faulty.failed)
        if faulty.failed != "close":  # by then it is there
            assert path.read_bytes() == b"one\n"
        path.write_bytes(b"one\n")
    assert failed == ["open", "write", "fsync", "close"]
    assert read_lines(path) == [b"one", b"two"]


def test_a_journal_is_cut_back_where_half_a_line_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short:
        """A system that takes three bytes, and then no more."""

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, descriptor: int, data: bytes) -> int:
            if len(data) < 6:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.write(descriptor, data[:3])

    append_line(tmp_path / "log", "one")
    replace_os(Short(), monkeypatch)
    with pytest.raises(StorageError, match="no space"):
        append_line(tmp_path / "log", "second")
    monkeypatch.undo()
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntw")
    assert read_lines(tmp_path / "log") == [b"one"]
    with pytest.raises(InputMissingError):
        read_lines(tmp_path / "none")


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "films")
    with pytest.raises(OutputError, match="no such file"):
        make_folder(tmp_path / "no" / "films")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file; give the name of a folder"):
        make_folder(tmp_path / "file")
