"""Do weights come out of a pickle bit for bit, and nothing else at all?"""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ddim_interp
from ddim_interp.checkpoint import read_checkpoint, write_checkpoint
from ddim_interp.convert import checkpoint_file, confined, convert_folder, diffusers_pickle
from ddim_interp.convert.confined import unpickle
from ddim_interp.convert.unpickle_child import _FORBIDDEN, extract, tensors_in
from ddim_interp.errors import InputMissingError, ModelError, OutputError
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.unet import UNet2DModel

SCHEDULE = SchedulerConfig(beta_schedule="squaredcos_cap_v2", num_train_timesteps=500)


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
        ).half()


@pytest.fixture
def folder(unet: UNet2DModel, tmp_path: Path) -> Path:
    """A diffusers folder that lacks its weights."""
    folder = tmp_path / "source"
    write_checkpoint(folder, unet, SCHEDULE)
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the pickle here, where starting takes no seconds; the walls have tests of their own."""

    def here(path: Path) -> dict[str, torch.Tensor]:
        with path.open("rb") as file:
            word, tensors = extract(file)
        assert word == "done"
        return tensors

    monkeypatch.setattr(diffusers_pickle, "unpickle", here)
    monkeypatch.setattr(checkpoint_file, "unpickle", here)


def same(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    state = model.state_dict()
    return state.keys() == other.state_dict().keys() and all(
        torch.equal(state[name], weight) and state[name].dtype == weight.dtype
        for name, weight in other.state_dict().items()
    )


# What comes out is what went in


def test_weights_survive_the_whole_way(folder: Path, unet: UNet2DModel, tmp_path: Path) -> None:
    torch.save(unet.state_dict(), folder / "unet/diffusion_pytorch_model.bin")
    model = convert_folder(folder, tmp_path / "out")
    assert same(model.unet, unet)
    assert model.scheduler_config == SCHEDULE
    assert model.weights_sha256 == read_checkpoint(tmp_path / "out").weights_sha256


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.bin",
        "unet/net.pth",
        "unet/net.ckpt",
        "unet/net.pt",
        "unet/diffusion_pytorch_model.safetensors",  # a pickle under a false name
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_both_of_pytorch_s_formats_are_read_under_any_name(
    folder: Path, unet: UNet2DModel, name: str, zipped: bool, in_process: None
) -> None:
    torch.save(unet.state_dict(), folder / name, _use_new_zipfile_serialization=zipped)
    assert same(convert_folder(folder, folder.with_name("out")).unet, unet)


def test_old_attention_names_become_new(folder: Path, unet: UNet2DModel, in_process: None) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {
        re.sub(r"to_(q|k|v|out\.0)", lambda new: old[new[0]], name): weight
        for name, weight in unet.state_dict().items()
    }
    torch.save(state, folder / "unet/diffusion_pytorch_model.bin")
    assert same(convert_folder(folder, folder.with_name("out")).unet, unet)


def test_shards_are_put_together(folder: Path, unet: UNet2DModel, in_process: None) -> None:
    weight_map = {}
    for i, (name, weight) in enumerate(unet.state_dict().items()):
        weight_map[name] = f"diffusion_pytorch_model-{i % 3}.bin"
        file = folder / "unet" / weight_map[name]
        torch.save((torch.load(file) if file.exists() else {}) | {name: weight}, file)
    index = folder / "unet/diffusion_pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same(convert_folder(folder, folder.with_name("out")).unet, unet)


def test_a_variant_is_converted_when_asked_for(
    folder: Path, unet: UNet2DModel, in_process: None
) -> None:
    torch.save(unet.state_dict(), folder / "unet/diffusion_pytorch_model.fp16.bin")
    torch.save({}, folder / "unet/diffusion_pytorch_model.bin")
    out = folder.with_name("out")
    assert same(convert_folder(folder, out, variant="fp16").unet, unet)


def test_nested_names_are_joined_by_dots() -> None:
    one = torch.ones(1)
    nested = [{"model": {"conv": {"weight": one}}, "step": 3, "lr": 0.1}, (one, None), "text"]
    assert [name for name, _ in tensors_in(nested)] == ["0.model.conv.weight", "1.0"]


UNUSABLE: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "rows": lambda: torch.eye(3).to_sparse_csr(),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "float8": lambda: torch.zeros(3).to(torch.float8_e4m3fn),
    "nowhere": lambda: torch.empty(3, device="meta"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_tensors_that_no_weights_are_made_of_are_passed_over(kind: str, tmp_path: Path) -> None:
    state = {"model": {"w": torch.ones(2)}, "opt": [UNUSABLE[kind]()]}
    for name, value in (("both", state), ("alone", state["opt"])):
        torch.save(value, tmp_path / name)
    with (tmp_path / "both").open("rb") as file:
        word, tensors = extract(file)
        assert (word, list(tensors)) == ("done", ["model.w"])
    with (tmp_path / "alone").open("rb") as file:
        assert extract(file) == ("empty", {})


def test_what_an_optimizer_holds_does_not_matter(
    folder: Path, unet: UNet2DModel, tmp_path: Path
) -> None:
    odd = {name: make() for name, make in UNUSABLE.items() if name != "rows"}
    torch.save(unet.state_dict() | odd, folder / "unet/diffusion_pytorch_model.bin")
    assert same(convert_folder(folder, tmp_path / "out").unet, unet)
    file = tmp_path / "optimizer.pt"
    torch.save({"model": {"w": torch.ones(2)}, "opt": [torch.tensor(torch.nan)]}, file)
    assert unpickle(file).keys() == {"model.w", "opt.0"}


def test_a_pickle_without_tensors_is_empty(tmp_path: Path) -> None:
    torch.save({"step": 7, "names": ["a"]}, tmp_path / "model.bin")
    with (tmp_path / "model.bin").open("rb") as file:
        assert extract(file) == ("empty", {})


def test_an_output_is_replaced_only_when_asked(
    folder: Path, unet: UNet2DModel, in_process: None
) -> None:
    torch.save(unet.state_dict(), folder / "unet/diffusion_pytorch_model.bin")
    out = folder.with_name("out")
    first = convert_folder(folder, out)
    with pytest.raises(OutputError, match="choose another folder"):
        convert_folder(folder, out)
    assert convert_folder(folder, out, overwrite=True).weights_sha256 == first.weights_sha256


# What cannot be converted


def test_a_source_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="check the name"):
        convert_folder(tmp_path / "cats", tmp_path / "out")


def test_a_source_of_no_known_format_is_refused(tmp_path: Path, in_process: None) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "cats.ckpt")
    for source in (tmp_path, tmp_path / "cats.ckpt"):
        with pytest.raises(ModelError, match="of no format known here"):
            convert_folder(source, tmp_path / "out")


def drop(state: dict[str, torch.Tensor]) -> None:
    del state["conv_in.weight"]


def spoil(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.weight"][0] = torch.nan


def count(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.bias"] = torch.ones(8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop, r"1 missing \(conv_in.weight\)"),
        (spoil, "source holds NaN or infinity in 'conv_in.weight'"),
        (count, "'conv_in.bias' in whole numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, unet: UNet2DModel, change: Callable[[Any], None], says: str, in_process: None
) -> None:
    state = {name: weight.clone() for name, weight in unet.state_dict().items()}
    change(state)
    torch.save(state, folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=says):
        convert_folder(folder, folder.with_name("out"))
    with pytest.raises((ModelError, InputMissingError)):
        read_checkpoint(folder.with_name("out"))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"<html>", "web page"), (b"version https://git-lfs", "LFS"), (b"", "empty")],
)
def test_what_is_no_pickle_is_called_what_it_is(folder: Path, content: bytes, says: str) -> None:
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelError, match=says):
        convert_folder(folder, folder.with_name("out"))


# Hostile pickles


class Call:
    """Unpickled by a careless reader, it calls anything with anything."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.what = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.what


CALLS: dict[str, Callable[[str], Call]] = {
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "exec": lambda canary: Call(exec, f"open({canary!r}, 'w')"),
    "eval": lambda canary: Call(eval, f"open({canary!r}, 'w')"),
    "open": lambda canary: Call(open, canary, "w"),
    "os.mkdir": lambda canary: Call(os.mkdir, canary),
    "torch.save": lambda canary: Call(torch.save, 1, canary),
    "torch.load": lambda canary: Call(torch.load, canary),
    "getattr": lambda canary: Call(getattr, Call(__import__, "os"), "system"),
    "a whole module": lambda canary: Call(torch.nn.Linear, 2, 2),
    "shutil": lambda canary: Call(shutil.copyfile, "/etc/hostname", canary),
}


def nest(kind: str, payload: object) -> object:
    weight = torch.ones(2)
    return {
        "alone": payload,
        "beside a weight": {"conv_in.weight": weight, "x": payload},
        "as a key": {payload: weight},
        "in a list": [weight, [payload]],
    }[kind]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", ["alone", "beside a weight", "as a key", "in a list"])
@pytest.mark.parametrize("format_", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("call", CALLS)
def test_a_pickle_that_calls_is_refused_and_calls_nothing(
    tmp_path: Path, call: str, format_: str, place: str
) -> None:
    canary, file = tmp_path / "canary", tmp_path / "model.bin"
    hostile = nest(place, CALLS[call](str(canary)))
    if format_ == "bare":
        file.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, file, _use_new_zipfile_serialization=format_ == "zip")
    assert not canary.exists()
    with file.open("rb") as opened:
        assert extract(opened) == ("unsafe", {})
    assert not canary.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02.",
        b"\x80\x02}q\x00.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"PK\x03\x04" + b"\0" * 200,
        b"hello",
        b"\x80\x02" + b"(" * 10_000,
        b"\x80\x02cos\nsystem\n(S'true'\ntR.",
        bytes(range(256)) * 8,
    ],
    ids=range(9),
)
def test_a_damaged_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(content)
    with file.open("rb") as opened:
        word, tensors = extract(opened)
    assert word in ("damaged", "unsafe")
    assert tensors == {}


def test_a_pickle_cut_or_mixed_up_is_refused_or_read(tmp_path: Path, unet: UNet2DModel) -> None:
    whole = tmp_path / "whole.bin"
    torch.save(unet.state_dict(), whole, _use_new_zipfile_serialization=False)
    data = whole.read_bytes()
    for place in range(0, len(data), len(data) // 40):
        for spoilt in (data[:place], data[:place] + b"\x00\xff" + data[place + 2 :]):
            (tmp_path / "spoilt.bin").write_bytes(spoilt)
            with (tmp_path / "spoilt.bin").open("rb") as opened:
                assert extract(opened)[0] in ("done", "damaged", "unsafe", "empty")


# The walls, in the process that stands behind them


def test_the_child_refuses_in_one_line_and_leaves_no_canary(tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", tmp_path / "model.bin"
    torch.save({"w": torch.ones(1), "x": Call(os.system, f"touch {canary}")}, file)
    with pytest.raises(ModelError, match="asks for more than tensors") as caught:
        unpickle(file)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    torch.save({"w": torch.ones(1).expand(2**33)}, file)  # 32 GiB out of 4 bytes
    assert file.stat().st_size < 10_000
    with pytest.raises(ModelError, match="took more memory or time than its size explains"):
        unpickle(file)


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_a_name_that_cannot_be_handed_over_is_told_of_the_users_file(
    name: str, tmp_path: Path
) -> None:
    torch.save({name: torch.ones(1)}, tmp_path / "model.bin")
    with pytest.raises(ModelError, match=r"model\.bin made the process that reads it fail; down"):
        unpickle(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("raise SystemExit(1)", "made the process that reads it fail"),
        ("os.abort()", "made the process that reads it fail"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "took more memory or time"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "took more memory or time"),
        ("print('large')", "took more memory or time"),
        ("print('done')", "made the process that reads it fail"),
    ],
)
def test_each_way_the_child_may_end_has_its_words(
    ends: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = subprocess.run
    program = [sys.executable, "-c", f"import os, signal; {ends}"]
    monkeypatch.setattr(confined.subprocess, "run", lambda _, **options: run(program, **options))
    (tmp_path / "model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match=says) as refusal:
        unpickle(tmp_path / "model.bin")
    assert str(tmp_path / "model.bin") in str(refusal.value) and "\n" not in str(refusal.value)


WALLS = """
import os, socket, subprocess, sys
from pathlib import Path
from ddim_interp.convert.unpickle_child import _guard
Path("inside").write_text("")
_guard(Path.cwd())
Path("inside").write_text("still may be written")
Path(os.devnull).read_text()
attempts = {
    "process": lambda: subprocess.run(["true"]),
    "system": lambda: os.system("true"),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "fork": os.fork,
    "kill": lambda: os.kill(os.getpid(), 0),
    "socket": lambda: socket.socket(),
    "name look-up": lambda: socket.getaddrinfo("localhost", 1),
    "pickle": lambda: __import__("pickle").loads(b"cos\\nsystem\\n."),
    "write": lambda: Path(sys.argv[1]).write_text("x"),
    "append": lambda: open(sys.argv[1], "a"),
    "create": lambda: os.open(sys.argv[1], os.O_CREAT | os.O_RDONLY),
    "around the corner": lambda: Path("../canary").write_text("x"),
    "by a link": lambda: (os.symlink(sys.argv[1], "link"), Path("link").write_text("x")),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except PermissionError:
        continue
    print(name)
"""


def test_behind_the_walls_nothing_starts_connects_or_writes(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    canary = tmp_path / "canary"
    done = subprocess.run(
        [sys.executable, "-c", WALLS, str(canary)],
        cwd=tmp_path / "home",
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert not canary.exists()
    assert "subprocess." in _FORBIDDEN


def test_the_child_sees_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> Any:
        seen.update(options)
        raise confined.subprocess.TimeoutExpired(command, 1)

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(confined.subprocess, "run", run)
    (tmp_path / "model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match="more memory or time"):
        unpickle(tmp_path / "model.bin")
    assert "hf_secret" not in str(seen["env"])
    assert not Path(seen["cwd"]).exists()  # it was empty, and is gone
    assert seen["timeout"] >= 60


def test_pickles_are_read_in_one_place_and_never_without_care() -> None:
    sources = {
        path.relative_to(Path(ddim_interp.__file__).parent).as_posix(): path.read_text()
        for path in Path(ddim_interp.__file__).parent.rglob("*.py")
    }
    readers = {name for name, text in sources.items() if "torch.load(" in text}
    assert readers == {"convert/unpickle_child.py"}
    assert not any("weights_only=False" in text for text in sources.values())
    assert not any(re.search(r"pickle\.loads?\(", text) for text in sources.values())


def test_a_zip_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    plain, bomb = tmp_path / "plain.bin", tmp_path / "bomb.bin"
    torch.save({"w": torch.zeros(2**24)}, plain)  # 64 MiB of zeros
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    assert bomb.stat().st_size < 2**17
    with pytest.raises(ModelError, match=r"took more memory or time|damaged"):
        unpickle(bomb)
