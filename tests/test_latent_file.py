"""Latents on disk: nothing is lost, nothing foreign comes in."""

import json
import random
import struct
from dataclasses import replace

import pytest
import torch

from ddim_interp.checks import Certificate
from ddim_interp.denoiser import GaussianDenoiser
from ddim_interp.errors import ArgumentError, DdimInterpError, LatentsError, OutputError
from ddim_interp.latent_file import read_latents, read_latents_recipe, source_note, write_latents
from ddim_interp.model import Model, Plan
from ddim_interp.schedule import NoiseSchedule
from ddim_interp.solver import State
from ddim_interp.tensors import read_header, write_tensors

SCHEDULE = NoiseSchedule.from_config({})
MODEL = Model(GaussianDenoiser(), SCHEDULE, (3, 8, 8), "gauss", "abc123")
STATE = State(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), SCHEDULE.highest)
PROOF = Certificate(
    1e-9,
    0,
    1.01,
    (1e-6, 2e-6),
    40.0,
    0.01,
    0.2,
    -0.01,
    0.12,
    0.11,
    (1.0, 0.9, 1.1),
    4e-5,
    192,
    1e-4,
)
NOTES = [source_note("a.png", "00ff", (0, 0, 8, 8), PROOF), source_note("b.png", "", (), None)]


@pytest.fixture
def z(tmp_path):
    path = tmp_path / "z.safetensors"
    write_latents(path, STATE, MODEL, Plan(steps=9), NOTES)
    return path


def test_what_was_written_is_read(z):
    file = read_latents(z, MODEL)
    assert torch.equal(file.state.x, STATE.x) and file.state.level == STATE.level
    assert file.plan == Plan(steps=9).describe()
    assert file.certificate(0) == PROOF and file.certificate(1) is None
    assert file.sources[0]["name"] == "a.png"
    assert file.sources[0]["verdict"] == PROOF.verdict


def test_a_file_tells_of_one_of_its_latents(z, tmp_path):
    whole, first = read_latents_recipe(z), read_latents_recipe(z, 0)
    assert [note["name"] for note in first["sources"]] == ["a.png"]
    assert first | {"sources": whole["sources"]} == whole
    with pytest.raises(ArgumentError, match="#0 to #1; #2 is not among them"):
        read_latents_recipe(z, 2)
    write_latents(tmp_path / "bare.safetensors", STATE, MODEL, Plan(steps=9))
    assert read_latents_recipe(tmp_path / "bare.safetensors", 1)["sources"] == []
    assert read_latents(tmp_path / "bare.safetensors").certificate(0) is None


def test_latents_of_any_precision_are_filed_in_float32(z, tmp_path):
    fine = replace(STATE, x=STATE.x.double(), dither=STATE.x.double())
    write_latents(tmp_path / "fine.safetensors", fine, MODEL, Plan(steps=9))
    state = read_latents(tmp_path / "fine.safetensors", MODEL).state
    for kept in (state.x, state.dither):
        assert kept.dtype == torch.float32 and torch.equal(kept, STATE.x)


def test_the_same_latents_are_the_same_bytes(z, tmp_path):
    write_latents(tmp_path / "again.safetensors", STATE, MODEL, Plan(steps=9), NOTES)
    assert (tmp_path / "again.safetensors").read_bytes() == z.read_bytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [({"weights_sha256": "other"}, "abc123"), ({"shape": (3, 16, 16)}, "invert the pictures")],
)
def test_another_models_latents_are_refused(z, change, why):
    with pytest.raises(LatentsError, match=why):
        read_latents(z, replace(MODEL, **change))


def test_any_model_may_look_at_the_recipe(z):
    assert read_latents_recipe(z)["model"] == "gauss"


@pytest.mark.parametrize("missing", [1, 100])
def test_a_file_cut_short_is_not_told_of_either(z, missing):
    whole = z.read_bytes()
    z.write_bytes(whole[:-missing])
    with pytest.raises(LatentsError, match=f"cut short: .* of {len(whole):,}"):
        read_latents_recipe(z)


def test_nothing_is_overwritten_unasked(z):
    with pytest.raises(OutputError, match="overwrite"):
        write_latents(z, STATE, MODEL, Plan())


def test_a_name_that_hides_what_it_is_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"something\.safetensors"):
        write_latents(tmp_path / "z.png", STATE, MODEL, Plan())


def test_a_foreign_safetensors_file_is_no_latent_file(tmp_path):
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"latents": STATE.x}, {})
    with pytest.raises(LatentsError, match="ddim-interp invert"):
        read_latents(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"level": "high"},
        {"level": [1]},
        {"memory": [[1, 0.5]]},
        {"plan": 3},
        {"sources": [7]},
        {"sources": [{"certificate": 7}]},
        {"sources": [{"certificate": {"roundtrip_mse": "0"}}]},
        {"sources": [{"certificate": {**vars(PROOF), "spectrum": 1.0}}]},
        {"sources": [{"certificate": {**vars(PROOF), "rings": 1.0}}]},
        {"sources": [{"certificate": {**vars(PROOF), "luck": 1.0}}]},
        {"version": 99},
        {"kind": "weights"},
    ],
    ids=str,
)
def test_a_damaged_description_is_refused(z, tmp_path, damage):
    note = read_latents_recipe(z) | damage
    path = tmp_path / "bad.safetensors"
    write_tensors(path, {"latents": STATE.x}, {"ddim_interp": json.dumps(note)})
    with pytest.raises(LatentsError):
        read_latents(path, MODEL)


@pytest.mark.parametrize("length", range(8))
def test_tensors_are_aligned_whatever_stands_before_them(tmp_path, length):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"latents": STATE.x}, {"note": "x" * length})
    (header,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert header % 8 == 0 and read_header(path).metadata == {"note": "x" * length}


@pytest.mark.parametrize(
    "tensors",
    [
        {"latents": STATE.x[:0]},
        {"latents": STATE.x, "dither": STATE.x[:1]},
        {"latents": STATE.x[0]},
        {"latents": STATE.x.double()},
    ],
    ids=["none", "a dither short", "no batch", "another type"],
)
def test_tensors_that_do_not_fit_their_description_are_refused(z, tensors):
    write_tensors(z, tensors, read_header(z).metadata, overwrite=True)
    with pytest.raises(LatentsError, match="do not fit its description"):
        read_latents(z)


def test_mutated_files_are_refused_or_read_whole(z, tmp_path):
    whole, chance = z.read_bytes(), random.Random(0)
    header = struct.unpack("<Q", whole[:8])[0]
    path = tmp_path / "mutant.safetensors"
    for _ in range(300):
        mutant = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(8 + header)] = chance.randrange(256)
        path.write_bytes(mutant[: chance.choice([len(mutant), chance.randrange(len(mutant))])])
        try:
            assert read_latents(path, MODEL).state.x.shape == STATE.x.shape
        except DdimInterpError as error:
            assert "\n" not in str(error)
