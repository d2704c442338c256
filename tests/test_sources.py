"""What a film is to pass through: said without a model, and refused before one is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError, InputMissingError, LatentsError
from ddim_interp.latent_file import write_latents
from ddim_interp.model import Model, Plan
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import BDIA, DDIM, EDICT, RK45, SOLVERS, State, make_solver, name_solver
from ddim_interp.sources import (
    FiledLatents,
    Seed,
    check_sources,
    count_keyframes,
    fingerprint as of,
    parse_source,
    plan_for,
)

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(), SCHEDULE, (3, 8, 8), "gauss", "abc123")


@pytest.fixture
def filed(tmp_path):
    """Writes a latent file of some latents, found by a plan."""

    def write(name: str, plan: Plan, count: int = 1) -> Path:
        path = tmp_path / f"{name}.safetensors"
        write_latents(path, State(torch.zeros(count, 3, 8, 8), SCHEDULE.highest), MODEL, plan)
        return path

    return write


def test_names_are_understood():
    assert parse_source("seed:0") == Seed("seed:0", 0)
    assert parse_source("a/z.safetensors") == FiledLatents("a/z.safetensors", None)
    assert parse_source(Path("z.safetensors#3")) == FiledLatents("z.safetensors", 3)
    assert parse_source("z.safetensors#x").picture == "z.safetensors#x"
    assert of(f"seed:{2**63 - 1}") == {"source": f"seed:{2**63 - 1}"}


@pytest.mark.parametrize("digits", ["", "-1", "1.5", "١", str(2**63), "9" * 5000])
def test_seeds_that_cannot_be_meant_are_refused(digits):
    with pytest.raises(ArgumentError, match=r"write seed:7|use seed:0 to seed:9223372036854775807"):
        check_sources([f"seed:{digits}"])


def test_keyframes_are_counted_without_reading_them(filed, pictures):
    z = filed("z", Plan(), count=5)
    assert count_keyframes([*pictures, "seed:1", z, f"{z}#3"]) == 2 + 1 + 5 + 1
    with pytest.raises(InputMissingError, match="no-such"):
        check_sources(["no-such.safetensors#1"])
    z.write_bytes(pictures[0].read_bytes())
    with pytest.raises(LatentsError):
        count_keyframes([z])


def test_latents_are_decoded_as_they_were_found(filed):
    assert plan_for([]) == Plan()
    z = filed("z", Plan(9, "karras", "heun", 0.5))
    assert plan_for(["seed:1", f"{z}#0"]) == Plan(9, "karras", "heun", 0.5)
    assert plan_for([z], steps=4, solver=None) == Plan(4, "karras", "heun", 0.5)


def test_files_of_different_walks_are_not_blended(filed):
    a, b = filed("a", Plan(12, solver="ddim")), filed("b", Plan(12, solver="heun-exact"))
    with pytest.raises(ArgumentError, match=r"ddim in 12 steps of log-snr.*heun-exact in 12"):
        plan_for([a, "seed:1", b])
    assert plan_for([a, b], solver="adams").solver == "adams", "unless all are walked alike"
    assert plan_for([a, filed("c", Plan(12, solver="ddim", dither=False))]).steps == 12


def test_a_solver_without_a_name_has_to_be_given_itself(filed):
    z = filed("z", Plan(solver=BDIA(gamma=0.5)))
    with pytest.raises(LatentsError, match=r"found by BDIA\(gamma=0\.5\).*Plan\(solver=…\)"):
        plan_for([z])
    assert plan_for([z], solver=BDIA(gamma=0.5)).solver == BDIA(gamma=0.5)
    assert plan_for([filed("y", Plan(solver=BDIA()))]).solver == "bdia"


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_like_one_with_a_name_has_that_name(name):
    assert name_solver(make_solver(name, SCHEDULE)) == name
    assert Plan.parse(Plan(solver=make_solver(name, SCHEDULE)).describe()).solver == name


def test_a_solver_is_told_from_others_by_what_is_not_as_ever():
    assert name_solver(RK45(SCHEDULE, rtol=1e-7)) == "RK45(rtol=1e-07)"
    assert name_solver(EDICT(0.9)) != name_solver(EDICT(0.8))
    bounded = [name_solver(DDIM(bound=lambda x: x)) for _ in range(2)]
    assert " at 0x" not in bounded[0] and bounded[0] == bounded[1] != "ddim"


def test_the_depth_is_said_only_where_there_is_one(filed):
    with pytest.raises(ArgumentError, match=r"steps of log-snr, and .* to depth 0\.5"):
        plan_for([filed("a", Plan()), filed("b", replace(Plan(), depth=0.5))])
