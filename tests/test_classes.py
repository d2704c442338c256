"""A network trained with classes is told one, and a network without is told none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from ddim_interp import DDIMPipeline, DDIMScheduler, NetworkDenoiser, Plan, UNet2DModel
from ddim_interp.cli import cli
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.schedule import Level

SHAPE: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 8),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
FEW = Plan(steps=2)


def pipeline(label: int | None, **options: Any) -> DDIMPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(**SHAPE, **options).eval()
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    pipe = DDIMPipeline(unet, scheduler, name="ten", class_label=label)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_classes_draw_different_pictures_from_one_seed() -> None:
    pictures = [
        pipeline(label, num_class_embeds=10).sample(seeds=[0], plan=FEW, output_type="pt").images
        for label in (3, 4, 3)
    ]
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


def test_the_network_is_given_one_label_a_picture() -> None:
    pipe = pipeline(7, num_class_embeds=10)
    x, t = torch.randn(3, 3, 8, 8), Level(500.0, 0.5)
    labels = torch.full((3,), 7)
    with torch.inference_mode():
        told = NetworkDenoiser(pipe.unet, class_label=7)(x, t).eps
        assert torch.equal(told, pipe.unet(x, 500.0, labels).sample)


def test_the_class_is_part_of_the_model_s_name_in_recipes() -> None:
    film = pipeline(7, num_class_embeds=10).morph(["seed:1", "seed:2"], plan=FEW, frames=2)
    assert film.recipe()["model"] == "ten (class 7)"
    assert len(list(film.draw())) == 2


def test_the_diffusers_call_tells_the_class_too() -> None:
    images = [
        pipeline(label, num_class_embeds=10)(
            generator=torch.manual_seed(0), num_inference_steps=2, output_type="np"
        ).images
        for label in (3, 4)
    ]
    assert abs(images[0] - images[1]).max() > 0


@pytest.mark.parametrize(
    ("label", "options", "error", "says"),
    [
        (None, {"num_class_embeds": 10}, ArgumentError, "trained with 10 classes; say which"),
        (10, {"num_class_embeds": 10}, ArgumentError, "10 is not among them"),
        (-1, {"num_class_embeds": 10}, ArgumentError, "-1 is not among them"),
        (3, {}, ArgumentError, "not trained with classes"),
        (3, {"class_embed_type": "identity"}, ModelError, "not by number"),
    ],
)
def test_a_label_too_many_or_too_few_is_refused(
    label: int | None, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        pipeline(label, **options).sample(seeds=[0], plan=FEW)


def test_the_command_line_hands_the_class_on(tmp_path: Path) -> None:
    pipeline(None, num_class_embeds=10).save_pretrained(tmp_path / "ten")
    command = ["sample", "--seeds", "0", "--model", str(tmp_path / "ten"), "--steps", "2", "-q"]
    runner = CliRunner()
    refusal = runner.invoke(cli, [*command, "-o", str(tmp_path / "a.png")])
    assert isinstance(refusal.exception, ArgumentError) and not (tmp_path / "a.png").exists()
    for label in ("3", "4"):
        out = str(tmp_path / f"{label}.png")
        result = runner.invoke(cli, [*command, "--class-label", label, "-o", out])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "3.png").read_bytes() != (tmp_path / "4.png").read_bytes()
