"""Cut the USDA Pomological Watercolors into squares for `train_unet.py`.

    python examples/prepare_fruit.py images.tar labels.csv -o FRUIT

writes FRUIT/train/GENUS/image-N.png and FRUIT/val/GENUS/image-N.png, 72×72 pixels: the painted
fruit in the middle of its paper. 72 leaves `train_unet.py` room to shift and scale at 64. One
picture in twenty, chosen by its name alone, is held out in val.

The thumbnails were gathered in github.com/jwilber/USDA_Pomological_Watercolors; `labels.csv` has
the columns file and fruit. Use of the collection is not restricted, attribution is required: "U.S.
Department of Agriculture Pomological Watercolor Collection. Rare and Special Collections, National
Agricultural Library, Beltsville, MD 20705".
"""

import argparse
import csv
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def page(pixels: NDArray[np.float32]) -> tuple[slice, slice] | None:
    """Rows and columns of the sheet inside the scan's black frame, if there is a sheet."""
    grey = pixels.mean(2)
    rows = np.flatnonzero(np.median(grey, 1) > 90)
    columns = np.flatnonzero(np.median(grey, 0) > 90)
    if len(rows) < 40 or len(columns) < 40:
        return None
    return slice(rows[0] + 2, rows[-1] - 1), slice(columns[0] + 2, columns[-1] - 1)


def paint(sheet: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """How much each pixel is painted: far from the paper's colour, and not by a shadow or pencil.

    None for dark mounts, landscape sheets and sheets with next to nothing on them.
    """
    paper = np.median(sheet.reshape(-1, 3), 0)
    if paper.min() < 110 or sheet.shape[0] < 0.9 * sheet.shape[1]:
        return None
    away = np.abs(sheet - paper).sum(2)
    chroma = np.abs(np.ptp(sheet, 2) - np.ptp(paper))
    amount = np.clip(away - 60, 0, None) * (chroma > 18)
    amount[:4] = amount[-4:] = 0
    amount[:, :4] = amount[:, -4:] = 0
    return amount if amount.sum() >= 2000 else None


def extent(profile: NDArray[np.float32]) -> tuple[int, int]:
    """Between which indices 99 % of the paint lies."""
    share = np.cumsum(profile) / profile.sum()
    return int(np.searchsorted(share, 0.005)), int(np.searchsorted(share, 0.995))


def crop(image: Image.Image, size: int) -> Image.Image | None:
    """The square around the painted fruit, as wide as the sheet at most; None if there is none."""
    pixels = np.asarray(image, np.float32)
    inside = page(pixels)
    if inside is None:
        return None
    sheet = pixels[inside]
    amount = paint(sheet)
    if amount is None:
        return None
    height, width = amount.shape
    (y0, y1), (x0, x1) = extent(amount.sum(1)), extent(amount.sum(0))
    side = int(np.clip(1.18 * max(y1 - y0, x1 - x0), 0.6 * width, width))
    y = round(min(max((y0 + y1 - side) / 2, 0), max(height - side, 0)))
    x = round(min(max((x0 + x1 - side) / 2, 0), width - side))
    left, top = inside[1].start + x, inside[0].start + y
    box = (left, top, left + side, top + side)
    return image.crop(box).resize((size, size), Image.Resampling.LANCZOS)


def is_fruit(square: Image.Image) -> bool:
    """Whether a square shows fruit in colour on paper, by two crude rules.

    Ink drawings, twigs and seeds have neither colour on 2 % of the square nor, as avocados do, dark
    paint on 15 %. Photographed mounts show as grey at more than a quarter of the left or right rim.
    """
    pixels = np.asarray(square, np.float32)
    coloured = (np.ptp(pixels, 2) > 60).mean()
    dark = (pixels.mean(2) < 110).mean()
    rim = pixels[:, [0, 1, 2, -3, -2, -1]]
    mount = ((rim.max(2) < 215) & (np.ptp(rim, 2) < 28)).mean()
    return bool((coloured >= 0.02 or dark >= 0.15) and mount <= 0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="tar of the thumbnails")
    parser.add_argument("labels", type=Path, help="csv with the columns file and fruit")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=72, help="side of a square, in pixels")
    options = parser.parse_args()

    with options.labels.open(newline="", encoding="utf-8") as file:
        genus = {row["file"]: row["fruit"].split(":")[0].split()[0] for row in csv.DictReader(file)}
    kept = dropped = 0
    with tarfile.open(options.images) as tar:
        for member in tar:
            name = Path(member.name).name
            data = tar.extractfile(member) if name in genus else None
            if data is None:
                continue
            square = crop(Image.open(data).convert("RGB"), options.size)
            if square is None or not is_fruit(square):
                dropped += 1
                continue
            split = "val" if zlib.crc32(name.encode()) % 20 == 0 else "train"
            folder = options.output / split / genus[name]
            folder.mkdir(parents=True, exist_ok=True)
            square.save((folder / name).with_suffix(".png"))
            kept += 1
    print(
        f"{kept} squares in {options.output}; {dropped} sheets without fruit left out.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
