"""Run the commands of the README and the model card as printed; what they make is their pictures.

    python docs/write_showcase.py

Each picture holds the hash of the weights that drew it; a test says when they are no longer ours.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from hashlib import sha256
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from ddim_interp.hub import EMBEDDED

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
WEIGHTS = EMBEDDED / "unet" / "diffusion_pytorch_model.safetensors"

KEPT = {
    "loop.webp": IMAGES,
    "strip.png": IMAGES,
    "sheet.png": IMAGES,
    "grid.png": IMAGES,
    "samples.png": EMBEDDED,
}
"""Of the files that the commands write, those that become pictures, and where they are kept."""

SHOWN = ("invert", "check", "info")
"""Commands of which the picture is what they print."""

_COLUMNS, _LINES = 96, 56
_CHARACTER, _LINE, _MARGIN = 7.83, 18, 14  # pixels, of a monospaced font of 13


def commands() -> list[str]:
    """The commands of the README's part on use and of the card, in order, without the prompt."""
    use = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Use\n")[1].split("\n## ")[0]
    card = (EMBEDDED / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", use + card, re.DOTALL)
    return re.findall(r"^\$ (ddim-interp .*)$", "\n".join(blocks), re.MULTILINE)


def terminal(command: str, printed: str) -> str:
    """A terminal's text as a drawing, SVG; of long texts the beginning and the end.

    Example:
        >>> "apple.png" in terminal("ddim-interp info morph.mp4", "source: apple.png")
        True
    """
    lines = [
        part
        for line in printed.splitlines()
        for part in textwrap.wrap(
            line, _COLUMNS, subsequent_indent=re.match(" *", line)[0] + "  ", break_on_hyphens=False
        )
    ]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES // 2], "…", *lines[-(_LINES // 2) :]]
    width = round(2 * _MARGIN + _COLUMNS * _CHARACTER)
    height = 2 * _MARGIN + _LINE * (len(lines) + 1)
    spans = [
        f'<tspan x="{_MARGIN}" y="{_MARGIN + 13 + _LINE * i}"{ink}>{escape(line)}</tspan>'
        for i, (ink, line) in enumerate(
            [(' fill="#0550ae"', f"$ {command}"), *(("", line) for line in lines)]
        )
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">',
            f"<desc>weights {sha256(WEIGHTS.read_bytes()).hexdigest()}</desc>",
            '<rect width="100%" height="100%" rx="6" fill="#f6f8fa"/>',
            '<text xml:space="preserve" style="white-space:pre" font-size="13" fill="#1f2328" '
            "font-family=\"ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace\">",
            *spans,
            "</text>",
            "</svg>\n",
        ]
    )


def main() -> None:
    """Run them all in a folder that holds nothing but the examples."""
    program = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        for command in commands():
            print(command)
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                env=os.environ | program,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            verb = command.split()[1]
            if verb in SHOWN:
                (IMAGES / f"{verb}.svg").write_text(terminal(command, done.stdout), "utf-8")
        for name, home in KEPT.items():
            shutil.copy(Path(folder) / name, home / name)


if __name__ == "__main__":
    main()
