"""A C file is compiled once and kept; where it cannot be, there is no library and no fuss."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddim_interp import c_library
from ddim_interp.c_library import load_c_library

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or c_library.shutil.which("cc") is None, reason="needs a C compiler"
)

SOURCE = """
#include <omp.h>
int threads(int wanted) {
    int found = 0;
#pragma omp parallel num_threads(wanted) reduction(+ : found)
    found += 1;
    return found;
}
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "count.c"
    path.write_text(SOURCE)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDIM_INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compilations(monkeypatch):
    """How often the compiler ran."""
    runs = []
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda words, **rest: (runs.append(words), run(words, **rest))[1]
    )
    return runs


def test_it_is_compiled_once_and_runs_on_torchs_threads(source, cache, compilations):
    assert load_c_library(source).threads(2) == 2
    assert len(compilations) == 2, "compiled, and linked"
    assert load_c_library(source).threads(1) == 1
    assert len(compilations) == 2
    (kept,) = cache.iterdir()
    assert kept.name.startswith("count-")
    assert cache.stat().st_mode & 0o077 == 0 and kept.stat().st_mode & 0o077 == 0
    linked = subprocess.run(["ldd", kept], capture_output=True, text=True).stdout
    assert "gomp" not in linked, "torch's is in the process already"


def test_another_source_is_another_library(source, cache):
    load_c_library(source)
    source.write_text(SOURCE.replace("+= 1", "+= 10"))
    assert load_c_library(source).threads(1) == 10
    assert len(list(cache.iterdir())) == 2


def rewritten(kept, data):
    """Another file under the name, lest the library in use changes."""
    kept.unlink()
    kept.write_bytes(data)
    kept.chmod(0o600)


DAMAGES = {
    "empty": lambda whole: b"",
    "nonsense": lambda whole: b"nonsense",
    "cut": lambda whole: whole[: len(whole) // 2],
    "cut at its end": lambda whole: whole[:-1],
    "without its sum": lambda whole: whole[:-32],
    "zeros": lambda whole: bytes(len(whole)),
    "zeros from 2000 on": lambda whole: whole[:2000] + bytes(len(whole) - 2000),
    "a bit": lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_made_anew(source, cache, compilations, damage):
    load_c_library(source)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    rewritten(kept, damage(whole))
    assert load_c_library(source).threads(1) == 1
    assert len(compilations) == 4
    assert isinstance(ctypes.CDLL(str(kept)), ctypes.CDLL)
    assert load_c_library(source).threads(1) == 1
    assert len(compilations) == 4, "and kept again"


@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_may_write_is_not_loaded(source, cache, compilations, what, mode):
    load_c_library(source)
    (kept,) = cache.iterdir()
    (cache if what == "folder" else kept).chmod(mode)
    assert load_c_library(source).threads(1) == 1
    assert len(compilations) == 4
    assert load_c_library(source).threads(1) == 1
    assert len(compilations) == (6 if what == "folder" else 4), "a file is replaced by our own"


@pytest.mark.parametrize("whose", ["folder", "file"])
def test_what_belongs_to_others_is_not_loaded(source, cache, compilations, monkeypatch, whose):
    load_c_library(source)
    (kept,) = cache.iterdir()
    theirs, stat = (cache if whose == "folder" else kept), Path.stat

    def strange(path, **rest):
        about = stat(path, **rest)
        return (
            os.stat_result([*about[:4], about.st_uid + 1, *about[5:]]) if path == theirs else about
        )

    monkeypatch.setattr(Path, "stat", strange)
    assert load_c_library(source).threads(1) == 1
    assert len(compilations) == 4


def test_it_is_kept_whatever_the_umask_is(source, cache, compilations):
    before = os.umask(0o002)
    try:
        load_c_library(source)
    finally:
        os.umask(before)
    load_c_library(source)
    assert len(compilations) == 2


def test_another_compiler_is_another_library(source, cache, compilations, tmp_path, monkeypatch):
    load_c_library(source)
    (tmp_path / "mine").symlink_to(c_library.shutil.which("cc"))
    monkeypatch.setenv("CC", str(tmp_path / "mine"))
    load_c_library(source)
    assert len(compilations) == 4 and len(list(cache.iterdir())) == 2


def test_those_that_nobody_loads_any_more_go(source, cache):
    load_c_library(source)
    (kept,) = cache.iterdir()
    old = time.time() - 40 * 24 * 3600
    strangers = [cache / "count-by-hand.so", cache / f"other-{'0' * 32}.so"]
    for path in (unused := cache / f"count-{'0' * 32}.so", *strangers):
        path.write_bytes(b"")
        os.utime(path, (old, old))
    os.utime(kept, (old, old))
    load_c_library(source)  # which is a use of it
    source.write_text(SOURCE.replace("+= 1", "+= 10"))
    assert load_c_library(source).threads(1) == 10
    assert not unused.exists() and kept.exists() and all(path.exists() for path in strangers)


def test_where_nothing_can_be_kept_it_is_made_each_time(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DDIM_INTERP_CACHE", str(tmp_path / "file"))
    assert load_c_library(source).threads(1) == 1


def test_without_a_compiler_there_is_none(source, cache, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert load_c_library(source) is None and not cache.exists()


def test_a_compiler_that_fails_is_as_none(source, cache, monkeypatch):
    monkeypatch.setenv("CC", "false")
    assert load_c_library(source) is None and not cache.exists()


def test_a_compiler_that_hangs_is_as_none(source, tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setenv("CC", str(sleeper))
    monkeypatch.setattr(c_library, "_ENOUGH", 0.1)
    assert load_c_library(source) is None


def test_a_source_that_is_not_there_is_no_library():
    assert load_c_library(Path("/nowhere/x.c")) is None


def test_elsewhere_than_on_linux_there_is_none(source, monkeypatch):
    monkeypatch.setattr(c_library.sys, "platform", "darwin")
    assert load_c_library(source) is None
