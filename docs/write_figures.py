"""Take the figures of the how-to pages out of the notebooks that draw them; a test compares.

python docs/write_figures.py
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent / "images"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

# For each figure, its notebook and what the cell that draws it says.
FIGURES = {
    "eta.jpg": ("01-sampling-and-eta", "plan=single"),
    "inversion-usual.jpg": ("02-inversion", "naive = pipe.invert"),
    "inversion-exact.jpg": ("02-inversion", "exact = pipe.invert"),
    "norms.png": ("03-interpolation", "plots.norms"),
    "blends.jpg": ("03-interpolation", "for path in paths.values()"),
    "corners.jpg": ("03-interpolation", "sheet = Sheet"),
    "pace.png": ("03-interpolation", "plots.pace"),
}


def figures() -> Iterator[tuple[str, bytes]]:
    """Each figure's name and bytes."""
    for name, (notebook, words) in FIGURES.items():
        cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
        (cell,) = (c for c in cells if c["cell_type"] == "code" and words in "".join(c["source"]))
        kind = "image/jpeg" if name.endswith(".jpg") else "image/png"
        (data,) = (output["data"][kind] for output in cell["outputs"] if "data" in output)
        yield name, b64decode("".join(data))


if __name__ == "__main__":
    for name, data in figures():
        (FOLDER / name).write_bytes(data)
