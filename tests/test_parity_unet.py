"""The network is diffusers' UNet2DModel, for every option both have."""

import json
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from ddim_interp.errors import ModelError
from ddim_interp.unet import UNet2DModel, UNetConfig, count_flops, modern_keys

diffusers = pytest.importorskip("diffusers")

DOWN = ["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]
SKIP_DOWN = ["SkipDownBlock2D", "AttnSkipDownBlock2D"]
UP = ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]
SKIP_UP = ["SkipUpBlock2D", "AttnSkipUpBlock2D"]

CIFAR10 = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
PIXELS_256 = CIFAR10 | {
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "sample_size": 256,
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
NCSNPP_256 = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 128, 256, 256, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": [*["SkipDownBlock2D"] * 4, "AttnSkipDownBlock2D", *["SkipDownBlock2D"] * 2],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1.41421356237,
    "norm_eps": 1e-06,
    "norm_num_groups": None,
    "out_channels": 3,
    "sample_size": 1024,
    "time_embedding_type": "fourier",
    "up_block_types": [*["SkipUpBlock2D"] * 2, "AttnSkipUpBlock2D", *["SkipUpBlock2D"] * 4],
}
SMALL = {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8}
HUB = {
    "google/ddpm-cifar10-32": CIFAR10,
    "google/ddpm-celebahq-256": PIXELS_256,
    "google/ddpm-church-256": PIXELS_256,
    "fusing/ddim-lsun-bedroom": PIXELS_256,
    "block names of 2022": PIXELS_256
    | {
        "down_block_types": [f"UNetRes{kind}" for kind in PIXELS_256["down_block_types"]],
        "up_block_types": [f"UNetRes{kind}" for kind in PIXELS_256["up_block_types"]],
    },
    "google/ncsnpp-celebahq-256": NCSNPP_256,
    "scale-shift, resnet resampling": PIXELS_256
    | {
        "attention_head_dim": 64,
        "down_block_types": [*["ResnetDownsampleBlock2D"] * 4, *["AttnDownBlock2D"] * 2],
        "downsample_type": "resnet",
        "norm_eps": 1e-05,
        "resnet_time_scale_shift": "scale_shift",
        "up_block_types": [*["AttnUpBlock2D"] * 2, *["ResnetUpsampleBlock2D"] * 4],
        "upsample_type": "resnet",
    },
    "class-conditional": CIFAR10 | {"num_class_embeds": 10},
}


def draw(seed: int) -> dict[str, Any]:
    """Draw a config that makes sense, with every option in play."""
    pick = random.Random(seed)
    blocks = pick.randint(1, 3)
    skips = pick.random() < 0.35
    downs, ups = pick.choices(DOWN, k=blocks), pick.choices(UP, k=blocks)
    if skips:  # a picture runs beside the first blocks down, and beside the last ones up
        beside = pick.randint(1, blocks)
        downs[:beside] = pick.choices(SKIP_DOWN, k=beside)
        beside = pick.randint(1, blocks)
        ups[-beside:] = pick.choices(SKIP_UP, k=beside)
    if skips:
        channels, groups = pick.choices([32, 64], k=blocks), pick.choice([8, 16, 32])
    else:
        channels, groups = pick.choices([8, 12, 16, 24], k=blocks), pick.choice([1, 2, 4])
    if skips and {*downs, *ups} <= {*SKIP_DOWN, *SKIP_UP} and pick.random() < 0.5:
        groups = None
    pictures = not skips or (pick.random() < 0.3 and blocks == 1)
    return {
        "sample_size": pick.choice([None, 16, [16, 8]]),
        "in_channels": pick.choice([1, 3, 4]) if pictures else 3,
        "out_channels": pick.choice([1, 3, 6]) if pictures else 3,
        "center_input_sample": pick.random() < 0.3,
        "time_embedding_type": pick.choice(["positional", "positional", "fourier", "learned"]),
        "time_embedding_dim": pick.choice([None, 20]),
        "freq_shift": pick.choice([0, 1, 0.5]),
        "flip_sin_to_cos": pick.random() < 0.5,
        "down_block_types": downs,
        "mid_block_type": pick.choice(["UNetMidBlock2D", "UNetMidBlock2D", None]),
        "up_block_types": ups,
        "block_out_channels": channels,
        "layers_per_block": pick.randint(1, 2),
        "mid_block_scale_factor": pick.choice([1, 1.41421356, 0.5]),
        "downsample_padding": pick.choice([0, 1]),
        "downsample_type": pick.choice(["conv", "resnet"]),
        "upsample_type": pick.choice(["conv", "resnet"]),
        "dropout": pick.choice([0.0, 0.1]),
        "act_fn": pick.choice(["silu", "swish", "mish", "gelu", "relu"]),
        "attention_head_dim": pick.choice([None, 4, 5, 8]),
        "norm_num_groups": groups,
        "attn_norm_num_groups": pick.choice([None, None, 4]),
        "norm_eps": pick.choice([1e-5, 1e-6]),
        "resnet_time_scale_shift": pick.choice(["default", "scale_shift"]),
        "add_attention": pick.random() < 0.7,
        "class_embed_type": pick.choice([None, None, "timestep", "identity"]),
        "num_class_embeds": pick.choice([None, 5]),
        "num_train_timesteps": 1000,
    }


def pair(config: dict[str, Any], seed: int = 0) -> tuple[UNet2DModel, Any]:
    """Ours and theirs, with the same random weights, neither of them ones or zeros."""
    ours = UNet2DModel(**config).eval()
    theirs = diffusers.UNet2DModel.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def labels_for(config: UNetConfig, count: int) -> Tensor | None:
    if config.class_embed_type == "identity":
        return torch.linspace(-1, 1, count * config.time_channels).view(count, -1)
    if config.class_embed_type is None and config.num_class_embeds is None:
        return None
    return torch.arange(1, count + 1)


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, in units of the largest value."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("seed", range(240))
def test_any_config_predicts_as_in_diffusers(seed: int) -> None:
    config = draw(seed)
    torch.manual_seed(seed)
    ours, theirs = pair(config, seed)
    theirs.load_state_dict(ours.state_dict(), strict=True)

    pick = random.Random(seed)
    count, side = pick.randint(1, 3), 2**ours.config.halvings
    sample = torch.randn(
        count, ours.config.in_channels, side * pick.randint(2, 3), side * pick.randint(2, 3)
    )
    fractional = ours.config.time_embedding_type != "learned"
    timestep = pick.choice(
        [
            pick.randint(1, 999),
            torch.tensor(pick.randint(1, 999)),
            torch.randint(1, 1000, (count,)),
            *(
                [torch.tensor(pick.uniform(1, 999)), 1 + 998 * torch.rand(count)]
                if fractional
                else []
            ),
        ]
    )
    labels = labels_for(ours.config, count)
    with torch.inference_mode():
        assert gap(ours(sample, timestep, labels), theirs(sample, timestep, labels).sample) < 1e-5


@pytest.mark.parametrize("seed", range(0, 240, 4))
def test_in_float64_nothing_but_rounding_is_left_even_of_two_pixels(seed: int) -> None:
    config = draw(seed)
    if config["class_embed_type"] == "timestep":
        config["class_embed_type"] = None  # theirs is float32 only
    ours, theirs = (model.double() for model in pair(config, seed))
    side = 2**ours.config.halvings
    sample = torch.randn(2, ours.config.in_channels, side, 2 * side, dtype=torch.float64)
    labels = labels_for(ours.config, 2)
    if config["class_embed_type"] == "identity":
        labels = labels.double()
    with torch.inference_mode():
        assert gap(ours(sample, 333, labels), theirs(sample, 333, labels).sample) < 1e-10


def test_drawn_configs_use_every_option_both_ways() -> None:
    drawn = [UNetConfig.from_mapping(draw(seed)) for seed in range(240)]
    for key in vars(UNetConfig()):
        if key != "num_train_timesteps":
            assert len({getattr(config, key) for config in drawn}) > 1, key
    kinds = {kind for c in drawn for kind in (*c.down_block_types, *c.up_block_types)}
    assert kinds == {*DOWN, *SKIP_DOWN, *UP, *SKIP_UP}


def runs(build: Any, config: dict[str, Any]) -> bool:
    """Whether a network can be built and run on a picture of the right size."""
    try:
        model = build(config)
        side = 4 * 2 ** (len(config["block_out_channels"]) - 1)
        model(torch.zeros(2, config["in_channels"], side, side), 1)
    except (ModelError, ValueError, RuntimeError, TypeError, ZeroDivisionError):
        return False
    return True


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # theirs, without heads
@pytest.mark.parametrize("seed", range(90))
def test_a_config_is_refused_exactly_if_diffusers_cannot_run_it(seed: int) -> None:
    pick = random.Random(seed)
    blocks = pick.randint(1, 3)
    config = {
        "in_channels": pick.choice([*[3] * 6, 1]),
        "out_channels": pick.choice([*[3] * 6, 1]),
        "down_block_types": pick.choices([*DOWN, *SKIP_DOWN, *SKIP_DOWN], k=blocks),
        "up_block_types": pick.choices([*UP, *SKIP_UP, *SKIP_UP], k=blocks),
        "block_out_channels": pick.choices([*[32, 64] * 5, 24, 3], k=blocks),
        "layers_per_block": 1,
        "mid_block_type": pick.choice(["UNetMidBlock2D", None]),
        "norm_num_groups": pick.choice([*[8, 32] * 4, 5, None]),
        "attn_norm_num_groups": pick.choice([*[None, 8] * 4, 7]),
        "attention_head_dim": pick.choice([*[None, 8] * 4, 40]),
        "resnet_time_scale_shift": pick.choice(["default", "scale_shift"]),
        "add_attention": pick.random() < 0.7,
    }
    ours = runs(lambda options: UNet2DModel(**options), config)
    assert ours == runs(diffusers.UNet2DModel.from_config, config)


@pytest.mark.parametrize("name", HUB)
def test_models_of_the_hub_have_the_same_weights_in_the_same_order(name: str) -> None:
    with torch.device("meta"):
        ours = UNet2DModel(**HUB[name]).state_dict()
        theirs = diffusers.UNet2DModel.from_config(HUB[name]).state_dict()
    assert [(key, w.shape) for key, w in ours.items()] == [
        (key, w.shape) for key, w in theirs.items()
    ]


@pytest.mark.parametrize("name", HUB)
def test_models_of_the_hub_predict_as_in_diffusers_when_narrowed(name: str) -> None:
    narrow = {"block_out_channels": [width // 4 for width in HUB[name]["block_out_channels"]]}
    if HUB[name]["norm_num_groups"] is not None:
        narrow |= {"norm_num_groups": 8}
    if HUB[name]["time_embedding_type"] == "fourier":  # Skip blocks with attention need 32 groups
        narrow |= {"block_out_channels": [32, 32, 64, 64, 64, 64, 64]}
    if HUB[name]["attention_head_dim"] is not None:
        narrow |= {"attention_head_dim": 16}
    ours, theirs = pair(HUB[name] | narrow)
    side = 2**ours.config.halvings
    sample, labels = torch.randn(2, 3, side, side), labels_for(ours.config, 2)
    with torch.inference_mode():
        assert gap(ours(sample, 500, labels), theirs(sample, 500, labels).sample) < 1e-5


@pytest.mark.parametrize("name", ["google/ddpm-cifar10-32", "scale-shift, resnet resampling"])
def test_the_same_seed_makes_the_same_new_network(name: str) -> None:
    config = HUB[name] | {"block_out_channels": [64] * len(HUB[name]["block_out_channels"])}
    torch.manual_seed(5)
    ours = UNet2DModel(**config).state_dict()
    torch.manual_seed(5)
    theirs = diffusers.UNet2DModel.from_config(config).state_dict()
    for key in theirs:
        assert torch.equal(ours[key], theirs[key]), key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes_agree_to_their_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours, theirs = (model.to(dtype) for model in pair(CIFAR10 | SMALL))
    sample, timestep = torch.randn(2, 3, 16, 16, dtype=dtype), torch.tensor(300.5)
    with torch.inference_mode():
        assert (
            gap(ours(sample, timestep), theirs(sample, timestep).sample)
            < 32 * torch.finfo(dtype).eps
        )


def test_both_learn_the_same_from_the_same_picture() -> None:
    torch.manual_seed(0)
    ours, theirs = (model.double() for model in pair(CIFAR10 | SMALL))
    sample = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    ours(sample, 7).square().mean().backward()
    theirs(sample, 7).sample.square().mean().backward()
    for (name, mine), their in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None and torch.allclose(mine.grad, their.grad, atol=1e-12), name


def test_old_attention_names_load() -> None:
    ours, theirs = pair(draw(11) | {"add_attention": True, "mid_block_type": "UNetMidBlock2D"})
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, weight in theirs.state_dict().items():
        for new, name in old_names.items():
            key = key.replace(f".{new}.", f".{name}.")
        old[key] = weight
    assert "mid_block.attentions.0.query.weight" in old
    theirs._fix_state_dict_keys_on_load(expected := dict(old))
    assert modern_keys(old).keys() == expected.keys()
    ours.load_state_dict(modern_keys(old), strict=True)


@pytest.mark.parametrize("name", HUB)
def test_a_config_we_write_is_diffusers_own(
    name: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ours = UNetConfig.from_mapping(HUB[name]).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(ours))
    loaded = diffusers.UNet2DModel.load_config(tmp_path)
    with torch.device("meta"):
        model, unused = diffusers.UNet2DModel.from_config(loaded, return_unused_kwargs=True)
    assert unused.keys() == {"_class_name"} and not caplog.records
    theirs = json.loads(model.to_json_string())
    del theirs["_diffusers_version"]
    theirs.pop("_name_or_path", None)
    assert theirs == ours


def test_flops_are_those_of_the_same_network_in_diffusers() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        theirs = diffusers.UNet2DModel.from_config(CIFAR10)
        theirs(torch.empty(1, 3, 32, 32), torch.zeros(1))
        ours = UNet2DModel(**CIFAR10)
    assert count_flops(ours, 32, 32) == counter.get_total_flops()


def test_a_network_of_anothers_config_and_positional_options_are_diffusers() -> None:
    from ddim_interp import UNet2DModel as Face

    theirs = diffusers.UNet2DModel(16, 1, 1, block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
    ours = Face.from_config(theirs.config)
    assert ours.config.sample_size == ours.config["sample_size"] == 16
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert Face(16, 1, 1, block_out_channels=(8, 8, 8, 8), norm_num_groups=4).config == ours.config
