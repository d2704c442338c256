"""A model hub on this machine: it serves what it is given, and misbehaves when asked to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPO = "painter/fruit"
FIRST = "1" * 40


class FakeHub(ThreadingHTTPServer):
    """Serves commits of one repository; `fault` may answer a request in its stead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.fault: Callable[[Answer], bool] = lambda _: False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetched(self) -> set[str]:
        """The files whose contents were sent."""
        return {path.split("/", 5)[5] for verb, path in self.requests if "/resolve/" in path}

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is nothing to print."""


class Answer(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path))
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.fault(self):
            return
        if path.startswith(f"/api/models/{REPO}/revision/"):
            self.info(path.rpartition("/revision/")[2])
        elif path.startswith(f"/{REPO}/resolve/"):
            _, _, rest = path.partition("/resolve/")
            self.file(*rest.split("/", 1))
        else:
            self.send(404, headers={"X-Error-Code": "RepoNotFound"})

    def info(self, revision: str) -> None:
        commit = self.server.branches.get(revision, revision)
        if commit not in self.server.commits:
            self.send(404, headers={"X-Error-Code": "RevisionNotFound"})
            return
        files = []
        for name, data in self.server.commits[commit].items():
            file: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_hash(data)}
            if not name.endswith(".json"):
                file["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            files.append(file)
        body = {"id": REPO, "modelId": REPO, "sha": commit, "siblings": files, "private": False}
        self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def file(self, commit: str, name: str) -> None:
        data = self.server.commits[commit].get(name)
        if data is None:
            self.send(404, headers={"X-Error-Code": "EntryNotFound"})
            return
        etag = git_hash(data) if name.endswith(".json") else sha256(data)
        self.send(200, data, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
