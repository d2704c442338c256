"""The command line: its contracts, and every way to hold it wrong."""

import ast
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image

from ddim_interp import __version__
from ddim_interp.cli import cli, options
from ddim_interp.cli.run import Run
from ddim_interp.images import open_image
from ddim_interp.style import QUICK_TOLERANCE

FAST = ("--steps", "4", "--frames", "4")


def run(*arguments, cwd=None, **options):
    """The program as a process: code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "ddim_interp", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def leftovers(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# ---- contracts ----


def test_morph_writes_a_film_and_one_json_document(call, tiny_folder, pictures, tmp_path):
    film = tmp_path / "film.gif"
    code, out, _ = call("morph", *pictures, "-o", film, "--model", tiny_folder, "--json", *FAST)
    assert code == 0
    report = json.loads(out)
    assert report["outputs"] == [str(film)] and report["frames"] == 4
    assert report["nfe"] > 0 and report["seconds"] > 0 and report["model"] == "tiny"
    assert report["retries"] == 0, "float32 needs no second try"
    for keyframe in report["keyframes"]:
        assert {"source", "roundtrip_mse", "roundtrip_max_level", "latent_power"} <= keyframe.keys()
    assert leftovers(tmp_path) == ["film.gif"]


def test_a_quick_morph_walks_as_told_and_ends_on_the_pictures_all_the_same(
    call, tiny_folder, pictures, tmp_path
):
    quick = ("morph", *pictures, "--quick", "--model", tiny_folder, "--json", "--upscale", "1")
    plans = []
    for more in ((), ("--steps", "5", "--solver", "heun")):
        out = tmp_path / f"{len(more)}"
        code, text, _ = call(*quick, "-o", out, "--frames", "4", *more)
        assert code == 0
        plan = json.loads(text)["plan"]
        plans.append((plan["steps"], plan["spacing"], plan["solver"]))
        _, recipe, _ = call("info", out, "--json")
        assert json.loads(recipe)["style"]["tolerance"] == QUICK_TOLERANCE
        for picture, number in zip(pictures, (0, 3), strict=True):
            with Image.open(out / f"frame_{number:06}.png") as frame:
                own = open_image(picture, frame.size[::-1]).frame
                assert (np.asarray(frame.convert("RGB")) == own).all()
    assert plans == [(12, "focus", "adams"), (5, "focus", "heun")]


def test_morph_tells_its_pace_and_its_realism(call, tiny_folder, pictures, tmp_path):
    arguments = ("morph", *pictures, "--model", tiny_folder, "--json", "--steps", "4")
    told = {}
    for pace in ("uniform", "perceptual"):
        more = ("--frames", "9", "--pace", pace, "--realism", "-o", tmp_path / f"{pace}.webp")
        code, out, _ = call(*arguments, *more)
        assert code == 0
        told[pace] = json.loads(out)
    uniform, even = (told[pace]["pace"] for pace in ("uniform", "perceptual"))
    assert uniform.keys() == {"metric", "path_length", "pdv", "largest_over_mean"}
    assert even["pdv"] < uniform["pdv"] and even["largest_over_mean"] < uniform["largest_over_mean"]
    (score,) = told["uniform"]["realism"]
    assert score > 0


def test_who_wants_to_know_it_all_is_told(call, refused, tiny_folder, pictures, tmp_path):
    film = ("morph", *pictures, "-o", tmp_path / "film.gif", "--model", tiny_folder, *FAST)
    code, out, err = call(*film, "-v", "--json")
    assert code == 0
    facts = json.loads(out)
    first, *between, last = err.splitlines()
    assert first.startswith("tiny (weights ") and "3×16×16" in first and " on " in first
    assert [line.partition(" in ")[0] for line in between] == [
        "inverting: 4 of 4",
        "sampling: 4 of 4",
        "2 frames: 4 of 4",
    ]
    assert last.startswith(f"{facts['nfe']} network evaluations, {facts['batch_size']} pictures")
    assert call(*film, "--overwrite")[2].count("\n") == 2, "two verdicts, if nobody asks"
    refused(call(*film, "-q", "-v"), 2, "give one")


def test_morph_refuses_what_would_change_nothing(refused, call, tiny_folder, tmp_path):
    arguments = ("morph", "seed:1", "seed:2", "-o", tmp_path / "x.gif", "--model", tiny_folder)
    refused(call(*arguments, "--feather", "0.125"), 2, "--feather says how to --paste; give both")
    refused(call(*arguments, "--metric", "lab"), 2, "--pace perceptual; give both")
    for told in ("--json",), ("--pace", "perceptual", "--overwrite"):
        assert call(*arguments, *FAST, "--metric", "lab", *told)[0] == 0


def test_morph_tells_its_realism_after_the_name_of_the_film(call, tiny_folder, tmp_path):
    film = tmp_path / "x.gif"
    arguments = ("morph", "seed:1", "seed:2", "seed:3", "-o", film, "--model", tiny_folder, *FAST)
    code, out, _ = call(*arguments, "--realism", "-q")
    assert code == 0
    name, words = out.splitlines()
    assert name == str(film) and re.fullmatch(
        r"realism of the middles.*: \d\.\d\d, \d\.\d\d", words
    )


def test_morph_puts_squares_back_into_full_pictures(call, refused, tiny_folder, pictures, tmp_path):
    folder = tmp_path / "film"
    style = ("--paste", "--feather", "0.2", "--times", "0,1,3,4", "--loop", "--hold", "1,0,0")
    arguments = ("morph", *pictures, pictures[0], "--model", tiny_folder, "--steps", "4")
    assert call(*arguments, "--frames", "9", *style, "-o", folder)[0] == 0
    with Image.open(folder / "frame_000001.png") as rest, Image.open(pictures[0]) as picture:
        assert rest.tobytes() == picture.tobytes()
    refused(
        call(*arguments[:2], "seed:1", "--paste", "-o", tmp_path / "x.gif", *arguments[4:]),
        2,
        "no full picture around seed:1",
    )
    refused(call(*arguments, "--times", "0,x", "-o", tmp_path / "x.gif"), 2, "'0,x' is no list")


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webm", ".webp", ".apng", ".png", ""])
def test_every_sink_takes_a_morph_and_tells_its_recipe(call, tiny_folder, tmp_path, suffix):
    film = tmp_path / f"film{suffix}"
    arguments = ("morph", "seed:1", "seed:2", "-o", film, "--model", tiny_folder, *FAST)
    assert call(*arguments)[:2] == (0, f"{film}\n")
    code, out, _ = call("info", film, "--json")
    assert code == 0
    assert [k["source"] for k in json.loads(out)["keyframes"]] == ["seed:1", "seed:2"]
    assert str(tmp_path) not in out
    first = film.read_bytes() if film.is_file() else None
    if first is not None:
        assert call(*arguments, "--overwrite")[0] == 0
        assert film.read_bytes() == first, "two runs give the same bytes"


def test_latents_travel_through_a_file(call, refused, tiny_folder, pictures, tmp_path):
    z, sheet, film = tmp_path / "z.safetensors", tmp_path / "sheet.png", tmp_path / "film.png"
    common = ("--model", tiny_folder, "--steps", "4")
    code, out, _ = call("invert", *pictures, "-o", z, "--json", *common)
    report = json.loads(out)
    assert code == 0 and report["outputs"] == [str(z)]
    assert [image["source"] for image in report["images"]] == ["disc.png", "ring.png"]
    assert {"roundtrip_mse", "roundtrip_max_level", "latent_power"} <= report["images"][0].keys()
    assert call("sample", "--latents", z, "-o", sheet, *common)[0] == 0
    code, out, _ = call("morph", f"{z}#1", z, "-o", film, "--frames", "5", "--json", *common)
    assert code == 0
    sources = [keyframe["source"] for keyframe in json.loads(out)["keyframes"]]
    assert sources == ["z.safetensors#1", "z.safetensors#0", "z.safetensors#1"]
    code, out, _ = call("info", z)
    assert code == 0 and "disc.png" in out and "roundtrip_mse" in out
    code, out, _ = call("info", f"{z}#1")
    assert code == 0 and "ring.png" in out and "disc.png" not in out
    refused(call("info", f"{z}#2"), 2, "#0 to #1; #2 is not among them")


def test_samples_make_the_film_that_their_help_promises(call, tiny_folder, tmp_path):
    assert ".mp4" in call("sample", "-h")[1]
    film = tmp_path / "s.mp4"
    arguments = ("sample", "--seeds", "1-3", "-o", film, "--steps", "2", "--model", tiny_folder)
    assert call(*arguments)[:2] == (0, f"{film}\n")


def test_a_list_of_seeds_is_no_longer_than_anybody_can_mean():
    seeds = options.Seeds()
    assert seeds.convert("7, 3-5", None, None) == [7, 3, 4, 5]
    assert len(seeds.convert(f"1-{seeds.most}", None, None)) == seeds.most
    for text in (f"0-{seeds.most}", "5-3"):
        with pytest.raises(click.BadParameter, match="counts down, or names more than"):
            seeds.convert(text, None, None)


@pytest.mark.parametrize(
    ("wishes", "tolerance"), [((), 1), (("--quick",), 2), (("--quick", "--tolerance", 0), 0)]
)
def test_quick_films_may_be_off_by_twice_as_much_unless_you_say(
    call, tiny_folder, tmp_path, wishes, tolerance
):
    film = tmp_path / "film.gif"
    common = ("--frames", 2, "--steps", 2, "--model", tiny_folder, "-q")
    assert call("morph", "seed:1", "seed:2", "-o", film, *wishes, *common)[0] == 0
    assert json.loads(call("info", film, "--json")[1])["style"]["tolerance"] == tolerance


def test_a_seed_is_one_picture_in_any_batch(call, tiny_folder, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, seeds, size in zip(folders, ("3-6", "5,3"), ("3", "1"), strict=True):
        arguments = ("--seeds", seeds, "-o", folder, "--batch-size", size, "--steps", "4")
        assert call("sample", *arguments, "--model", tiny_folder)[0] == 0
    a = [Image.open(folders[0] / f"frame_{i:06}.png").tobytes() for i in (2, 0)]
    b = [Image.open(folders[1] / f"frame_{i:06}.png").tobytes() for i in (0, 1)]
    for one, other in zip(a, b, strict=True):
        difference = max(abs(p - q) for p, q in zip(one, other, strict=True))
        assert difference <= 1


def test_models_are_listed_shown_and_converted(refused, call, tiny_folder, tmp_path):
    code, out, _ = call("models", "list", "--json")
    assert code == 0 and json.loads(out)["models"][0] == {
        "name": "fruit64",
        "revision": None,
        "embedded": True,
    }
    code, out, _ = call("models", "show")
    assert code == 0 and "v_prediction" in out and "GFLOP" in out
    code, out, _ = call("models", "show", tiny_folder)
    assert code == 0 and "clip_sample" in out
    pickled = tmp_path / "old"
    for part in ("unet", "scheduler"):
        (pickled / part).mkdir(parents=True)
        for file in (tiny_folder / part).glob("*.json"):
            (pickled / part / file.name).write_bytes(file.read_bytes())
    from ddim_interp.tensors import read_tensors

    state, _ = read_tensors(next((tiny_folder / "unet").glob("*.safetensors")))
    torch.save(state, pickled / "unet" / "diffusion_pytorch_model.bin")
    refused(
        call("morph", "seed:1", "seed:2", "-o", tmp_path / "x.gif", "--model", pickled),
        78,
        "ddim-interp models convert",
    )
    new = tmp_path / "new"
    assert call("models", "convert", pickled, "-o", new)[:2] == (0, f"{new}\n")
    assert call("sample", "--seeds", "1", "-o", tmp_path / "a.png", "--model", new)[0] == 0


def test_pulling_a_folder_says_that_it_is_here(call, tiny_folder):
    assert call("models", "pull", tiny_folder)[:2] == (0, "tiny\ta folder\n")


def test_pulling_without_a_hub_is_one_line(refused, call, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused(call("models", "pull", "nobody/nothing"), 69, "nobody/nothing")


def test_doctor_tells_versions_and_nothing_private(call):
    code, out, _ = call("doctor", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["torch"].startswith(torch.__version__.split("+")[0])
    assert str(Path.home()) not in out and "/" not in facts["hub cache"]
    assert facts["ray"].endswith(", for batch --workers")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HF_HUB_OFFLINE", "false", "no"),
        ("HF_HUB_OFFLINE", "1", "yes"),
        ("TRANSFORMERS_OFFLINE", "1", "yes"),
    ],
)
def test_doctor_calls_offline_what_the_hub_s_client_does(variable, value, said):
    others = {name: word for name, word in os.environ.items() if not name.endswith("_OFFLINE")}
    code, out, _ = run("doctor", "--json", env=others | {variable: value})
    assert code == 0 and json.loads(out)["offline"] == said


def test_choices_match_the_registries():
    from ddim_interp.grid import SPACINGS
    from ddim_interp.interpolate import BLENDS
    from ddim_interp.perceptual import METRICS
    from ddim_interp.precision import DTYPES
    from ddim_interp.solver import SOLVERS

    assert options.BLENDS == tuple(BLENDS)
    assert options.METRICS == tuple(METRICS)
    assert options.SPACINGS == tuple(SPACINGS)
    assert options.SOLVERS == ("auto", *SOLVERS)
    assert options.DTYPES == ("auto", *DTYPES)


def test_an_option_that_several_commands_take_is_spelled_once():
    spelled = Counter(
        node.args[-1 if node.args[0].value == "-o" else 0].value
        for path in Path(options.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.option"
    )
    twice = {name for name, times in spelled.items() if times > 1}
    assert twice == {"--steps", "--seeds", "--columns", "--config", "--fps", "--upscale"}, (
        "each its own"
    )
    assert {"--json", "--class-label"} <= spelled.keys()


def test_a_run_carries_every_option_of_its_own():
    assert Run.__annotations__["class_label"] == int | None


@pytest.mark.parametrize("command", list(cli.list_commands(None)))
def test_every_command_explains_itself(call, command):
    code, out, _ = call(command, "-h")
    assert code == 0 and len(out) > 100


@pytest.mark.parametrize("group", [[], ["models"]])
def test_without_a_command_the_whole_help_is_shown_line_by_line(group):
    done = subprocess.run(
        [sys.executable, "-m", "ddim_interp", *group], capture_output=True, text=True
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("Usage: ") and done.stderr.count("\n") > 9
    assert "..." not in done.stderr.split("Commands:")[1]


@pytest.mark.parametrize(
    ("ending", "code"), [("return 3", 3), ("return 0", 0), ("raise KeyError('lost')", 1)]
)
def test_a_process_leaves_at_once_and_loses_nothing(ending, code):
    program = (
        "import atexit, sys\n"
        "from ddim_interp import cli\n"
        "def run():\n"
        "    atexit.register(print, 'put away')\n"
        "    sys.stdout.write('half a line')\n"
        f"    {ending}\n"
        "class Late:\n"
        "    def __del__(self): print('taken apart')\n"
        "cli.late = Late()\n"
        "cli._run = run\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    left = "" if code != 1 else "taken apart\n"  # after an error of ours, Python ends as it does
    assert done.stdout == "half a lineput away\n" + left
    assert ("lost" in done.stderr) == (code == 1)


@pytest.mark.parametrize("words", [[], ["morph"], ["models", "list"]], ids=" ".join)
def test_help_is_a_word_too(call, words):
    code, out, _ = call("help", *words)
    assert (code, out) == call(*words, "--help")[:2] and code == 0 and out


def test_the_version_has_a_short_option_too(call):
    assert call("-V") == call("--version") == (0, f"ddim-interp, version {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["morph", "-h"]])
def test_help_comes_without_torch(arguments):
    code = (
        "import sys, click; from ddim_interp.cli import cli\n"
        f"try: cli.main({arguments}, standalone_mode=False)\n"
        "except click.exceptions.Exit: pass\n"
        "assert not {'torch', 'numpy', 'PIL', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# ---- refusals ----


@pytest.fixture
def bad(tmp_path):
    """Files that are not what they say."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.png").write_text("I am no picture.")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (64, 64), "red").save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    ihdr = b"\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    import zlib

    crc = zlib.crc32(ihdr[4:]).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + ihdr + crc)
    (folder / "sub").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("missing.png", 66),
        ("text.png", 65),
        ("empty.png", 65),
        ("torn.jpg", 65),
        ("huge.png", 65),
        ("sub", 65),
    ],
)
def test_bad_pictures_are_one_line(refused, call, bad, tiny_folder, tmp_path, name, code):
    film = tmp_path / "film.gif"
    result = call("morph", bad / name, "seed:1", "-o", film, "--model", tiny_folder, *FAST)
    refused(result, code, name)
    assert not film.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--steps", "0"), 2, "steps=0"),
        (("--steps", "1001"), 2, "1000"),
        (("--steps", "many"), 2, "many"),
        (("--frames", "1"), 2, "frames=1"),
        (("--fps", "0"), 2, "fps"),
        (("--fps", "99"), 2, "50"),
        (("--blend", "mash"), 2, "slerp"),
        (("--solver", "magic"), 2, "ddim"),
        (("--ease", "wobble"), 2, "wobble"),
        (("--times", "0,nan"), 2, "'0,nan' is no list of numbers"),
        (("--times", "0,inf"), 2, "'0,inf' is no list of numbers"),
        (("--dtype", "int4"), 2, "fp32"),
        (("--device", "toaster"), 2, "cpu"),
        (("--batch-size", "0"), 2, "batch-size"),
        (("--what",), 2, "--what"),
        (("--model", "no/such/folder"), 66, "no/such/folder"),
    ],
)
def test_bad_arguments_are_one_line(refused, call, tiny_folder, tmp_path, arguments, code, word):
    film = tmp_path / "film.gif"
    model = () if "--model" in arguments else ("--model", tiny_folder)
    refused(call("morph", "seed:1", "seed:2", "-o", film, *model, *arguments), code, word)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("command", [("models", "convert"), ("models", "show"), ("info",)])
@pytest.mark.parametrize("name", ["x" * 300, "nosuch.pth", ""], ids=["long", "pth", "empty"])
def test_names_of_nothing_are_one_line(refused, call, tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    out = ("-o", tmp_path / "x") if "convert" in command else ()
    code = 65 if command == ("info",) and len(name) == 300 else 66
    refused(call(*command, name, *out), code, "check the name", name or "''")


def test_one_keyframe_is_not_a_film(refused, call, tiny_folder, tmp_path):
    result = call("morph", "seed:1", "-o", tmp_path / "film.gif", "--model", tiny_folder)
    refused(result, 2, "at least 2 keyframes")


def test_output_troubles_are_found_before_the_model_runs(refused, call, tmp_path, monkeypatch):
    from ddim_interp import DDIMPipeline

    def loaded(*_, **__):
        pytest.fail("the model was loaded")

    monkeypatch.setattr(DDIMPipeline, "from_located", loaded)
    there = tmp_path / "there.gif"
    there.write_bytes(b"mine")
    seeds = ("morph", "seed:1", "seed:2", "-o")
    refused(call(*seeds, there), 73, "overwrite")
    refused(call(*seeds, tmp_path / "film.xyz"), 2, ".gif")
    refused(call(*seeds, tmp_path / "no" / "film.gif"), 73, "no")
    refused(call("invert", "seed:1", "-o", tmp_path / "z.png"), 2, ".safetensors")
    assert there.read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_an_unwritable_folder_is_found_at_once(refused, call, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for parent in list(locked.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    refused(call("morph", "seed:1", "-o", locked / "a.gif"), 2)  # imports what it needs
    os.seteuid(65534)
    try:
        result = call("morph", "seed:1", "seed:2", "-o", locked / "a.gif")
    finally:
        os.seteuid(0)
    refused(result, 73, "locked")


def test_latents_of_another_model_are_refused(refused, call, tiny_folder, tmp_path):
    z = tmp_path / "z.safetensors"
    assert call("invert", "seed:1", "-o", z, "--model", tiny_folder, "--steps", "2")[0] == 0
    refused(call("morph", z, "seed:2", "-o", tmp_path / "x.gif"), 65, "tiny", "--model")


@pytest.mark.parametrize("damage", ["pointer", "torn", "class"])
def test_damaged_models_are_one_line(refused, call, tiny_folder, tmp_path, damage):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_folder, model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    elif damage == "torn":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        config = model / "unet" / "config.json"
        fields = json.loads(config.read_text()) | {"_class_name": "UNet2DConditionModel"}
        config.write_text(json.dumps(fields))
    out = tmp_path / "film.gif"
    refused(call("morph", "seed:1", "seed:2", "-o", out, "--model", model, *FAST), 78)
    assert not out.exists()


def test_no_control_byte_reaches_the_terminal(refused, call, tmp_path, tiny_folder):
    evil = "a\x1b[31m\nb.png"
    result = call("morph", evil, "seed:1", "-o", tmp_path / "x.gif", "--model", tiny_folder)
    refused(result, 66)
    assert "\x1b" not in result[2]


@pytest.mark.parametrize(
    ("ignored", "numbers", "code"),
    [
        ([], [signal.SIGINT], 130),
        ([], [signal.SIGTERM], 143),
        ([], [signal.SIGHUP], 129),
        ([signal.SIGINT, signal.SIGHUP], [signal.SIGINT, signal.SIGHUP, signal.SIGTERM], 143),
    ],
    ids=["INT", "TERM", "HUP", "as after nohup and &"],
)
def test_interrupted_it_leaves_nothing_behind(tmp_path, tiny_folder, ignored, numbers, code):
    def as_started():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    arguments = ("seed:1", "seed:2", "-o", tmp_path / "film.mp4", "--model", tiny_folder)
    more = ("--frames", "100000", "--steps", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "ddim_interp", "morph", *map(str, arguments), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_started,
    )
    while not leftovers(tmp_path) and process.poll() is None:
        time.sleep(0.05)  # until it draws
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert leftovers(tmp_path) == []


def test_a_signal_that_compiled_code_makes_an_error_of_is_still_a_signal(
    call, tiny_folder, tmp_path, monkeypatch
):
    """safetensors, interrupted while it reads, complains of the shape of a storage."""
    import os

    from ddim_interp import cli, tensors

    def interrupted(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            raise ValueError("could not determine the shape of object type 'storage'") from None

    monkeypatch.setattr(cli, "_asked", [])
    monkeypatch.setattr(tensors, "safe_open", interrupted)
    before = signal.signal(signal.SIGTERM, cli._stop)
    try:
        code, out, err = call(
            "sample", "--seeds", 1, "-o", tmp_path / "a.png", "--model", tiny_folder
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, out) == (143, "")
    assert err.startswith("ddim-interp: Stopped") and err.count("\n") == 1


def test_a_signal_that_compiled_code_drops_is_told_again():
    """torch imports numpy as it starts, and puts up with whatever comes of that."""
    program = """if True:
        import os, signal, sys, time
        from ddim_interp import cli

        def drop(*_, **__):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except BaseException:
                pass
            time.sleep(20)

        cli.cli.main = drop
        cli.main()
    """
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "") and time.monotonic() - started < 15
    assert done.stderr.startswith("ddim-interp: Stopped") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("--nonsense", 143)])
def test_a_signal_that_comes_when_all_is_done_shows_nothing_of_the_program(word, code):
    program = f"""if True:
        import os, signal, sys
        from ddim_interp import cli

        run = cli._run

        def and_late():
            code = run()
            os.kill(os.getpid(), signal.SIGTERM)
            return code

        cli._run, sys.argv = and_late, ["ddim-interp", "{word}"]
        cli.main()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code and "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error():
    command = [sys.executable, "-m", "ddim_interp", "models", "show", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_process_without_streams_does_its_work(closed, tiny_folder, tmp_path):
    out = tmp_path / "a.png"
    arguments = ["sample", "--seeds", "1", "-o", out, "--model", tiny_folder, "--steps", "2"]
    command = shlex.join(map(str, [sys.executable, "-m", "ddim_interp", *arguments]))
    done = subprocess.run(f"{command} {closed}", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert leftovers(tmp_path) == ["a.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [("nosuch",), ("models",), ("info", "nosuch.gif")])
def test_the_exit_code_stands_though_nobody_can_be_told(arguments):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ddim_interp", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, done.stdout) == (66 if arguments[0] == "info" else 2, b"")


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EFBIG, "raise the limit")]
)
def test_a_disk_that_takes_no_more_is_one_line_wherever_that_shows(
    refused, call, monkeypatch, number, remedy
):
    from ddim_interp import cli

    def fail(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cli.cli, "main", fail)
    refused(call(), 74, "The disk took no more", remedy)


def test_an_exit_that_is_not_ours_keeps_its_code(monkeypatch):
    from ddim_interp import cli

    monkeypatch.setattr(cli.cli, "main", lambda **_: sys.exit(9))
    with pytest.raises(SystemExit, match="9"):
        cli._run()


def test_an_argument_too_many_is_told_in_a_sentence_that_ends(call):
    assert "(b.gif). Try 'ddim-interp info -h'." in call("info", "a.gif", "b.gif")[2]


def test_an_unknown_command_is_one_line(refused, call):
    refused(run("moprh"), 2, "'moprh'. Did you mean 'morph'?")
    refused(call("help", "smaple"), 2, "Did you mean 'sample'?")
    refused(call("models", "lits"), 2, "'lits'", "'list'")
    nothing = call("xyzzy")
    refused(nothing, 2, "'xyzzy'")
    assert "mean" not in nothing[2]


def test_latents_decoded_otherwise_than_they_were_found_say_so(
    call, tiny_folder, pictures, tmp_path
):
    z, model = tmp_path / "z.safetensors", ("--model", tiny_folder)
    assert call("invert", pictures[0], "-o", z, "--steps", "4", *model)[0] == 0
    _, out, err = call("sample", "--latents", z, "-o", tmp_path / "a.png", "--json", *model)
    assert json.loads(out)["images"][0]["roundtrip_max_level"] == 0 and not err
    more = ("--solver", "ddim", *model)
    for command in (
        ("sample", "--latents", z, "-o", tmp_path / "b.png"),
        ("morph", z, z, "-o", tmp_path / "c.gif", "--frames", "3"),
        ("grid", z, z, z, "-o", tmp_path / "d.png", "--rows", "2"),
    ):
        code, _, err = call(*command, *more)
        assert code == 0 and "decoded by ddim in 4 steps of log-snr, so its certificate" in err
    _, out, _ = call("sample", "--latents", z, "-o", tmp_path / "e.png", "--json", *more)
    assert json.loads(out)["images"][0]["roundtrip_mse"] is None
    strict = ("morph", z, z, "-o", tmp_path / "f.gif", "--frames", "3", "--strict")
    assert call(*strict, *more)[0] == 1
