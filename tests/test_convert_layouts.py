"""Do other people's checkpoints draw here what they draw at home?

Each layout is stated again below, small and with its own attribute names, as its authors published
it: what `torch.save` writes of it is a checkpoint of the true names and shapes, and what its
forward computes is the truth that the converted network is held to.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.checkpoint import read_checkpoint
from ddim_interp.convert import adm, checkpoint_file, convert_folder, ermongroup
from ddim_interp.convert.hints import Hints
from ddim_interp.convert.unpickle_child import extract
from ddim_interp.errors import ArgumentError, ModelError
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
    ) -> None:
        super().__init__()
        self.ch, time = ch, 4 * ch

        def res(n: int, to: int, sample: str = "") -> nn.Module:
            return AdmResnet(n, to, time, film, sample)

        def attention(n: int) -> nn.Module:
            return AdmAttention(n, heads or n // head, new_order)

        self.time_embed = nn.Sequential(nn.Linear(ch, time), nn.SiLU(), nn.Linear(time, time))
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
        emb = self.time_embed(spread(t, self.ch, 0, True))
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
    ],
    ids=["guided", "new order", "improved lsun", "improved", "middle attention only"],
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
    assert config.parameters == sum(weight.numel() for weight in foreign.weights.values())
    assert round(config.parameters / 1e6) == millions  # as the papers count
    assert foreign.known is not None


def test_heads_of_several_sizes_are_refused_with_the_reason() -> None:
    name = "imagenet64_uncond_100M_1500K"
    with pytest.raises(ModelError, match="4 heads in attention layers of 384, 512 channels"):
        adm.read(meta_adm(name), name, Hints())


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
