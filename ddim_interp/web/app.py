"""The page's server: which requests there are, and what a studio does about each.

    GET   /                              the page
    GET   /static/NAME                   its script, its looks, its icon
    GET   /state                         all that lies on the table
    POST  /keyframes/pictures            a picture: the file is the body, its name a header
    POST  /keyframes/seeds               {"seed": 7}
    PUT   /keyframes                     {"ids": [...]}: keep these, in this order
    GET   /keyframes/ID.png
    PUT   /film                          a `FilmWish`
    GET   /films/ID/frames/N.png         and /films/ID/sketch/N.png
    POST  /map                           {"down": 0.5, "across": 0.5, "fine": false}: a picture
    POST  /map/survey                    {}: draw an overview
    GET   /maps/ID/N.png
    POST  /seeds                         {"first": 0}: draw sixteen
    GET   /seeds/N.png
    POST  /kept                          {"format": "mp4"}: write a file; of a `frame` or a `point`
                                         it also says which
    GET   /kept/ID

The browser names nothing but what was made here: no path ever comes from it. What it says wrong is
answered with the one line of the error.
"""

import asyncio
import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ddim_interp import __version__
from ddim_interp.decoding import FORMATS as PICTURES
from ddim_interp.errors import (
    ArgumentError,
    BusyError,
    DdimInterpError,
    NonFiniteError,
    OutputError,
    StorageError,
)
from ddim_interp.interpolate import BLENDS
from ddim_interp.pages import render
from ddim_interp.shapes import Frame
from ddim_interp.sinks.png import encode_png
from ddim_interp.strict_json import parse_object
from ddim_interp.style import PACES
from ddim_interp.web.guard import Guard
from ddim_interp.web.jobs import Superseded
from ddim_interp.web.studio import MOST_KEYFRAMES, SHEET, Studio, what_happened
from ddim_interp.web.wish import ENDINGS, MOST_FRAMES, FilmWish

__all__ = ["MOST_UPLOAD", "make_app"]

T = TypeVar("T")

MOST_UPLOAD = 32 * 2**20
"""The largest file that may be sent, in bytes."""

_MOST_JSON = 64 * 2**10
_PATIENCE = 60.0  # seconds for a body to arrive
_UPLOADS = 4  # at once
_STATIC = {
    "explore.js": "text/javascript",
    "explore.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_KEPT = {"cache-control": "private, max-age=3600, immutable"}  # what has an id never changes
_OURS = (OutputError, StorageError, NonFiniteError)  # errors that are no fault of the page


def make_app(
    studio: Studio, folder: Path, *, port: int, token: str, ticket: str | None = None
) -> Guard:
    """The application, guarded.

    Args:
        studio: What it is about.
        folder: A private folder, for pictures on their way in.
        port: The port it listens on.
        token: What whoever speaks to it has to know.
        ticket: Lets one browser in; see `Guard`.
    """
    desk = _Desk(studio, folder)
    routes = [
        Route("/", desk.page),
        Route("/static/{name}", desk.static),
        Route("/state", desk.state),
        Route("/keyframes", desk.arrange, methods=["PUT"]),
        Route("/keyframes/pictures", desk.upload, methods=["POST"]),
        Route("/keyframes/seeds", desk.add_seed, methods=["POST"]),
        Route("/keyframes/{id}.png", desk.picture),
        Route("/film", desk.wish, methods=["PUT"]),
        Route("/films/{id}/{kind}/{number:int}.png", desk.frame),
        Route("/map", desk.look, methods=["POST"]),
        Route("/map/survey", desk.survey, methods=["POST"]),
        Route("/maps/{id}/{number:int}.png", desk.surveyed),
        Route("/seeds", desk.offer, methods=["POST"]),
        Route("/seeds/{number:int}.png", desk.seed),
        Route("/kept", desk.keep, methods=["POST"]),
        Route("/kept/{id}", desk.kept),
    ]
    handlers: dict[Any, Any] = {
        DdimInterpError: _tell,
        HTTPException: _tell_plainly,
        Exception: _tell_of_bug,
    }
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False
    return Guard(inner, port, token, ticket)


class _Desk:
    """Where requests are answered."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self._studio = studio
        self._folder = folder
        self._arriving = 0
        package = resources.files("ddim_interp.web") / "static"
        self._static = {name: (package / name).read_bytes() for name in _STATIC}

    async def page(self, request: Request) -> Response:
        model = self._studio.model
        _, height, width = model.picture_shape
        facts = {
            "version": __version__,
            "model": model.name,
            "device": str(model.device),
            "height": height,
            "width": width,
            "blends": list(BLENDS),
            "paces": PACES,
            "endings": ENDINGS,
            "accept": ",".join(f"image/{kind.lower()}" for kind in PICTURES),
            "most_frames": MOST_FRAMES,
            "most_keyframes": MOST_KEYFRAMES,
            "sheet": SHEET,
        }
        return HTMLResponse(render("explore.html", facts))

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404)
        headers = {"cache-control": "no-cache"}
        return Response(self._static[name], headers=headers, media_type=_STATIC[name])

    async def state(self, request: Request) -> Response:
        return self._now()

    async def upload(self, request: Request) -> Response:
        name = unquote(request.headers.get("x-file-name", ""))
        if self._arriving >= _UPLOADS:
            raise BusyError(f"{_UPLOADS} pictures are arriving already; try again in a moment.")
        self._arriving += 1
        path = self._folder / secrets.token_hex(8)
        try:
            await self._receive(request, path)
            await _outcome(self._studio.upload(path, name))
        except TimeoutError:
            raise HTTPException(408) from None
        finally:
            self._arriving -= 1
            path.unlink(missing_ok=True)
        return self._now()

    async def _receive(self, request: Request, path: Path) -> None:
        """Write the body of a request to a file."""
        try:
            with path.open("xb") as file:
                async with asyncio.timeout(_PATIENCE):
                    async for part in _body(request, MOST_UPLOAD):
                        await run_in_threadpool(file.write, part)
        except TimeoutError:
            raise
        except OSError as error:
            raise StorageError(
                f"The folder for temporary files took no more: {error.strerror}; free some space, "
                "or set TMPDIR to another folder."
            ) from error
        if not path.stat().st_size:
            raise ArgumentError("No picture came; send the file as the body.")

    async def add_seed(self, request: Request) -> Response:
        said = await _json(request)
        self._studio.add_seed(_number(said, "seed", int))
        return self._now()

    async def arrange(self, request: Request) -> Response:
        ids = (await _json(request)).get("ids")
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise ArgumentError('There are no ids; send {"ids": [...]}.')
        self._studio.arrange(ids)
        return self._now()

    async def wish(self, request: Request) -> Response:
        self._studio.wish(FilmWish.parse(await _json(request)))
        return self._now()

    async def picture(self, request: Request) -> Response:
        return await _png(self._studio.picture(request.path_params["id"]))

    async def frame(self, request: Request) -> Response:
        said = request.path_params
        return await _png(self._studio.frame(said["id"], said["kind"], said["number"]), _KEPT)

    async def look(self, request: Request) -> Response:
        said = await _json(request)
        down, across = _number(said, "down", float), _number(said, "across", float)
        frame = await _outcome(self._studio.look(down, across, fine=said.get("fine") is True))
        return await _png(frame)

    async def survey(self, request: Request) -> Response:
        await _json(request)
        self._studio.survey()
        return self._now()

    async def surveyed(self, request: Request) -> Response:
        said = request.path_params
        return await _png(self._studio.surveyed(said["id"], said["number"]), _KEPT)

    async def offer(self, request: Request) -> Response:
        said = await _json(request)
        self._studio.offer(_number(said, "first", int))
        return self._now()

    async def seed(self, request: Request) -> Response:
        return await _png(self._studio.seed_picture(request.path_params["number"]))

    async def keep(self, request: Request) -> Response:
        said = await _json(request)
        format = said.get("format")
        if not isinstance(format, str):
            raise ArgumentError('There is no format; send {"format": "mp4"}.')
        if format == "point":
            place = _number(said, "down", float), _number(said, "across", float)
            asked = self._studio.keep_point(*place)
        else:
            number = _number(said, "number", int) if "number" in said else 0
            asked = self._studio.keep(format, number)
        keepsake = await _outcome(asked)
        return JSONResponse({"id": keepsake.id, "name": keepsake.name})

    async def kept(self, request: Request) -> Response:
        keepsake = self._studio.keepsake(request.path_params["id"])
        if keepsake is None:
            raise HTTPException(404)
        return FileResponse(keepsake.path, media_type=keepsake.media_type, filename=keepsake.name)

    def _now(self) -> Response:
        return JSONResponse(self._studio.describe())


async def _body(request: Request, most: int) -> Any:
    """A request's body, part by part.

    Raises:
        HTTPException: It is larger than that (413), or does not end (408).
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or int(declared[:20]) > most:
        raise HTTPException(413)
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise HTTPException(413)
            yield part
    except ClientDisconnect:
        raise HTTPException(408) from None  # though nobody hears it


async def _json(request: Request) -> Mapping[str, Any]:
    """The JSON object that a request brings.

    Raises:
        HTTPException: It says that it brings something else (415), or too much (413).
        ArgumentError: It is none.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise HTTPException(415)
    try:
        async with asyncio.timeout(_PATIENCE):
            data = b"".join([part async for part in _body(request, _MOST_JSON)])
        return parse_object(data, "The body", ArgumentError)
    except TimeoutError:
        raise HTTPException(408) from None
    except ArgumentError:  # in words for whoever has a file to get again
        raise ArgumentError("This is no JSON object; send one.") from None


def _number(said: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = said.get(name)
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not kind:
        what = "whole number" if kind is int else "number"
        raise ArgumentError(f"{name} is no {what}; send one.")
    return value


async def _outcome(asked: "Future[T]") -> T:
    """What came of work that was asked for.

    Raises:
        HTTPException: A newer wish has taken its place (409).
    """
    try:
        return await asyncio.wrap_future(asked)
    except Superseded:
        raise HTTPException(409) from None


async def _png(frame: Frame | None, headers: Mapping[str, str] | None = None) -> Response:
    if frame is None:
        raise HTTPException(404)
    data = await run_in_threadpool(encode_png, frame)
    return Response(data, headers=headers, media_type="image/png")


_PLAINLY = {
    404: "There is nothing of that name here; load the page anew.",
    405: "That cannot be done to this; load the page anew.",
    408: "It took too long to arrive; try again.",
    409: "A newer wish has taken the place of this one.",
    413: f"That is too large; send {MOST_UPLOAD // 2**20} MB at most.",
    415: "That is not said in JSON; say so in Content-Type.",
}


async def _tell(request: Request, error: Exception) -> Response:
    code = 429 if isinstance(error, BusyError) else 500 if isinstance(error, _OURS) else 400
    return JSONResponse({"error": str(error)}, code)


async def _tell_plainly(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = _PLAINLY.get(error.status_code, error.detail)
    return JSONResponse({"error": said}, error.status_code, error.headers)


async def _tell_of_bug(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": what_happened(error)}, 500)
