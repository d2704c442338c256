"""Take the picture of the page that `ddim-interp explore` serves, with a browser of yours.

    python docs/write_explore.py chromium --no-sandbox

What stands in the page is drawn by the model in the package, from the pictures in `examples/`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "images" / "explore.jpg"
KEYFRAMES = [f"examples/images/{name}.png" for name in ("apple", "pear", "plum", "orange")]
_SIZE = 1240, 900  # of the window, in pixels


def wait_for_the_film(address: str) -> None:
    """Wait until all frames are drawn."""
    parts = urlsplit(address)
    token = parse_qs(parts.query)["token"][0]
    state = Request(f"http://{parts.netloc}/state", headers={"Authorization": f"Bearer {token}"})
    while True:
        film = json.load(urlopen(state))["film"]
        if film and film["ready"] == film["count"]:
            return
        time.sleep(0.5)


def photograph(address: str, browser: list[str], to: Path) -> None:
    """What a browser shows at an address."""
    width, height = _SIZE
    with TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        options = [
            "--headless",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}",
            f"--screenshot={shot}",
            "--virtual-time-budget=4000",
        ]
        subprocess.run([*browser, *options, address], check=True, capture_output=True)
        Image.open(shot).convert("RGB").save(to, quality=85, optimize=True)


def main() -> None:
    """Serve, wait, photograph."""
    command = [sys.executable, "-m", "ddim_interp", "explore", *KEYFRAMES, "--no-browser"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            wait_for_the_film(address)
            photograph(address, sys.argv[1:] or ["chromium"], PAGE)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
