"""A C file is compiled once and kept; where it cannot be, there is no library and no fuss."""

import ctypes
import subprocess
import sys
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
    assert kept.name.startswith("count-") and cache.stat().st_mode & 0o077 == 0
    linked = subprocess.run(["ldd", kept], capture_output=True, text=True).stdout
    assert "gomp" not in linked, "torch's is in the process already"


def test_another_source_is_another_library(source, cache):
    load_c_library(source)
    source.write_text(SOURCE.replace("+= 1", "+= 10"))
    assert load_c_library(source).threads(1) == 10
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense"], ids=["empty", "nonsense"])
def test_a_damaged_one_is_made_anew(source, cache, compilations, damage):
    load_c_library(source)
    (kept,) = cache.iterdir()
    kept.unlink()  # another file, lest the library in use changes
    kept.write_bytes(damage)
    assert load_c_library(source).threads(1) == 1
    assert isinstance(ctypes.CDLL(str(kept)), ctypes.CDLL)


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
