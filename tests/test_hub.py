"""Does a model arrive whole from the hub, from the commit it was asked of, or not at all?

A hub of our own answers on the loopback interface, and misbehaves as it is told.
"""

import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from fake_hub import FIRST, REPO, Answer, FakeHub, contents, sha256
from huggingface_hub import constants

from ddim_interp.checkpoint import read_checkpoint, write_checkpoint
from ddim_interp.errors import (
    ArgumentError,
    HubError,
    InputMissingError,
    ModelError,
    OutputError,
    StorageError,
)
from ddim_interp.hub import (
    EMBEDDED,
    Located,
    cache,
    cache_folder,
    cached_models,
    fetch,
    locate,
)
from ddim_interp.schedule import SchedulerConfig
from ddim_interp.unet import UNet2DModel

SECOND = "2" * 40
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
WANTED = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", WEIGHTS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small model, and some that nobody should fetch."""
    unet = UNet2DModel(
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, unet, SchedulerConfig())
    canary = b"raise SystemExit('this code was run')"
    return contents(folder) | {
        "README.md": b"# fruit",
        "modeling_fruit.py": canary,
        "unet/modeling_fruit.py": canary,
        "unet/diffusion_pytorch_model.bin": b"\x80\x02.",
        "unet/optimizer.safetensors": b"not wanted",
        "../../escape.json": b"{}",
        "samples/0.png": b"PNG",
    }


@pytest.fixture
def fake(
    model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    server = FakeHub()
    server.commits[FIRST] = dict(model)
    server.branches["main"] = FIRST
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    # The hub's client reads its variables when it is imported.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(fetch, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(fetch, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(fetch, "STALL_SECONDS", 2.0)
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# What needs no hub


@pytest.mark.parametrize("source", [None, "embedded"])
def test_the_model_in_the_package_is_always_there(no_sockets: None, source: str | None) -> None:
    assert locate(source) == Located(EMBEDDED, "fruit64")


def test_a_folder_is_used_as_it_is(no_sockets: None, tmp_path: Path) -> None:
    (tmp_path / "my fruit").mkdir()
    assert locate(tmp_path / "my fruit") == Located(tmp_path / "my fruit", "my fruit")


def test_a_folder_comes_before_a_name_on_the_hub(
    no_sockets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate(REPO).folder == Path(REPO)
    with pytest.raises(ArgumentError, match="drop one"):
        locate(REPO, revision="main")


@pytest.mark.parametrize(
    "source",
    [
        "cats",
        "./cats",
        "../cats/fruit",
        "/models/cats",
        "~/cats",
        "models\\cats",
        "a/b/c",
        "models/cats/",
        "org/../name",
        "org/na--me",
        "org/name@",
        "org/name@../x",
        "https://example.org/model",
        "",
        "x\0y/z",
        "a" * 5000 + "/b",
        Path("org/name"),
    ],
    ids=lambda value: str(value)[:20].replace("\0", "NUL"),
)
def test_what_looks_like_a_folder_is_never_asked_of_the_hub(
    no_sockets: None, source: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if source == "":
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputMissingError, match=r"no folder and no checkpoint \S.*check the name"):
        locate(source)


def test_a_file_may_be_a_bare_checkpoint(no_sockets: None, tmp_path: Path) -> None:
    for name in ("model.ckpt", "cat.png"):
        (tmp_path / name).write_bytes(b"")
    assert locate(tmp_path / "model.ckpt") == Located(tmp_path / "model.ckpt", "model.ckpt")
    with pytest.raises(ModelError, match=r"a checkpoint that ends in \.bin"):
        locate(tmp_path / "cat.png")


@pytest.mark.parametrize("revision", ["../x", "a b", "x\ny", "/etc", "v..1", ""])
def test_a_revision_that_cannot_be_one_is_refused(no_sockets: None, revision: str) -> None:
    with pytest.raises(ArgumentError, match="branch, tag or commit"):
        locate(REPO, revision=revision)


def test_two_revisions_contradict(no_sockets: None) -> None:
    with pytest.raises(ArgumentError, match="contradict"):
        locate(f"{REPO}@v1", revision="v2")


# A hub that works


def test_a_model_arrives_and_loads(fake: FakeHub, model: dict[str, bytes]) -> None:
    located = locate(REPO)
    assert (located.name, located.revision, located.warning) == (REPO, FIRST, None)
    assert read_checkpoint(located.folder).weights_sha256 == sha256(model[WEIGHTS])


def test_only_configs_and_weights_are_fetched(fake: FakeHub) -> None:
    located = locate(REPO)
    assert set(contents(located.folder)) == WANTED
    assert fake.fetched() == WANTED


def test_the_revision_is_resolved_once(fake: FakeHub, model: dict[str, bytes]) -> None:
    def move(answer: Answer) -> bool:
        if "/resolve/" in answer.path:  # somebody pushes while we download
            fake.branches["main"] = SECOND
        return False

    fake.commits[SECOND] = {name: b"other" for name in model}
    fake.fault = move
    assert locate(REPO).revision == FIRST
    asked = [path for _, path in fake.requests]
    assert asked[0] == f"/api/models/{REPO}/revision/main"
    assert all(path.startswith(f"/{REPO}/resolve/{FIRST}/") for path in asked[1:])


def test_a_branch_that_moves_is_followed(fake: FakeHub, model: dict[str, bytes]) -> None:
    locate(REPO)
    fake.commits[SECOND] = model | {"unet/config.json": model["unet/config.json"] + b"\n"}
    fake.branches["main"] = SECOND
    fake.requests.clear()
    assert locate(REPO).revision == SECOND
    assert ("GET", f"/{REPO}/resolve/{SECOND}/{WEIGHTS}") not in fake.requests  # the same blob


@pytest.mark.parametrize("how", ["at sign", "argument"])
def test_a_tag_is_found_and_remembered(fake: FakeHub, how: str) -> None:
    fake.branches["v1/final"] = FIRST
    for _ in range(2):
        if how == "at sign":
            located = locate(f"{REPO}@v1/final")
        else:
            located = locate(REPO, revision="v1/final")
        assert located.revision == FIRST
        fake.fault = lambda answer: answer.send(503) or True
    assert located.warning


def test_a_commit_in_the_cache_needs_no_request(fake: FakeHub) -> None:
    first = locate(f"{REPO}@{FIRST}")
    fake.requests.clear()
    assert locate(f"{REPO}@{FIRST}") == first
    assert fake.requests == []


def test_the_token_is_sent(fake: FakeHub) -> None:
    locate(REPO, token="hf_secret")
    assert fake.tokens == {"Bearer hf_secret"}


def test_another_cache_can_be_used(fake: FakeHub, tmp_path: Path) -> None:
    located = locate(REPO, cache_dir=tmp_path / "elsewhere")
    assert located.folder.is_relative_to(tmp_path / "elsewhere")
    assert locate(REPO, cache_dir=tmp_path / "elsewhere", offline=True) == located
    with pytest.raises(HubError):
        locate(REPO, offline=True)


def test_shards_and_parts_at_the_top_arrive(
    fake: FakeHub, model: dict[str, bytes], tmp_path: Path
) -> None:
    diffusers = pytest.importorskip("diffusers")
    for name in WANTED:
        (path := tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model[name])
    unet = diffusers.UNet2DModel.from_pretrained(tmp_path / "m" / "unet")
    unet.save_pretrained(tmp_path / "flat", max_shard_size="20KB")
    files = contents(tmp_path / "flat")
    assert len(files) > 4
    fake.commits[FIRST] = files | {
        "scheduler_config.json": model["scheduler/scheduler_config.json"],
        "canary.py": b"raise SystemExit",
    }
    located = locate(REPO)
    assert fake.fetched() == set(files) | {"scheduler_config.json"}
    ours = read_checkpoint(located.folder).unet.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in unet.state_dict().items())
    assert locate(REPO, offline=True) == located


def test_an_autoencoder_arrives_with_its_model(fake: FakeHub) -> None:
    files = fake.commits[FIRST]
    index = json.loads(files["model_index.json"])
    index |= {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}
    files["model_index.json"] = json.dumps(index).encode()
    files["vqvae/config.json"] = b'{"_class_name": "VQModel"}'
    files["vqvae/diffusion_pytorch_model.safetensors"] = b"weights"
    files["vqvae/code.py"] = b"raise SystemExit"
    more = {"vqvae/config.json", "vqvae/diffusion_pytorch_model.safetensors"}
    located = locate(REPO)
    assert set(contents(located.folder)) == WANTED | more
    assert locate(REPO, offline=True) == located
    (located.folder / "vqvae/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(HubError, match="not all of it"):
        locate(REPO, offline=True)


def test_progress_is_told(fake: FakeHub, model: dict[str, bytes]) -> None:
    def slowly(answer: Answer) -> bool:
        if answer.command == "GET" and answer.path.endswith(WEIGHTS):
            time.sleep(0.5)
        return False

    fake.fault = slowly
    told: list[tuple[int, int]] = []
    locate(REPO, progress=lambda done, total: told.append((done, total)))
    assert all(0 < done <= total <= sum(map(len, model.values())) for done, total in told)


def test_pickles_come_only_when_asked_for(fake: FakeHub) -> None:
    del fake.commits[FIRST][WEIGHTS], fake.commits[FIRST]["unet/optimizer.safetensors"]
    with pytest.raises(ModelError, match="models convert"):
        locate(REPO)
    assert fake.fetched() == set()
    located = locate(REPO, pickles=True)
    assert (located.folder / "unet/diffusion_pytorch_model.bin").is_file()
    assert not list(located.folder.rglob("*.py"))


def test_what_is_no_model_of_ours_is_refused_before_its_weights(fake: FakeHub) -> None:
    files = fake.commits[FIRST]
    index = json.loads(files["model_index.json"]) | {"unet": ["modeling_fruit", "UNet2DModel"]}
    files["model_index.json"] = json.dumps(index).encode()
    with pytest.raises(ModelError, match="not run"):
        locate(REPO)
    assert WEIGHTS not in fake.fetched()


def test_a_repository_without_a_network_says_what_it_has(fake: FakeHub) -> None:
    fake.commits[FIRST] = {"README.md": b"", "pytorch_model.bin": b""}
    with pytest.raises(ModelError, match=r"painter/fruit is no diffusers model: .* README\.md"):
        locate(REPO)
    fake.commits[FIRST] = {"README.md": b""}
    with pytest.raises(ModelError, match="holds no model and no checkpoint"):
        locate(REPO, pickles=True)


def test_a_bare_checkpoint_arrives_with_its_yml_when_asked_for(fake: FakeHub) -> None:
    fake.commits[FIRST] = {
        "README.md": b"# fruit",
        "code.py": b"raise SystemExit",
        "../../escape.pt": b"weights",
        "logs/church/ckpt.pth": b"weights",
        "logs/church/config.yml": b"image_size: 16",
        "logs/other.yml": b"",
    }
    with pytest.raises(ModelError, match="models convert SOURCE"):
        locate(REPO)
    assert fake.fetched() == set()
    located = locate(REPO, pickles=True)
    assert fake.fetched() == {"logs/church/ckpt.pth", "logs/church/config.yml"}
    assert located.folder.read_bytes() == b"weights" and located.folder.name == "ckpt.pth"
    assert (located.folder.parent / "config.yml").is_file()
    fake.fault = lambda answer: answer.send(503) or True
    assert locate(REPO, pickles=True, offline=True) == located
    assert locate(f"{REPO}@{FIRST}", pickles=True) == located


def test_of_several_bare_checkpoints_one_is_named(fake: FakeHub) -> None:
    fake.commits[FIRST] = {"a.pt": b"a", "b.pt": b"b", "1.yml": b"", "2.yml": b""}
    with pytest.raises(ModelError, match=r"holds 2 checkpoints .*a\.pt.*b\.pt.* --file"):
        locate(REPO, pickles=True)
    with pytest.raises(ModelError, match=r"holds no checkpoint .*c\.pt"):
        locate(REPO, pickles=True, file="c.pt")
    located = locate(REPO, pickles=True, file="b.pt")
    assert located.folder.read_bytes() == b"b" and fake.fetched() == {"b.pt"}
    assert locate(REPO, pickles=True, file="b.pt", offline=True) == located
    with pytest.raises(HubError):
        locate(REPO, pickles=True, file="a.pt", offline=True)


def test_the_cache_can_be_listed(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_models() == ()
    located = locate(REPO)
    fake.requests.clear()
    assert cached_models() == (located,)
    monkeypatch.setenv("HOME", str(cache_folder().parent))
    assert cached_models(f"~/{cache_folder().name}") == (located,)
    (located.folder / WEIGHTS).unlink()
    assert cached_models() == ()
    assert fake.requests == []


# A hub that does not


def refuse(answer: Answer) -> bool:
    answer.connection.close()
    return True


def hang(answer: Answer) -> bool:
    time.sleep(4)
    return True


def status(code: int, **headers: str) -> Callable[[Answer], bool]:
    def fault(answer: Answer) -> bool:
        answer.send(code, b"<html>no</html>", {k.replace("_", "-"): v for k, v in headers.items()})
        return True

    return fault


def portal(answer: Answer) -> bool:
    answer.send(200, b"<html>Welcome to Hotel Wifi</html>", {"Content-Type": "text/html"})
    return True


def loop(answer: Answer) -> bool:
    answer.send(302, headers={"Location": answer.path})
    return True


def nonsense(answer: Answer) -> bool:
    answer.send(200, b'{"id": "painter/fruit", "sha": 7, "siblings": [3]}')
    return True


FAULTS: dict[str, tuple[Callable[[Answer], bool], str]] = {
    "hangs up": (refuse, "cannot be reached .* check the connection"),
    "hangs": (hang, "cannot be reached .* check the connection"),
    "401": (status(401), r"does not show painter/fruit .*\(401\).* HF_TOKEN"),
    "403": (status(403), r"forbids painter/fruit .*\(403\)"),
    "gated": (status(403, X_Error_Code="GatedRepo"), r"accept the terms"),
    "404": (status(404), r"has no painter/fruit \(404\), and there is no such folder"),
    "no such revision": (status(404, X_Error_Code="RevisionNotFound"), "no revision main"),
    "429": (status(429, Retry_After="120"), r"\(429\); try again in 120 s"),
    "429 without a time": (status(429), r"\(429\); try again later"),
    "500": (status(500), r"out of order \(500\); try again later"),
    "502": (status(502), r"out of order \(502\)"),
    "503": (status(503), r"out of order \(503\)"),
    "504": (status(504), r"out of order \(504\)"),
    "418": (status(418), r"refuses painter/fruit \(418\)"),
    "captive portal": (portal, "something else answered; log in to the network"),
    "redirect loop": (loop, "cannot be reached"),
    "nonsense": (nonsense, "something else answered"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_trouble_is_told_in_one_line(
    fake: FakeHub, fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.fault, says = FAULTS[fault]
    with caplog.at_level(logging.INFO), pytest.raises(HubError, match=says) as caught:
        locate(REPO)
    assert "\n" not in str(caught.value)
    assert [record for record in caplog.records if record.name.startswith("huggingface")] == []
    assert capfd.readouterr() == ("", "")
    assert len(fake.requests) <= 25  # a redirect loop; nothing else is tried again


@pytest.mark.parametrize("fault", FAULTS)
def test_with_a_copy_in_the_cache_trouble_is_a_warning(fake: FakeHub, fault: str) -> None:
    good = locate(REPO)
    fake.fault, says = FAULTS[fault]
    located = locate(REPO)
    assert (located.folder, located.revision) == (good.folder, good.revision)
    assert located.warning and "copy in the cache is used" in located.warning
    with pytest.raises(HubError, match=says):
        raise HubError(located.warning)


@pytest.mark.parametrize("fault", ["hangs", "503", "captive portal", "redirect loop"])
def test_the_command_ends_in_time_with_69_and_one_line(
    fake: FakeHub, call: Any, refused: Any, fault: str, tmp_path: Path
) -> None:
    fake.fault, _ = FAULTS[fault]
    command = ("sample", "--seeds", "1", "-o", tmp_path / "a.png", "--model", REPO)
    refused(call(*command), 69, "hub")
    assert list(tmp_path.iterdir()) == []
    assert fetch.ANSWER_SECONDS == 2  # which stands for the 25 s that make it 30 at most


def test_the_command_uses_a_copy_in_the_cache_and_warns_once(fake: FakeHub, call: Any) -> None:
    locate(REPO)
    fake.fault, _ = FAULTS["503"]
    code, said, warned = call("models", "pull", REPO)
    assert (code, said) == (0, f"{REPO}\t{FIRST}\n")
    assert warned.count("\n") == 1 and "copy in the cache is used" in warned


def test_the_command_offline_opens_no_connection(
    no_sockets: None, call: Any, refused: Any, tmp_path: Path
) -> None:
    command = ("sample", "--seeds", "1", "-o", tmp_path / "a.png", "--model", REPO, "--offline")
    refused(call(*command), 69, REPO)


def test_nobody_listening_is_told_at_once(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(HubError, match=r"The hub \(127\.0\.0\.1\) cannot be reached") as caught:
        locate(REPO)
    assert "secret" not in str(caught.value)


def on_weights(fault: Callable[[Answer], bool]) -> Callable[[Answer], bool]:
    """A hub that is well until the weights are sent."""

    def only(answer: Answer) -> bool:
        return answer.command == "GET" and answer.path.endswith(WEIGHTS) and fault(answer)

    return only


def cut(answer: Answer) -> bool:
    data = answer.server.commits[FIRST][WEIGHTS]
    answer.send_response(200)
    answer.send_header("Content-Length", str(len(data)))
    answer.end_headers()
    answer.wfile.write(data[: len(data) // 2])
    answer.close_connection = True
    return True


def too_short(answer: Answer) -> bool:
    answer.send(200, answer.server.commits[FIRST][WEIGHTS][:-8])
    return True


def one_bit(answer: Answer) -> bool:
    data = bytearray(answer.server.commits[FIRST][WEIGHTS])
    data[-3] ^= 4
    answer.send(200, bytes(data))
    return True


BODIES: dict[str, tuple[Callable[[Answer], bool], str]] = {
    "cut again and again": (cut, "cannot be reached .*nothing new for"),
    "shorter than announced": (too_short, "did not arrive whole"),
    "one bit wrong": (one_bit, "arrived damaged, and was removed"),
    "forbidden": (status(403), "forbids"),
    "out of order": (status(500), "out of order"),
    "hanging": (hang, "cannot be reached"),
}


@pytest.mark.parametrize("fault", BODIES)
def test_weights_arrive_whole_or_not_at_all(fake: FakeHub, fault: str) -> None:
    body, says = BODIES[fault]
    fake.fault = on_weights(body)
    with pytest.raises(HubError, match=says):
        locate(REPO)
    with pytest.raises(HubError, match="not all of it"):
        locate(REPO, offline=True)
    fake.fault = lambda _: False
    read_checkpoint(locate(REPO).folder)


def test_a_download_that_starts_over_for_ever_is_given_up(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    download: Callable[..., str] = huggingface_hub.hf_hub_download

    def restart(repo: str, name: str, **how: Any) -> str:
        if name != WEIGHTS:
            return download(repo, name, **how)
        unfinished = next(Path(constants.HF_HUB_CACHE).rglob("blobs")) / "weights.incomplete"
        sizes = itertools.cycle((100, 0))
        while not over.wait(0.13):
            unfinished.write_bytes(bytes(next(sizes)))
        raise InterruptedError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", restart)
    monkeypatch.setattr(fetch, "STALL_SECONDS", 0.5)
    released = threading.Timer(3, over.set)
    released.start()
    with pytest.raises(HubError, match="nothing new for"):
        locate(REPO)
    over.set()
    released.cancel()


def test_a_config_with_another_hash_is_removed(fake: FakeHub, model: dict[str, bytes]) -> None:
    def swapped(answer: Answer) -> bool:
        if answer.command == "GET" and answer.path.endswith("unet/config.json"):
            answer.send(200, model["unet/config.json"].replace(b"silu", b"relu"))
            return True
        return False

    fake.fault = swapped
    with pytest.raises(HubError, match=r"unet/config\.json of painter/fruit arrived damaged"):
        locate(REPO)
    fake.fault = lambda _: False
    assert read_checkpoint(locate(REPO).folder).unet_config.act_fn == "silu"


def test_a_model_that_stopped_half_way_is_completed(fake: FakeHub) -> None:
    fake.fault = on_weights(status(403))
    with pytest.raises(HubError):
        locate(REPO)
    fake.fault = lambda _: False
    fake.requests.clear()
    located = locate(REPO)
    assert fake.fetched() == {WEIGHTS}
    assert set(contents(located.folder)) == WANTED


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (28, StorageError, "make room, or set HF_HOME"),
        (27, StorageError, "raise the limit on file size"),
        (13, OutputError, "set HF_HOME"),
        (30, OutputError, "HF_HOME"),
    ],
)
def test_a_cache_that_takes_nothing_is_told_apart(
    fake: FakeHub, number: int, kind: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(kind, match=says):
        locate(REPO)


def test_several_at_once_get_the_same_model(fake: FakeHub) -> None:
    found: list[Located] = []
    threads = [threading.Thread(target=lambda: found.append(locate(REPO))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    read_checkpoint(found[0].folder)


# No connection at all


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_offline_opens_no_connection(
    fake: FakeHub, how: str, monkeypatch: pytest.MonkeyPatch, no_sockets: None
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "variable")
    with pytest.raises(HubError, match="is not in the cache"):
        locate(REPO, offline=how == "argument")


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_offline_finds_what_was_fetched(
    fake: FakeHub, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = locate(REPO)
    fake.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "variable")
    assert locate(REPO, offline=how == "argument") == online
    assert locate(f"{REPO}@{FIRST}", offline=how == "argument") == online
    assert fake.requests == []


def test_a_cache_that_may_only_be_read_serves(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_to_write(*_: object, **__: object) -> None:
        raise OutputError("read-only")

    online = locate(REPO)
    fake.branches["other"] = FIRST  # which would be noted in the cache
    monkeypatch.setattr(cache, "write_bytes", refuse_to_write)
    folders = [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)  # which does not hold root back
    try:
        assert locate(f"{REPO}@other") == online
        assert locate(REPO, offline=True) == online
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_the_hub_s_own_variables_rule(fake: FakeHub, tmp_path: Path) -> None:
    """In a process of its own, where the hub's client reads them as it is imported."""
    code = (
        "from ddim_interp.hub import locate\n"
        "import sys; assert 'huggingface_hub' not in sys.modules  # not before it is needed\n"
        f"print(locate({REPO!r}).folder)\n"
        "import huggingface_hub; huggingface_hub.constants.HF_HUB_OFFLINE = True\n"
        f"print(locate({REPO!r}).revision)"
    )
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": fake.url,
        "HF_TOKEN": "hf_of_the_environment",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    folder, revision = done.stdout.split()
    assert Path(folder).is_relative_to(tmp_path / "home")
    assert revision == FIRST
    assert done.stderr == ""
    assert fake.tokens == {"Bearer hf_of_the_environment"}
