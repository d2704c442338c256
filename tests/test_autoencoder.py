"""Models that work in an autoencoder's space: pictures go through it, and its error stands apart.

Two autoencoders are known exactly: one that only rearranges pixels, and loses nothing; one that
averages blocks, and loses what lies between the pixels of a block. diffusers' own have random
weights here; what they are to do is restated from its `LDMPipeline`.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from ddim_interp import DDIMPipeline, DDIMScheduler, Model, NoiseSchedule, Pipeline, Plan
from ddim_interp.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    DiffusersAutoencoder,
    build_autoencoder,
)
from ddim_interp.checkpoint import read_checkpoint
from ddim_interp.checks import Certificate
from ddim_interp.cli import cli
from ddim_interp.consistency import check_model
from ddim_interp.convert import convert_folder
from ddim_interp.custom import as_denoiser
from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError, LatentsError, ModelError
from ddim_interp.hub import Located
from ddim_interp.inversion import invert_images, sample_latents
from ddim_interp.latent_file import parse_certificate, source_note
from ddim_interp.latents import draw
from ddim_interp.model_configs import read_configs
from ddim_interp.portrait import portray
from ddim_interp.repair import repair_inversion
from ddim_interp.tensors import read_tensors, write_tensors
from ddim_interp.unet import UNet2DModel

diffusers = pytest.importorskip("diffusers")

SCHEDULE = NoiseSchedule.from_config({})
KINDS = ("VQModel", "AutoencoderKL")


class Fold:
    """2×2 pixels into channels: nothing is lost."""

    def encode(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images, 2)

    def decode(self, x_0: Tensor) -> Tensor:
        return F.pixel_shuffle(x_0, 2)

    def picture_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return shape[0] // 4, 2 * shape[1], 2 * shape[2]


class Average:
    """The mean of 2×2 pixels; their differences are lost."""

    def encode(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 2)

    def decode(self, x_0: Tensor) -> Tensor:
        return F.interpolate(x_0, scale_factor=2, mode="nearest")

    def picture_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return shape[0], 2 * shape[1], 2 * shape[2]


def blots(channels: int = 1, size: int = 16, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return 0.4 * torch.randn(count, channels, size, size, generator=generator).clamp(-2, 2)


def model(coder: Autoencoder, channels: int) -> Model:
    denoiser = GaussianDenoiser(mean=0.1, variance=0.2)
    return Model(denoiser, SCHEDULE, (channels, 8, 8), autoencoder=coder)


# Truth: autoencoders that are known


def test_an_autoencoder_that_loses_nothing_changes_no_figure() -> None:
    images, plan = blots(), Plan(steps=6, solver="ddim-naive", dither=False)
    folded = invert_images(model(Fold(), 4), images, plan)
    core = invert_images(model(Fold(), 4).core, Fold().encode(images), plan)
    assert torch.equal(folded.latents, core.latents)
    assert torch.equal(folded.decoded, Fold().decode(core.decoded))
    for here, there in zip(folded.certificates, core.certificates, strict=True):
        assert here.autoencoder_mse == 0 and here.inversion == here.fidelity
        assert here.roundtrip_mse == pytest.approx(there.roundtrip_mse, rel=1e-9)
        assert "autoencoder" not in here.verdict


def test_what_an_autoencoder_loses_stands_apart_from_what_the_inversion_loses() -> None:
    images = blots()
    means = F.avg_pool2d(images, 2)
    lost = ((images - means.repeat_interleave(2, 2).repeat_interleave(2, 3)) / 2).square()
    exact, naive = (
        invert_images(model(Average(), 1), images, Plan(steps=6, solver=solver))
        for solver in ("ddim", "ddim-naive")
    )
    for i in range(2):
        good, poor = exact.certificates[i], naive.certificates[i]
        assert good.autoencoder_mse == poor.autoencoder_mse
        assert good.autoencoder_mse == pytest.approx(float(lost[i].mean()), rel=1e-6)
        assert good.roundtrip_mse == pytest.approx(good.autoencoder_mse, rel=1e-3)
        assert good.inversion.mse < 1e-9 and good.faithful
        assert poor.inversion.mse > 1e-4 and not poor.faithful
        # What averaging loses is orthogonal to whatever else happens to the means.
        whole = poor.autoencoder_mse + poor.inversion.mse
        assert poor.roundtrip_mse == pytest.approx(whole, rel=1e-5)
    assert exact.certificates[0].verdict.startswith("the picture as its autoencoder keeps it (1")
    assert "comes back exactly" in exact.certificates[0].verdict
    assert "does not come back" in naive.certificates[0].verdict


def test_certificates_keep_the_parts_in_files() -> None:
    found = invert_images(model(Average(), 1), blots(), Plan(steps=3)).certificates[0]
    note = source_note("a.png", "", (), found)
    assert parse_certificate(json.loads(json.dumps(note))["certificate"]) == found
    assert Certificate(0.1, 3, 1.0).inversion.mse == 0.1  # of pixels, as ever


@pytest.mark.parametrize("repair", ["renormalise", "forward-2"])
def test_repairs_work_on_what_the_autoencoder_makes(repair: str) -> None:
    small, plan = model(Average(), 1), Plan(steps=6)
    inversion = invert_images(small, blots(), plan)
    repaired = repair_inversion(small, inversion, repair)
    assert repaired.latents.shape == (2, 1, 8, 8) and repaired.decoded.shape == (2, 1, 16, 16)
    for before, after in zip(inversion.certificates, repaired.certificates, strict=True):
        assert after.autoencoder_mse == before.autoencoder_mse
        assert after.repair_cost == pytest.approx(after.inversion.mse, rel=1e-2)


def test_checks_judge_the_inversion_and_name_the_autoencoder_s_error() -> None:
    small, plan = model(Average(), 1), Plan()
    latents = draw([0, 1], small.shape)
    found = check_model(small, blots(), latents, plan, steps=(5, 10), methods=("ddim",))
    floor = found.certificates[0].autoencoder_mse + found.certificates[1].autoencoder_mse
    assert found.autoencoder_mse == pytest.approx(floor / 2) and floor > 0
    assert all(trip.mse < 1e-9 and trip.latent_mse < 1e-4 for trip in found.table)
    assert found.inversion.floor is not None and found.inversion.floor.shape == (2, 1, 16, 16)
    assert "its autoencoder alone gives pictures back to 1" in found.verdict
    assert "pictures come back from 5 steps on" in found.verdict


def test_a_film_is_drawn_through_the_autoencoder_and_ends_on_the_user_s_pictures() -> None:
    images = [Image.fromarray((127.5 * (x[0] + 1)).clamp(0, 255).byte().numpy()) for x in blots()]
    pipe = Pipeline(model(Average(), 1))
    film = pipe.morph([*images, "seed:4"], plan=Plan(steps=4), frames=7)
    frames = list(film.draw())
    assert [frame.shape for frame in frames] == [(16, 16, 3)] * 7
    for frame, image in ((frames[0], images[0]), (frames[3], images[1])):
        assert np.array_equal(frame[..., 0], np.asarray(image))
    raw = list(pipe.morph(images, plan=Plan(steps=4), frames=3, raw=True).draw())
    assert all(np.array_equal(f[::2, ::2], f[1::2, 1::2]) for f in raw)  # blocks of one colour
    drawn = pipe.sample(seeds=[4], plan=film.plan).images[0]
    assert np.array_equal(frames[6], np.asarray(drawn.convert("RGB")))


def test_a_network_of_one_s_own_may_have_an_autoencoder() -> None:
    truth = GaussianDenoiser(0.1, 0.2)
    fn = lambda x, t: torch.cat(  # noqa: E731
        [truth(a[None], SCHEDULE.level(b)).eps for a, b in zip(x, t.tolist(), strict=True)]
    )
    mine = as_denoiser(fn, SCHEDULE, shape=(1, 8, 8), autoencoder=Average())
    assert mine.picture_shape == (1, 16, 16)
    latents = draw([1], (1, 8, 8))
    ours = sample_latents(mine, latents, Plan(3))
    assert (ours - sample_latents(model(Average(), 1), latents, Plan(3))).abs().max() < 1e-5
    with pytest.raises(ArgumentError, match=r"makes \(1, 8, 8\) of a picture of \(1, 16"):
        as_denoiser(fn, SCHEDULE, shape=(4, 8, 8), autoencoder=Odd())
    with pytest.raises(ArgumentError, match="must give back what it takes"):
        as_denoiser(fn, SCHEDULE, shape=(1, 8, 8), autoencoder=Cut())


class Odd(Average):
    """Says that it makes four channels, and makes one."""

    def picture_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return 1, 16, 16


class Cut(Average):
    """Gives back half a picture."""

    def decode(self, x_0: Tensor) -> Tensor:
        return super().decode(x_0)[..., :8]


# diffusers' own


def config(kind: str, **options: Any) -> AutoencoderConfig:
    more = {"num_vq_embeddings": 64} if kind == "VQModel" else {}
    mapping = {
        "_class_name": kind,
        "block_out_channels": [8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "latent_channels": 3,
        "norm_num_groups": 4,
        "scaling_factor": 0.7,
        **more,
        **options,
    }
    return AutoencoderConfig.from_mapping(mapping)


def autoencoder(kind: str, **options: Any) -> DiffusersAutoencoder:
    settings = config(kind, **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build_autoencoder(settings)
    if kind == "VQModel":  # a book as wide as what there is to look up in it
        codes: Any = network
        codes.quantize.embedding.weight.data.normal_(generator=torch.Generator().manual_seed(2))
    return DiffusersAutoencoder(network, settings)


def latent_pipeline(kind: str, **options: Any) -> DDIMPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
        ).eval()
    scheduler = DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
    )
    pipe = DDIMPipeline(unet, scheduler, autoencoder=autoencoder(kind, **options), name="small ldm")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LDM folder with random weights."""
    folder = tmp_path_factory.mktemp("models") / request.param
    latent_pipeline(request.param).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_scaled_and_never_drawn_at_random(kind: str) -> None:
    coder = autoencoder(kind, **({"shift_factor": 0.3} if kind == "AutoencoderKL" else {}))
    network: Any = coder.network
    images = blots(3)
    with torch.inference_mode():
        answer = network.encode(images)
        code = answer.latents if kind == "VQModel" else answer.latent_dist.mean
        shift = 0.3 if kind == "AutoencoderKL" else 0.0
        x_0 = coder.encode(images)
        assert (x_0 - 0.7 * (code - shift)).abs().max() < 1e-6
        assert (coder.decode(x_0) - network.decode(code).sample).abs().max() < 1e-5
        assert torch.equal(coder.encode(images), x_0)
        assert torch.equal(coder.encode(images[1:]), x_0[1:])  # whatever the batch
    assert coder.picture_shape((3, 8, 8)) == (3, 16, 16)


def test_a_folder_is_read_as_it_was_written_and_by_diffusers(folder: Path) -> None:
    pipe = latent_pipeline(folder.name)
    read = read_checkpoint(folder)
    assert read.autoencoder is not None
    for ours, theirs in (
        (read.unet, pipe.unet),
        (read.autoencoder.network, pipe.autoencoder.network),
    ):
        state = ours.state_dict()
        assert all(torch.equal(state[name], w) for name, w in theirs.state_dict().items())
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "LDMPipeline" and index["vqvae"] == ["diffusers", folder.name]
    peer = diffusers.LDMPipeline.from_pretrained(folder)
    peer.set_progress_bar_config(disable=True)
    truth = peer(2, torch.manual_seed(7), num_inference_steps=4, output_type="np").images
    mine = DDIMPipeline.from_pretrained(folder, device="cpu")
    assert DDIMPipeline(**mine.components).autoencoder is mine.autoencoder
    mine.set_progress_bar_config(disable=True)
    ours = mine(2, torch.manual_seed(7), num_inference_steps=4, output_type="np").images
    assert ours.shape == (2, 16, 16, 3) and abs(ours - truth).max() < 1e-5


def test_both_networks_are_part_of_the_model_s_identity(folder: Path, tmp_path: Path) -> None:
    latent_pipeline(folder.name).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).weights_sha256 == read_checkpoint(folder).weights_sha256
    latent_pipeline(folder.name, mid_block_add_attention=False).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).weights_sha256 != read_checkpoint(folder).weights_sha256


@pytest.mark.filterwarnings("ignore")  # what diffusers says while it is imported
def test_every_verb_takes_such_a_folder(folder: Path, pictures: Any, tmp_path: Path) -> None:
    def run(*command: str) -> Any:
        result = CliRunner().invoke(cli, [*command, "--model", str(folder), "--steps", "8", "-q"])
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    names = [str(path) for path in pictures]
    z, film, sheet = (str(tmp_path / name) for name in ("z.safetensors", "film.png", "s.png"))
    inverted = json.loads(run("invert", *names, "-o", z, "--json").stdout)["images"]
    for entry in inverted:
        assert entry["autoencoder_mse"] > 1e-3 > entry["inversion_mse"]
        assert entry["roundtrip_mse"] > 1e-3
        assert "as its autoencoder keeps it" in entry["verdict"]
    report = json.loads(
        run("morph", *names, f"{z}#1", "-o", film, "--frames", "5", "--json", "--realism").stdout
    )
    assert len(report["realism"]) == 2
    assert report["frames"] == 5 and report["keyframes"][0]["inversion_mse"] < 1e-3
    run("sample", "--latents", z, "-o", sheet)
    assert Image.open(sheet).size[1] >= 16
    run("sample", "--seeds", "0,1", "-o", sheet, "--overwrite")
    run(
        "grid",
        *names,
        "seed:1",
        "seed:2",
        "-o",
        sheet,
        "--overwrite",
        "--rows",
        "2",
        "--columns",
        "2",
    )
    page = str(tmp_path / "report.html")
    checked = json.loads(run("check", *names, "--seeds", "1", "--report", page, "--json").stdout)
    assert checked["autoencoder_mse"] > 1e-3 > checked["table"][-1]["mse"]
    assert "of an autoencoder" in Path(page).read_text()
    stranger = Pipeline(model(Average(), 1))
    with pytest.raises(LatentsError, match="name that model with --model"):
        stranger.morph([z], frames=2)


def test_pickled_latent_models_are_converted(folder: Path, tmp_path: Path) -> None:
    """As CompVis/ldm-celebahq-256 lies on the hub: pickles, and attention under its old names."""
    source = tmp_path / "old"
    shutil.copytree(folder, source)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part in ("unet", "vqvae"):
        weights = source / part / "diffusion_pytorch_model.safetensors"
        state = {
            re.sub(r"(?<=attentions\.0\.)to_(q|k|v|out\.0)", lambda new: old[new[0]], name): tensor
            for name, tensor in read_tensors(weights)[0].items()
        }
        torch.save(state, weights.with_suffix(".bin"))
        weights.unlink()
    with pytest.raises(ModelError, match="models convert SOURCE"):
        read_checkpoint(source)
    converted = convert_folder(source, tmp_path / "new")
    assert converted.weights_sha256 == read_checkpoint(folder).weights_sha256


# What is said of such a model


def test_a_portrait_tells_of_the_autoencoder(folder: Path) -> None:
    facts = portray(Located(folder, "it"))
    assert facts["pictures"] == "3×16×16, which the network sees as 3×8×8"
    network = autoencoder(folder.name).network
    count = sum(weight.numel() for weight in network.parameters())
    assert facts["autoencoder"] == f"{folder.name}, scaling factor 0.7, {count:,} parameters"
    assert re.fullmatch(r"0\.\d GFLOP to encode, 0\.\d to decode", facts["its cost"])
    assert any("a picture comes back no better" in trap for trap in facts["traps"])
    assert ("quantises" in str(facts["traps"])) == (folder.name == "VQModel")


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v != "drop"}))


def kind_in(part: Path) -> str:
    kind: str = json.loads((part / "config.json").read_text())["_class_name"]
    return kind


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder to be spoilt."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_scaling_factor_that_nobody_named_is_the_one_of_its_time(copy: Path) -> None:
    edit(copy / "vqvae/config.json", scaling_factor="drop")
    scaling = read_configs(copy).autoencoder.scaling
    assert scaling == {"VQModel": 1.0, "AutoencoderKL": 0.18215}[kind_in(copy / "vqvae")]
    traps = portray(Located(copy, "it"))["traps"]
    assert any(f"no scaling_factor; {scaling:g} is taken" in trap for trap in traps)


def test_without_diffusers_everything_but_running_works(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModelError, match="pip install diffusers") as refusal:
        read_checkpoint(copy)
    assert "\n" not in str(refusal.value)
    facts = portray(Located(copy, "it"))
    assert facts["its cost"].startswith("unknown: This model has an autoencoder")
    assert read_configs(copy).autoencoder is not None


def test_an_autoencoder_that_no_index_names_is_left_alone(copy: Path) -> None:
    edit(copy / "model_index.json", _class_name="DDIMPipeline", vqvae="drop")
    assert read_checkpoint(copy).autoencoder is None


def test_an_autoencoder_may_be_called_vae(copy: Path) -> None:
    (copy / "vqvae").rename(copy / "vae")
    edit(copy / "model_index.json", vqvae="drop", vae=["diffusers", kind_in(copy / "vae")])
    assert read_checkpoint(copy).autoencoder is not None
    (copy / "model_index.json").unlink()
    assert read_checkpoint(copy).autoencoder is not None


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("model_index", {"vqvae": ["mine", "VQModel"]}, "asks for the autoencoder 'mine'"),
        ("model_index", {"vqvae": ["diffusers", "os"]}, "knows diffusers' VQModel, AutoencoderKL"),
        ("model_index", {"vqvae": "drop"}, "names no vqvae"),
        ("model_index", {"vqvae": "drop", "vae": ["diffusers", "VQModel"]}, "vae/config.json is m"),
        ("vqvae/config", {"_class_name": "AutoencoderTiny"}, "is for the class 'AutoencoderTiny'"),
        ("vqvae/config", {"depth": 3}, "'depth' is no option of"),
        ("vqvae/config", {"layers_per_block": 10**9}, "a whole number from 1 to 64"),
        ("vqvae/config", {"down_block_types": ["DownEncoderBlock2D"]}, "has 2 entries, so give 2"),
        ("vqvae/config", {"down_block_types": ["os.system"] * 2}, "each 'DownEncoderBlock2D' or"),
        ("vqvae/config", {"out_channels": 1}, "gives back what it takes"),
        ("vqvae/config", {"norm_num_groups": 3}, "can be built from its config"),
        ("vqvae/config", {"latent_channels": 5, "vq_embed_dim": "drop"}, "and the network takes 3"),
        ("vqvae/config", {"layers_per_block": 2}, "missing"),
        ("vqvae/config", {"scaling_factor": 0}, "a number from 1e-06"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    copy: Path, file: str, change: dict[str, Any], says: str
) -> None:
    edit(copy / f"{file}.json", **change)
    with pytest.raises(ModelError, match=re.escape(says)) as refusal:
        read_checkpoint(copy)
    assert "\n" not in str(refusal.value)


def test_damaged_weights_of_an_autoencoder_are_refused(copy: Path) -> None:
    weights = copy / "vqvae/diffusion_pytorch_model.safetensors"
    state = read_tensors(weights)[0]
    state["encoder.conv_in.bias"][0] = torch.nan
    write_tensors(weights, state, overwrite=True)
    with pytest.raises(ModelError, match=r"NaN or infinity in 'encoder\.conv_in\.bias'"):
        read_checkpoint(copy)
    weights.unlink()
    with pytest.raises(ModelError, match="has no weights: expected vqvae/diffusion_pytorch"):
        read_checkpoint(copy)
