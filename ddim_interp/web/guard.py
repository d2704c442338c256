"""Who may speak to the page's server? The browser that was given its address, and nobody else.

A server on this machine is within reach of every page that its user's browser shows, and of every
user of the machine. So each request must

    name us          Host is 127.0.0.1, localhost or [::1] with our port: no other name can be made
                     to lead here (DNS rebinding)
    know the token   in a header; for what the browser fetches by itself, the page and pictures that
                     are named by secrets, a cookie is enough, which no script reads and no other
                     site sends along
    be ours          what changes something comes from a page of our own, as the browser says by
                     Origin and Sec-Fetch-Site

The cookie is no token, for browsers show it to whatever listens on another port of this machine,
another user's program among others. The token they keep for the page of one port alone.

All else is refused before anything is looked at. Answers forbid whatever a page could be made to
do: run other scripts, stand in a frame, tell where it came from, be read by others.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

__all__ = ["Guard"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_SAFE = ("GET", "HEAD")
# A page elsewhere that leads here by a link: the cookie would not come along on a redirect of that.
_ENTRANCE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="refresh" content="0; url={0}"><title>ddim-interp explore</title></head>'
    '<body><a href="{0}">ddim-interp explore</a></body></html>'
)
# Fetched by the browser itself, which has no header to tell the token in.
_SHOWN = ("/static/", "/keyframes/", "/films/", "/maps/", "/seeds/", "/kept/")


class Guard:
    """Lets an application be spoken to by those who may.

    Args:
        app: The application.
        port: The port it listens on.
        token: What they have to know.
        ticket: Lets in once, instead of the token: for a browser that is started with an address,
            which all users of the machine can read in the list of processes.
    """

    def __init__(self, app: App, port: int, token: str, ticket: str | None = None) -> None:
        self._app = app
        self._token = token
        self._ticket = ticket
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = {f"{name}:{port}" for name in names}
        if port == 80:  # which browsers leave out
            self._hosts.update(names)
        # Cookies know no ports, and another server of ours may run on another one.
        self._cookie = f"ddim_interp_{port}"
        self._pass = secrets.token_urlsafe(32)  # what it says

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket: there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._judge(scope)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _judge(self, scope: Scope) -> Response | None:
        """A refusal, or the way in; None for what may pass."""
        said = _Said(scope["headers"])
        if said.only("host") not in self._hosts:
            return _refuse("This server answers to 127.0.0.1 and localhost only; open its address.")
        if scope["path"] == "/" and scope["method"] == "GET":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if "token" in query and self._admits(query["token"][0]):
                return self._let_in(said)
        shown = scope["path"] == "/" or scope["path"].startswith(_SHOWN)
        looks = shown and scope["method"] in _SAFE
        if not (self._has_token(said) or (looks and self._has_pass(said))):
            return _refuse(
                "This page belongs to whoever started it; open the address that ddim-interp "
                "printed, with its token."
            )
        if said.only("sec-fetch-site") not in (None, "none", "same-origin"):
            return _refuse("Another page asks for this; only our own may.")
        if scope["method"] not in _SAFE:
            ours = {None, *(f"http://{host}" for host in self._hosts)}
            if said.only("origin") not in ours:
                return _refuse("Another page asks for this; only our own may.")
        return None

    def _admits(self, given: str) -> bool:
        if self._ticket is not None and _same(given, self._ticket):
            self._ticket = None
            return True
        return _same(given, self._token)

    def _let_in(self, said: "_Said") -> Response:
        direct = said.only("sec-fetch-site") in (None, "none", "same-origin")
        page = f"/#token={self._token}"  # for its script: what follows # is sent nowhere
        response = RedirectResponse(page, 303) if direct else HTMLResponse(_ENTRANCE.format(page))
        response.set_cookie(self._cookie, self._pass, httponly=True, samesite="strict", path="/")
        response.headers["cache-control"] = "no-store"
        return response

    def _has_token(self, said: "_Said") -> bool:
        scheme, _, given = (said.only("authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and _same(given, self._token)

    def _has_pass(self, said: "_Said") -> bool:
        # Other programs of this machine leave theirs beside ours, and not all are well-formed.
        cookie = cookie_parser("; ".join(said.all("cookie"))).get(self._cookie)
        return cookie is not None and _same(cookie, self._pass)


class _Said:
    """A request's headers."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in headers]

    def all(self, name: str) -> list[str]:
        """Every header of that name."""
        return [value for key, value in self._headers if key == name]

    def only(self, name: str) -> str | None:
        """The header of that name; one that is there twice is no such thing."""
        values = self.all(name)
        return values[0] if len(values) == 1 else "(several)" if values else None


def _same(given: str, right: str) -> bool:
    # Of equal length, whatever was given: how long it takes tells nothing.
    one, other = (
        hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, right)
    )
    return secrets.compare_digest(one, other)


def _refuse(reason: str) -> Response:
    return JSONResponse({"error": reason}, 403, {"cache-control": "no-store"})


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in _HEADERS.items()]
            if b"cache-control" not in there:
                more.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return send_with_headers
