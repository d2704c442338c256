"""How good is a model of fruit? Measured against pictures it was not trained on, offline.

    python examples/measure_model.py MODEL FRUIT [--samples-to SHEET.png]

FRUIT is what `prepare_fruit.py` wrote: train/GENUS/*.png and val/GENUS/*.png; any pictures laid out
like that will do. One JSON document goes to stdout:

v_mse       Mean squared error of v = √ᾱ ε − √(1−ᾱ) x_0 on the pictures of val, at eight timesteps,
            with the same noise for every model. Says how well each noise level was learned.
frechet     |μ − μ'|² + tr(Σ + Σ' − 2 (Σ Σ')^½) between the features of samples and of val, divided
            by tr Σ' of val: 0 is a perfect likeness, 1 about what one single colour scores. The
            features are the last hidden layer of a small network taught to tell the genera of train
            apart. It is trained from a fixed seed when FRUIT/judge.safetensors is not there, and
            kept there: figures compare with one another under the same judge only, and with no
            published FID. `floor` is the score of real pictures, drawn from train.
nearest     Distance of each sample to the nearest picture of train, mirrored ones included: rms
            over 16×16 pixels, in [-1, 1]. A model that only remembers has samples far nearer to
            train than the pictures of val are.

Samples are of seeds 0, 1, 2, …, 20 steps of DDIM at even log σ̄.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy
from train_unet import central_square, picture_files, random_views, tiled

from ddim_interp.checkpoint import read_checkpoint
from ddim_interp.denoiser import Denoiser, NetworkDenoiser, add_noise
from ddim_interp.grid import make_grid
from ddim_interp.latents import draw
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.tensors import read_tensors, write_tensors
from ddim_interp.trajectory import last, sample

TIMESTEPS = (20, 100, 200, 350, 500, 650, 800, 950)
SIZE = 64
FEATURES = 32


def load(folder: Path, side: int = SIZE) -> tuple[Tensor, list[str]]:
    """Pictures in [−1, 1], (N, 3, side, side), and the names of their subfolders."""
    squares, genera = [], []
    for name, data in picture_files(folder):
        with Image.open(data) as image:
            squares.append(central_square(image.convert("RGB"), side))
        genera.append(Path(name).parent.name)
    if not squares:
        sys.exit(f"{folder} holds no picture; make it with prepare_fruit.py.")
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 127.5 - 1, genera


class Judge(nn.Module):
    """Four halvings, then 32 features that still know where in the picture things are."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for narrow, wide in pairwise([3, 32, 64, 96]):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1), nn.GroupNorm(8, wide), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 4 * 4, FEATURES), nn.Tanh())
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x))
        return scores

    @torch.inference_mode()
    def features(self, x: Tensor) -> Tensor:
        """(N, 32), float64."""
        return torch.cat([self.body(batch) for batch in x.split(256)]).double()


def judge_of(folder: Path, pictures: Tensor, genera: Sequence[str], epochs: int = 10) -> Judge:
    """The judge kept in the folder, or a new one."""
    names = sorted(set(genera))
    torch.manual_seed(0)
    judge, file = Judge(len(names)), folder / "judge.safetensors"
    if file.exists():
        judge.load_state_dict(read_tensors(file)[0])
        return judge.eval()
    g = Generator().manual_seed(0)
    targets = torch.tensor([names.index(genus) for genus in genera])
    weights = targets.bincount()[targets].double() ** -0.5
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.05)
    steps = epochs * len(pictures) // 64
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.multinomial(weights, 64, replacement=True, generator=g)
        views = random_views(pictures[rows], SIZE, True, g)
        cross_entropy(judge(views), targets[rows], label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    write_tensors(file, judge.state_dict(), {"classes": ",".join(names)})
    return judge.eval()


@torch.inference_mode()
def v_errors(denoiser: Denoiser, schedule: NoiseSchedule, x_0: Tensor) -> dict[int, float]:
    """Mean squared error of v at each timestep, whatever the network predicts."""
    eps = torch.randn(x_0.shape, generator=Generator().manual_seed(0)).to(x_0)
    errors = {}
    for timestep in TIMESTEPS:
        t, total = schedule.level(timestep), 0.0
        for x, noise in zip(x_0.split(64), eps.split(64), strict=True):
            told = denoiser(add_noise(x, noise, t), t)
            miss = t.signal * (told.eps - noise) - t.noise * (told.x_0 - x)
            total += miss.square().mean((1, 2, 3)).sum().item()
        errors[timestep] = total / len(x_0)
    return errors


@torch.inference_mode()
def samples(
    denoiser: Denoiser, schedule: NoiseSchedule, count: int, device: torch.device
) -> Tensor:
    """The model's pictures of seeds 0 … count − 1, on the CPU."""
    grid = make_grid(schedule, 20, "log-snr")
    batches = draw(range(count), (3, SIZE, SIZE)).split(100)
    pictures = [last(sample(denoiser, x_T.to(device), grid)).x.cpu() for x_T in batches]
    return torch.cat(pictures).clamp(-1, 1)


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of two sets of features, (N, d), relative to the spread of b.

    tr (Σ Σ')^½ is the sum of the roots of the eigenvalues of Σ Σ', which are real and not negative.
    """
    cov_a, cov_b = a.T.cov(), b.T.cov()
    mixed = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * mixed
    return float(distance / cov_b.trace())


def nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For each picture of a: distance over 16×16 pixels to the nearest of b, and which that is."""
    coarse_a, coarse_b = adaptive_avg_pool2d(a, 16), adaptive_avg_pool2d(b, 16)
    both = torch.cat([coarse_b, coarse_b.flip(3)]).flatten(1)
    least = (torch.cdist(coarse_a.flatten(1), both) / both.shape[1] ** 0.5).min(1)
    return least.values, least.indices % len(b)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("fruit", type=Path)
    parser.add_argument("--samples", type=int, default=400, help="how many for frechet and nearest")
    parser.add_argument("--samples-to", type=Path, metavar="PNG", help="save the first 64")
    parser.add_argument("--nearest-to", type=Path, metavar="PNG", help="save 16 over their nearest")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # The judge learns from windows of larger pictures; what it knows by heart tells it nothing.
    judge = judge_of(options.fruit, *load(options.fruit / "train", SIZE * 9 // 8))
    (train, genera), (val, val_genera) = load(options.fruit / "train"), load(options.fruit / "val")
    checkpoint = read_checkpoint(options.model)
    schedule = NoiseSchedule.from_config(checkpoint.scheduler_config)
    prediction = checkpoint.scheduler_config.prediction_type
    denoiser = NetworkDenoiser(checkpoint.unet.to(device), prediction)

    errors = v_errors(denoiser, schedule, val.to(device))
    pictures = samples(denoiser, schedule, options.samples, device)
    names = sorted(set(genera))
    told = [names[row] for row in judge(val).argmax(1).tolist()]
    some = torch.randperm(len(train), generator=Generator().manual_seed(0))[: options.samples]
    likeness = judge.features(val)
    distances, rows = nearest(pictures, train)
    report = {
        "weights_sha256": checkpoint.weights_sha256,
        "held_out": len(val),
        "v_mse": {t: round(error, 5) for t, error in errors.items()},
        "v_mse_mean": round(sum(errors.values()) / len(errors), 5),
        "samples": options.samples,
        "frechet": round(frechet(judge.features(pictures), likeness), 4),
        "frechet_floor": round(frechet(judge.features(train[some]), likeness), 4),
        "judge_accuracy": round(np.mean(np.equal(told, val_genera)).item(), 3),
        "nearest_of_samples": [round(q, 3) for q in quartiles(distances)],
        "nearest_of_seeds_0_to_15": [round(distance, 3) for distance in distances[:16].tolist()],
        "nearest_of_held_out": [round(q, 3) for q in quartiles(nearest(val, train)[0])],
    }
    print(json.dumps(report, indent=2))
    if options.samples_to:
        tiled(pictures[:64]).save(options.samples_to)
    if options.nearest_to:
        pairs = torch.cat([pictures[:8], train[rows[:8]], pictures[8:16], train[rows[8:16]]])
        tiled(pairs).save(options.nearest_to)


def quartiles(x: Tensor) -> list[float]:
    """Minimum, quartiles and maximum."""
    return x.quantile(torch.linspace(0, 1, 5)).tolist()


if __name__ == "__main__":
    main()
