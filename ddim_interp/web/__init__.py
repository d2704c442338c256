"""A page on this machine to explore noise space by hand: what `ddim-interp explore` serves.

    wish        what film is asked for, checked at the edge
    cards       keyframes as they lie on the page
    attention   how long work looks up, and says how far it is
    chart       the map between three or four keyframes
    drawing     a film while it is being drawn
    keepsakes   files to take home
    seeds       what seeds look like
    remembered  inversions done already
    sketch      the same in few steps
    jobs        one worker: the most urgent first, the newest wins
    studio      all of these together; knows nothing of HTTP
    app         requests, and what the studio does about them
    guard       who may make any
    server      the socket

starlette and uvicorn are an extra. Whatever needs them is imported when a page is to be served.
"""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ddim_interp.errors import ArgumentError

if TYPE_CHECKING:
    from ddim_interp.model import Model
    from ddim_interp.web.studio import Setting

__all__ = ["check_installed", "serve"]


def check_installed() -> None:
    """Refuse to go on without the libraries that serve a page.

    Raises:
        ArgumentError: They are not installed.
    """
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise ArgumentError(
            f"The page is served by starlette and uvicorn, and {error.name} is not installed; pip "
            "install 'ddim_interp[explore]'."
        ) from None
    del starlette, uvicorn


def serve(
    load: "Callable[[], Model]",
    sources: Sequence[str] = (),
    setting: "Setting | None" = None,
    *,
    port: int | None = None,
    ready: Callable[[str, str], None],
) -> None:
    """Serve the page to this machine, until a signal ends it.

    Args:
        load: Gives the model; called when the port is ours.
        sources: Keyframes to begin with: pictures, latent files, `seed:N`.
        setting: What the page cannot change.
        port: Where to listen; the usual one, or one that is free, if None.
        ready: Takes two addresses when the page can be opened: one to tell its user, and one that
            lets in once, to start a browser with.

    Raises:
        BusyError: The port is taken.
        DdimInterpError: The model cannot be loaded, or a keyframe not used.
        ArgumentError: starlette or uvicorn is not installed.
    """
    check_installed()
    from ddim_interp.web.app import make_app
    from ddim_interp.web.server import HOST, listen, run
    from ddim_interp.web.studio import Studio

    token, ticket = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with listen(port) as opened, TemporaryDirectory(prefix="ddim_interp-") as folder:
        number = opened.getsockname()[1]
        with Studio(load(), Path(folder), setting) as studio:
            studio.add(*sources)
            app = make_app(studio, Path(folder), port=number, token=token, ticket=ticket)
            told, once = (f"http://{HOST}:{number}/?token={each}" for each in (token, ticket))
            run(app, opened, lambda: ready(told, once), studio.stop)
