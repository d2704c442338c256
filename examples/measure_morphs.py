"""How good are the films between held-out paintings? Measured offline, pair by pair.

    python examples/measure_morphs.py middles FRUIT      which latents and blends give real middles
    python examples/measure_morphs.py pace FRUIT         what an even pace evens out

FRUIT is what `prepare_fruit.py` wrote. Of the pictures in FRUIT/val a few are drawn by a fixed seed
and laid in a ring; each is paired with the next. One JSON document goes to stdout.

middles     For each way to travel, the frame half-way between each pair:
    realism     Mean of `Realism`, on which the model's own samples score 1; `spread` over pairs.
    frechet     Fréchet distance to the pictures of val, in the features of `measure_model.py`'s
                judge, which has learned to tell genera apart: another model, other data, labels.
                `floor` is that of as many real pictures.
    detail      Mean gradient of L*, a pixel.
pace        For each pair a film at uniform pace and one at perceptual pace, as many frames:
    pdv, largest_over_mean      `Speeds` of both films; `ratio` is of the uniform film's pdv to the
                                other's
    evaluations                 of the network, for a film's frames
    ends                        pairs whose first and last frame are the pictures to the bit
    agreement                   how well each metric foretells the steps that two yardsticks of
                                another kind see in the uniform film: correlation, mean over films
    yardsticks                  the pdv that those see in both films
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure_model import frechet, judge_of, load
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from ddim_interp import DDIMPipeline, NoiseSchedule, Plan, draw, open_image
from ddim_interp.denoiser import CountCalls, NetworkDenoiser
from ddim_interp.images import from_frames
from ddim_interp.interpolate import find_blend
from ddim_interp.inversion import Inversion, invert_images, sample_latents
from ddim_interp.keyframes import find_keyframes, join_states
from ddim_interp.model import Model
from ddim_interp.morph import Morph
from ddim_interp.pace import distances, pdv
from ddim_interp.path import KeyframePath
from ddim_interp.perceptual import lab, perceive
from ddim_interp.realism import RATIOS, Realism, denoising_errors
from ddim_interp.repair import repair_inversion
from ddim_interp.solver import AUTO, State
from ddim_interp.speedometer import Speeds
from ddim_interp.style import Style

HALF = torch.tensor([0.5], dtype=torch.float64)


def chosen(folder: Path, count: int) -> list[Path]:
    """Pictures of val, by a fixed seed."""
    files = sorted((folder / "val").rglob("*.png"))
    random.Random(0).shuffle(files)
    return files[:count]


# ---- middles --------------------------------------------------------------------------------


def middles(model: Model, pictures: Tensor, plan: Plan, count: int) -> Iterable[tuple[str, Tensor]]:
    """The frames half-way between neighbours of the ring, for each way to travel."""
    yield "own samples", decode(model, draw(range(count), model.shape), Plan())
    yield "the pictures themselves", pictures
    yield "cross-fade", (pictures + pictures.roll(-1, 0)) / 2
    inversions = [invert_images(model, batch, plan) for batch in pictures.split(16)]
    for blend in ("slerp", "lerp", "lol", "adain"):
        yield blend, half_way(model, inversions, plan, blend)
    for repair in ("renormalise", "channels", "forward-2", "forward-4"):
        mended = [repair_inversion(model, each, repair) for each in inversions]
        yield f"slerp, {repair}", half_way(model, mended, plan, "slerp")
    for depth in (0.8, 0.6):
        shallow = replace(plan, depth=depth)
        partial = [invert_images(model, batch, shallow) for batch in pictures.split(16)]
        yield f"slerp, depth {depth}", half_way(model, partial, shallow, "slerp")
    bare = replace(plan, dither=False)
    clean = [invert_images(model, batch, bare) for batch in pictures.split(16)]
    yield "slerp, no dither", half_way(model, clean, bare, "slerp")
    for solver in ("dpmpp-2m", "ddim"):
        other = Plan(20, solver=solver)
        found = [invert_images(model, batch, other) for batch in pictures.split(16)]
        yield f"slerp, {solver}", half_way(model, found, other, "slerp")
    latents = torch.cat([inversion.latents for inversion in found])
    yield (
        "NoiseDiffusion's mix, ddim",
        decode(model, noise_diffusion(model, latents, pictures), other),
    )


def half_way(model: Model, inversions: list[Inversion], plan: Plan, blend: str) -> Tensor:
    """Middles of neighbours, whatever the solver keeps."""
    ring = join_states([inversion.state for inversion in inversions])
    middles = []
    for i in range(len(ring.x)):
        pair = [i, (i + 1) % len(ring.x)]
        path = KeyframePath(ring.x[pair], find_blend(blend))
        middles.append(ring.moved(lambda kept, pair=pair, path=path: path.carry(kept[pair], HALF)))
    return decode(model, join_states(middles), plan)


def noise_diffusion(model: Model, latents: Tensor, pictures: Tensor) -> Tensor:
    """Zheng et al. (2024), arXiv:2403.08840, half-way, without the optional fresh noise."""
    level = Plan().walk(model.schedule)[0][0]
    share, boosted = 0.5**0.5, 1.2 / 2
    mixed = share * (latents.clamp(-2, 2) + latents.roll(-1, 0).clamp(-2, 2))
    mixed = mixed + (boosted - share) * level.signal * (pictures + pictures.roll(-1, 0))
    return mixed.clamp(-2, 2)


def decode(model: Model, start: State | Tensor, plan: Plan) -> Tensor:
    """Frames as films draw them, sixteen at a time."""
    drafts = replace(model, denoiser=model.for_frames)
    if isinstance(start, Tensor):
        return torch.cat([sample_latents(drafts, z, plan) for z in start.split(16)])
    rows = (slice(i, i + 16) for i in range(0, len(start.x), 16))
    some = (start.moved(lambda kept, part=part: kept[part]) for part in rows)
    return torch.cat([sample_latents(drafts, part, plan) for part in some])


def detail(images: Tensor) -> float:
    """Mean gradient of L*."""
    light = lab(images.clamp(-1, 1))[:, 0]
    return float(light.diff(dim=1).abs().mean() + light.diff(dim=2).abs().mean())


def measure_middles(
    model: Model,
    ways: Iterable[tuple[str, Tensor]],
    features: Callable[[Tensor], Tensor],
    real: Tensor,
) -> dict[str, Any]:
    """The table; the first way's frames are the scale, the second's the pictures."""
    table: dict[str, Any] = {}
    scale = None
    for name, images in ways:
        errors = torch.cat([denoising_errors(model, batch) for batch in images.split(16)])
        scale = scale or Realism(errors.mean(0))
        scores = (errors / scale.reference).mean(1)
        table[name] = {
            "realism": round(float(scores.mean()), 3),
            "spread": round(float(scores.std()), 3),
            "by_level": [round(r, 3) for r in (errors.mean(0) / scale.reference).tolist()],
            "frechet": round(frechet(features(images.clamp(-1, 1)), real), 3),
            "detail": round(detail(images), 2),
        }
    return table


# ---- pace -----------------------------------------------------------------------------------


class Judgement:
    """LPIPS's formula on the judge's layers: features of unit length, without learned weights."""

    def __init__(self, judge: torch.nn.Module) -> None:
        self.judge = judge

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        vectors, x = [], images
        for layer in self.judge.body:
            x = layer(x)
            if isinstance(layer, torch.nn.SiLU):
                vectors.append(normalize(x, dim=1).flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5)
        return torch.cat(vectors, dim=1)


class MidBlock:
    """The network's deepest features of a picture at a low noise level, of unit length."""

    def __init__(self, network: torch.nn.Module, schedule: NoiseSchedule, ratio: float) -> None:
        self.network, self.level = network, schedule.level_at(ratio)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        found: list[Tensor] = []
        hook = self.network.mid_block.register_forward_hook(lambda *call: found.append(call[2]))
        try:
            NetworkDenoiser(self.network)(self.level.signal * images, self.level)
        finally:
            hook.remove()
        return normalize(found[0], dim=1).flatten(1)


def structure(frames: Tensor) -> Tensor:
    """√(1 − SSIM) between neighbours, of L* in windows of 8×8; Wang et al. (2004), (N − 1,)."""
    light = lab(frames)[:, :1] / 100

    def local(x: Tensor) -> Tensor:
        return avg_pool2d(x, 8, 4)

    a, b = light[:-1], light[1:]
    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    ssim = ssim * (2 * covariance + 9e-4) / (var_a + var_b + 9e-4)
    return (1 - ssim.mean((1, 2, 3))).clamp(min=0).sqrt().double()


def measure_pace(
    model: Model,
    files: list[Path],
    plan: Plan,
    frames: int,
    metrics: Mapping[str, Callable[[Tensor], Tensor]],
    yardsticks: Mapping[str, Callable[[Tensor], Tensor]],
) -> dict[str, Any]:
    """Both films of every pair."""
    found = find_keyframes(model, files, plan, 16)
    keyframes = found.each
    films: list[dict[str, Any]] = []
    for i, first in enumerate(keyframes):
        pair = (first, keyframes[(i + 1) % len(keyframes)])
        film: dict[str, Any] = {}
        for pace in ("uniform", "perceptual"):
            morph = Morph(model, replace(found, each=pair), Style(frames=frames, pace=pace))
            counted = CountCalls(model.for_frames)
            shown = list(morph.draw(counted))
            ends = zip((shown[0], shown[-1]), pair, strict=True)
            images = from_frames(np.stack(shown))
            film[pace] = {
                "speeds": Speeds.of(distances(perceive(images))),
                "exact": all(bool((a == b.picture.frame).all()) for a, b in ends),
                "evaluations": counted.nfe,
                "yardsticks": {name: pdv(see(images)) for name, see in yardsticks.items()},
            }
            if pace == "uniform":
                seen = {name: see(images) for name, see in yardsticks.items()}
                film["agreement"] = {
                    f"{name} on {other}": float(
                        torch.stack([distances(metric(images)), steps]).corrcoef()[0, 1]
                    )
                    for name, metric in metrics.items()
                    for other, steps in seen.items()
                }
        films.append(film)
    return summary(films, yardsticks)


def summary(films: list[dict[str, Any]], yardsticks: Iterable[str]) -> dict[str, Any]:
    """Medians and the worst, over films."""

    def of(values: Iterable[float]) -> dict[str, float]:
        x = torch.tensor(list(values)).double()
        return {
            "median": round(float(x.median()), 4),
            "lowest": round(float(x.min()), 4),
            "highest": round(float(x.max()), 4),
        }

    told: dict[str, Any] = {"films": len(films)}
    for pace in ("uniform", "perceptual"):
        told[pace] = {
            "pdv": of(film[pace]["speeds"].pdv for film in films),
            "pdv_mean": round(float(np.mean([f[pace]["speeds"].pdv for f in films])), 5),
            "largest_over_mean": of(film[pace]["speeds"].largest_over_mean for film in films),
            "path_length": of(film[pace]["speeds"].path_length for film in films),
            "ends": sum(film[pace]["exact"] for film in films),
            "evaluations": of(film[pace]["evaluations"] for film in films),
            "yardsticks": {
                name: of(film[pace]["yardsticks"][name] for film in films) for name in yardsticks
            },
        }
    told["ratio"] = of(f["uniform"]["speeds"].pdv / f["perceptual"]["speeds"].pdv for f in films)
    told["agreement"] = {
        name: round(float(np.mean([film["agreement"][name] for film in films])), 3)
        for name in films[0]["agreement"]
    }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("middles", "pace"))
    parser.add_argument("fruit", type=Path)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--solver", default=AUTO[0])
    parser.add_argument("--frames", type=int, default=17, help="of each film")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    pipe = DDIMPipeline.from_pretrained()
    model, plan = pipe.model, Plan(options.steps, solver=options.solver)
    files = chosen(options.fruit, options.pairs)
    judge = judge_of(options.fruit, *load(options.fruit / "train", 72))
    if options.what == "pace":
        told = measure_pace(
            model,
            files,
            plan,
            options.frames,
            {"lab": perceive, "mid-block": MidBlock(pipe.unet, model.schedule, 0.2)},
            {"judge": lambda x: distances(Judgement(judge)(x)), "structure": structure},
        )
    else:
        pictures = torch.stack([open_image(file, 64).pixels for file in files])
        val, _ = load(options.fruit / "val")
        real = judge.features(val)
        ways = middles(model, pictures, plan, options.pairs)
        told = {
            "noise_ratios": RATIOS,
            "middles": measure_middles(model, ways, judge.features, real),
        }
    told["plan"] = {**plan.describe(), "frames": options.frames}
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
