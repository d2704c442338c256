"""Train a UNet2DModel on your own pictures.

    python examples/train_unet.py PICTURES -o MODEL

PICTURES is a folder or a tar. Pictures in subfolders have the subfolder as their class, and a class
counts by the square root of its size, so that a large one does not drown the rest; small ones count
as one. MODEL becomes a diffusers folder; `ddim-interp morph --model MODEL` takes it. Beside it,
MODEL-training holds the log, sheets of samples and state.pt: after a kill, the same command goes on
from there.

The recipe. Pictures are drowned in noise, x_t = √ᾱ x_0 + √(1−ᾱ) ε, and the network learns to tell
v = √ᾱ ε − √(1−ᾱ) x_0 (Salimans & Ho 2022, arXiv:2202.00512, appendix D) under the plain squared
error; with `--predict epsilon`, to tell ε, as the first of these networks did (Ho et al. 2020,
arXiv:2006.11239). Noise levels are drawn by log σ̄ ~ N(mean, std²), σ̄ = √(1−ᾱ) / √ᾱ (Karras et al.
2022, arXiv:2206.00364, table 1): the mean decides where the effort goes. Shapes are decided where
log σ̄ is above 1, and error weights that favour clean levels (min-SNR) starve them. Betas are
linear: they end in almost pure noise and every step can be undone, which is not so for capped
cosine betas. Muon for matrices, AdamW for the rest, a cosine decay; a moving average of the weights
is what is kept.

Targets are steadied. Where noise drowns a picture, many could lie under it, and what a network is
to learn is their mean: the one that was drawn is a wild guess at it. So the mean is taken over some
thousand pictures, each by how well it explains x_t (Xu et al. 2023, arXiv:2302.00670). It is the
same thing to learn, with less chance in it. docs/how-to/training.md has what it and Muon are worth.
"""

import argparse
import copy
import math
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from muon import Muon
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from ddim_interp.allocator import keep_large_blocks
from ddim_interp.checkpoint import read_checkpoint, write_checkpoint
from ddim_interp.denoiser import NetworkDenoiser
from ddim_interp.files import atomic_file
from ddim_interp.grid import make_grid
from ddim_interp.images import to_frames
from ddim_interp.latents import draw
from ddim_interp.schedule import NoiseSchedule, PredictionType, SchedulerConfig
from ddim_interp.trajectory import last, sample
from ddim_interp.unet import UNet2DModel

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
BANDS = 4  # the log gives the loss by quarters of the timesteps: one figure would hide the shapes
FEW = 20  # pictures that a class needs to count as one
PREDICTIONS: dict[str, PredictionType] = {"v": "v_prediction", "epsilon": "epsilon"}


# ── the pictures ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Pictures:
    """All pictures in memory, and how often each is to be drawn.

    Args:
        pixels: uint8, (N, 3, S, S), with S a little more than the network's size.
        weights: Relative frequencies, (N,).
    """

    pixels: Tensor
    weights: Tensor

    @classmethod
    def load(cls, source: Path, side: int, balance: float) -> "Pictures":
        """Read the central square of every picture; class c of n_c pictures weighs n_c^balance.

        Classes of less than `FEW` pictures count as one: alone, each of their pictures would be
        drawn so often that the network learned it by heart.
        """

        def square(file: tuple[str, BytesIO]) -> np.ndarray:
            with Image.open(file[1]) as image:
                return central_square(image.convert("RGB"), side)

        files = list(picture_files(source))
        if not files:
            sys.exit(f"{source} holds no picture; give a folder or a tar with some.")
        with ThreadPoolExecutor() as pool:
            squares = list(pool.map(square, files))
        folders = [Path(name).parent for name, _ in files]
        sizes = Counter(folders)
        classes = [folder if sizes[folder] >= FEW else None for folder in folders]
        counts = Counter(classes)
        return cls(
            torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous(),
            torch.tensor([counts[c] ** (balance - 1) for c in classes]),
        )

    def to(self, device: torch.device) -> "Pictures":
        return Pictures(self.pixels.to(device), self.weights.to(device))

    def draw(self, count: int, size: int, flip: bool, g: Generator) -> Tensor:
        """Random views of random pictures, (count, 3, size, size), in [−1, 1]."""
        rows = torch.multinomial(self.weights, count, replacement=True, generator=g)
        return random_views(self.pixels[rows].float() / 127.5 - 1, size, flip, g)


def picture_files(source: Path) -> Iterator[tuple[str, BytesIO]]:
    """Name and content of every picture in a folder or a tar, sorted by name."""
    if source.is_dir():
        paths = {path.relative_to(source).as_posix(): path for path in source.rglob("*.*")}
        for name in sorted(paths):
            if paths[name].suffix.lower() in SUFFIXES:
                yield name, BytesIO(paths[name].read_bytes())
        return
    with tarfile.open(source) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            file = tar.extractfile(member)
            if file is not None and Path(member.name).suffix.lower() in SUFFIXES:
                yield member.name, BytesIO(file.read())


def central_square(image: Image.Image, side: int) -> np.ndarray:
    """The largest square in the middle, resized, uint8 (side, side, 3)."""
    least = min(image.size)
    left, top = (image.width - least) // 2, (image.height - least) // 2
    box = (left, top, left + least, top + least)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS, box=box))


def random_views(x: Tensor, size: int, flip: bool, g: Generator) -> Tensor:
    """A window of each picture, from size/S of its side up to all of it; mirrored or not."""
    count = len(x)
    u = torch.rand(4, count, generator=g, device=x.device)
    least = min(size / x.shape[-1], 1.0)
    scale = least + (1 - least) * u[0]
    shift_x, shift_y = (1 - scale) * (2 * u[1:3] - 1)
    mirror = torch.where(u[3] < 0.5, -1.0, 1.0) if flip else torch.ones_like(scale)
    zero = torch.zeros_like(scale)
    theta = torch.stack([mirror * scale, zero, shift_x, zero, scale, shift_y], 1).view(-1, 2, 3)
    window = affine_grid(theta, [count, 3, size, size], align_corners=False)
    return grid_sample(x, window, "bicubic", "reflection", align_corners=False).clamp(-1, 1)


# ── the noise ─────────────────────────────────────────────────────────────────────────────────────


def scheduler_config(predict: str) -> SchedulerConfig:
    """Linear betas; the cleanest level is t = 0, where inversion starts."""
    return SchedulerConfig(
        prediction_type=PREDICTIONS[predict], clip_sample=False, set_alpha_to_one=False
    )


def log_ratios(schedule: NoiseSchedule) -> Tensor:
    """log σ̄ of each timestep, rising, (T,)."""
    return torch.tensor(
        [math.log(schedule.level(t).ratio) for t in range(schedule.num_train_timesteps)]
    )


def draw_levels(count: int, mean: float, std: float, table: Tensor, g: Generator) -> Tensor:
    """Values of log σ̄ ~ N(mean, std²), kept on the table; one from each of `count` equal shares.

    Spreading a batch evenly over the distribution steadies the gradient and costs nothing.
    """
    shares = torch.randperm(count, generator=g, device=g.device)
    u = (shares + torch.rand(count, generator=g, device=g.device)) / count
    return (mean + std * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))).clamp(table[0], table[-1])


def timesteps_at(log_ratio: Tensor, table: Tensor) -> Tensor:
    """The fractional timesteps where log σ̄ has these values."""
    below = (torch.searchsorted(table, log_ratio) - 1).clamp(0, len(table) - 2)
    return below + (log_ratio - table[below]) / (table[below + 1] - table[below])


def steady(x_t: Tensor, signal: Tensor, noise: Tensor, known: Tensor) -> Tensor:
    """The mean of what may lie under x_t, supposing that it is one of the pictures known.

        E[x_0 | x_t] = Σ_j w_j x_j,   w_j ∝ exp(−|x_t − √ᾱ x_j|² / 2 (1 − ᾱ))

    Under little noise that is the picture itself, under pure noise the mean of them all.

    Args:
        x_t: Noisy pictures, (N, C, H, W).
        signal: √ᾱ of each, (N, 1, 1, 1).
        noise: √(1 − ᾱ) of each, (N, 1, 1, 1).
        known: Clean pictures, (M, C, H, W), those under x_t among them.

    Returns:
        Means, (N, C, H, W).
    """
    pictures = known.flatten(1)
    nearness = (x_t / signal).flatten(1) @ pictures.mT - pictures.square().sum(1) / 2
    weights = (nearness * (signal / noise).square().flatten(1)).softmax(1)
    return (weights @ pictures).view_as(x_t)


# ── the training ──────────────────────────────────────────────────────────────────────────────────


def hidden_matrices(unet: UNet2DModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights for Muon, and those for AdamW: vectors, and what touches the pixels."""
    matrices, rest = [], []
    for name, weight in unet.named_parameters():
        at_the_ends = name.startswith(("conv_in.", "conv_out."))
        (rest if weight.ndim == 1 or at_the_ends else matrices).append(weight)
    return matrices, rest


def copies(unet: UNet2DModel, count: int, compiled: bool) -> list[nn.Module]:
    """The network, and others that share its weights, for one processor core each.

    Cores that have pictures of their own need not wait for one another in every layer: two draw 15
    pictures a second like this, and 12 together.
    """
    unets = [unet, *(copy.deepcopy(unet) for _ in range(count - 1))]
    for other in unets[1:]:
        for its, shared in zip(other.parameters(), unet.parameters(), strict=True):
            its.data = shared.data
    return [torch.compile(each) if compiled else each for each in unets]


class Training:
    """Everything that a step changes, and the step.

    Step n draws from a generator seeded with n, so there is no random state to keep: a run that was
    killed and resumed is the run that was not.
    """

    def __init__(self, unet: UNet2DModel, pictures: Pictures, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        # Shapes never change. To try what is fastest takes minutes, as compiling does.
        torch.backends.cudnn.benchmark = options.compile
        self.bf16 = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if on_gpu
            else torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
        cores = 1 if on_gpu else min(options.threads, options.batch_size)
        # Channels last is the fast layout, but for bfloat16 on a processor.
        layout = torch.contiguous_format if self.bf16 and not on_gpu else torch.channels_last
        self.unet = unet.to(self.device).to(memory_format=layout).train()
        self.average = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.copies = copies(self.unet, cores, options.compile)
        self.pool = ThreadPoolExecutor(cores)
        matrices, rest = hidden_matrices(self.unet)
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=0.0),
            torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=on_gpu),
        ]
        self.scheduler = scheduler_config(options.predict)
        self.table = log_ratios(NoiseSchedule.from_config(self.scheduler)).to(self.device)
        self.generator = Generator(self.device)
        self.pictures = pictures.to(self.device)
        self.views: tuple[int, Tensor] | None = None
        self.seen = 0  # pictures
        self.seconds = 0.0  # of training, over all runs

    def step(self) -> tuple[Tensor, Tensor]:
        """One batch: returns the timestep and the loss of each picture in it, (N,)."""
        o, known, g = self.options, self.known(), self.seeded(self.seen)
        x_0 = known[torch.randint(len(known), (o.batch_size,), generator=g, device=self.device)]
        log_ratio = draw_levels(o.batch_size, o.mean, o.std, self.table, g)
        alpha_bar = torch.sigmoid(-2 * log_ratio)[:, None, None, None]
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x_t = signal * x_0 + noise * torch.randn(x_0.shape, generator=g, device=self.device)
        t = timesteps_at(log_ratio, self.table)

        x_0 = steady(x_t, signal, noise, known)
        eps = (x_t - signal * x_0) / noise
        target = signal * eps - noise * x_0 if o.predict == "v" else eps
        loss = self.gradients(x_t, t, target)
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate()
            optimizer.step()
            optimizer.zero_grad()
        self.seen += o.batch_size

        # Half the average is of the last `ema` pictures; of the last tenth, early on.
        keep = 0.5 ** (o.batch_size / min(o.ema, self.seen / 10))
        with torch.no_grad():
            averages, weights = list(self.average.parameters()), list(self.unet.parameters())
            torch._foreach_lerp_(averages, weights, 1 - keep)
        return t, loss

    def known(self) -> Tensor:
        """Views of random pictures, (M, 3, S, S); others when a quarter as many were drawn."""
        o, number = self.options, self.seen * 4 // self.options.known
        if self.views is None or self.views[0] != number:
            drawn = self.pictures.draw(
                o.known, self.unet.config.sample_size, o.flip, self.seeded(2**39 + number)
            )
            self.views = number, drawn
        return self.views[1]

    def seeded(self, number: int) -> Generator:
        return self.generator.manual_seed(self.options.seed * 2**40 + number)

    def gradients(self, x_t: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """Leave the gradient of the mean loss on the network; return each picture's loss, (N,)."""
        if len(self.copies) == 1:
            return self.work(self.copies[0], x_t, t, target)
        shares = [part.tensor_split(len(self.copies)) for part in (x_t, t, target)]
        losses = list(self.pool.map(self.work_alone, self.copies, *shares))
        torch.set_num_threads(self.options.threads)
        for other in self.copies[1:]:
            for weight, its in zip(self.unet.parameters(), other.parameters(), strict=True):
                assert weight.grad is not None and its.grad is not None
                weight.grad += its.grad
                its.grad = None
        return torch.cat(losses)

    def work(self, unet: nn.Module, x_t: Tensor, t: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            told = unet(x_t, t)
        loss = (told.float() - target).square().mean((1, 2, 3))
        (loss.sum() / self.options.batch_size).backward()
        return loss.detach()

    def work_alone(self, unet: nn.Module, *share: Tensor) -> Tensor:
        torch.set_num_threads(1)
        return self.work(unet, *share)

    def learning_rate(self) -> float:
        """Up in a line, down in half a cosine."""
        o = self.options
        progress = min(self.seen / o.pictures, 1.0)
        warm = min((self.seen + o.batch_size) / o.warmup, 1.0)
        return o.learning_rate * warm * (1 + math.cos(math.pi * progress)) / 2

    def save(self, path: Path) -> None:
        state = {
            "unet": self.unet.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "seen": self.seen,
            "seconds": self.seconds,
        }
        with atomic_file(path, overwrite=True) as part:
            torch.save(state, part)

    def resume(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.unet.load_state_dict(state["unet"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.seen, self.seconds = state["seen"], state["seconds"]


def new_unet(size: int, channels: Sequence[int], layers: int, attention: int) -> UNet2DModel:
    """A U-Net with random weights and attention at its coarsest levels, where it is cheap."""
    plain = len(channels) - attention
    return UNet2DModel(
        sample_size=size,
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attention,
        up_block_types=("AttnUpBlock2D",) * attention + ("UpBlock2D",) * plain,
        attention_head_dim=16,
        norm_num_groups=8,
    )


@torch.inference_mode()
def sheet(
    unet: UNet2DModel, scheduler: SchedulerConfig, count: int, steps: int = 25
) -> Image.Image:
    """What the network makes of seeds 0 … count − 1."""
    side = unet.config.sample_size
    grid = make_grid(NoiseSchedule.from_config(scheduler), steps)
    denoiser = NetworkDenoiser(unet, scheduler.prediction_type)
    latents = draw(range(count), (3, side, side)).split(64)
    return tiled(
        torch.cat([last(sample(denoiser, x_T.to(unet.device), grid)).x.cpu() for x_T in latents])
    )


def tiled(x: Tensor) -> Image.Image:
    """Pictures in [−1, 1], (N, 3, S, S), N a multiple of eight, in rows of eight."""
    frames = to_frames(x)
    rows, side = len(frames) // 8, frames.shape[1]
    sheet = frames.reshape(rows, 8, side, side, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(sheet.reshape(rows * side, 8 * side, 3))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = p.add_argument
    add("source", type=Path, metavar="PICTURES", help="folder or tar of pictures")
    add("-o", "--output", type=Path, required=True, metavar="MODEL", help="folder to be written")
    add("--init", type=Path, metavar="MODEL", help="train on from this model's weights")
    add("--size", type=int, default=64, help="side of a picture, for a new network")
    add("--channels", type=int, nargs="+", default=[24, 48, 96, 160], help="... its widths")
    add("--layers", type=int, default=2, help="... its ResNets per block")
    add("--attention", type=int, default=2, help="... its levels with attention, the coarsest")
    add("--predict", choices=PREDICTIONS, default="v", help="what the network is to tell")
    add("--pictures", type=int, default=1_500_000, help="length of the training, in pictures drawn")
    add("--batch-size", type=int, default=32)
    add("--known", type=int, default=4096, help="pictures that a target is the mean of")
    add("--learning-rate", type=float, default=2e-3, help="at its highest")
    add("--warmup", type=int, default=10_000, help="pictures until then")
    add("--ema", type=float, default=50_000, help="half-life of the averaged weights, in pictures")
    add("--mean", type=float, default=1.0, help="mean of log σ̄")
    add("--std", type=float, default=1.7, help="its standard deviation")
    add("--zoom", type=float, default=1.125, help="enlarge pictures by up to this factor")
    add("--flip", action=argparse.BooleanOptionalAction, default=True, help="mirror half of them")
    add(
        "--balance", type=float, default=0.5, help="a class of n pictures counts as n to this power"
    )
    add("--seed", type=int, default=0)
    add("--minutes", type=float, default=math.inf, help="stop after this time; go on another day")
    add("--save-every", type=float, default=3, metavar="MINUTES")
    add("--sheet-every", type=float, default=30, metavar="MINUTES", help="sheets of samples")
    add("--log-every", type=int, default=200, metavar="STEPS")
    add("--threads", type=int, default=torch.get_num_threads(), help="processor cores to use")
    add("--half", action="store_true", help="store the model in float16: half the file")
    add("--compile", action="store_true", help="compile the network: pays on a GPU")
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    o = arguments(argv)
    torch.set_num_threads(o.threads)
    keep_large_blocks()
    torch.manual_seed(o.seed)
    unet = (
        read_checkpoint(o.init).unet
        if o.init
        else new_unet(o.size, o.channels, o.layers, o.attention)
    )
    side = round(unet.config.sample_size * o.zoom)
    training = Training(unet, Pictures.load(o.source, side, o.balance), o)
    folder = o.output.with_name(o.output.name + "-training")
    folder.mkdir(parents=True, exist_ok=True)
    state, log = folder / "state.pt", folder / "log.csv"
    if state.exists():
        training.resume(state)
        print(f"Going on at picture {training.seen}.", file=sys.stderr)

    began = saved = drawn = time.monotonic()
    before, sums = training.seconds, torch.zeros(2, BANDS, device=training.device)
    # Nothing is saved on the way out of an exception: weights may be half-way through a step.
    while training.seen < o.pictures and time.monotonic() - began < 60 * o.minutes:
        t, loss = training.step()
        sums += bands(t, loss, len(training.table))
        now = time.monotonic()
        training.seconds = before + now - began
        if training.seen // o.batch_size % o.log_every == 0:
            write_log(log, training, sums)
            sums.zero_()
        if now - saved > 60 * o.save_every:
            training.save(state)
            saved = time.monotonic()
        if now - drawn > 60 * o.sheet_every:
            save_sheet(folder, training, 16)
            drawn = time.monotonic()
    training.save(state)
    save_sheet(folder, training, 64)
    weights = training.average.half() if o.half else training.average
    write_checkpoint(o.output, weights, training.scheduler, overwrite=True)


def bands(t: Tensor, loss: Tensor, timesteps: int) -> Tensor:
    """Sum and number of the losses in each band of timesteps, (2, BANDS)."""
    band = (t * BANDS / timesteps).long()
    pair = torch.stack([loss, torch.ones_like(loss)])
    return torch.zeros(2, BANDS, device=loss.device).index_add_(1, band, pair)


def write_log(path: Path, training: Training, sums: Tensor) -> None:
    losses = (sums[0] / sums[1]).tolist()
    figures = [training.seconds, training.learning_rate(), *losses]
    line = ",".join([str(training.seen), *(f"{figure:.5g}" for figure in figures)])
    with path.open("a") as file:
        if file.tell() == 0:
            edges = [f"loss_from_t_{1000 * band // BANDS}" for band in range(BANDS)]
            print("pictures,seconds,learning_rate", *edges, sep=",", file=file)
        print(line, file=file)
    print(line, file=sys.stderr)


def save_sheet(folder: Path, training: Training, count: int) -> None:
    sheet(training.average, training.scheduler, count).save(
        folder / f"samples-{training.seen:09d}.png"
    )


if __name__ == "__main__":
    main()
