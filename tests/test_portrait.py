"""`models show` says what a network is, from its configs alone."""

from pathlib import Path

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


def test_a_schedule_that_is_a_table_is_called_one(tmp_path: Path) -> None:
    config = SchedulerConfig(num_train_timesteps=3, trained_betas=(0.1, 0.2, 0.9))
    write_checkpoint(tmp_path, unet(), config)
    assert portray(Located(tmp_path, "it"))["schedule"].startswith("a table of betas, 3 timesteps")
