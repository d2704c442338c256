"""What the network promises by itself: its laws, its costs, and the configs it refuses."""

import copy
import json
import math
import pickle
import random
from dataclasses import FrozenInstanceError, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddim_interp.adm import AdmUnet
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.lucid import LucidUnet
from ddim_interp.unet import UNet2DModel, UNetConfig, check_size, count_flops, modern_keys, resnet
from ddim_interp.unet.attention import Attention
from ddim_interp.unet.embedding import Fourier, Learned, Positional
from ddim_interp.unet.resample import CornerConv2d, double_smoothly, halve_smoothly

CIFAR10: dict[str, Any] = {
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-06,
    "sample_size": 32,
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
CELEBAHQ: dict[str, Any] = CIFAR10 | {
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "sample_size": 256,
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
}
SMALL: dict[str, Any] = CIFAR10 | {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8}
SKIPPING: dict[str, Any] = {
    "block_out_channels": [32, 64],
    "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
    "norm_num_groups": None,
    "time_embedding_type": "fourier",
    "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"],
}
WIDE: dict[str, Any] = SMALL | {"block_out_channels": [16, 64, 64, 64], "attention_head_dim": 64}
KINDS = {"plain": SMALL, "skipping": SKIPPING}


def network(config: dict[str, Any], **changes: Any) -> UNet2DModel:
    """A network with random weights, the same in every test."""
    torch.manual_seed(0)
    return UNet2DModel(**config | changes).eval().requires_grad_(False)


def pictures(count: int, side: int = 16) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference, in units of the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


# --- the network -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_does_not_depend_on_the_batch(kind: str) -> None:
    # In float64: how sums are grouped, and so float32's last bits, depends on batch and processor.
    unet, x = network(KINDS[kind]).double(), pictures(5).double()
    t = torch.tensor([1.0, 20.5, 300.0, 777.0, 999.0])
    together = unet(x, t)
    alone = torch.cat([unet(x[i : i + 1], t[i]) for i in range(5)])
    assert gap(alone, together) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_a_timestep_means_the_same_in_every_form(kind: str) -> None:
    unet, x = network(KINDS[kind]), pictures(2)
    forms = [500, 500.0, torch.tensor(500), torch.tensor(500.0), torch.full((2,), 500)]
    forms += [torch.tensor([500.0]), torch.tensor(500.0, dtype=torch.float64)]
    first, *others = (unet(x, form) for form in forms)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("kind", ["positional", "fourier", "learned"])
@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
def test_half_a_timestep_on_is_half_the_way(kind: str, as_tensor: bool) -> None:
    unet = network(SMALL, time_embedding_type=kind, num_train_timesteps=1000).double()
    x = pictures(1).double()
    here, between, there = (
        unet(x, torch.tensor(t, dtype=torch.float64) if as_tensor else t)
        for t in (900.0, 900.5, 901.0)
    )
    step = (there - here).abs().max()
    assert step > 0
    assert (between - (here + there) / 2).abs().max() < 0.25 * step


def test_predictions_move_with_the_timestep_without_jumps() -> None:
    unet, x = network(SMALL), pictures(1)
    start = unet(x, 500.0)
    near, far = (unet(x, 500.0 + step) - start for step in (1 / 64, 1 / 16))
    assert far.norm() / near.norm() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (24, 40)])
def test_sizes_that_pass_the_check_run(size: tuple[int, int]) -> None:
    unet = network(SMALL)
    check_size(unet.config, *size)
    assert unet(torch.zeros(1, 3, *size), 1).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(100, 100), (8, 12), (12, 8), (0, 8), (-8, 8), (1, 1)])
def test_other_sizes_are_refused_with_the_multiple_to_use(size: tuple[int, int]) -> None:
    with pytest.raises(
        ArgumentError, match="cannot be halved 3 times; sides must be multiples of 8"
    ):
        check_size(network(SMALL).config, *size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Either layout is 4e-6 from float64 in the skipping network, on a processor with AVX2.
    [(torch.float32, 4e-6), (torch.bfloat16, 0.06), (torch.float16, 0.01)],
)
def test_layout_and_half_precision_change_only_rounding(
    kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    unet, x = network(KINDS[kind]), pictures(2)
    expected = unet(x, 300.5)
    unet = unet.to(dtype=dtype, memory_format=torch.channels_last)
    x = x.to(dtype=dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        prediction = unet(x, 300.5)
    assert prediction.dtype == dtype == unet.dtype
    assert gap(prediction.float(), expected) < tolerance


def test_how_a_processor_adds_the_timestep_changes_nothing(monkeypatch) -> None:
    unet, x = network(SMALL), pictures(2)
    unet = unet.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    t = torch.tensor([3.0, 700.0])
    with torch.inference_mode():
        by_rows = unet(x.bfloat16(), t)
        monkeypatch.setattr(resnet, "_over_rows", lambda time, _: time)
        assert torch.equal(unet(x.bfloat16(), t), by_rows)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("kind", [*KINDS, "wide heads", "adm", "lucid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_pictures_are_answered_with_none(kind: str, mode: Any, dtype: torch.dtype) -> None:
    unet: nn.Module
    if kind == "adm":
        unet = AdmUnet(block_out_channels=(32,), attention=(True,), layers_per_block=1, num_heads=2)
    elif kind == "lucid":
        unet = LucidUnet(block_out_channels=(8, 16), full_attention=(False, True))
    else:
        unet = network(KINDS.get(kind, WIDE))
    unet = unet.to(dtype, memory_format=torch.channels_last)
    with mode():
        for t in (5.0, torch.zeros(0)):
            y = unet(pictures(0).to(dtype), t)
            assert (len(y), y.shape[2:], y.dtype) == (0, (16, 16), dtype)


def test_the_timestep_keeps_float32_in_a_bfloat16_network() -> None:
    unet = network(SMALL).bfloat16()
    x = pictures(1).bfloat16()
    assert not torch.equal(unet(x, 999.0), unet(x, 998.0))  # one number in bfloat16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own code
def test_compiles_to_one_graph_that_serves_every_timestep() -> None:
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    unet, x = network(SKIPPING, layers_per_block=1), pictures(1)
    fast = torch.compile(unet, backend=backend, fullgraph=True)
    for t in (3.0, 500.5):
        assert gap(fast(x, torch.tensor(t)), unet(x, t)) < 1e-6
    assert len(graphs) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_the_weights_is_in_the_code(kind: str) -> None:
    unet = network(KINDS[kind])
    assert not list(unet.buffers())
    with torch.device("meta"):
        empty = UNet2DModel(**KINDS[kind]).eval()
    empty.load_state_dict(unet.state_dict(), strict=True, assign=True)
    x = pictures(1)
    assert torch.equal(empty(x, 7), unet(x, 7))


def test_copies_and_pickles_predict_the_same() -> None:
    unet, x = network(SKIPPING), pictures(1)
    for twin in (copy.deepcopy(unet), pickle.loads(pickle.dumps(unet))):
        assert twin.config == unet.config and torch.equal(twin(x, 7), unet(x, 7))


def test_dropout_works_in_training_only() -> None:
    unet, x = network(SMALL, dropout=0.5), pictures(1)
    assert torch.equal(unet(x, 7), unet(x, 7))
    unet.train()
    assert not torch.equal(unet(x, 7), unet(x, 7))


def test_class_labels_steer_the_prediction() -> None:
    unet, x = network(SMALL, num_class_embeds=10), pictures(1)
    cat, dog = (unet(x, 500, torch.tensor([label])) for label in (3, 5))
    assert gap(cat, dog) > 1e-3


def test_class_labels_are_asked_for() -> None:
    with pytest.raises(ArgumentError, match="trained with classes; give class_labels"):
        network(SMALL, num_class_embeds=10)(pictures(1), 500)


def test_class_labels_are_refused_where_they_mean_nothing() -> None:
    with pytest.raises(ArgumentError, match="without classes; drop them"):
        network(SMALL)(pictures(1), 500, torch.tensor([3]))


# --- its parts -------------------------------------------------------------------------------


def test_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    layer = Attention(12, head_channels=4, groups=3, eps=1e-5, scale=2.0).double()
    x = torch.randn(2, 12, 3, 5, dtype=torch.float64)
    pixels = F.group_norm(x, 3, eps=1e-5).flatten(2).mT
    heads = []
    for head in range(3):
        rows = slice(4 * head, 4 * head + 4)
        q, k, v = (
            pixels @ layer.get_submodule(name).weight[rows].T + layer.get_submodule(name).bias[rows]
            for name in ("to_q", "to_k", "to_v")
        )
        heads.append((q @ k.mT / 2).softmax(dim=-1) @ v)
    seen = torch.cat(heads, dim=2) @ layer.to_out[0].weight.T + layer.to_out[0].bias
    assert torch.allclose(layer(x), (x + seen.mT.reshape(x.shape)) / 2, atol=1e-12)


@pytest.mark.parametrize(("resample", "up"), [(halve_smoothly, False), (double_smoothly, True)])
def test_smooth_resampling_is_the_filter_1_3_3_1(resample: Any, up: bool) -> None:
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / (4 if up else 8)
    kernel = taps.outer(taps).expand(3, 1, 4, 4)
    convolve = F.conv_transpose2d if up else F.conv2d
    expected = convolve(x, kernel, stride=2, padding=1, groups=3)
    assert torch.allclose(resample(x), expected, atol=1e-14)


@pytest.mark.parametrize("channels", [8, 9])
def test_positional_waves_are_the_formula(channels: int) -> None:
    waves = Positional(channels, shift=1, cosines_first=False)(torch.tensor([0.0, 2.5]))
    for i, frequency in enumerate(10000 ** (-i / 3) for i in range(4)):
        assert waves[1, i].item() == pytest.approx(math.sin(2.5 * frequency), abs=1e-6)
        assert waves[1, 4 + i].item() == pytest.approx(math.cos(2.5 * frequency), abs=1e-6)
    assert waves.shape == (2, channels) and waves[0, :4].eq(0).all() and waves[:, 8:].eq(0).all()


def test_fourier_waves_see_ratios_of_noise_levels() -> None:
    waves = Fourier(6)
    with torch.no_grad():
        waves.weight.copy_(torch.arange(6) / math.log(2))  # whole turns per doubling
    levels = torch.tensor([0.1, 0.2, 0.4])
    assert torch.allclose(waves(levels), waves(levels[:1]).expand(3, -1), atol=1e-4)


def test_a_learned_table_is_read_at_and_between_its_rows() -> None:
    table = Learned(10, 4)
    rows = table(torch.tensor([3.0, 3.25, 4.0, 9.0]))
    assert torch.equal(rows[[0, 2, 3]], table.weight[[3, 4, 9]])
    assert torch.allclose(rows[1], 0.75 * table.weight[3] + 0.25 * table.weight[4])


def test_old_attention_names_become_new_and_others_stay() -> None:
    names = {
        "down_blocks.1.attentions.0.query.weight": "down_blocks.1.attentions.0.to_q.weight",
        "up_blocks.2.attentions.12.key.bias": "up_blocks.2.attentions.12.to_k.bias",
        "mid_block.attentions.0.value.bias": "mid_block.attentions.0.to_v.bias",
        "mid_block.attentions.0.proj_attn.weight": "mid_block.attentions.0.to_out.0.weight",
        "mid_block.attentions.0.group_norm.weight": "mid_block.attentions.0.group_norm.weight",
        "query.weight": "query.weight",
        "down_blocks.0.resnets.0.key.weight": "down_blocks.0.resnets.0.key.weight",
    }
    new = modern_keys({old: old for old in names})
    assert new == {name: old for old, name in names.items()}
    assert list(modern_keys(new)) == list(new)


# --- its costs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parameters"), [(CIFAR10, 35_746_307), (CELEBAHQ, 113_673_219)], ids=["32", "256"]
)
def test_google_ddpm_networks_have_their_published_size(
    config: dict[str, Any], parameters: int
) -> None:
    with torch.device("meta"):
        unet = UNet2DModel(**UNetConfig.from_mapping(config).to_dict())
    assert sum(weight.numel() for weight in unet.parameters()) == parameters


@pytest.mark.parametrize(
    ("config", "side", "gigaflops"),
    [(CIFAR10, 32, 12.44), (CELEBAHQ, 256, 497.0)],
    ids=["32", "256"],
)
def test_flops_of_google_ddpm_networks(config: dict[str, Any], side: int, gigaflops: float) -> None:
    with torch.device("meta"):
        unet = UNet2DModel(**config)
    assert count_flops(unet, side, side) / 1e9 == pytest.approx(gigaflops, rel=1e-3)


@pytest.mark.parametrize("config", [SMALL, SMALL | {"num_class_embeds": 3}, SKIPPING])
def test_flops_are_the_sum_over_the_layers(config: dict[str, Any]) -> None:
    unet, counted = network(config), 0

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal counted
        if isinstance(layer, nn.Conv2d | nn.Linear):
            counted += 2 * output.numel() * layer.weight[0].numel()
        elif isinstance(layer, Attention):
            channels, pixels = inputs[0].shape[1], inputs[0][0, 0].numel()
            counted += 2 * 2 * pixels**2 * channels

    for layer in unet.modules():
        layer.register_forward_hook(count)
    labels = torch.tensor([1]) if "num_class_embeds" in config else None
    unet(torch.zeros(1, 3, 16, 24), 1, labels)
    assert count_flops(unet, 16, 24) == counted


def test_flops_of_a_size_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ArgumentError, match="multiples of 8"):
        count_flops(network(SMALL), 16, 20)


# --- its config ------------------------------------------------------------------------------

EXAMPLES = {
    "bool": True,
    "int": 4,
    "float": 0.37,
    "str": "x",
    "list": ["x", 1],
    "dict": {"x": 1},
    "none": None,
}


def allowed(hint: Any) -> set[str]:
    """Names of the JSON types that a type hint lets in."""
    if get_origin(hint) is Literal:
        return {"none" if value is None else "str" for value in get_args(hint)}
    if get_origin(hint) is tuple:
        return {"list"}
    if get_args(hint):
        return set().union(*(allowed(part) for part in get_args(hint)))
    return {
        bool: {"bool"},
        int: {"int"},
        float: {"int", "float"},
        NoneType: {"none"},
        str: {"str"},
    }[hint]


HINTS = {field.name: get_type_hints(UNetConfig)[field.name] for field in fields(UNetConfig)}
WRONG_TYPES = [
    (field, name) for field, hint in HINTS.items() for name in EXAMPLES if name not in allowed(hint)
]


@pytest.mark.parametrize(("field", "name"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_refused_by_name(field: str, name: str) -> None:
    with pytest.raises(ModelError, match=rf"^here\.json: {field}=.* cannot be used; ") as refusal:
        UNetConfig.from_mapping(CIFAR10 | {field: EXAMPLES[name]}, source="here.json")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "tanh"),
        ("attention_head_dim", 0),
        ("attention_head_dim", 512),
        ("attn_norm_num_groups", 48),
        ("block_out_channels", []),
        ("block_out_channels", [128, 256, 256]),
        ("block_out_channels", [128, 256, 256, -256]),
        ("block_out_channels", [128, 256, 256, True]),
        ("block_out_channels", [128, 256, 256, 10**30]),
        ("class_embed_type", "projection"),
        ("down_block_types", ["DownBlock2D"] * 3),
        ("down_block_types", ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"]),
        ("down_block_types", ["DownBlock2D", "SkipDownBlock2D", "DownBlock2D", "DownBlock2D"]),
        ("downsample_padding", 2),
        ("downsample_type", "fir"),
        ("dropout", -0.1),
        ("dropout", math.nan),
        ("freq_shift", 64),
        pytest.param("freq_shift", 10**5000, id="freq_shift-5001 digits"),
        ("in_channels", 0),
        ("in_channels", -3),
        ("layers_per_block", 0),
        ("layers_per_block", 10**9),
        ("mid_block_scale_factor", 0),
        ("mid_block_scale_factor", math.inf),
        ("mid_block_type", "UNetMidBlock2DCrossAttn"),
        ("norm_eps", math.inf),
        ("norm_num_groups", 48),
        ("norm_num_groups", None),
        ("num_class_embeds", 0),
        ("resnet_time_scale_shift", "ada_group"),
        ("sample_size", [32]),
        ("sample_size", [32, -32]),
        ("time_embedding_dim", 0),
        ("time_embedding_type", "sinusoidal"),
        ("up_block_types", ["SkipUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"]),
    ],
)
def test_a_value_no_network_can_be_built_from_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match="cannot be used") as refusal:
        UNetConfig.from_mapping(CIFAR10 | {key: value})
    assert key.removeprefix("attn_") in str(refusal.value)
    assert str(refusal.value).startswith("unet/config.json: ") and len(str(refusal.value)) < 400


def test_a_learned_table_needs_its_length() -> None:
    with pytest.raises(ModelError, match=r"num_train_timesteps=None .* needs a number"):
        UNetConfig.from_mapping(CIFAR10 | {"time_embedding_type": "learned"})


def test_skip_blocks_know_pictures_of_three_channels_only() -> None:
    with pytest.raises(ModelError, match=r"in_channels=1 .* 3 channels only"):
        UNetConfig.from_mapping(SKIPPING | {"in_channels": 1})


def test_an_unknown_key_is_refused_and_a_note_is_not() -> None:
    UNetConfig.from_mapping(CIFAR10 | {"_class_name": "UNet2DModel", "_note": object()})
    with pytest.raises(ModelError, match=r"here\.json: 'cross_attention_dim' is not an option"):
        UNetConfig.from_mapping(CIFAR10 | {"cross_attention_dim": 768}, source="here.json")


@pytest.mark.parametrize("junk", [None, [], "x", 3, [CIFAR10]])
def test_what_is_no_json_object_is_refused(junk: Any) -> None:
    with pytest.raises(ModelError, match="not a JSON object"):
        UNetConfig.from_mapping(junk)


def test_constructors_check_as_files_do() -> None:
    with pytest.raises(ModelError, match=r"^UNet2DModel: in_channels='3' cannot be used"):
        UNet2DModel(in_channels="3")
    with pytest.raises(ModelError, match=r"^dropout=2 cannot be used"):
        UNetConfig(dropout=2)


def test_a_config_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        UNetConfig().in_channels = 4  # type: ignore[misc]


@pytest.mark.parametrize("config", [{}, CIFAR10, SKIPPING, {"sample_size": [64, 32]}])
def test_a_config_survives_its_file(config: dict[str, Any]) -> None:
    read = UNetConfig.from_mapping(config)
    written = json.loads(json.dumps(read.to_dict()))
    assert UNetConfig.from_mapping(written) == read
    assert written.keys() == {"_class_name", *(field.name for field in fields(UNetConfig))}


def junk(pick: random.Random, depth: int = 0) -> Any:
    """A value that a hostile JSON file may hold."""
    if depth < 3 and pick.random() < 0.25:
        size = pick.choice([0, 1, 4, 4, 40])
        values = [junk(pick, depth + 1) for _ in range(size)]
        return values if pick.random() < 0.7 else {str(value)[:9]: value for value in values}
    words = ["", "x", "silu", "DownBlock2D", "AttnUpBlock2D", "learned", "\x1b[2J\n", "ü" * 5000]
    numbers = [0, -1, 1, 2, 32, 2**31, -(2**63), 10**400, 0.5, 1e-5, 1e308, math.nan, -math.inf]
    return pick.choice([*words, *numbers, True, False, None])


def mutated(pick: random.Random) -> dict[str, Any]:
    """A config of the hub after a few random edits."""
    config = copy.deepcopy(pick.choice([CIFAR10, CELEBAHQ, SKIPPING, UNetConfig().to_dict()]))
    for _ in range(pick.randint(1, 3)):
        key = pick.choice(sorted(HINTS))
        edit = pick.random()
        if edit < 0.15:
            config.pop(key, None)
        elif edit < 0.25:
            config[pick.choice(["", "a", "sample-size", "\n", "\x1b", "x" * 5000])] = junk(pick)
        elif edit < 0.45 and isinstance(config.get(key), list) and config[key]:
            config[key][pick.randrange(len(config[key]))] = junk(pick)
        else:
            config[key] = junk(pick)
    return config


def test_mutated_configs_are_built_or_refused_in_one_line() -> None:
    pick, built, refused = random.Random(0), 0, 0
    for _ in range(3000):
        config = mutated(pick)
        try:
            accepted = UNetConfig.from_mapping(config)
        except ModelError as error:
            refused += 1
            assert str(error).startswith("unet/config.json") and str(error).isprintable()
            assert len(str(error)) < 500
            continue
        assert UNetConfig.from_mapping(accepted.to_dict()) == accepted
        if built < 15:
            with torch.device("meta"):
                UNet2DModel(**config)
            built += 1
    assert built == 15 and refused > 1000


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("size", [(2, 2), (8, 6)], ids=str)
def test_halving_from_the_corner_is_the_same_where_a_gpu_has_zeros_at_both_ends(
    layout: torch.memory_format, size: tuple[int, int]
) -> None:
    conv = CornerConv2d(16).double().to(memory_format=layout).requires_grad_(False)
    x = torch.randn(2, 16, *size).double().contiguous(memory_format=layout)
    on_a_gpu = conv._convolve(x, conv.weight)
    assert on_a_gpu.is_contiguous(memory_format=layout)
    torch.testing.assert_close(on_a_gpu + conv.bias[:, None, None], conv(x))
