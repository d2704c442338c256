"""What the bench promises: turns, figures that add up, and refusals. Never a time."""

import json
from functools import partial

import pytest
import torch
from click.testing import CliRunner

from ddim_interp.bench.configs import CONFIGS
from ddim_interp.bench.drafts import measure_draft
from ddim_interp.bench.films import race_films
from ddim_interp.bench.forwards import matrix_peak, race_forwards, random_network
from ddim_interp.bench.growth import measure_growth
from ddim_interp.bench.processes import measure_start
from ddim_interp.bench.race import race
from ddim_interp.cli import cli
from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError
from ddim_interp.model import Plan
from ddim_interp.production.bench import BenchOrder
from ddim_interp.unet import UNetConfig, count_flops

SMALL = {
    "sample_size": 16,
    "block_out_channels": [16, 16],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
}


def test_contestants_run_in_turns_after_a_warm_up():
    ran = []
    runners = {name: lambda name=name: ran.append(name) for name in "abc"}
    assert list(race(runners, rounds=3)) == ["a", "b", "c"]
    assert "".join(ran) == "abc" + "abc" + "bca" + "cab"


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_can_be_built(name):
    config = UNetConfig.from_mapping(dict(CONFIGS[name].config), name)
    assert config.sample_size == int(name.split("-")[1])


def test_a_matrix_product_has_the_operations_it_says():
    from torch.utils.flop_counter import FlopCounterMode

    product, flops = matrix_peak(torch.float32, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        product()
    assert counter.get_total_flops() == flops


def test_the_figures_of_a_forward_belong_together():
    network = random_network(SMALL)
    dtypes = [torch.float32, torch.bfloat16]
    rows = race_forwards("small", network, batch=2, dtypes=dtypes, rounds=1)
    assert [row.who for row in rows] == ["ddim_interp float32", "ddim_interp bfloat16"]
    first, half = rows
    assert first.flops == 2 * count_flops(network, 16, 16)
    assert (first.speedup, first.gap) == (1, 0)
    assert half.speedup == pytest.approx(first.seconds / half.seconds)
    assert 0 < half.gap < 0.1
    assert half.share == pytest.approx(half.flops / half.seconds / half.peak)


def test_the_peer_gives_the_same_answer():
    pytest.importorskip("diffusers")
    network = random_network(SMALL)
    rows = race_forwards(
        "small",
        network,
        batch=2,
        dtypes=[torch.float32, torch.bfloat16],
        peers=("diffusers", "diffusers tuned"),
        rounds=1,
    )
    gaps = {row.who: row.gap for row in rows}
    assert gaps["ddim_interp float32"] < 1e-5
    assert 1e-5 < gaps["diffusers tuned"] < 0.1


def test_a_precision_that_is_the_same_costs_nothing(tiny):
    assert measure_draft(tiny.model, Plan(2), seeds=[0]).max_level == 0


def test_growth_counts_what_films_cost(tiny):
    rows = list(measure_growth(tiny, Plan()))
    for what, most in (("frames", 5), ("steps", 8)):  # at most; frames share work
        series = [(row.amount, row.nfe) for row in rows if row.what == what]
        assert all(0 < nfe <= most * amount for amount, nfe in series)
        assert series == sorted(series, key=lambda each: each[1])
    steps = {row.amount: row.nfe for row in rows if row.what == "steps"}
    film = tiny.morph(["seed:0", "seed:1"], plan=Plan(steps=5), frames=8)
    counted = CountCalls(film.model.for_frames)
    assert len(list(film.draw(counted))) == 8 and counted.nfe == steps[5]
    inverted = [row.nfe for row in rows if row.what == "keyframes"]
    assert inverted == sorted(set(inverted))
    assert [row.amount for row in rows if row.what == "resolution"] == [8, 16, 32]


def test_everybody_draws_the_same_film(tiny):
    pytest.importorskip("diffusers")
    films = race_films("tiny", tiny, batch=4, peers=("diffusers",), frames=9, steps=4, rounds=1)
    theirs, alone, shared, quick = films
    assert [film.who for film in films] == [
        "diffusers",
        "ddim_interp, each frame alone",
        "ddim_interp",
        "ddim_interp --quick",
    ]
    assert (theirs.nfe, theirs.psnr, theirs.speedup) == (9 * 4, None, 1)
    assert alone.nfe == 9 * 3, "diffusers' last step starts and ends at t = 0"
    assert alone.psnr is None or alone.psnr > 50
    assert 0 < shared.nfe <= alone.nfe and (shared.psnr is None or shared.psnr > 40)
    assert shared.speedup == pytest.approx(theirs.seconds / shared.seconds)
    assert quick.steps == 12


def test_films_are_drawn_by_every_config(tiny_folder, monkeypatch):
    from ddim_interp.bench.configs import Shape

    configs = {"small": Shape(SMALL, 2, 2)}
    monkeypatch.setattr("ddim_interp.production.bench.CONFIGS", configs)
    monkeypatch.setattr("ddim_interp.production.bench.race_films", partial(race_films, frames=3))
    command = ["bench", "--model", str(tiny_folder), "--rounds", "1", "--films"]
    result = CliRunner().invoke(cli, [*command, "--config", "small", "--json"])
    films = json.loads(result.stdout)["films"]
    assert {film["network"] for film in films} == {"small"} and len(films) == 3


def test_processes_are_measured_one_by_one():
    start = {row.what: row for row in measure_start(rounds=1)}
    # torch is of hundreds of megabytes, and help does not load it.
    assert start["ddim-interp --help"].megabytes < 0.5 * start["import torch"].megabytes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"configs": ["imagenet"]}, "choose from cifar10-32"),
        ({"rounds": 0}, "ask for 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, says):
    with pytest.raises(ArgumentError, match=says):
        BenchOrder(**options).check(replace=False)


def test_the_command_prints_one_document_or_a_table(tiny_folder):
    command = ["bench", "--model", str(tiny_folder), "--rounds", "1", "--steps", "2"]
    document = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert {row["network"] for row in document["forwards"]} == {"tiny"}
    draft = document["draft"]
    assert draft["faithful"] == (draft["mse"] <= 1e-4)
    table = CliRunner().invoke(cli, [*command, "-q"]).stdout
    assert "GFLOP/s" in table and "ddim_interp float32" in table
