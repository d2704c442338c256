"""`ddim-interp explore` as a process: what it opens, what it tells, how it ends."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from ddim_interp.cli import COMMANDS
from ddim_interp.web.server import HOST


@dataclass
class Page:
    """A running program, and a browser that was given its address."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path

    def __post_init__(self) -> None:
        self.host, self.port = HOST, urlsplit(self.address).port or 0
        self.token = parse_qs(urlsplit(self.address).query)["token"][0]
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self.browser = urllib.request.build_opener(cookies)

    def get(self, path: str) -> bytes:
        with self.browser.open(f"http://{self.host}:{self.port}{path}", timeout=60) as answer:
            data: bytes = answer.read()
        return data

    def enter(self) -> None:
        """Open its address, as a browser and as the script of the page do."""
        self.get(f"/?token={self.token}")
        self.browser.addheaders = [("Authorization", f"Bearer {self.token}")]

    def raw(self, data: bytes) -> bytes:
        """What comes back for these very bytes."""
        answer = b""
        with socket.create_connection((self.host, self.port), timeout=60) as line:
            with suppress(ConnectionError):  # hung up on, in the midst of it
                line.sendall(data)
                line.shutdown(socket.SHUT_WR)
                while part := line.recv(65536):
                    answer += part
        return answer

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def as_started() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def started(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path.parent))
    running = []

    def start(*arguments: str) -> Page:
        command = [sys.executable, "-m", "ddim_interp", "explore", "--no-browser", "--json"]
        process = subprocess.Popen(
            [*command, "--model", str(tiny_folder), "--steps", "3", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=as_started,
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return Page(process, json.loads(line)["url"], tmp_path)

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def film_of(page: Page) -> Any:
    page.enter()
    deadline = time.monotonic() + 120
    while True:
        state = json.loads(page.get("/state"))
        assert not state["trouble"] and time.monotonic() < deadline, state
        if (film := state["film"]) and film["ready"] == film["count"]:
            return film
        time.sleep(0.05)


def test_it_serves_this_machine_only_and_ends_at_once_leaving_nothing(
    started: Any, pictures: list[Path]
) -> None:
    page = started(*map(str, pictures))
    listening = [
        line.laddr
        for line in psutil.Process(page.process.pid).net_connections("inet")
        if line.status == psutil.CONN_LISTEN
    ]
    assert [(line.ip, line.port) for line in listening] == [("127.0.0.1", page.port)]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        page.get("/state")
    film = film_of(page)
    assert b"<canvas" in page.get("/")
    for path in (f"/films/{film['id']}/frames/59.png", "/static/icon.svg"):
        assert page.get(path)
    code, out, err = page.end(signal.SIGINT)
    assert (code, out) == (130, "") and "Traceback" not in err
    assert err == "ddim-interp: Stopped; nothing half-made was left behind.\n"
    assert list(page.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_in_the_midst_of_work_and_of_requests(started: Any, number: int) -> None:
    page = started("seed:1", "seed:2", "seed:3", "--steps", "900")
    page.enter()
    head = f"POST /keyframes/pictures HTTP/1.1\r\nHost: {page.host}:{page.port}\r\n"
    head += f"Authorization: Bearer {page.token}\r\nContent-Length: 100000\r\n\r\nslow"
    slow = []
    for _ in range(4):
        slow.append(socket.create_connection((page.host, page.port)))
        slow[-1].sendall(head.encode())
    while len([*page.temporary.glob("*/*")]) < 4 and page.process.poll() is None:
        time.sleep(0.01)  # until they are arriving
    assert page.raw(head.encode()).startswith(b"HTTP/1.1 429 "), "no fifth one may"
    code, _, err = page.end(number)
    assert code == 128 + number and err.count("\n") == 1 and "Traceback" not in err
    assert list(page.temporary.iterdir()) == []
    for line in slow:
        line.close()


def test_bytes_that_are_no_request_are_refused(started: Any) -> None:
    page = started("seed:1")
    ours = f"Host: {HOST}:{page.port}\r\nAuthorization: Bearer {page.token}\r\n".encode()
    for line in (
        b"GET /../../../../etc/passwd HTTP/1.1",
        b"GET /static/../../../../etc/passwd HTTP/1.1",
        b"GET /static/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1",
        b"GET //etc/passwd HTTP/1.1",
        b"GET file:///etc/passwd HTTP/1.1",
        b"GET http://evil.example/ HTTP/1.1",
        b"CONNECT evil.example:80 HTTP/1.1",
        b"GET /kept/..\\..\\x HTTP/1.1",
    ):
        answer = page.raw(line + b"\r\n" + ours + b"Connection: close\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        assert 400 <= status < 500, (line, answer[:80])
        assert b"root:" not in answer
    for junk in (b"\x00" * 100, b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"G" * 2**17):
        answer = page.raw(junk)
        assert answer == b"" or answer.split(b" ", 2)[1].startswith(b"4")
    twice = page.raw(b"GET /state HTTP/1.1\r\nHost: evil\r\n" + ours + b"Connection: close\r\n\r\n")
    assert twice.split(b" ", 2)[1] in (b"400", b"403")
    socket_like = page.raw(
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Host: evil\r\n\r\n"
    )
    assert socket_like.split(b" ", 2)[1] == b"403"
    for line in (b"POST /keyframes/pictures", b"PUT /film"):  # and gone, in their midst
        kind = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\nhalf"
        page.raw(line + b" HTTP/1.1\r\n" + ours + kind)
    film = page.browser.open(page.address, timeout=60)
    assert film.status == 200, "it goes on all the same"
    code, _, err = page.end(signal.SIGTERM)
    assert code == 143 and "Traceback" not in err


def test_a_port_that_is_taken_is_refused_before_a_model_is_loaded(call: Any, refused: Any) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        result = call("explore", "--port", port, "--no-browser", "--model", "nowhere/")
        refused(result, 75, f"Port {port} of 127.0.0.1 is taken")


def test_another_one_finds_a_port_of_its_own(started: Any) -> None:
    one, two = started(), started()
    assert one.port != two.port and one.token != two.token
    with pytest.raises(urllib.error.HTTPError, match="403"):
        one.browser.open(f"http://{HOST}:{two.port}/?token={one.token}")


def test_what_is_named_wrong_is_refused_as_everywhere(
    call: Any, refused: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    common = ("--no-browser", "--model", tiny_folder)
    refused(call("explore", tmp_path / "none.png", *common), 66, "none.png")
    refused(call("explore", "seed:x", *common), 2, "names no seed")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    refused(call("explore", text, *common), 65, "holds text")
    refused(call("explore", "--port", "99999", *common), 2, "--port")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_its_libraries_it_says_what_to_install(
    call: Any, refused: Any, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    result = call("explore", "--no-browser")
    refused(result, 2, missing, "pip install 'ddim_interp[explore]'")


@pytest.mark.parametrize("arguments", [["-h"], ["explore", "-h"], ["morph", "-h"]])
def test_help_does_not_wait_for_a_server(arguments: list[str]) -> None:
    program = f"""if True:
        import sys
        from ddim_interp.cli import cli
        try:
            cli.main({arguments!r}, standalone_mode=False)
        finally:
            heavy = {{"starlette", "uvicorn", "jinja2", "torch"}} & set(sys.modules)
            assert not heavy, heavy
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "explore" in COMMANDS


def test_the_browser_is_started_with_an_address_that_lets_in_once(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users of the machine can read it."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}.part && mv {seen}.part {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setenv("DISPLAY", ":0")
    process = subprocess.Popen(
        [sys.executable, "-m", "ddim_interp", "explore", "--model", str(tiny_folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_started,
    )
    try:
        assert process.stdout is not None
        page = Page(process, process.stdout.readline().strip(), tmp_path)
        deadline = time.monotonic() + 60
        while not seen.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        once = seen.read_text()
        assert page.token not in once and once.startswith(f"http://{HOST}:{page.port}/?token=")
        assert page.browser.open(once, timeout=60).status == 200
        another = Page(process, page.address, tmp_path)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            another.browser.open(once, timeout=60)
    finally:
        process.kill()
        process.communicate()


def test_a_browser_is_shown_the_page_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading
    import webbrowser

    from ddim_interp.cli import explore

    shown: list[str] = []
    opened = threading.Event()
    monkeypatch.setattr(webbrowser, "open", lambda url: (shown.append(url), opened.set()))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    explore._open("http://here")
    monkeypatch.setenv("DISPLAY", ":0")
    explore._open("http://there")
    assert opened.wait(60) and shown == ["http://there"]
