"""Who may speak to the page's server, what it is told, and what it answers."""

import asyncio
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient
from uvicorn.server import ServerState

from ddim_interp import Model, NoiseSchedule
from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.web import app as application
from ddim_interp.web.app import make_app
from ddim_interp.web.server import HOST, Impatient
from ddim_interp.web.studio import Setting, Studio

PORT, TOKEN, TICKET = 8346, "a-token-that-nobody-guesses", "good-for-once"
HOME = f"http://127.0.0.1:{PORT}"
OURS = {"Authorization": f"Bearer {TOKEN}"}


GREY = Model(
    GaussianDenoiser(variance=0.25), NoiseSchedule.from_config({}), (3, 8, 8), "<b>grey</b>"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "private"
    place.mkdir()
    return place


@pytest.fixture
def studio(folder: Path) -> Iterator[Studio]:
    with Studio(GREY, folder, Setting({"steps": 4})) as studio:
        yield studio


def client(studio: Studio, folder: Path) -> TestClient:
    app = make_app(studio, folder, port=PORT, token=TOKEN, ticket=TICKET)
    return TestClient(app, base_url=HOME, follow_redirects=False)


@pytest.fixture
def stranger(studio: Studio, folder: Path) -> Iterator[TestClient]:
    """Somebody who knows the address, and not the token."""
    with client(studio, folder) as stranger:
        yield stranger


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Studio]]:
    """A stranger before a table that none of the many who try is to change."""
    folder = tmp_path_factory.mktemp("sealed")
    with Studio(GREY, folder) as studio, client(studio, folder) as stranger:
        yield stranger, studio


@pytest.fixture
def page(stranger: TestClient) -> TestClient:
    """Our own page."""
    stranger.headers.update(OURS)
    return stranger


def rest_of(studio: Studio) -> Any:
    deadline = time.monotonic() + 120
    while (state := studio.describe())["working"]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return state


def rest(page: TestClient) -> Any:
    deadline = time.monotonic() + 120
    while (state := page.get("/state").json())["working"]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return state


def png(size: int = 12, **info: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((size, size, 3), 90, np.uint8)).save(buffer, "PNG", **info)
    return buffer.getvalue()


# ---- the way in ----


def test_the_address_lets_in_by_a_cookie_that_no_script_and_no_site_gets(
    stranger: TestClient,
) -> None:
    entered = stranger.get("/", params={"token": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, f"/#token={TOKEN}")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and f"_{PORT}=" in cookie
    page = stranger.get("/")
    assert page.status_code == 200 and TOKEN not in page.text


@pytest.mark.parametrize("path", ["/state", "/state%0A", "/state/", "/static/../state"])
def test_who_has_the_cookie_and_not_the_token_learns_and_changes_nothing(
    stranger: TestClient, studio: Studio, path: str
) -> None:
    """Browsers show it to all ports of a machine, and another user may listen on one."""
    cookie = stranger.get("/", params={"token": TOKEN}).headers["set-cookie"].split(";")[0]
    assert TOKEN not in cookie
    studio.add("seed:1")
    before = rest_of(studio)
    card = before["keyframes"][0]["id"]
    for answer in (
        stranger.get(path),
        stranger.post("/keyframes/seeds", json={"seed": 2}),
        stranger.put("/keyframes", json={"ids": []}),
        stranger.post("/kept", json={"format": "latents"}),
        stranger.get("/state", headers={"Authorization": f"Bearer {cookie.split('=')[1]}"}),
    ):
        assert answer.status_code in (403, 404) and card not in answer.text
    assert studio.describe() == before
    assert stranger.get(f"/keyframes/{card}.png").status_code == 200


def test_a_link_from_elsewhere_leads_in_by_a_page_and_not_by_a_redirect(
    stranger: TestClient,
) -> None:
    """After a redirect, the navigation is still the other site's: the cookie would stay behind."""
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    entered = stranger.get("/", params={"token": TOKEN}, headers=elsewhere)
    assert entered.status_code == 200 and f'content="0; url=/#token={TOKEN}"' in entered.text
    assert "set-cookie" in entered.headers and entered.headers["cache-control"] == "no-store"


def test_a_ticket_lets_in_once_and_is_no_token(stranger: TestClient) -> None:
    """All users of a machine can read what a browser was started with."""
    answer = stranger.get("/state", headers={"Authorization": f"Bearer {TICKET}"})
    assert answer.status_code == 403
    assert stranger.get("/", params={"token": TICKET}).status_code == 303
    assert stranger.get("/").status_code == 200
    stranger.cookies.clear()
    assert stranger.get("/", params={"token": TICKET}).status_code == 403
    assert stranger.get("/", params={"token": TOKEN}).status_code == 303


@pytest.mark.parametrize("asked", ["GET /state", "GET /static/explore.js", "HEAD /", "POST /"])
def test_only_the_page_itself_is_entered_by_an_address(stranger: TestClient, asked: str) -> None:
    for secret in (TOKEN, TICKET):
        answer = stranger.request(*asked.split(), params={"token": secret})
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
    assert stranger.get("/", params={"token": TICKET}).status_code == 303, "it has not been spent"


@pytest.mark.parametrize("other", ['prefs={"a": 1}', "a b", "_xsrf=2|ab", "=", "x=\xff", '"'])
def test_cookies_of_other_programs_do_not_keep_us_out(stranger: TestClient, other: str) -> None:
    """All ports of a machine share them."""
    ours = stranger.get("/", params={"token": TOKEN}).headers["set-cookie"].split(";")[0]
    stranger.cookies.clear()
    for cookies in (f"{other}; {ours}", f"{ours}; {other}"):
        answer = stranger.get("/", headers={"Cookie": cookies.encode("latin-1")})
        assert answer.status_code == 200


def test_a_port_that_browsers_do_not_name_is_ours(studio: Studio, folder: Path) -> None:
    app = make_app(studio, folder, port=80, token=TOKEN)
    with TestClient(app, base_url="http://127.0.0.1", headers=OURS) as page:
        assert page.get("/state").status_code == 200
        ours = {"Origin": "http://127.0.0.1"}
        assert page.post("/keyframes/seeds", headers=ours, json={"seed": 1}).status_code == 200


REQUESTS: list[tuple[str, str]] = [
    ("GET", "/"), ("GET", "/state"), ("GET", "/static/explore.js"), ("HEAD", "/"),
    ("GET", "/keyframes/x.png"), ("PUT", "/keyframes"), ("POST", "/keyframes/seeds"),
    ("POST", "/keyframes/pictures"), ("PUT", "/film"), ("POST", "/map"), ("POST", "/map/survey"),
    ("POST", "/seeds"), ("POST", "/kept"), ("GET", "/kept/x"), ("OPTIONS", "/film"),
    ("GET", "/../../etc/passwd"), ("DELETE", "/nothing"), ("TRACE", "/"),
]  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Cookie": f"ddim_interp_{PORT}=wrong"},
        {"Cookie": f"ddim_interp_1={TOKEN}"},
        {"Cookie": f"ddim_interp_{PORT}={TOKEN}"},
        {"Cookie": f"ddim_interp_{PORT}=\xff; ="},
        {**OURS, "Host": "evil.example"},
        {**OURS, "Host": "127.0.0.1"},
        {**OURS, "Host": f"127.0.0.1:{PORT + 1}"},
        {**OURS, "Host": f"127.0.0.1:{PORT}.evil.example"},
        {**OURS, "Host": f"127.0.0.1.evil.example:{PORT}"},
        {**OURS, "Host": ""},
        {**OURS, "Sec-Fetch-Site": "cross-site"},
        {**OURS, "Sec-Fetch-Site": "same-site"},
    ],
    ids=repr,
)
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_strangers_are_refused_whatever_they_ask_for(
    sealed: tuple[TestClient, Studio], method: str, path: str, headers: dict[str, str]
) -> None:
    stranger, studio = sealed
    before = studio.describe()
    answer = stranger.request(
        method, path, headers={k: v.encode("latin-1") for k, v in headers.items()}
    )
    assert answer.status_code == 403
    if method != "HEAD":
        assert set(answer.json()) == {"error"} and TOKEN not in answer.text
    assert "set-cookie" not in answer.headers and studio.describe() == before


@pytest.mark.parametrize(
    "query",
    [
        "", "token", "token=", "token=x", f"token={TOKEN[:-1]}", f"Token={TOKEN}", "token=%00%ff",
        "&" * 9999, "a=1&" * 2000, f"token=x&token={TOKEN}", "token=\xff",
    ],
)  # fmt: skip
def test_a_wrong_token_lets_nobody_in(stranger: TestClient, query: str) -> None:
    answer = stranger.get(f"/?{query}")
    assert answer.status_code == 403 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1", HOME + "/"],
)
@pytest.mark.parametrize(("method", "path"), [r for r in REQUESTS if r[0] in ("POST", "PUT")])
def test_another_page_changes_nothing(
    sealed: tuple[TestClient, Studio], method: str, path: str, origin: str
) -> None:
    stranger, studio = sealed
    before, headers = studio.describe(), {**OURS, "Origin": origin}
    answer = stranger.request(method, path, headers=headers, json={"seed": 1, "ids": []})
    assert answer.status_code == 403 and studio.describe() == before


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
def test_our_own_page_does(page: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert page.post("/keyframes/seeds", headers=headers, json={"seed": 1}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_what_a_form_can_send_is_no_wish(page: TestClient, kind: str) -> None:
    """A form of another page needs no leave to send these."""
    for method, path in (("POST", "/keyframes/seeds"), ("PUT", "/film"), ("PUT", "/keyframes")):
        answer = page.request(method, path, headers={"Content-Type": kind}, content=b'{"seed": 1}')
        assert answer.status_code == 415
    assert page.get("/state").json()["keyframes"] == []


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_every_answer_forbids_what_a_page_could_be_made_to_do(
    page: TestClient, method: str, path: str
) -> None:
    for answer in (
        page.request(method, path),
        page.request(method, path, headers={"Authorization": "Bearer wrong"}),
    ):
        said = answer.headers
        policy = said["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert said["x-content-type-options"] == "nosniff"
        assert said["referrer-policy"] == "no-referrer" and said["cache-control"]
        assert not [name for name in said if name.startswith("access-control")]


# ---- what is asked for ----


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/.",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/../../etc/passwd", "/etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd", "/file=/etc/passwd", "/kept/../../etc/passwd",
        "/kept/%2fetc%2fpasswd", "/kept/..%5c..%5cx", "/keyframes/..%2f..%2fetc%2fpasswd.png",
        "/films/x/frames/-1.png", "/films/x/../0.png", "/films/x/frames/99999999999999999999.png",
        "/seeds/99999999999999999999999.png", "/maps/x/0.png", "/state/", "/docs", "/openapi.json",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(page: TestClient, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert page.request(method, path).status_code == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert page.request(method, path, json={}).status_code in (404, 405)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/keyframes/seeds", {}),
        ("POST", "/keyframes/seeds", {"seed": "7"}),
        ("POST", "/keyframes/seeds", {"seed": True}),
        ("POST", "/keyframes/seeds", {"seed": -1}),
        ("POST", "/keyframes/seeds", {"seed": 2**63}),
        ("POST", "/keyframes/seeds", [1]),
        ("POST", "/keyframes/seeds", "seed:1"),
        ("PUT", "/keyframes", {"ids": ["/etc/passwd"]}),
        ("PUT", "/keyframes", {"ids": [1]}),
        ("PUT", "/keyframes", {"ids": "x"}),
        ("PUT", "/film", {"frames": 10**9}),
        ("PUT", "/film", {"frames": 1e400}),
        ("PUT", "/film", {"blend": "../../x"}),
        ("POST", "/map", {"down": 0.5, "across": 0.5}),
        ("POST", "/map", {"down": "0", "across": 0}),
        ("POST", "/map", {"down": float("nan"), "across": 0}),
        ("POST", "/map", {"down": float("inf"), "across": 0}),
        ("POST", "/map", {"down": 10**400, "across": 0}),
        ("POST", "/seeds", {"first": 2**63 - 2}),
        ("POST", "/seeds", {"first": 0.5}),
        ("POST", "/kept", {"format": "/etc/passwd"}),
        ("POST", "/kept", {"format": ["mp4"]}),
        ("POST", "/kept", {"format": "point"}),
        ("POST", "/kept", {"format": "point", "down": 2, "across": 0}),
        ("POST", "/kept", {}),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    page: TestClient, method: str, path: str, said: Any
) -> None:
    data = json.dumps(said).encode()
    answer = page.request(method, path, content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error and "\n" not in error and "Traceback" not in error


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 50_000, b"null", b"NaN", b'{"fps": 24, "fps": 25}'],
)
def test_what_is_no_json_is_said_to_be_none(page: TestClient, data: bytes) -> None:
    answer = page.put("/film", content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "JSON" in answer.json()["error"]


def test_a_wish_is_not_as_long_as_a_book(page: TestClient) -> None:
    data = b'{"blend": "' + b"x" * 2**17 + b'"}'
    answer = page.put("/film", content=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_a_picture_becomes_a_keyframe_under_its_name(page: TestClient, folder: Path) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    headers = {"X-File-Name": quote(f"/home/mia/{name}"), "Content-Type": "text/html"}
    state = page.post("/keyframes/pictures", content=png(), headers=headers)
    assert state.status_code == 200
    (card,) = state.json()["keyframes"]
    # No folder of its owner's, not even one that markup makes.
    assert card["name"] == name and "mia" not in state.text
    assert rest(page)["keyframes"][0]["verdict"]
    picture = page.get(f"/keyframes/{card['id']}.png")
    assert picture.headers["content-type"] == "image/png"
    with Image.open(BytesIO(picture.content)) as image:
        assert image.size == (8, 8) and image.getpixel((0, 0)) == (90, 90, 90)
    assert list(folder.iterdir()) == []


def test_a_name_that_is_no_text_is_spelled_by_its_bytes(
    page: TestClient, studio: Studio, tmp_path: Path
) -> None:
    named = os.fsencode(tmp_path) + b"/caf\xe9's.png"
    try:
        Path(os.fsdecode(named)).write_bytes(png())
    except OSError:
        pytest.skip("this file system has no such names")
    studio.add(os.fsdecode(named), "seed:1")
    command = page.get("/state").json()["command"]
    words = ["bash", "-c", command.replace("ddim-interp", "printf '%s\\0'", 1)]
    assert subprocess.run(words, capture_output=True, check=True).stdout.split(b"\0")[1] == named


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "No picture came"),
        (b"<svg onload=alert(1)>", "holds text"),
        (b"%PDF-1.7\n\x00\x01", "not a picture"),
        (png()[:45], "damaged"),
    ],
)
def test_what_is_no_picture_is_refused_and_gone(
    page: TestClient, folder: Path, data: bytes, word: str
) -> None:
    answer = page.post("/keyframes/pictures", content=data, headers={"X-File-Name": "a.png"})
    assert answer.status_code == 400 and word in answer.json()["error"]
    assert str(folder) not in answer.text and list(folder.iterdir()) == []
    assert page.get("/state").json()["keyframes"] == []


def test_a_disk_that_is_full_is_said_to_be(page: TestClient, folder: Path) -> None:
    folder.rmdir()  # a folder that takes nothing
    answer = page.post("/keyframes/pictures", content=png())
    assert answer.status_code == 500 and "took no more" in answer.json()["error"]


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_that_is_too_large_is_not_read_to_its_end(
    page: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    monkeypatch.setattr(application, "MOST_UPLOAD", 1000)
    sent = []

    def parts() -> Iterator[bytes]:
        for _ in range(50):
            sent.append(1)
            yield bytes(100)

    content = bytes(1001) if declared else parts()
    answer = page.post("/keyframes/pictures", content=content)
    assert answer.status_code == 413 and list(folder.iterdir()) == []


@pytest.mark.parametrize("length", ["x", "-1", "٣", "1e3", "99999999999999999999999"])
def test_a_length_that_is_none_is_too_large(page: TestClient, length: str) -> None:
    headers = {"Content-Length": length.encode()}
    assert page.post("/keyframes/pictures", content=b"", headers=headers).status_code == 413


def test_a_film_is_looked_at_and_taken_home(page: TestClient) -> None:
    assert page.put("/film", json={"frames": 6, "fps": 12}).status_code == 200
    for seed in (1, 2):
        assert page.post("/keyframes/seeds", json={"seed": seed}).status_code == 200
    film = rest(page)["film"]
    assert film["ready"] == film["count"] == 6
    looked = page.get(f"/films/{film['id']}/frames/5.png")
    assert looked.status_code == 200 and "immutable" in looked.headers["cache-control"]
    for wrong in ("frames/6", "spool/0", "frames/0x1"):
        assert page.get(f"/films/{film['id']}/{wrong}.png").status_code == 404
    kept = page.post("/kept", json={"format": "webp"}).json()
    taken = page.get(f"/kept/{kept['id']}")
    assert taken.headers["content-disposition"] == 'attachment; filename="morph.webp"'
    with Image.open(BytesIO(taken.content)) as image:
        assert image.n_frames == 6


def test_a_point_of_the_map_is_a_picture(page: TestClient) -> None:
    for seed in range(4):
        page.post("/keyframes/seeds", json={"seed": seed})
    rest(page)
    for fine in (False, True):
        answer = page.post("/map", json={"down": 1, "across": 0.25, "fine": fine})
        assert answer.headers["content-type"] == "image/png"
    kept = page.post("/kept", json={"format": "point", "down": 1, "across": 0.25}).json()
    assert page.get(f"/kept/{kept['id']}").content.startswith(b"\x89PNG")
    survey = page.post("/map/survey", json={}).json()["map"]
    assert rest(page)["map"]["ready"] == 25
    assert page.get(f"/maps/{survey['id']}/24.png").status_code == 200


def test_seeds_are_offered(page: TestClient) -> None:
    assert page.post("/seeds", json={"first": 3}).status_code == 200
    rest(page)
    assert page.get("/seeds/3.png").status_code == 200
    assert page.get("/seeds/2.png").status_code == 404


class Stuck:
    """The worker, kept from all that is not more urgent than opening a picture."""

    def __init__(self, studio: Studio) -> None:
        self._end, begun = threading.Event(), threading.Event()
        studio._worker.ask("open", lambda: (begun.set(), self._end.wait(60)))
        assert begun.wait(60)

    def let_go(self) -> None:
        self._end.set()


def behind(ask: Callable[[], Any], many: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=ask) for _ in range(many)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize(("path", "most"), [("/keyframes/pictures", 4), ("/kept", 3)])
def test_too_many_at_once_are_told_to_come_again(
    page: TestClient, studio: Studio, path: str, most: int
) -> None:
    page.put("/film", json={"frames": 2})
    for seed in (1, 2):
        page.post("/keyframes/seeds", json={"seed": seed})
    rest(page)
    stuck, codes = Stuck(studio), []
    sent = {"json": {"format": "gif"}} if path == "/kept" else {"content": png()}
    threads = behind(lambda: codes.append(page.post(path, **sent).status_code), most + 2)
    deadline = time.monotonic() + 60
    while len(codes) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert codes == [429] * 2
    stuck.let_go()
    for thread in threads:
        thread.join()
    assert codes == [429] * 2 + [200] * most


def test_a_newer_point_of_the_map_takes_the_place_of_the_one_before(
    page: TestClient, studio: Studio
) -> None:
    for seed in range(3):
        page.post("/keyframes/seeds", json={"seed": seed})
    rest(page)
    stuck, codes = Stuck(studio), []

    def look() -> None:
        codes.append(page.post("/map", json={"down": 0.5, "across": 0.5}).status_code)

    threads = behind(look, 6)
    deadline = time.monotonic() + 60
    while len(codes) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    stuck.let_go()
    for thread in threads:
        thread.join()
    assert codes == [409] * 5 + [200]


def test_what_nobody_meant_is_one_line_and_the_next_request_works(
    studio: Studio, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(studio, folder, port=PORT, token=TOKEN)
    with TestClient(app, base_url=HOME, raise_server_exceptions=False, headers=OURS) as page:
        for error, word in (
            (KeyError("x\ny"), "should not happen: KeyError"),
            (RuntimeError("CUDA out of memory. Tried to allocate"), "Memory ran out"),
        ):

            def broken(number: int, error: Exception = error) -> None:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(studio, "offer", broken)
                answer = page.post("/seeds", json={"first": 1})
            assert answer.status_code == 500 and "content-security-policy" in answer.headers
            said = answer.json()["error"]
            assert word in said and "\n" not in said
        assert page.post("/seeds", json={"first": 1}).status_code == 200


# ---- the page ----


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script_in_its_text(
    page: TestClient,
) -> None:
    text = page.get("/").text
    assert "&lt;b&gt;grey&lt;/b&gt;" in text, "a model's name is text"
    links = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert links and all(link.startswith("/static/") for link in links)
    for link in links:
        found = page.get(link)
        assert found.status_code == 200 and "http:" not in found.text.replace(
            "http://www.w3.org", ""
        )
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"\s(?:on\w+|style)=", text) == []


def test_the_script_writes_names_as_text_only(page: TestClient) -> None:
    script = page.get("/static/explore.js").text
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert way not in script


def test_every_control_has_a_name(page: TestClient) -> None:
    text = page.get("/").text
    labelled = set(re.findall(r'<label[^>]*\bfor="(\w[\w-]*)"', text))
    inside = "".join(re.findall(r"<label.*?</label>", text, re.DOTALL))
    for tag in re.findall(r"<(?:input|select)\b[^>]*>", text):
        name = re.search(r'\bid="([\w-]+)"', tag)
        assert "aria-label" in tag or tag in inside or (name and name[1] in labelled), tag
    assert '<html lang="en">' in text and "<title>" in text
    script = page.get("/static/explore.js").text
    for name in re.findall(r'\$\("([\w-]+)"\)', script):
        assert f'id="{name}"' in text, name


def test_a_connection_on_which_nobody_asks_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Impatient, "patience", 0.1)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def talk() -> list[bytes]:
        config = uvicorn.Config(slow, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: Impatient(config=config, server_state=state, app_state={}), HOST, 0
        )
        heard = []
        for said in (b"", b"GET / HTTP/1.1\r\nHost", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(said)
            heard.append(await asyncio.wait_for(reader.read(), 4))
            writer.close()
        server.close()
        return heard

    silent, half, whole = asyncio.run(talk())
    assert (silent, half) == (b"", b"") and whole.startswith(b"HTTP/1.1 204")
