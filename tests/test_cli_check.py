"""`ddim-interp check`: contracts, and pictures nobody would choose."""

import json
import math

import pytest
from test_checks import shades

from ddim_interp.images import to_frames, to_pil
from ddim_interp.solver import SOLVERS

KEYS = {
    "steps",
    "method",
    "nfe",
    "mse",
    "psnr",
    "latent_power",
    "patch_correlation",
    "seconds",
}


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Pictures nobody would choose, as files."""
    folder = tmp_path_factory.mktemp("strange")
    paths = []
    for name, image in shades(16).items():
        to_pil(to_frames(image[None]))[0].save(folder / f"{name}.png")
        paths.append(folder / f"{name}.png")
    return paths


def test_the_table_has_every_method_at_every_number_of_steps(call, tiny_folder, pictures):
    methods = ["ddim-naive", "heun", "dpmpp-2m", "bdia", "ddim"]
    named = [word for method in methods for word in ("--method", method)]
    common = ("--model", tiny_folder, "--steps", "5,3", *named, "--json")
    code, out, err = call("check", *pictures, *common)
    assert code == 0 and err == ""
    document = json.loads(out)
    assert all(row.keys() >= KEYS for row in document["table"])
    found = [(row["steps"], row["method"]) for row in document["table"]]
    assert found == [(steps, method) for steps in (3, 5) for method in methods]
    assert [entry["source"] for entry in document["pictures"]] == ["disc.png", "ring.png"]
    assert document["verdict"]


class Reached(Exception):
    pass


def test_all_means_every_solver(call, tiny_folder, monkeypatch):
    def check_model(*_, methods, **__):
        assert sorted(methods) == sorted([*SOLVERS, "auto"]) and methods[-1] == "auto"
        raise Reached

    monkeypatch.setattr("ddim_interp.production.findings.check_model", check_model)
    with pytest.raises(Reached):
        call("check", "--method", "all", "--model", tiny_folder, "--steps", "2")


def test_the_models_own_pictures_are_such_as_can_be_saved(call, tiny_folder, monkeypatch):
    def check_model(_, images, *__, **___):
        assert images.abs().max() == 1, "beyond white is white"
        raise Reached

    monkeypatch.setattr("ddim_interp.production.findings.check_model", check_model)
    with pytest.raises(Reached):
        call("check", "--model", tiny_folder, "--steps", "2")


def test_exact_inversion_beats_the_naive_one_and_costs_more(call, tiny_folder, pictures):
    methods = ("--method", "ddim-naive", "--method", "ddim", "--method", "auto")
    arguments = ("check", *pictures, *methods, "--model", tiny_folder, "--steps", "6", "--json")
    code, out, _ = call(*arguments)
    naive, exact, auto = json.loads(out)["table"]
    assert code == 0 and naive["nfe"] == 2 * 6 < exact["nfe"]
    assert exact["mse"] < naive["mse"] / 100
    assert exact["latent_mse"] < naive["latent_mse"] / 100
    assert auto["max_level"] == 0


def test_without_pictures_it_takes_the_models_own(call, tiny_folder):
    code, out, err = call("check", "--model", tiny_folder, "--steps", "2,4", "-q")
    assert code == 0 and err == ""
    *_, first, second, verdict = out.splitlines()
    assert first.startswith("seed:0: the picture") and second.startswith("seed:1: the picture")
    assert "latents" in verdict


def test_pictures_nobody_would_choose_end_with_a_verdict(call, tiny_folder, strange):
    code, out, _ = call("check", *strange, "--model", tiny_folder, "--steps", "4", "--json")
    assert code == 0
    for entry in json.loads(out)["pictures"]:
        assert entry["verdict"].startswith("the picture")
        assert all(math.isfinite(x) for x in entry.values() if isinstance(x, float))


def test_strict_says_it_in_the_exit_code(call, tiny_folder, strange, pictures):
    common = ("--model", tiny_folder, "--steps", "4", "--json", "--strict")
    code, out, _ = call("check", strange[0], *common)
    assert (code == 1) is not json.loads(out)["good"]
    assert code == 1, "a black picture is far from any model's noise"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--steps", "ten"), 2, "10,20,50"),
        (("--steps", "0"), 2, "steps=0"),
        (("--steps", "5000"), 2, "1000"),
        (("--method", "magic"), 2, "ddim"),
        (("--report", "report.pdf"), 2, ".html"),
        (("--report", "no/such/report.html"), 73, "no"),
        (("missing.png",), 66, "missing.png"),
    ],
)
def test_what_cannot_be_meant_is_one_line(refused, call, tiny_folder, arguments, code, word):
    refused(call("check", "--model", tiny_folder, *arguments), code, word)
