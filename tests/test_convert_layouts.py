"""Do other people's checkpoints draw here what they draw at home?

Each layout is stated again below, small and with its own attribute names, as its authors published
it: what `torch.save` writes of it is a checkpoint of the true names and shapes, and what its
forward computes is the truth that the converted network is held to.
"""

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn

from ddim_interp.adm import AdmConfig, AdmUnet
from ddim_interp.checkpoint import read_checkpoint
from ddim_interp.cli import cli
from ddim_interp.convert import adm, checkpoint_file, convert_folder, ermongroup
from ddim_interp.convert.hints import Hints
from ddim_interp.convert.unpickle_child import extract
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.hub import Located
from ddim_interp.networks import build_network
from ddim_interp.portrait import portray
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.unet import UNet2DModel


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read pickles here, where starting takes no seconds; the walls have tests of their own."""

    def here(path: Path) -> dict[str, Tensor]:
        with path.open("rb") as file:
            word, tensors = extract(file)
        assert word == "done"
        return tensors

    monkeypatch.setattr(checkpoint_file, "unpickle", here)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights as after training: no layer still zero, no norm still the identity."""
    generator = torch.Generator().manual_seed(seed)
    for weight in net.parameters():
        fan = max(1, weight[0].numel()) if weight.ndim > 1 else 1
        noise = torch.randn(weight.shape, generator=generator)
        weight.data = noise / math.sqrt(fan) if weight.ndim > 1 else 1 + 0.3 * noise
    return net.eval()


def spread(t: Tensor, channels: int, shift: int, cosines_first: bool) -> Tensor:
    half = channels // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / (half - shift))
    waves = [angles.sin(), angles.cos()]
    return torch.cat(waves[::-1] if cosines_first else waves, dim=1)


X, T = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(9)), torch.tensor([3, 700])


def gap(net: nn.Module, truth: nn.Module, *extra: Any) -> float:
    with torch.inference_mode():
        return float((net(X, T, *extra) - truth(X, T, *extra)).abs().max())


# ermongroup/ddim: Ho et al.'s network


class HoResnet(nn.Module):
    def __init__(self, n: int, out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, n, 1e-6), nn.GroupNorm(32, out, 1e-6)
        self.conv1, self.conv2 = nn.Conv2d(n, out, 3, 1, 1), nn.Conv2d(out, out, 3, 1, 1)
        self.temb_proj = nn.Linear(time, out)
        if n != out:
            self.nin_shortcut = nn.Conv2d(n, out, 1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(temb))[..., None, None]
        past = self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x
        return past + self.conv2(F.silu(self.norm2(h)))


class HoAttention(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, n, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(n, n, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("ncq,nck->nqk", q, k) / q.shape[1] ** 0.5, dim=2)
        return x + self.proj_out(torch.einsum("nqk,nck->ncq", weights, v).view_as(x))


def group(**layers: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, layer in layers.items():
        module.add_module(name, layer)
    return module


class HoNetwork(nn.Module):
    def __init__(self, ch: int, mult: tuple[int, ...], layers: int, attends: set[int]) -> None:
        super().__init__()
        self.ch, self.attends, time = ch, attends, 4 * ch
        self.temb = group(dense=nn.ModuleList([nn.Linear(ch, time), nn.Linear(time, time)]))
        self.conv_in = nn.Conv2d(3, ch, 3, 1, 1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths, skips, n = [ch * m for m in mult], [ch], ch
        for level, out in enumerate(widths):
            parts: dict[str, nn.Module] = {"block": nn.ModuleList(), "attn": nn.ModuleList()}
            for _ in range(layers):
                parts["block"].append(HoResnet(n, out, time))
                if level in attends:
                    parts["attn"].append(HoAttention(out))
                skips.append(n := out)
            if level < len(widths) - 1:
                parts["downsample"] = group(conv=nn.Conv2d(n, n, 3, 2, 0))
                skips.append(n)
            self.down.append(group(**parts))
        self.mid = group(
            block_1=HoResnet(n, n, time), attn_1=HoAttention(n), block_2=HoResnet(n, n, time)
        )
        for level, out in reversed([*enumerate(widths)]):
            parts = {"block": nn.ModuleList(), "attn": nn.ModuleList()}
            for _ in range(layers + 1):
                parts["block"].append(HoResnet(n + skips.pop(), out, time))
                if level in attends:
                    parts["attn"].append(HoAttention(out))
                n = out
            if level:
                parts["upsample"] = group(conv=nn.Conv2d(n, n, 3, 1, 1))
            self.up.insert(0, group(**parts))
        self.norm_out, self.conv_out = nn.GroupNorm(32, n, 1e-6), nn.Conv2d(n, 3, 3, 1, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        first, second = self.temb.dense
        temb = second(F.silu(first(spread(t, self.ch, 1, False))))
        h = [self.conv_in(x)]
        for level in self.down:
            for i, block in enumerate(level.block):
                y = block(h[-1], temb)
                h.append(level.attn[i](y) if len(level.attn) else y)
            if hasattr(level, "downsample"):
                h.append(level.downsample.conv(F.pad(h[-1], (0, 1, 0, 1))))
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h[-1], temb)), temb)
        for level in reversed(self.up):
            for i, block in enumerate(level.block):
                x = block(torch.cat([x, h.pop()], 1), temb)
                x = level.attn[i](x) if len(level.attn) else x
            if hasattr(level, "upsample"):
                x = level.upsample.conv(F.interpolate(x, scale_factor=2.0))
        return self.conv_out(F.silu(self.norm_out(x)))


@pytest.fixture(scope="module")
def ho() -> nn.Module:
    return randomise(HoNetwork(32, (1, 2, 2), layers=2, attends={1}))


def test_a_plain_state_dict_of_the_ddim_code_draws_the_same(ho: nn.Module, tmp_path: Path) -> None:
    torch.save(ho.state_dict(), tmp_path / "model-790000.ckpt")
    model = convert_folder(tmp_path / "model-790000.ckpt", tmp_path / "out")
    assert gap(model.unet, ho) < 1e-5 and model.unet_config.sample_size == 32
    assert model.scheduler_config.beta_schedule == "linear" and model.warning is None


@pytest.mark.parametrize("with_ema", [True, False])
def test_the_moving_average_in_a_training_list_is_preferred(
    ho: nn.Module, tmp_path: Path, with_ema: bool
) -> None:
    raw = randomise(HoNetwork(32, (1, 2, 2), layers=2, attends={1}), seed=1)
    wrapped = {f"module.{name}": weight for name, weight in raw.state_dict().items()}
    adam = {"state": {0: {"step": 9, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 2e-4}]}
    saved = [wrapped, adam, 5, 790000, *([ho.state_dict()] if with_ema else [])]
    torch.save(saved, tmp_path / "ckpt.pth")
    (tmp_path / "config.yml").write_text("data:\n    image_size: 16 # small\nmodel:\n  ch: 32\n")
    model = convert_folder(tmp_path, tmp_path / "out")
    assert gap(model.unet, ho if with_ema else raw) < 1e-5
    assert model.unet_config.sample_size == 16


# What google/ddpm-* and fusing/ddim-* on the hub say, of which these files are the originals.
HUB = {
    "bedroom": (256, (128, 128, 256, 256, 512, 512), 4),
    "church": (256, (128, 128, 256, 256, 512, 512), 4),
    "celeba": (64, (128, 256, 256, 256, 512), 2),
    "cifar10": (32, (128, 256, 256, 256), 1),
}


@pytest.mark.parametrize("name", HUB)
def test_published_shapes_give_the_configs_that_the_hub_has(name: str) -> None:
    size, widths, attends = HUB[name]
    with torch.device("meta"):
        net = HoNetwork(128, tuple(w // 128 for w in widths), 2, {attends})
    foreign = ermongroup.read(net.state_dict(), name, Hints())
    down = ["AttnDownBlock2D" if i == attends else "DownBlock2D" for i in range(len(widths))]
    assert (
        foreign.unet_config.to_dict()
        == UNet2DModel(
            act_fn="silu",
            attention_head_dim=None,
            block_out_channels=widths,
            center_input_sample=False,
            down_block_types=down,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            in_channels=3,
            layers_per_block=2,
            mid_block_scale_factor=1,
            norm_eps=1e-06,
            norm_num_groups=32,
            out_channels=3,
            sample_size=size,
            time_embedding_type="positional",
            up_block_types=[kind.replace("Down", "Up") for kind in reversed(down)],
        ).config.to_dict()
    )
    with torch.device("meta"):
        wanted = UNet2DModel(**foreign.unet_config.to_dict()).state_dict()
    assert {n: w.shape for n, w in foreign.weights.items()} == {
        n: w.shape for n, w in wanted.items()
    }
    schedule = foreign.scheduler_config
    assert (schedule.beta_start, schedule.beta_end) == (0.0001, 0.02)
    assert ermongroup.PUBLISHED[name].image_size == size


# openai/improved-diffusion and guided-diffusion


class AdmResnet(nn.Module):
    def __init__(self, n: int, out: int, time: int, film: bool, sample: str = "") -> None:
        super().__init__()
        self.film, self.sample = film, sample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, n), nn.SiLU(), nn.Conv2d(n, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, out * (1 + film)))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if n == out else nn.Conv2d(n, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, act, conv = self.in_layers
        h = act(norm(x))
        if self.sample == "up":
            x, h = (F.interpolate(y, scale_factor=2, mode="nearest") for y in (x, h))
        elif self.sample == "down":
            x, h = (F.avg_pool2d(y, 2) for y in (x, h))
        h, told = conv(h), self.emb_layers(emb)[..., None, None]
        if self.film:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(x) + h


class AdmAttention(nn.Module):
    def __init__(self, n: int, heads: int, new_order: bool) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv = nn.GroupNorm(32, n), nn.Conv1d(n, 3 * n, 1)
        self.proj_out = nn.Conv1d(n, n, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        batch, n, *_ = x.shape
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        d = n // self.heads
        if self.new_order:
            parts = [part.reshape(batch * self.heads, d, -1) for part in qkv.chunk(3, dim=1)]
        else:
            parts = [*qkv.reshape(batch * self.heads, 3 * d, -1).split(d, dim=1)]
        q, k, v = parts
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(d), dim=-1)
        out = torch.einsum("bts,bcs->bct", weights, v).reshape(batch, n, -1)
        return x + self.proj_out(out).view_as(x)


class Op(nn.Module):
    """A convolution under a name, after doubling if it goes up."""

    def __init__(self, name: str, conv: nn.Conv2d) -> None:
        super().__init__()
        self.add_module(name, conv)
        self.doubles = name == "conv"

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest") if self.doubles else x
        return next(iter(self.children()))(x)


class AdmNetwork(nn.Module):
    def __init__(
        self,
        ch: int,
        mult: tuple[int, ...],
        layers: int,
        attends: set[int],
        *,
        head: int = 32,
        out: int = 6,
        classes: int = 0,
        film: bool = True,
        updown: bool = True,
        new_order: bool = False,
        heads: int = 0,
        in_channels: int = 3,
        time: int = 0,
    ) -> None:
        super().__init__()
        self.spread = time or ch  # guided-diffusion's 512 pixels: 256, and a first level of 128
        time = 4 * self.spread

        def res(n: int, to: int, sample: str = "") -> nn.Module:
            return AdmResnet(n, to, time, film, sample)

        def attention(n: int) -> nn.Module:
            return AdmAttention(n, heads or n // head, new_order)

        self.time_embed = nn.Sequential(
            nn.Linear(self.spread, time), nn.SiLU(), nn.Linear(time, time)
        )
        if classes:
            self.label_emb = nn.Embedding(classes, time)
        first = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.input_blocks = nn.ModuleList([nn.ModuleList([first])])
        self.output_blocks = nn.ModuleList()
        n, skips = ch, [ch]
        for level, m in enumerate(mult):
            for _ in range(layers):
                block = [res(n, n := ch * m), *([attention(n)] if level in attends else [])]
                self.input_blocks.append(nn.ModuleList(block))
                skips.append(n)
            if level < len(mult) - 1:
                conv = Op("op", nn.Conv2d(n, n, 3, 2, 1))
                self.input_blocks.append(nn.ModuleList([res(n, n, "down") if updown else conv]))
                skips.append(n)
        self.middle_block = nn.ModuleList([res(n, n), attention(n), res(n, n)])
        for level, m in reversed([*enumerate(mult)]):
            for i in range(layers + 1):
                block = [res(n + skips.pop(), n := ch * m)]
                block += [attention(n)] if level in attends else []
                if level and i == layers:
                    up = Op("conv", nn.Conv2d(n, n, 3, padding=1))
                    block.append(res(n, n, "up") if updown else up)
                self.output_blocks.append(nn.ModuleList(block))
        self.out = nn.Sequential(nn.GroupNorm(32, n), nn.SiLU(), nn.Conv2d(n, out, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        emb = self.time_embed(spread(t, self.spread, 0, True))
        if y is not None:
            emb = emb + self.label_emb(y)
        h = []
        for number, block in enumerate(self.input_blocks):
            for layer in block:
                x = layer(x, emb) if number else layer(x)
            h.append(x)
        for layer in self.middle_block:
            x = layer(x, emb)
        for block in self.output_blocks:
            x = torch.cat([x, h.pop()], dim=1)
            for layer in block:
                x = layer(x, emb)
        return self.out(x)


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({}, "image_size=16,num_head_channels=32"),
        ({"new_order": True}, "image_size=16 num_head_channels=32 use_new_attention_order=True"),
        ({"updown": False, "film": False, "out": 3, "heads": 1, "attends": {2}}, "num_heads=1"),
        ({"updown": False, "heads": 2, "attends": {2}}, "num_heads=2,noise_schedule=cosine"),
        ({"attends": set()}, "num_head_channels=32"),
        ({"heads": 4, "mult": (1, 2, 4)}, "num_heads=4"),
        (
            {"heads": 2, "mult": (1, 2, 4), "new_order": True},
            "num_heads=2 use_new_attention_order=True",
        ),
        ({"heads": 4, "mult": (1, 2, 4), "updown": False, "film": False, "out": 3}, "num_heads=4"),
        ({"mult": (1, 2, 4), "time": 64}, "num_head_channels=32"),
    ],
    ids=[
        "guided",
        "new order",
        "improved lsun",
        "improved",
        "middle attention only",
        "heads of several sizes",
        "heads of several sizes in the new order",
        "heads of several sizes, improved",
        "a wide timestep",
    ],
)
def test_openai_networks_draw_the_same(
    options: dict[str, Any], config: str, tmp_path: Path
) -> None:
    truth = randomise(
        AdmNetwork(**{"ch": 32, "mult": (1, 2, 2), "layers": 1, "attends": {1, 2}} | options)
    )
    torch.save(truth.state_dict(), tmp_path / "ema_0.9999_500000.pt")
    config = config if "image_size" in config else f"image_size=16,{config}"
    model = convert_folder(tmp_path / "ema_0.9999_500000.pt", tmp_path / "out", config=config)
    assert gap(model.unet, truth) < 1e-5
    beyond = {"heads", "time"} & options.keys() and "mult" in options
    assert type(model.unet).__name__ == ("AdmUnet" if beyond else "UNet2DModel")
    cosine = model.scheduler_config.beta_schedule == "squaredcos_cap_v2"
    assert cosine == ("cosine" in config)


def test_class_conditional_networks_of_openai_draw_the_same(tmp_path: Path) -> None:
    truth = randomise(AdmNetwork(32, (1, 2), 1, {1}, classes=10))
    torch.save(truth.state_dict(), tmp_path / "m.pt")
    hints = "image_size=16,num_head_channels=32"
    model = convert_folder(tmp_path / "m.pt", tmp_path / "out", config=hints)
    assert gap(model.unet, truth, torch.tensor([7, 0])) < 1e-5
    assert model.unet_config.num_class_embeds == 10


def meta_adm(name: str) -> dict[str, Tensor]:
    """The weights of a published checkpoint, by the flags that its README gives, without memory."""
    flags: dict[str, Any] = {
        "lsun_bedroom": dict(ch=256, mult=(1, 1, 2, 2, 4, 4), layers=2, attends={3, 4, 5}, head=64),
        "64x64_diffusion": dict(
            ch=192, mult=(1, 2, 3, 4), layers=3, attends={1, 2, 3}, head=64, classes=1000
        ),
        "cifar10_uncond_50M_500K": dict(
            ch=128, mult=(1, 2, 2, 2), layers=3, attends={1, 2}, heads=4, updown=False
        ),
        "lsun_uncond_100M_1200K_bs128": dict(
            ch=128,
            mult=(1, 1, 2, 2, 4, 4),
            layers=2,
            attends={4},
            heads=1,
            updown=False,
            film=False,
        ),
        "imagenet64_uncond_100M_1500K": dict(
            ch=128, mult=(1, 2, 3, 4), layers=3, attends={2, 3}, heads=4, updown=False
        ),
        "128x128_diffusion": dict(
            ch=256, mult=(1, 1, 2, 3, 4), layers=2, attends={2, 3, 4}, heads=4, classes=1000
        ),
        "512x512_diffusion": dict(
            ch=128,
            mult=(1, 2, 2, 4, 4, 8, 8),
            layers=2,
            attends={4, 5, 6},
            head=64,
            classes=1000,
            time=256,
        ),
    }[name]
    with torch.device("meta"):
        return AdmNetwork(**flags).state_dict()


@pytest.mark.parametrize(
    ("name", "size", "head", "millions"),
    [
        ("lsun_bedroom", 256, 64, 553),
        ("64x64_diffusion", 64, 64, 296),
        ("cifar10_uncond_50M_500K", 32, 64, 53),
        ("lsun_uncond_100M_1200K_bs128", 256, 512, 114),
    ],
)
def test_published_openai_checkpoints_are_known_by_their_shapes(
    name: str, size: int, head: int, millions: int
) -> None:
    foreign = adm.read(meta_adm(name), name, Hints())
    config = foreign.unet_config
    assert (config.sample_size, config.attention_head_dim) == (size, head)
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in build_network(config).parameters())
    assert parameters == sum(weight.numel() for weight in foreign.weights.values())
    assert round(parameters / 1e6) == millions  # as the papers count
    assert foreign.known is not None


@pytest.mark.parametrize(
    ("name", "size", "heads", "millions"),
    [
        ("imagenet64_uncond_100M_1500K", 64, 4, 121),
        ("128x128_diffusion", 128, 4, 422),
        ("512x512_diffusion", 512, None, 559),
    ],
)
def test_published_openai_checkpoints_beyond_diffusers_are_known_too(
    name: str, size: int, heads: int | None, millions: int
) -> None:
    state = meta_adm(name)
    foreign = adm.read(state, name, Hints())
    config = foreign.unet_config
    assert isinstance(config, AdmConfig) and foreign.known == name
    assert (config.sample_size, config.num_heads) == (size, heads)
    with torch.device("meta"):
        ours = AdmUnet(**config.to_dict()).state_dict()
    assert {k: w.shape for k, w in ours.items()} == {k: w.shape for k, w in state.items()}
    assert round(sum(weight.numel() for weight in ours.values()) / 1e6) == millions


def test_a_network_beyond_diffusers_inverts_and_morphs_as_any_other(tmp_path: Path) -> None:
    from ddim_interp import DDIMPipeline, Plan

    net = randomise(AdmNetwork(32, (1, 2), 1, {0, 1}, heads=2, classes=3))
    torch.save(net.state_dict(), tmp_path / "m.pt")
    hints = "image_size=16 num_heads=2 objective=pred_v"
    convert_folder(tmp_path / "m.pt", tmp_path / "out", config=hints)
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert index["unet"] == ["ddim_interp", "AdmUnet"]
    pipe = DDIMPipeline.from_pretrained(tmp_path / "out", device="cpu", class_label=1)
    pipe.set_progress_bar_config(disable=True)
    classes = torch.tensor([1, 2])
    with torch.inference_mode():
        largest = float(net(X, T, classes).abs().max())
    assert gap(pipe.unet, net, classes) < 1e-5 * largest
    assert len(list(pipe.morph(["seed:1", "seed:2"], plan=Plan(3), frames=3).draw())) == 3
    assert len(pipe(num_inference_steps=2).images) == 1
    facts = portray(Located(tmp_path / "out", "it"))
    assert (facts["network"], facts["attention"]) == ("AdmUnet", "yes, yes; 2 heads")
    assert facts["predicts"] == "v_prediction, and its variance, which goes unused"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_heads": None}, "give one of them"),
        ({"num_heads": 5}, "cannot be cut into equal heads by num_heads=5"),
        ({"attention": [True]}, "has 2 entries, so give 2"),
        ({"block_out_channels": [32, 40]}, "cannot be split into 32 groups"),
        ({"layers_per_block": 2}, "missing"),
        ({"dropout": 0.1}, "'dropout' is not an option of AdmUnet"),
    ],
)
def test_a_config_beyond_diffusers_is_read_strictly(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    torch.save(AdmNetwork(32, (1, 2), 1, {0, 1}, heads=2).state_dict(), tmp_path / "m.pt")
    convert_folder(tmp_path / "m.pt", tmp_path / "out", config="image_size=16 num_heads=2")
    path = tmp_path / "out/unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=says):
        read_checkpoint(tmp_path / "out")


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ModelError, match="384, 512 channels, which 5 heads cannot share equally"):
        name = "imagenet64_uncond_100M_1500K"
        adm.read(meta_adm(name), name, Hints(image_size=64, num_heads=5))


def test_a_table_told_in_thousandths_keeps_the_levels_of_the_long_table() -> None:
    name = "cifar10_uncond_50M_500K"
    schedule = NoiseSchedule.from_config(adm.read(meta_adm(name), name, Hints()).scheduler_config)
    signal = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    truth = 1.0
    for i in range(4000):
        truth *= 1 - min(1 - signal((i + 1) / 4000) / signal(i / 4000), 0.999)
        if i % 4 == 0:
            assert schedule.alphas_cumprod[i // 4] == pytest.approx(truth, rel=1e-4)
    assert schedule.num_train_timesteps == 1000


# What cannot be converted ends in one line


def drop(state: dict[str, Tensor], name: str) -> None:
    del state[name]


def add(state: dict[str, Tensor], name: str) -> None:
    state["surplus.weight"] = torch.ones(1)


def bend(state: dict[str, Tensor], name: str) -> None:
    state[name] = state[name][:-1]


def spoil(state: dict[str, Tensor], name: str) -> None:
    state[name] = state[name] * torch.nan


@pytest.mark.parametrize(
    ("layout", "change", "says"),
    [
        ("ho", drop, "1 missing"),
        ("ho", add, r"1 unexpected \(surplus.weight\)"),
        ("ho", bend, "1 misshapen"),
        ("ho", spoil, "NaN or infinity"),
        ("adm", drop, "1 missing"),
        ("adm", add, r"1 unexpected \(surplus.weight\)"),
        ("adm", bend, "1 misshapen"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    ho: nn.Module, layout: str, change: Any, says: str, tmp_path: Path, monkeypatch: Any
) -> None:
    net = ho if layout == "ho" else randomise(AdmNetwork(32, (1, 2), 1, {1}))
    state = dict(net.state_dict())
    change(state, "mid.block_2.conv2.bias" if layout == "ho" else "middle_block.2.in_layers.2.bias")
    torch.save(state, tmp_path / "m.pt")
    if change is spoil:  # the real way: NaN is found where the child's tensors are read
        monkeypatch.undo()
    config = None if layout == "ho" else "image_size=16,num_head_channels=32"
    with pytest.raises(ModelError, match=says) as refusal:
        convert_folder(tmp_path / "m.pt", tmp_path / "out", config=config)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ModelError, match="found nothing"):
        (tmp_path / "out").mkdir(exist_ok=True)
        read_checkpoint(tmp_path / "out")


@pytest.mark.parametrize("anchor", ["mid.attn_1.q.weight", "middle_block.1.qkv.weight"])
def test_a_stump_of_a_network_is_refused_in_one_line(anchor: str, tmp_path: Path) -> None:
    blocks = {
        "input_blocks.0.0.weight": torch.ones(8, 3, 3, 3),
        "output_blocks.0.0.x": torch.ones(1),
    }
    torch.save({anchor: torch.ones(8, 8, 1)} | blocks, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="lacks layers"):
        convert_folder(tmp_path / "m.pt", tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("ffhq", "'ffhq' says nothing about a checkpoint"),
        ("image_size=many", "a whole number above 0"),
        ("noise_schedule=wild", "one of linear, cosine"),
        ("colour=blue", "says nothing"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(
    ho: nn.Module, config: str, says: str, tmp_path: Path
) -> None:
    torch.save(ho.state_dict(), tmp_path / "m.pt")
    with pytest.raises(ArgumentError, match=says):
        convert_folder(tmp_path / "m.pt", tmp_path / "out", config=config)


def test_what_nobody_said_is_asked_for(tmp_path: Path) -> None:
    torch.save(AdmNetwork(32, (1, 2), 1, {1}).state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="how many attention heads"):
        convert_folder(tmp_path / "m.pt", tmp_path / "out")
    with pytest.raises(ModelError, match="how large its pictures"):
        convert_folder(tmp_path / "m.pt", tmp_path / "out", config="num_heads=2")


def test_super_resolution_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save(AdmNetwork(32, (1, 2), 1, {1}, in_channels=6).state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="enlarges small pictures"):
        convert_folder(tmp_path / "m.pt", tmp_path / "out")


# lucidrains/denoising-diffusion-pytorch, release 2


class Rms(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, n, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True) * self.g * math.sqrt(x.shape[1])


class LucidResnet(nn.Module):
    def __init__(self, n: int, out: int, time: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out))
        self.block1 = group(proj=nn.Conv2d(n, out, 3, padding=1), norm=Rms(out))
        self.block2 = group(proj=nn.Conv2d(out, out, 3, padding=1), norm=Rms(out))
        self.res_conv = nn.Conv2d(n, out, 1) if n != out else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.mlp(t)[..., None, None].chunk(2, dim=1)
        h = F.silu(self.block1.norm(self.block1.proj(x)) * (scale + 1) + shift)
        return F.silu(self.block2.norm(self.block2.proj(h))) + self.res_conv(x)


class LucidAttention(nn.Module):
    def __init__(self, n: int, full: bool, heads: int = 2, d: int = 8) -> None:
        super().__init__()
        self.full, self.heads, self.d = full, heads, d
        self.norm = Rms(n)
        self.mem_kv = nn.Parameter(torch.randn(*((2, heads, 4, d) if full else (2, heads, d, 4))))
        self.to_qkv = nn.Conv2d(n, 3 * heads * d, 1, bias=False)
        out = nn.Conv2d(heads * d, n, 1)
        self.to_out = out if full else nn.Sequential(out, Rms(n))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        split = lambda y: y.reshape(batch, self.heads, self.d, height * width)  # noqa: E731
        q, k, v = map(split, self.to_qkv(self.norm(x)).chunk(3, dim=1))
        if self.full:
            mk, mv = (m.expand(batch, -1, -1, -1).mT for m in self.mem_kv)
            k, v = torch.cat((mk, k), -1), torch.cat((mv, v), -1)
            weights = (torch.einsum("bhdi,bhdj->bhij", q, k) * self.d**-0.5).softmax(-1)
            out = torch.einsum("bhij,bhdj->bhdi", weights, v)
        else:
            mk, mv = (m.expand(batch, -1, -1, -1) for m in self.mem_kv)
            k, v = torch.cat((mk, k), -1).softmax(-1), torch.cat((mv, v), -1)
            context = torch.einsum("bhdn,bhen->bhde", k, v)
            out = torch.einsum("bhde,bhdn->bhen", context, q.softmax(-2) * self.d**-0.5)
        return self.to_out(out.reshape(batch, -1, height, width))


class Fold(nn.Module):
    """2×2 pixels into channels: (c p1 p2) in this order."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return x.reshape(b, 4 * c, h // 2, w // 2)


class LucidNetwork(nn.Module):
    def __init__(
        self, dim: int = 16, mults: tuple[int, ...] = (1, 2, 4), channels: int = 3, out: int = 3
    ) -> None:
        super().__init__()
        self.dim, time = dim, 4 * dim
        dims = [dim, *(dim * m for m in mults)]
        pairs = list(itertools.pairwise(dims))
        self.init_conv = nn.Conv2d(channels, dim, 7, padding=3)
        self.time_mlp = nn.Sequential(
            nn.Identity(), nn.Linear(dim, time), nn.GELU(), nn.Linear(time, time)
        )
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, (n, to) in enumerate(pairs):
            bottom = i == len(pairs) - 1
            down = nn.Sequential(Fold(), nn.Conv2d(4 * n, to, 1))
            self.downs.append(
                nn.ModuleList(
                    [
                        LucidResnet(n, n, time),
                        LucidResnet(n, n, time),
                        LucidAttention(n, full=bottom),
                        nn.Conv2d(n, to, 3, padding=1) if bottom else down,
                    ]
                )
            )
        self.mid_block1 = LucidResnet(dims[-1], dims[-1], time)
        self.mid_attn = LucidAttention(dims[-1], full=True)
        self.mid_block2 = LucidResnet(dims[-1], dims[-1], time)
        for i, (n, to) in enumerate(reversed(pairs)):
            top = i == len(pairs) - 1
            conv = nn.Conv2d(to, n, 3, padding=1)
            self.ups.append(
                nn.ModuleList(
                    [
                        LucidResnet(to + n, to, time),
                        LucidResnet(to + n, to, time),
                        LucidAttention(to, full=i == 0),
                        conv if top else nn.Sequential(nn.Upsample(scale_factor=2), conv),
                    ]
                )
            )
        self.final_res_block = LucidResnet(2 * dim, dim, time)
        self.final_conv = nn.Conv2d(dim, out, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        r = x = self.init_conv(x)
        t = self.time_mlp(spread(t, self.dim, 1, False))
        h = []
        for block1, block2, attn, resample in self.downs:
            x = block1(x, t)
            h.append(x)
            x = block2(x, t)
            x = attn(x) + x
            h.append(x)
            x = resample(x)
        x = self.mid_block1(x, t)
        x = self.mid_block2(self.mid_attn(x) + x, t)
        for block1, block2, attn, resample in self.ups:
            x = block2(torch.cat((block1(torch.cat((x, h.pop()), 1), t), h.pop()), 1), t)
            x = resample(attn(x) + x)
        return self.final_conv(self.final_res_block(torch.cat((x, r), 1), t))


def trainer_file(net: nn.Module, raw: nn.Module, objective: str, steps: int = 50) -> dict[str, Any]:
    """What the Trainer saves: a sigmoid-like schedule and the loss's weights are buffers."""
    betas = torch.linspace(0.002, 0.3, steps)
    alphas_cumprod = (1 - betas).cumprod(0)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    weight = {"epsilon": snr / snr, "sample": snr, "v_prediction": snr / (snr + 1)}[objective]
    buffers = {"betas": betas, "alphas_cumprod": alphas_cumprod, "loss_weight": weight}

    def diffusion(network: nn.Module, prefix: str) -> dict[str, Tensor]:
        state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
        return {f"{prefix}{name}": tensor for name, tensor in (buffers | state).items()}

    ema = diffusion(raw, "online_model.") | diffusion(net, "ema_model.")
    return {
        "step": 700000,
        "model": diffusion(raw, ""),
        "opt": {"state": {0: {"step": torch.tensor(9.0), "exp_avg": torch.zeros(4)}}},
        "ema": ema | {"initted": torch.tensor(True), "step": torch.tensor(7)},
        "scaler": None,
        "version": "2.1.1",
    }


LUCID = randomise(LucidNetwork())
RAW = randomise(LucidNetwork(), seed=1)


@pytest.mark.parametrize("objective", ["epsilon", "sample", "v_prediction"])
def test_lucidrains_networks_draw_the_same(objective: str, tmp_path: Path) -> None:
    torch.save(trainer_file(LUCID, RAW, objective), tmp_path / "model-10.pt")
    model = convert_folder(tmp_path / "model-10.pt", tmp_path / "out", config="image_size=16")
    assert gap(model.unet, LUCID) < 1e-5
    schedule = model.scheduler_config
    assert (schedule.prediction_type, schedule.num_train_timesteps) == (objective, 50)
    found = NoiseSchedule.from_config(schedule).alphas_cumprod
    assert found == pytest.approx((1 - torch.linspace(0.002, 0.3, 50)).cumprod(0).tolist())
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    assert index["unet"] == ["ddim_interp", "LucidUnet"]


def test_a_lucidrains_model_inverts_and_morphs_as_any_other(tmp_path: Path) -> None:
    from ddim_interp import DDIMPipeline, Plan

    torch.save(trainer_file(LUCID, RAW, "v_prediction"), tmp_path / "m.pt")
    convert_folder(tmp_path / "m.pt", tmp_path / "out", config="image_size=16")
    pipe = DDIMPipeline.from_pretrained(tmp_path / "out", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.model.shape == (3, 16, 16)
    assert len(list(pipe.morph(["seed:1", "seed:2"], plan=Plan(3), frames=3).draw())) == 3
    assert len(pipe(num_inference_steps=2).images) == 1
    pipe.save_pretrained(tmp_path / "again")
    again = read_checkpoint(tmp_path / "again").unet.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in LUCID.state_dict().items())


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        (lambda net: None, None, "how large its pictures"),
        (lambda net: None, "image_size=16", "trained to predict"),
        (lambda net: net.pop("mid_attn.mem_kv"), "image_size=16", "before 2.0"),
        (lambda net: net.pop("init_conv.weight"), "image_size=16", "lacks layers"),
        (lambda net: net.pop("mid_block2.mlp.1.bias"), "bare", "1 missing"),
        (lambda net: net.update({"more": torch.ones(1)}), "bare", r"1 unexpected \(more\)"),
        (
            lambda net: net.update({"mid_block2.mlp.1.bias": torch.ones(3)}),
            "bare",
            "1 misshapen",
        ),
        (
            lambda net: net.update({"init_conv.weight": torch.ones(16, 6, 7, 7)}),
            "bare",
            "conditions itself",
        ),
    ],
)
def test_lucidrains_checkpoints_that_cannot_be_used_are_refused_in_one_line(
    change: Any, config: str | None, says: str, tmp_path: Path
) -> None:
    state = dict(LUCID.state_dict())
    change(state)
    torch.save(state, tmp_path / "m.pt")
    config = "image_size=16 objective=pred_v" if config == "bare" else config
    with pytest.raises(ModelError, match=says) as refusal:
        convert_folder(tmp_path / "m.pt", tmp_path / "out", config=config)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": "os.system"}, "this program knows UNet2DModel, LucidUnet, AdmUnet"),
        ({"heads": "many"}, "a whole number from 1 to 1024"),
        (
            {"time_channels": 33},
            "time_channels=33 cannot be used; it must be an even number from 4",
        ),
        ({"depth": 3}, "'depth' is not an option of LucidUnet"),
        ({"full_attention": [True]}, "has 3 entries, so give 3"),
        ({"heads": 3}, "misshapen"),
    ],
)
def test_a_config_names_its_network_strictly(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    torch.save(LUCID.state_dict(), tmp_path / "m.pt")
    hints = "image_size=16 objective=pred_v"
    convert_folder(tmp_path / "m.pt", tmp_path / "out", config=hints)
    path = tmp_path / "out/unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=says):
        read_checkpoint(tmp_path / "out")


# Checkpoints used as they are


def test_a_checkpoint_is_a_model_without_being_converted_first(
    ho: nn.Module, tmp_path: Path
) -> None:
    from ddim_interp import DDIMPipeline, Plan, UNet2DModel as Face

    file = tmp_path / "ckpt.pth"
    torch.save(ho.state_dict(), file)
    (tmp_path / "config.yml").write_text("data:\n  image_size: 16\n")
    pipe = DDIMPipeline.from_pretrained(file, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    truth = ho(X, T)
    for unet in (pipe.unet, Face.from_pretrained(file)):
        assert (unet(X, T).sample - truth).abs().max() < 1e-5 * truth.abs().max()
    assert pipe.model.shape == (3, 16, 16)
    folder = convert_folder(file, tmp_path / "out")
    assert folder.weights_sha256 == pipe.weights_sha256  # latents of the one are the other's
    recipe = pipe.morph(["seed:1", "seed:2"], plan=Plan(2), frames=2).recipe()
    assert recipe["model"] == "ckpt.pth"
    (tmp_path / "config.yml").unlink()
    large = DDIMPipeline.from_pretrained(file, device="cpu", config="image_size=64")
    assert large.model.shape == (3, 64, 64)
    with pytest.raises(ArgumentError, match="config of its own; drop it"):
        DDIMPipeline.from_pretrained(tmp_path / "out", config="church")
    runner = CliRunner()
    shown = runner.invoke(cli, ["models", "show", str(file), "--json"])
    assert json.loads(shown.stdout)["pictures"] == "3×32×32"
    command = ["sample", "--seeds", "1", "--steps", "2", "--model", str(file), "-q"]
    assert runner.invoke(cli, [*command, "-o", str(tmp_path / "a.png")]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["out"]


def test_a_checkpoint_that_says_too_little_of_itself_says_what_to_do(tmp_path: Path) -> None:
    from ddim_interp import DDIMPipeline

    torch.save(AdmNetwork(32, (1, 2), 1, {1}).state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="how many attention heads") as refusal:
        DDIMPipeline.from_pretrained(tmp_path / "m.pt")
    assert "an argument of from_pretrained" in refusal.value.__notes__[0]


# The command line


class Hostile:
    """A pickle that would run a program."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch taken",)


def test_a_hostile_checkpoint_is_refused_in_one_line(
    ho: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real walls
    torch.save([ho.state_dict(), Hostile()], tmp_path / "ckpt.pth")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="asks for more than tensors") as refusal:
        convert_folder("ckpt.pth", "out")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pth"]


def test_the_command_says_what_it_took_for_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = AdmNetwork(32, (1, 2), 1, {1})
    torch.save(net.state_dict(), tmp_path / "m.pt")
    monkeypatch.setitem(adm._BY_SHAPE, ((32, 64), 1), "lsun_cat")
    monkeypatch.setitem(adm.PUBLISHED, "lsun_cat", Hints(image_size=16, num_head_channels=32))
    command = ["models", "convert", str(tmp_path / "m.pt"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'out'}\n"
    assert "was taken for lsun_cat" in result.stderr
    again = [*command, "--overwrite", "--config", "image_size=8 num_heads=1", "--json"]
    result = CliRunner().invoke(cli, again)
    assert json.loads(result.stdout)["outputs"] == [str(tmp_path / "out")] and not result.stderr
    config = read_checkpoint(tmp_path / "out").unet.config
    assert (config.sample_size, config.to_dict()["attention_head_dim"]) == (8, 64)
