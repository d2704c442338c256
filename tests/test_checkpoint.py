"""Do models come off the disk as they went onto it, and does nothing else come with them?"""

import json
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddim_interp import checkpoint
from ddim_interp.checkpoint import read_checkpoint, write_checkpoint, write_network
from ddim_interp.errors import (
    DdimInterpError,
    InputMissingError,
    LatentsError,
    ModelError,
    OutputError,
    StorageError,
)
from ddim_interp.files import sha256_file
from ddim_interp.hub import EMBEDDED
from ddim_interp.model_configs import SCHEDULERS, read_configs
from ddim_interp.model_folder import find_parts
from ddim_interp.schedule import NoiseSchedule, SchedulerConfig
from ddim_interp.strict_json import parse_object
from ddim_interp.tensors import read_header, read_tensors, write_tensors
from ddim_interp.unet import UNet2DModel

TINY: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 8),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
SCHEDULE = SchedulerConfig(beta_schedule="scaled_linear", prediction_type="v_prediction")


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(**TINY).eval()


@pytest.fixture(scope="module")
def pristine(unet: UNet2DModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "tiny"
    write_checkpoint(folder, unet, SCHEDULE)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A good model, to be spoilt."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def output(unet: torch.nn.Module) -> torch.Tensor:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        predicted = unet(x, 300)
    return predicted if isinstance(predicted, torch.Tensor) else predicted.sample


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What was written comes back


def test_a_model_reads_back_as_it_was_written(unet: UNet2DModel, folder: Path) -> None:
    model = read_checkpoint(folder)
    assert model.unet_config == unet.config
    assert model.scheduler_config == SCHEDULE
    assert model.source == "tiny"
    assert model.weights_sha256 == sha256_file(folder / WEIGHTS)
    assert not model.unet.training
    assert torch.equal(output(model.unet), output(unet))


def test_writing_twice_gives_the_same_bytes(
    pristine: Path, unet: UNet2DModel, folder: Path
) -> None:
    again = folder.with_name("again")
    write_checkpoint(again, unet, SCHEDULE)
    for path in pristine.rglob("*.*"):
        assert (again / path.relative_to(pristine)).read_bytes() == path.read_bytes()


def test_reading_draws_no_random_numbers(folder: Path) -> None:
    before = torch.get_rng_state()
    read_checkpoint(folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_take_the_dtype_asked_for(folder: Path, dtype: torch.dtype) -> None:
    unet = read_checkpoint(folder, dtype=dtype).unet
    assert {weight.dtype for weight in unet.parameters()} == {dtype}


def test_a_bare_unet_folder_has_the_default_schedule(folder: Path) -> None:
    model = read_checkpoint(folder / "unet")
    assert model.scheduler_config == SchedulerConfig()


def test_parts_may_lie_at_the_top_beside_the_index(folder: Path, unet: UNet2DModel) -> None:
    for path in [*folder.glob("unet/*"), *folder.glob("scheduler/*")]:
        path.rename(folder / path.name)
    model = read_checkpoint(folder)
    assert model.scheduler_config == SCHEDULE
    assert torch.equal(output(model.unet), output(unet))


def test_attention_names_of_2022_are_understood(folder: Path, unet: UNet2DModel) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / WEIGHTS)
    renamed = {
        re.sub(r"to_(q|k|v|out\.0)", lambda new: old[new[0]], name): weight
        for name, weight in state.items()
    }
    assert renamed.keys() != state.keys()
    save_file(renamed, folder / WEIGHTS)
    assert torch.equal(output(read_checkpoint(folder).unet), output(unet))


def test_a_model_is_replaced_only_when_asked(folder: Path, unet: UNet2DModel) -> None:
    with pytest.raises(OutputError, match="choose another folder"):
        write_checkpoint(folder, unet, SchedulerConfig())
    assert read_checkpoint(folder).scheduler_config == SCHEDULE
    write_checkpoint(folder, unet, SchedulerConfig(), overwrite=True)
    assert read_checkpoint(folder).scheduler_config == SchedulerConfig()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_write_that_fails_leaves_no_model(
    folder: Path, unet: UNet2DModel, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    target = folder if overwrite else folder.with_name("new")
    with pytest.raises(StorageError):
        write_checkpoint(target, unet, SchedulerConfig(), overwrite=overwrite)
    with pytest.raises(ModelError, match="no weights"):
        read_checkpoint(target)


@pytest.mark.parametrize("left", ["both", "config.json", WEIGHTS[5:]])
def test_a_network_is_replaced_only_when_asked(folder: Path, left: str) -> None:
    place = folder / "unet"
    if left != "both":
        (kept,) = (path for path in place.iterdir() if path.name != left)
        kept.unlink()
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    other = UNet2DModel(**TINY | {"attention_head_dim": 8})
    with pytest.raises(OutputError, match="exists; choose another name"):
        write_network(place, other)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    write_network(place, other, overwrite=True)
    assert read_checkpoint(place).unet_config == other.config


def test_a_network_that_cannot_be_written_is_no_half_of_one(
    folder: Path, unet: UNet2DModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    other = UNet2DModel(**TINY | {"attention_head_dim": 8})  # whose weights have the same shapes
    with pytest.raises(StorageError):
        write_network(folder / "unet", other, overwrite=True)
    for place in (folder, folder / "unet"):
        with pytest.raises(ModelError, match="no weights"):
            read_checkpoint(place)


def test_weights_that_cannot_be_removed_are_left_with_their_config(
    folder: Path, unet: UNet2DModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", stuck)
    other = UNet2DModel(**TINY | {"attention_head_dim": 8})
    with pytest.raises(OutputError, match="cannot be replaced: Operation not permitted"):
        write_network(folder / "unet", other, overwrite=True)
    with pytest.raises(OutputError, match="cannot be replaced: Operation not permitted"):
        write_checkpoint(folder, other, SchedulerConfig(), overwrite=True)
    assert torch.equal(output(read_checkpoint(folder).unet), output(unet))


# diffusers and we open each other's folders


@pytest.fixture(scope="module")
def diffusers() -> Any:
    module = pytest.importorskip("diffusers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def test_diffusers_opens_what_we_write(diffusers: Any, folder: Path, unet: UNet2DModel) -> None:
    pipe = diffusers.DDIMPipeline.from_pretrained(folder)
    assert type(pipe.unet) is diffusers.UNet2DModel
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.scheduler.config.beta_schedule == "scaled_linear"
    torch.testing.assert_close(output(pipe.unet), output(unet), atol=1e-5, rtol=0)


@pytest.fixture
def theirs(diffusers: Any, unet: UNet2DModel) -> Any:
    network = diffusers.UNet2DModel(**TINY).eval()
    network.load_state_dict(unet.state_dict())
    return network


@pytest.mark.parametrize("pipeline", ["DDIMPipeline", "DDPMPipeline", "PNDMPipeline"])
def test_we_open_what_diffusers_writes(
    diffusers: Any, theirs: Any, pipeline: str, tmp_path: Path
) -> None:
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    getattr(diffusers, pipeline)(theirs, scheduler).save_pretrained(tmp_path)
    model = read_checkpoint(tmp_path)
    assert model.scheduler_config.beta_schedule == "squaredcos_cap_v2"
    torch.testing.assert_close(output(model.unet), output(theirs), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, in their constructors
@pytest.mark.parametrize("kind", sorted(SCHEDULERS - {"LMSDiscreteScheduler"}))
def test_any_scheduler_of_betas_becomes_ddim_s_as_in_diffusers(
    diffusers: Any, kind: str, folder: Path
) -> None:
    # (LMSDiscreteScheduler is left out because it needs scipy to be constructed.)
    options = {"num_train_timesteps": 70, "beta_start": 2e-4, "beta_schedule": "scaled_linear"}
    getattr(diffusers, kind)(**options).save_pretrained(folder / "scheduler")
    saved = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    ddim = diffusers.DDIMScheduler.from_config(saved)
    ours = read_configs(folder).scheduler
    assert ours.to_dict() == {key: ddim.config[key] for key in ours.to_dict()}
    assert NoiseSchedule.from_config(ours).alphas_cumprod == tuple(ddim.alphas_cumprod.tolist())


def test_shards_are_put_together(theirs: Any, unet: UNet2DModel, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    model = read_checkpoint(tmp_path)
    assert torch.equal(output(model.unet), output(unet))
    other = UNet2DModel(**TINY)
    other.load_state_dict(unet.state_dict())
    with torch.no_grad():
        other.conv_out.bias += 1
    # any shard's change changes the identity
    shard = next(p for p in tmp_path.glob("*.safetensors") if "conv_out.bias" in load_file(p))
    save_file(load_file(shard) | {"conv_out.bias": other.conv_out.bias.detach()}, shard)
    assert read_checkpoint(tmp_path).weights_sha256 != model.weights_sha256


@pytest.mark.parametrize("shard_size", ["10GB", "20KB"])
def test_a_variant_is_read_when_asked_for(theirs: Any, tmp_path: Path, shard_size: str) -> None:
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        theirs.conv_out.bias += 1
    theirs.half().save_pretrained(tmp_path, variant="fp16", max_shard_size=shard_size)
    plain, half = read_checkpoint(tmp_path), read_checkpoint(tmp_path, variant="fp16")
    difference = half.unet.conv_out.bias - plain.unet.conv_out.bias
    torch.testing.assert_close(difference, torch.ones(3), atol=1e-3, rtol=0)
    assert half.unet.dtype == torch.float32


def test_a_variant_that_is_alone_needs_no_asking(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    assert read_checkpoint(folder).source == "tiny"


# The model in the package


def test_the_embedded_model_is_the_one_its_card_describes() -> None:
    card = (EMBEDDED / "README.md").read_text()
    model = read_checkpoint(EMBEDDED)
    assert f"`{model.weights_sha256}`" in card
    assert f"{sum(p.numel() for p in model.unet.parameters()):,} parameters" in card
    assert (
        "U.S. Department of Agriculture Pomological Watercolor Collection. Rare and Special "
        "Collections, National Agricultural Library, Beltsville, MD 20705"
    ) in card


def test_the_embedded_model_is_small_to_carry() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) < 15_000_000


def test_diffusers_opens_the_embedded_model(diffusers: Any) -> None:
    pipe = diffusers.DDIMPipeline.from_pretrained(EMBEDDED)
    ours = read_checkpoint(EMBEDDED).unet
    pipe.unet.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x, 500), pipe.unet(x, 500).sample, atol=1e-4, rtol=0)


# Folders that are no model of ours


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="check the name"):
        read_checkpoint(tmp_path / "cats")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "expected unet/config.json; found nothing"),
        (["weights.pt", "cat.png"], "expected unet/config.json; found cat.png, weights.pt"),
        (["unet/config.json"], "no weights: expected unet/diffusion_pytorch_model.safetensors"),
        (
            ["unet/config.json", "unet/diffusion_pytorch_model.bin"],
            "ddim-interp models convert SOURCE -o FOLDER",
        ),
        (["config.json", "model.ckpt"], "ddim-interp models convert SOURCE -o FOLDER"),
        (["config.json", "a.safetensors", "b.safetensors"], "no weights"),
        (["unet/config.json", "diffusion_pytorch_model.safetensors"], "no weights"),
    ],
)
def test_a_folder_without_the_parts_says_what_is_missing(names: list[str], says: str) -> None:
    with pytest.raises(ModelError, match=re.escape(says)):
        find_parts(names, "./cats")


INDEX_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a text-to-image pipeline": (
        {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "not conditioned on text",
    ),
    "a pipeline in latent space": (
        {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]},
        "names a vqvae, but vqvae/config.json is missing",
    ),
    "a pipeline we do not know": ({"_class_name": "MyPipeline"}, "'MyPipeline'"),
    "a list for a class": ({"_class_name": ["canary", "DDIMPipeline"]}, "DDIMPipeline"),
    "code of its own for the network": ({"unet": ["canary", "UNet2DModel"]}, "not run"),
    "code of its own for the scheduler": ({"scheduler": ["canary", "DDIMScheduler"]}, "not run"),
    "a scheduler of another kind": (
        {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]},
        "FlowMatchEulerDiscreteScheduler",
    ),
    "an unhashable class": ({"unet": ["diffusers", ["UNet2DModel"]]}, "not run"),
    "a part that is no pair": ({"unet": "UNet2DModel"}, "a library and a class"),
    "no network": ({"unet": [None, None]}, "this program has diffusers' UNet2DModel"),
    "more parts": ({"text_encoder": ["transformers", "CLIPTextModel"]}, "text_encoder"),
}


@pytest.mark.parametrize("case", INDEX_REFUSALS)
def test_an_index_with_other_classes_is_refused(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, says = INDEX_REFUSALS[case]
    canary = folder / "canary_was_here"
    for name in ("canary.py", "unet/canary.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w')")
    monkeypatch.syspath_prepend(str(folder))
    edit_json(folder / "model_index.json", **changes)
    with pytest.raises(ModelError, match=re.escape(says)):
        read_checkpoint(folder)
    assert not canary.exists()


def test_absent_parts_of_an_index_do_not_matter(folder: Path) -> None:
    edit_json(folder / "model_index.json", safety_checker=[None, None], _module="pipeline.py")
    assert read_checkpoint(folder).source == "tiny"


def test_an_index_that_names_a_scheduler_needs_its_file(folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(ModelError, match=r"scheduler_config\.json is missing"):
        read_checkpoint(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("name", ["UNet2DConditionModel", "x", ["UNet2DModel"], None, 3])
def test_a_config_of_another_class_is_refused(folder: Path, file: str, name: object) -> None:
    edit_json(folder / file, _class_name=name)
    with pytest.raises(ModelError, match="for the class"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("unet/config.json", {"in_channels": "3"}, "in_channels"),
        ("unet/config.json", {"cross_attention_dim": 768}, "cross_attention_dim"),
        ("scheduler/scheduler_config.json", {"beta_start": "1e-4"}, "beta_start"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**30}, "num_train_timesteps"),
        ("scheduler/scheduler_config.json", {"clip_sample": 1}, "clip_sample"),
        ("scheduler/scheduler_config.json", {"trained_betas": [[0.1]]}, "trained_betas"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(
    folder: Path, file: str, changes: dict[str, Any], says: str
) -> None:
    edit_json(folder / file, **changes)
    with pytest.raises(ModelError, match=says) as caught:
        read_checkpoint(folder)
    assert file.rpartition("/")[2] in str(caught.value)


def test_options_that_mean_nothing_are_told(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    assert read_checkpoint(folder).warning is None
    edit_json(path, beta_stat=1e-3, _note="mine")
    model = read_checkpoint(folder)
    assert model.scheduler_config == SCHEDULE
    assert model.warning == (
        "scheduler/scheduler_config.json has options that mean nothing to DDIM: beta_stat."
    )
    edit_json(path, _class_name="PNDMScheduler")  # whose own options these may be
    assert read_checkpoint(folder).warning is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[1]", "holds [1] where"),
        (b'"x"', "holds 'x' where"),
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": 1, "a": 2}', "gives 'a' twice"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "larger than 1 MB"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_json_that_is_no_config_is_refused(folder: Path, text: bytes, says: str) -> None:
    for file in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        good = (folder / file).read_bytes()
        (folder / file).write_bytes(text)
        with pytest.raises(ModelError, match=re.escape(says)):
            read_configs(folder)
        (folder / file).write_bytes(good)


@pytest.mark.parametrize("again", [(0,), (20_000,), (39_999,), (30_000, 7)], ids=str)
def test_among_many_keys_the_first_that_comes_twice_is_named(again: tuple[int, ...]) -> None:
    keys = [*range(40_000), *again]
    text = "{" + ", ".join(f'"k{key}": 1' for key in keys) + "}"
    with pytest.raises(ModelError, match=f"'k{min(again)}' twice"):
        parse_object(text.encode(), "config.json")


def test_errors_of_json_are_the_caller_s() -> None:
    with pytest.raises(LatentsError):
        parse_object(b"[]", "metadata", LatentsError)


def test_a_giant_is_refused_before_memory_is_taken(folder: Path) -> None:
    edit_json(folder / "unet/config.json", block_out_channels=[65536, 65536])
    with pytest.raises(ModelError, match="more than the 2,000,000,000 allowed"):
        read_checkpoint(folder)
    count = sum(weight.numel() for weight in read_checkpoint(EMBEDDED).unet.parameters())
    with pytest.raises(ModelError, match=f"{count:,} parameters, more than the {count - 1:,} all"):
        read_checkpoint(EMBEDDED, max_parameters=count - 1)


# Weights that are damaged, or something else


def test_what_does_not_fit_is_told_in_one_line(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    missing = [name for name in state if name.startswith("mid_block")]
    changed = {name: w for name, w in state.items() if name not in missing}
    changed |= {"extra.weight": torch.ones(1), "conv_in.bias": torch.ones(9)}
    save_file(changed, folder / WEIGHTS)
    with pytest.raises(ModelError) as caught:
        read_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{len(missing)} missing (" in message
    assert f"and {len(missing) - 4} more" in message
    assert "1 unexpected (extra.weight)" in message
    assert "1 misshapen (conv_in.bias)" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused(
    folder: Path, bad: float, dtype: torch.dtype
) -> None:
    state = {name: weight.to(dtype) for name, weight in load_file(folder / WEIGHTS).items()}
    state["conv_out.weight"].view(-1)[-1] = bad
    save_file(state, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"NaN or infinity in 'conv_out.weight'"):
        read_checkpoint(folder)


def raw_header(path: Path, change: Callable[[str], str]) -> None:
    """Rewrite a safetensors header as text, which the library itself would not do."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    text = change(raw[8 : 8 + length].decode()).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def test_a_tensor_given_twice_is_refused(folder: Path) -> None:
    twice = '{"conv_in.bias":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},'
    raw_header(folder / WEIGHTS, lambda text: twice + text[1:])
    with pytest.raises(ModelError, match=r"gives 'conv_in.bias' twice"):
        read_checkpoint(folder)


def test_a_tensor_in_two_shards_is_refused(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    first, second, *_ = sorted(tmp_path.glob("*.safetensors"))
    doubled = load_file(first)
    save_file(load_file(second) | {(name := min(doubled)): doubled[name]}, second)
    with pytest.raises(ModelError, match="a second time"):
        read_checkpoint(tmp_path)


def test_a_missing_shard_is_named(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    gone = min(tmp_path.glob("*.safetensors"))
    gone.unlink()
    with pytest.raises(ModelError, match=f"lists {gone.name}, which is missing"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "weight_map",
    [{}, [], None, {"a": 3}, {"a": "../x.safetensors"}, {"a": "/x.safetensors"}, {"a": "x.bin"}],
)
def test_an_index_of_shards_stays_in_its_folder(folder: Path, weight_map: object) -> None:
    (folder / WEIGHTS).unlink()
    index = folder / (WEIGHTS + ".index.json")
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"lists no \.safetensors files of its folder"):
        read_checkpoint(folder)


IMPOSTORS = {
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs"),
    "a web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "a page with a byte order mark": (b"\xef\xbb\xbf<html>", "web page"),
    "an answer in JSON": (b'{"error":"Repository not found"}', "download went wrong"),
    "a zip": (b"PK\x03\x04" + b"\0" * 100, "models convert"),
    "a pickle": (b"\x80\x02}q\x00." + b"\0" * 100, "models convert"),
    "a gguf": (b"GGUF\x03\0\0\0" + b"\0" * 100, "GGUF"),
    "an HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
    "a gzip": (b"\x1f\x8b\x08" + b"\0" * 100, "gzip"),
    "nothing": (b"", "is empty"),
    "zeros": (b"\0" * 1000, "no safetensors file"),
    "noise": (bytes(range(256)), "no safetensors file"),
    "a header too long": (struct.pack("<Q", 99_900_000) + b"{" + b" " * 1000, "no safetensors"),
    "a header beyond the end": (struct.pack("<Q", 5000) + b'{"a":', "not JSON"),
    "a header that is a list": (struct.pack("<Q", 2) + b"[]", "no safetensors"),
    "a header of other things": (struct.pack("<Q", 9) + b'{"a": 17}', "damaged header"),
    "numbers of another type": (
        struct.pack("<Q", 57) + b'{"a":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}}0',
        "numbers of type F8_E4M3",
    ),
}


@pytest.mark.parametrize("case", IMPOSTORS)
@pytest.mark.parametrize("suffix", [".safetensors", ".SafeTensors"])
def test_something_else_under_the_name_is_called_what_it_is(
    tmp_path: Path, case: str, suffix: str
) -> None:
    content, says = IMPOSTORS[case]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(says)):
        read_header(path)


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_file(state | {"conv_in.bias": torch.ones(8, dtype=torch.int32)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"holds I32 in 'conv_in\.bias'"):
        read_checkpoint(folder)


def test_a_number_type_that_would_steer_the_terminal_is_escaped(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole.replace(b'"F32"', b'"F\x7f2"', 1))
    with pytest.raises(ModelError, match=r"holds numbers of type F\\x7f2; this") as caught:
        read_checkpoint(folder)
    assert str(caught.value).isprintable()


def test_weights_cut_at_any_length_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for cut in range(0, len(whole), len(whole) // 20):
        (folder / WEIGHTS).write_bytes(whole[:cut])
        with pytest.raises(ModelError):
            read_checkpoint(folder)


def test_a_flipped_bit_in_the_hub_s_cache_is_found(folder: Path) -> None:
    blob = folder / "blobs" / sha256_file(folder / WEIGHTS)
    blob.parent.mkdir()
    (folder / WEIGHTS).rename(blob)
    (folder / WEIGHTS).symlink_to(blob)
    good = blob.read_bytes()
    assert read_checkpoint(folder).weights_sha256 == blob.name
    for place in random.Random(0).sample(range(len(good) // 2, len(good)), 20):
        blob.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(ModelError, match="damaged in the cache"):
            read_checkpoint(folder)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json", WEIGHTS]
)
def test_damage_at_random_is_refused_or_harmless(folder: Path, file: str, seed: int) -> None:
    """Bytes are changed, dropped and doubled; whatever comes of it is a model or one line."""
    rng = random.Random(f"{file} {seed}")
    good = (folder / file).read_bytes()
    most = min(len(good), 4000)  # the header; the numbers behind it are anybody's
    for _ in range(20):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(min(most, len(data)))
            kind = rng.randrange(3)
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                del data[place : place + rng.randint(1, 8)]
            else:
                data[place:place] = data[place : place + rng.randint(1, 8)]
        (folder / file).write_bytes(data)
        try:
            read_checkpoint(folder)
        except DdimInterpError as error:
            assert "\n" not in str(error)


# Tensor files


def test_tensors_and_text_come_back(tmp_path: Path) -> None:
    path = tmp_path / "z.safetensors"
    tensors = {
        "latents": torch.randn(2, 3, 4, 5),
        "view": torch.arange(12.0).view(3, 4).T,  # not contiguous
        "shared": torch.ones(4).expand(3, 4),
        "count": torch.tensor([7]),
        "flag": torch.tensor([True]),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    metadata = {"schema": "1", "source": "kaffee \u2615.png", "b": "", "a": '{"x": 1}'}
    write_tensors(path, tensors, metadata)
    read, text = read_tensors(path)
    assert text == metadata
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert load_file(path).keys() == tensors.keys()  # the library reads it too


def test_the_order_of_metadata_does_not_show(tmp_path: Path) -> None:
    pairs = [(str(i), "x" * i) for i in range(20)]
    write_tensors(tmp_path / "a", {"t": torch.ones(1)}, dict(pairs))
    write_tensors(tmp_path / "b", {"t": torch.ones(1)}, dict(reversed(pairs)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_two_names_for_one_tensor_are_written_twice(tmp_path: Path) -> None:
    tensor = torch.randn(6)
    write_tensors(tmp_path / "a", {"x": tensor, "y": tensor, "part": tensor[2:4]})
    read, _ = read_tensors(tmp_path / "a")
    assert torch.equal(read["x"], read["y"])
    assert torch.equal(read["part"], tensor[2:4])


def test_errors_of_tensors_are_the_caller_s(tmp_path: Path) -> None:
    path = tmp_path / "z.safetensors"
    save_file({"latents": torch.tensor([float("nan")])}, path)
    with pytest.raises(LatentsError, match="NaN"):
        read_tensors(path, LatentsError)
    path.write_bytes(b"<html>")
    with pytest.raises(LatentsError, match="web page"):
        read_tensors(path, LatentsError)
    with pytest.raises(InputMissingError):
        read_tensors(tmp_path / "none.safetensors", LatentsError)
