"""Measure round trips; write the tables of docs/fidelity.md, and the README's.

    python docs/write_fidelity.py            # all
    python docs/write_fidelity.py repairs    # only these; the names are those of the marks

What the pages say about the figures is not renewed: read it again afterwards.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from marks import renew, table
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
PAGE, README = Path(__file__).with_name("fidelity.md"), ROOT / "README.md"
IMAGES = sorted(str(path) for path in (ROOT / "examples" / "images").glob("*.png"))
APPLE = IMAGES[0]


def check(*arguments: str) -> dict:
    """What `ddim-interp check --json` says; `--seeds 0` unless told otherwise."""
    print("check", *arguments, file=sys.stderr)
    command = [sys.executable, "-m", "ddim_interp", "check", "--json", "--seeds", "0", *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def psnr(row: dict) -> str:
    """Decibels; equal pictures have no number."""
    return "exact" if row["psnr"] is None else f"{row['psnr']:.1f}"


def there_and_back() -> None:
    """S steps up and S steps down, on both pages."""
    told = check(*IMAGES, "--steps", "10,20,50,100")
    rows = told["table"]
    own = table(
        "| S | method | evaluations | error | PSNR, dB | worst level | \\|z\\|²/d "
        "| patch correlation | latent error |",
        [
            f"| {r['steps']} | `{r['method']}` | {r['nfe']:.0f} | {r['mse']:.1e} | {psnr(r)} "
            f"| {r['max_level']} | {r['latent_power']:.3f} | {r['patch_correlation']:.3f} "
            f"| {r['latent_mse']:.1e} |"
            for r in rows
        ],
    )
    short = table(
        "| S | method | evaluations, both ways | MSE, pixels in [0, 1] "
        "| largest 8-bit difference | \\|z\\|²/d |",
        [
            f"| {r['steps']} | {'naive DDIM' if r['method'] == 'ddim-naive' else '**auto**'} "
            f"| {r['nfe']:.0f} | {r['mse']:.1e} | {r['max_level']} | {r['latent_power']:.2f} |"
            for r in rows
        ],
    )
    doubled = ", ".join(f"{each['steps']}: {psnr(each)} dB" for each in told["doubling"])
    still = psnr(told["self_interpolation"])
    renew(
        PAGE,
        there_and_back=own,
        consistency=table(
            "| S = 100: the worst of three pictures between a latent and the inversion of its own "
            "picture | S and 2 S steps from one latent |",
            [f"| {still} dB | S = {doubled} |"],
        ),
    )
    renew(README, there_and_back=short)


def all_methods() -> None:
    """Every solver there is, in the steps of the default."""
    renew(
        PAGE,
        all_methods=table(
            "| method | evaluations | error | PSNR, dB | \\|z\\|²/d | patch correlation "
            "| latent error |",
            [
                f"| `{r['method']}` | {r['nfe']:.0f} | {r['mse']:.1e} | {psnr(r)} "
                f"| {r['latent_power']:.3f} | {r['patch_correlation']:.3f} "
                f"| {r['latent_mse']:.1e} |"
                for r in check(*IMAGES, "--steps", "20", "--method", "all")["table"]
            ],
        ),
    )


def frames() -> None:
    """What `examples/measure_frames.py` says."""
    print("frames", file=sys.stderr)
    command = [sys.executable, str(ROOT / "examples" / "measure_frames.py"), *IMAGES]
    plans, reuse, together = (
        subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=True).stdout
        for more in ([], ["--reuse"], ["--together"])
    )
    renew(PAGE, frames=plans.strip(), reuse=reuse.strip(), together=together.strip())


def another_network() -> None:
    """The small network of the tests."""
    methods = ("ddim-naive", "dpmpp-2m", "leapfrog", "ddim", "auto")
    told = check(
        *IMAGES,
        *("--model", str(ROOT / "tests" / "assets" / "sprout32"), "--steps", "10,20,50"),
        *("--seeds", "0,1"),
        *(word for method in methods for word in ("--method", method)),
    )
    renew(
        PAGE,
        another_network=table(
            "| S | method | evaluations | error | PSNR, dB | \\|z\\|²/d | latent error |",
            [
                f"| {r['steps']} | `{r['method']}` | {r['nfe']:.0f} | {r['mse']:.1e} | {psnr(r)} "
                f"| {r['latent_power']:.3f} | {r['latent_mse']:.1e} |"
                for r in told["table"]
            ],
        ),
    )


def precisions() -> None:
    """The network in fewer bits."""
    rows = []
    for dtype in ("fp32", "fp16", "bf16"):
        methods = ("--method", "ddim-naive", "--method", "leapfrog")
        for r in check(*IMAGES, "--steps", "20", *methods, "--dtype", dtype)["table"]:
            rows.append(
                f"| {dtype} | `{r['method']}` | {r['nfe']:.0f} | {r['mse']:.1e} "
                f"| {r['max_level']} |"
            )
    renew(
        PAGE,
        precisions=table("| `--dtype` | method | evaluations | error | worst level |", rows),
    )


def latents() -> None:
    """Of each picture, what its latent is like."""
    told = check(*IMAGES, "--steps", "50", "--method", "ddim")
    renew(
        PAGE,
        latents=table(
            "| picture | grade | \\|z\\|²/d | patch correlation, × noise | excess kurtosis "
            "| neighbours |",
            [
                f"| {Path(p['source']).stem} | {p['grade']} | {p['latent_power']:.2f} "
                f"| {p['whiteness']:.1f} | {p['kurtosis']:.1f} "
                f"| {p['neighbour_correlation']:.3f} |"
                for p in told["pictures"]
            ],
        ),
    )


def dither() -> None:
    """What pictures are taken for, without the noise of t = 0 and with it."""
    rows = []
    for option in ("--no-dither", "--dither"):
        told = check(*IMAGES, "--steps", "20", "--method", "auto", option)
        (r,) = told["table"]
        pictures = told["pictures"]
        white = sum(p["whiteness"] for p in pictures) / len(pictures)
        grades = [p["grade"] for p in pictures]
        said = ", ".join(f"{grades.count(g)} {g}" for g in dict.fromkeys(sorted(grades)))
        rows.append(
            f"| `{option}` | {r['nfe']:.0f} | {r['mse']:.1e} | {r['max_level']} "
            f"| {r['latent_power']:.3f} | {white:.1f} | {said} |"
        )
    renew(
        PAGE,
        dither=table(
            "| | evaluations | error | worst level | \\|z\\|²/d | patch correlation, × noise "
            "| grades |",
            rows,
        ),
    )


def strangers() -> None:
    """Pictures that the model knows nothing like."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, picture in strange_pictures().items():
            files.append(str(Path(folder) / f"{name}.png"))
            picture.save(files[-1])
        told = check(*files, "--steps", "20", "--method", "auto")
    renew(
        PAGE,
        strangers=table(
            "| picture | grade | \\|z\\|²/d | patch correlation, × noise | worst level |",
            [
                f"| {Path(p['source']).stem} | {p['grade']} | {p['latent_power']:.2f} "
                f"| {p['whiteness']:.1f} | {p['roundtrip_max_level']} |"
                for p in told["pictures"]
            ],
        ),
    )


def strange_pictures() -> dict[str, Image.Image]:
    """Plain, patterned, random and written, 64×64."""
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    static = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    window = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(window)
    draw.rectangle((0, 0, 63, 9), fill=(40, 60, 120))
    for line in range(5):
        draw.text((3, 11 + 10 * line), "a line of text"[line:], fill="black")
    return {
        "black": Image.new("RGB", (64, 64), "black"),
        "white": Image.new("RGB", (64, 64), "white"),
        "checkerboard of single pixels": Image.fromarray(checks.astype(np.uint8)).convert("RGB"),
        "static": Image.fromarray(static.astype(np.uint8)),
        "a window with lines of text": window,
    }


def repairs() -> None:
    """What it costs to make the apple's latent more like noise."""
    told = check(APPLE, "--steps", "10", "--method", "ddim", "--repairs")
    renew(
        PAGE,
        repairs=table(
            "| repair | \\|z\\|²/d | patch correlation, × noise | error |",
            [
                f"| {r['name']} | {r['latent_power']:.3f} | {r['whiteness']:.1f} | {r['mse']:.1e} |"
                for r in told["repairs"]
            ],
        ),
    )


PARTS: dict[str, Callable[[], None]] = {
    part.__name__: part
    for part in (
        there_and_back,
        all_methods,
        frames,
        another_network,
        precisions,
        latents,
        dither,
        strangers,
        repairs,
    )
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
