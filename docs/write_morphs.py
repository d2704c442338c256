"""Measure films between held-out paintings, and write the tables of docs/morphs.md. Half an hour.

    python docs/write_morphs.py FRUIT

FRUIT is what `examples/prepare_fruit.py` wrote; other options are those of
`examples/measure_morphs.py`. What the page says about the figures is not renewed: read it again.
"""

import json
import subprocess
import sys
from pathlib import Path

from marks import renew, table

PAGE = Path(__file__).with_name("morphs.md")
PROGRAM = Path(__file__).parents[1] / "examples" / "measure_morphs.py"

WAYS = {
    "own samples": "the model's own samples",
    "the pictures themselves": "the pairs' own pictures",
    "slerp": "**slerp, full depth** (the default)",
    "slerp, dpmpp-2m": "the same, by `--solver dpmpp-2m`",
    "slerp, ddim": "the same, by `--solver ddim`",
    "lol": "`--blend lol`",
    "adain": "`--blend adain`",
    "lerp": "`--blend lerp`",
    "slerp, no dither": "`--no-dither`",
    "slerp, forward-2": "`--repair forward-2`",
    "slerp, forward-4": "`--repair forward-4`",
    "slerp, renormalise": "`--repair renormalise`",
    "slerp, channels": "`--repair channels`",
    "slerp, depth 0.8": "`--depth 0.8`",
    "slerp, depth 0.6": "`--depth 0.6`",
    "NoiseDiffusion's mix, ddim": "NoiseDiffusion's mix, 20 steps of `--solver ddim`",
    "cross-fade": "cross-fade of the pixels",
}
"""What `measure_morphs.py` calls a way, and what the page does."""


def measure(what: str, options: list[str]) -> dict:
    """One document of `measure_morphs.py`."""
    print(what, file=sys.stderr)
    command = [sys.executable, str(PROGRAM), what, *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def pace(told: dict) -> tuple[str, str]:
    """How even films are; and which metric foretells what the yardsticks see."""
    films = [told[name] for name in ("uniform", "perceptual")]

    def row(title: str, key: str, digits: int) -> str:
        cells = [
            f"{film[key]['median']:.{digits}f} ({film[key]['highest']:.{digits}f})"
            for film in films
        ]
        return f"| {title}: median (worst) | {' | '.join(cells)} |"

    even = [
        row("PDV, variance of the steps over their mean squared", "pdv", 4),
        row("largest step over mean step", "largest_over_mean", 2),
        *(
            f"| PDV as *{name}* sees it: median | "
            + " | ".join(f"{film['yardsticks'][name]['median']:.3f}" for film in films)
            + " |"
            for name in films[0]["yardsticks"]
        ),
        row("evaluations of the network for the frames", "evaluations", 0),
        "| pairs of whose film both ends are the pictures, to the bit | "
        + " | ".join(f"{film['ends']} of {told['films']}" for film in films)
        + " |",
    ]
    agreement = told["agreement"]
    metrics = [
        f"| {title} | {agreement[f'{name} on judge']:.2f} "
        f"| {agreement[f'{name} on structure']:.2f} |"
        for name, title in (
            ("lab", "blurred Lab, `--metric lab`"),
            ("mid-block", "the model's mid-block features, at σ̄ = 0.2"),
        )
    ]
    return (
        table("| | uniform | perceptual |", even),
        table("| metric | judge | structure |", metrics),
    )


def middles(told: dict) -> str:
    """Every way, and what its middles are like."""
    rows = [
        f"| {title} | {r['realism']:.2f} | {r['frechet']:.2f} | {relative:.2f} |"
        for name, title in WAYS.items()
        for r in [told["middles"][name]]
        for relative in [r["detail"] / told["middles"]["the pictures themselves"]["detail"]]
    ]
    return table("| way | realism | Fréchet | detail |", rows)


if __name__ == "__main__":
    films = measure("pace", sys.argv[1:])
    even, metrics = pace(films)
    ways = middles(measure("middles", sys.argv[1:]))
    plan = films["plan"]
    settings = (
        f"{films['films']} pairs; {plan['steps']} steps of `{plan['solver']}`; "
        f"{plan['frames']} frames a film."
    )
    renew(PAGE, settings=settings, pace=even, metrics=metrics, middles=ways)
