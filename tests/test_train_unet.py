"""The training recipe: it learns, it survives being killed, and what it writes is a model."""

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import train_unet as recipe
from PIL import Image
from torch import Generator

from ddim_interp.checkpoint import read_checkpoint
from ddim_interp.schedule import NoiseSchedule

TINY = ["--size", "16", "--channels", "8", "16", "--layers", "1", "--attention", "1"]
TINY += ["--batch-size", "4", "--warmup", "8"]
TINY += ["--log-every", "1", "--threads", "1", "--known", "32"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine red pictures and one blue one, in a folder for each colour."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        colour = (200, 10 * number, 20) if number else (20, 40, 220)
        home = folder / ("red" if number else "blue")
        home.mkdir(exist_ok=True)
        Image.new("RGB", (24, 20), colour).save(home / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_killed_run_goes_on_to_the_weights_of_an_unbroken_one(
    pictures: Path, tmp_path: Path
) -> None:
    options = [*TINY, "--pictures", "80", "--save-every", "0"]
    killed, whole = tmp_path / "killed-training" / "state.pt", tmp_path / "whole-training/state.pt"
    command = [sys.executable, recipe.__file__, pictures, "-o", tmp_path / "killed", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not killed.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        _, messages = process.communicate()
    assert killed.exists(), messages.decode()
    assert 0 < torch.load(killed)["seen"] < 80

    for name in ("killed", "whole"):
        recipe.main([str(pictures), "-o", str(tmp_path / name), *options])
    first, second = torch.load(killed), torch.load(whole)
    assert first.pop("seconds") > 0 and second.pop("seconds") > 0
    torch.testing.assert_close(first, second, rtol=0, atol=0)

    model = read_checkpoint(tmp_path / "killed")
    assert model.scheduler_config == recipe.scheduler_config("v")
    torch.testing.assert_close(dict(model.unet.state_dict()), dict(first["average"]))
    with Image.open(killed.with_name("samples-000000080.png")) as sheet:
        assert sheet.size == (8 * 16, 8 * 16)


@pytest.mark.parametrize("predict", ["v", "epsilon"])
def test_the_loss_falls(pictures: Path, tmp_path: Path, predict: str) -> None:
    options = ["--pictures", "1600", "--batch-size", "16", "--warmup", "50", "--predict", predict]
    recipe.main([str(pictures), "-o", str(tmp_path / "model"), *TINY, *options])
    told = read_checkpoint(tmp_path / "model").scheduler_config.prediction_type
    assert told.startswith(predict)
    log = np.genfromtxt(tmp_path / "model-training" / "log.csv", delimiter=",", names=True)
    losses = np.stack([log[name] for name in log.dtype.names if name.startswith("loss")])
    assert np.nanmean(losses[:, -20:]) < 0.8 * np.nanmean(losses[:, :20])


def test_training_goes_on_from_another_model(pictures: Path, tmp_path: Path) -> None:
    start = recipe.new_unet(16, (8, 16), layers=1, attention=1)
    recipe.write_checkpoint(tmp_path / "start", start, recipe.scheduler_config("v"))
    still = ["--learning-rate", "0", "--pictures", "8", "--half"]
    recipe.main(
        [str(pictures), "-o", str(tmp_path / "m"), "--init", str(tmp_path / "start"), *TINY, *still]
    )
    trained = read_checkpoint(tmp_path / "m").unet
    halves = {name: weight.half().float() for name, weight in start.state_dict().items()}
    torch.testing.assert_close(dict(trained.state_dict()), halves, rtol=0, atol=0)


def test_a_tar_holds_the_same_pictures_as_its_folder(pictures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        tar.add(pictures, arcname=".")
    folder = recipe.Pictures.load(pictures, 18, 0.5)
    packed = recipe.Pictures.load(tmp_path / "pictures.tar", 18, 0.5)
    assert len(folder.pixels) == 10
    assert torch.equal(folder.pixels, packed.pixels)
    assert torch.equal(folder.weights, packed.weights)


def test_a_class_counts_by_the_root_of_its_size(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "FEW", 1)
    drawn = recipe.Pictures.load(pictures, 18, 0.5).draw(4000, 16, True, Generator().manual_seed(0))
    blue = (drawn[:, 2].mean((1, 2)) > 0).float().mean().item()
    assert blue == pytest.approx(1 / (1 + 9**0.5), abs=0.03)


def test_classes_of_few_pictures_count_as_one(pictures: Path) -> None:
    weights = recipe.Pictures.load(pictures, 18, 0.5).weights
    assert torch.equal(weights, torch.full((10,), 10**-0.5))


def test_without_a_picture_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no picture"):
        recipe.main([str(tmp_path), "-o", str(tmp_path / "model"), *TINY])


def test_a_view_without_room_to_move_is_the_picture_or_its_mirror_image() -> None:
    x = torch.rand(32, 3, 16, 16, generator=Generator().manual_seed(0)) * 2 - 1
    views = recipe.random_views(x, 16, True, Generator().manual_seed(1))
    plain = (views - x).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (views - x.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert (plain ^ mirrored).all()
    assert plain.any() and mirrored.any()


def test_noise_levels_have_the_mean_and_spread_asked_for() -> None:
    table = recipe.log_ratios(NoiseSchedule.from_config(recipe.scheduler_config("v")))
    draws = recipe.draw_levels(4096, 0.6, 1.2, table, Generator().manual_seed(0))
    assert draws.mean().item() == pytest.approx(0.6, abs=0.01)
    assert draws.std().item() == pytest.approx(1.2, abs=0.01)


def test_a_noise_level_is_told_by_the_timestep_that_the_schedule_has_for_it() -> None:
    schedule = NoiseSchedule.from_config(recipe.scheduler_config("v"))
    table = recipe.log_ratios(schedule)
    log_ratio = torch.tensor([-4.0, -1.5, 0.0, 2.5, 5.0])
    told = recipe.timesteps_at(log_ratio, table).tolist()
    wanted = [schedule.level_at(ratio).timestep for ratio in log_ratio.exp().tolist()]
    assert told == pytest.approx(wanted, abs=1e-2)


def test_a_steady_target_is_the_mean_over_what_may_lie_under_the_noise() -> None:
    g = Generator().manual_seed(0)
    known = torch.randn(6, 3, 4, 4, generator=g)
    alpha_bar = torch.tensor([0.9999, 0.2, 0.01])[:, None, None, None]
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = signal * known[:3] + noise * torch.randn(3, 3, 4, 4, generator=g)
    density = torch.distributions.Normal(signal[:, None] * known, noise[:, None])
    likelihood = density.log_prob(x_t[:, None]).sum((2, 3, 4)).double().exp()
    wanted = (likelihood @ known.flatten(1).double()) / likelihood.sum(1, keepdim=True)

    means = recipe.steady(x_t, signal, noise, known)
    torch.testing.assert_close(means.flatten(1), wanted.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(means[0], known[0], rtol=0, atol=1e-6)  # nothing else could be there


def test_pictures_shared_among_cores_have_the_gradient_of_all(pictures: Path) -> None:
    gradients, losses = [], []
    for threads in ("1", "3"):
        o = recipe.arguments([str(pictures), "-o", "m", *TINY, "--threads", threads])
        torch.manual_seed(0)
        unet = recipe.new_unet(16, (8, 16), layers=1, attention=1)
        training = recipe.Training(unet, recipe.Pictures.load(pictures, 18, 0.5), o)
        training.bf16 = False  # where a processor has it, it rounds away what is compared
        x_t, target = torch.randn(2, 4, 3, 16, 16, generator=Generator().manual_seed(1))
        losses.append(training.gradients(x_t, torch.tensor([1.0, 90.0, 400.0, 900.0]), target))
        gradients.append([weight.grad for weight in unet.parameters()])
    torch.set_num_threads(1)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_every_weight_has_one_optimizer() -> None:
    unet = recipe.new_unet(16, (8, 16), layers=1, attention=1)
    matrices, rest = recipe.hidden_matrices(unet)
    assert {id(w) for w in matrices} | {id(w) for w in rest} == {id(w) for w in unet.parameters()}
    assert len(matrices) + len(rest) == len(list(unet.parameters()))
    assert unet.conv_in.weight is rest[0] and unet.time_embedding.linear_1.weight is matrices[0]
