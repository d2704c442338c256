"""`models show` says what a network is, from its configs alone."""

from pathlib import Path
from typing import Any

import pytest

from ddim_interp.checkpoint import write_checkpoint
from ddim_interp.hub import Located
from ddim_interp.lucid import LucidUnet
from ddim_interp.networks import Network
from ddim_interp.portrait import portray
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.unet import UNet2DModel, count_flops

LUCID = LucidUnet(
    sample_size=16, init_channels=8, block_out_channels=(8, 16), full_attention=(False, True)
)


def unet(**options: int) -> UNet2DModel:
    return UNet2DModel(
        sample_size=16, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, **options
    )


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (unet(), {"network": "UNet2DModel", "predicts": "epsilon", "classes": "none"}),
        (unet(out_channels=6), {"predicts": "epsilon, and its variance, which goes unused"}),
        (unet(num_class_embeds=9), {"classes": "9: name one with --class-label"}),
        (LUCID, {"network": "LucidUnet", "attention": "linear, full", "channels": "8, 16"}),
    ],
    ids=["plain", "learned variance", "classes", "lucid"],
)
def test_a_portrait_tells_what_the_network_is(
    network: Network, says: dict[str, str], tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, network, SchedulerConfig())
    facts = portray(Located(tmp_path, "it"))
    assert says.items() <= facts.items()
    assert facts["parameters"] == f"{sum(weight.numel() for weight in network.parameters()):,}"
    assert facts["a forward"] == f"{count_flops(network, 16, 16) / 1e9:.1f} GFLOP"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clip_sample": True}, "clamped steps cannot be undone"),
        ({"thresholding": True, "clip_sample": False}, "clamped steps cannot be undone"),
        ({"set_alpha_to_one": True}, "Here both directions end at t = 0"),
        ({"steps_offset": 1}, "steps_offset=1 shifts"),
        ({"timestep_spacing": "leading"}, "begin far below noise"),
        ({"timestep_spacing": "linspace"}, "another level than the next begins at"),
        ({"timestep_spacing": "trailing"}, "do not divide the timesteps"),
        ({"rescale_betas_zero_snr": True}, "one timestep before it"),
        ({"beta_end": 0.002}, "a little of the picture is left"),
    ],
    ids=str,
)
def test_what_would_mislead_is_told_and_nothing_else(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    calm: dict[str, Any] = {"clip_sample": False, "set_alpha_to_one": False}
    for folder, settings in (("calm", calm), ("it", calm | options)):
        write_checkpoint(tmp_path / folder, unet(), SchedulerConfig(**settings))
    plain = portray(Located(tmp_path / "calm", "calm"))["traps"]
    told = portray(Located(tmp_path / "it", "it"))["traps"]
    assert len(plain) == 1  # how diffusers lays its steps, which is always one way or another
    assert any(says in trap for trap in told)
    assert sum(says in trap for trap in plain) == (options == {"timestep_spacing": "leading"})


def test_a_schedule_that_is_a_table_is_called_one(tmp_path: Path) -> None:
    config = SchedulerConfig(num_train_timesteps=3, trained_betas=(0.1, 0.2, 0.9))
    write_checkpoint(tmp_path, unet(), config)
    assert portray(Located(tmp_path, "it"))["schedule"].startswith("a table of betas, 3 timesteps")
