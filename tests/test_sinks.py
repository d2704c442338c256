"""Films are what was written: decoded again, every frame, every hundredth of a second."""

import hashlib
import itertools
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddim_interp.diagnosis import diagnose
from ddim_interp.errors import ArgumentError, OutputError, StorageError
from ddim_interp.sinks import (
    SINKS,
    check_sink,
    contact_sheet,
    default_upscale,
    open_sink,
    read_recipe,
    video,
    write_picture,
)

Film = NDArray[np.uint8]

PICTURES = [".gif", ".webp", ".apng"]
VIDEOS = [".mp4", ".webm"]
MOVING = [*PICTURES, *VIDEOS, ""]


def gradient(frames: int, height: int, width: int) -> Film:
    """A smooth film in all colours that drifts, as a morph does."""
    t, y, x = np.meshgrid(
        *(np.linspace(0, 1, n, endpoint=False) for n in (frames, height, width)), indexing="ij"
    )
    phases = [x + t / 4, y - t / 4, (x + y) / 2 + t / 4]
    return np.stack([127.5 + 100 * np.sin(2 * np.pi * p) for p in phases], -1).round().astype("u1")


def noise(frames: int, height: int, width: int, seed: int = 0) -> Film:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def write(path: Path, film: Iterable[Any], **how: Any) -> Path:
    with open_sink(path, **how) as sink:
        for frame in film:
            sink.write(frame)
    return path


def read(path: Path) -> tuple[Film, Fraction]:
    """All frames of a film and its duration in seconds."""
    if path.is_dir():
        names = sorted(path.glob("*.png"))
        assert [p.name for p in names] == [f"frame_{i:06d}.png" for i in range(len(names))]
        return np.concatenate([read(p)[0] for p in names]), Fraction(0)
    if path.suffix in VIDEOS:
        with av.open(path) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            assert stream.time_base is not None
            step = Fraction(1) / stream.average_rate if stream.average_rate else Fraction(0)
            times = [frame.pts * stream.time_base for frame in frames if frame.pts is not None]
            duration = times[-1] - times[0] + step
            return np.stack([f.to_ndarray(format="rgb24") for f in frames]), duration
    frames, milliseconds = [], Fraction(0)
    with Image.open(path) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
            milliseconds += Fraction(image.info.get("duration", 0))
    return np.stack(frames), milliseconds / 1000


def psnr(a: Film, b: Film) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")


# --- truth -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".apng", ".webp", ""])
def test_lossless_films_give_every_pixel_back(suffix: str, tmp_path: Path) -> None:
    film = noise(5, 13, 17)
    frames, _ = read(write(tmp_path / f"film{suffix}", film))
    assert np.array_equal(frames, film)


@pytest.mark.parametrize("suffix", SINKS)
def test_a_frame_may_lie_anyhow_and_be_painted_over_once_it_is_written(
    suffix: str, tmp_path: Path
) -> None:
    film = gradient(3, 6, 10)

    def painted(canvas: Film) -> Iterator[Film]:
        for frame in film:
            canvas[:] = frame
            yield canvas

    plain, turned = np.empty((6, 10, 3), np.uint8), np.empty((10, 6, 3), np.uint8).swapaxes(0, 1)
    own, *others = (
        read(write(tmp_path / f"{number}{suffix}", frames, frame_count=3))[0]
        for number, frames in enumerate((film, painted(plain), painted(turned)))
    )
    assert all(np.array_equal(own, other) for other in others)


@pytest.mark.parametrize("suffix", SINKS)
def test_what_a_killed_run_left_beside_a_film_goes_with_the_next(
    suffix: str, tmp_path: Path
) -> None:
    left = tmp_path / ".another.gif.0123456789ab.part"
    left.touch()
    write(tmp_path / f"film{suffix}", gradient(2, 4, 4), frame_count=2)
    assert not left.exists()


def test_a_gif_of_few_colours_gives_every_pixel_back(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    film = [np.roll(grey, i, axis=0) for i in range(3)]
    assert np.array_equal(read(write(tmp_path / "film.gif", film))[0], film)


@pytest.mark.parametrize(
    ("suffix", "upscale", "floor"),
    [
        (".gif", 1, 30),
        (".mp4", 1, 34),  # colour at half the resolution
        (".webm", 1, 34),
        (".gif", 3, 29),
        (".mp4", 3, 40),
        (".webm", 3, 40),
        (".webp", 3, 42),
    ],
)
def test_films_with_losses_stay_close(
    suffix: str, upscale: int, floor: float, tmp_path: Path
) -> None:
    film = gradient(6, 48, 64)
    frames, _ = read(write(tmp_path / f"film{suffix}", film, upscale=upscale))
    size = 64 * upscale, 48 * upscale
    shown = [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.LANCZOS)) for f in film]
    assert all(psnr(*pair) > floor for pair in zip(frames, shown, strict=True))


SAMPLES = [
    (height, width, frames, fps)
    for height, width, frames, fps in zip(
        *(np.random.default_rng(7).integers(1, 67, (2, 14)).tolist()),
        [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 30, 61],
        [1, 50, 12.5, 30, 29.97, 24, 48, 15, 0.5, 10, 33.3, 25, 30, 45],
        strict=True,
    )
]


@pytest.mark.parametrize("suffix", MOVING)
@pytest.mark.parametrize(("height", "width", "frames", "fps"), SAMPLES)
def test_any_size_and_rate_comes_back_whole(
    suffix: str, height: int, width: int, frames: int, fps: float, tmp_path: Path
) -> None:
    film = gradient(frames, height, width)
    decoded, duration = read(write(tmp_path / f"film{suffix}", film, fps=fps))
    even = suffix in VIDEOS
    padded = (height + height % 2, width + width % 2) if even else (height, width)
    assert decoded.shape == (frames, *padded, 3)
    truth = frames / Fraction(fps).limit_denominator(250)
    tolerance = {".gif": 0.005, ".webp": 0.0005, ".webm": 0.0015, ".apng": 1e-9, ".mp4": 0}
    assert suffix == "" or abs(duration - truth) <= tolerance[suffix]


@pytest.mark.parametrize("suffix", MOVING)
def test_any_rate_is_kept_however_many_its_digits(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"film{suffix}", gradient(10, 4, 4), fps=10 * np.pi)
    assert suffix == "" or abs(float(read(path)[1]) - 1 / np.pi) < 0.006


@pytest.mark.parametrize("suffix", MOVING)
def test_equal_frames_lose_no_time(suffix: str, tmp_path: Path) -> None:
    film = [gradient(1, 16, 16)[0]] * 7
    frames, duration = read(write(tmp_path / f"film{suffix}", film, fps=30))
    assert len(frames) == 7
    assert suffix == "" or abs(duration - Fraction(7, 30)) < 0.005


@pytest.mark.parametrize("fps", [1, 7, 15, 24, 29.97, 30, 48, 50])
def test_no_delay_of_a_gif_is_one_that_viewers_ignore(fps: float, tmp_path: Path) -> None:
    write(tmp_path / "film.gif", gradient(40, 2, 2), fps=fps)
    with Image.open(tmp_path / "film.gif") as image:
        delays = []
        for i in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(i)
            delays.append(image.info["duration"])
    assert min(delays) >= 20
    assert max(delays) - min(delays) <= 10


@pytest.mark.parametrize("suffix", VIDEOS)
def test_a_video_is_one_that_every_player_takes(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"film{suffix}", gradient(10, 33, 17), fps=24)
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert context.name == {".mp4": "h264", ".webm": "vp9"}[suffix]
        assert context.pix_fmt == "yuv420p"
        assert (context.width, context.height) == (18, 34)
        assert stream.average_rate == 24
        assert (context.colorspace, context.color_range) == (1, 1)  # BT.709, studio range
        tags = {name.lower(): text for name, text in container.metadata.items()}
        assert tags["padding"] == "right 1, bottom 1"
    frames, _ = read(path)
    assert psnr(frames[:, :, 17], frames[:, :, 16]) > 30  # repeated, not black
    if suffix == ".mp4":
        data = path.read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")  # plays while it loads


def test_colours_of_a_video_are_right(tmp_path: Path) -> None:
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]]
    film = np.array([np.full((16, 16, 3), c) for c in colours], np.uint8)
    for suffix in VIDEOS:
        frames, _ = read(write(tmp_path / f"film{suffix}", film))
        assert np.abs(frames.mean((1, 2)) - colours).max() < 6


@pytest.mark.parametrize("length", range(4))
def test_every_part_of_a_webp_is_of_even_length(length: int, tmp_path: Path) -> None:
    recipe = {"note": "x" * length}
    path = write(tmp_path / "film.webp", gradient(2, 4, 4), recipe=recipe)
    assert path.stat().st_size % 2 == 0 and read_recipe(path) == recipe


@pytest.mark.parametrize(("loop", "plays"), [(True, 0), (False, None)])
def test_pictures_loop_for_ever_or_play_once(loop: bool, plays: int | None, tmp_path: Path) -> None:
    for suffix in PICTURES:
        path = write(tmp_path / f"film{suffix}", gradient(2, 4, 4), loop=loop)
        with Image.open(path) as image:
            assert image.info.get("loop") in ([0] if loop else [None, 1])


def test_a_filmstrip_shows_the_journey_from_end_to_end(tmp_path: Path) -> None:
    film = noise(40, 8, 8)
    path = write(tmp_path / "film.png", film, frame_count=40)
    (strip,), _ = read(path)
    assert strip.shape == (2 * 9 - 1, 8 * 9 - 1, 3)
    assert np.array_equal(strip[:8, :8], film[0])
    assert np.array_equal(strip[-8:, -8:], film[-1])
    assert (strip[:, 8] == 255).all()


def test_a_filmstrip_of_one_frame_is_that_picture(tmp_path: Path) -> None:
    film = noise(1, 300, 5)
    path = write(tmp_path / "film.png", film, frame_count=1)
    assert np.array_equal(read(path)[0], film)


def test_large_frames_become_thumbnails_on_a_filmstrip(tmp_path: Path) -> None:
    path = write(tmp_path / "film.png", gradient(2, 300, 600), frame_count=2)
    assert read(path)[0].shape == (1, 128, 256 * 2 + 8, 3)


def test_a_picture_is_written_to_the_bit(tmp_path: Path) -> None:
    frame = noise(1, 5, 7)[0]
    write_picture(tmp_path / "a.png", frame, recipe={"seed": 1})
    assert np.array_equal(read(tmp_path / "a.png")[0], [frame])


# --- law ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SINKS)
def test_the_same_frames_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    digests = set()
    for i in range(2):
        path = tmp_path / str(i) / f"film{suffix}"
        path.parent.mkdir()
        write(path, gradient(12, 30, 31), frame_count=12, recipe={"seed": 7})
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        digests.add(hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_bytes_do_not_depend_on_what_lay_in_memory(suffix: str, tmp_path: Path) -> None:
    """On processors with AVX-512, x264 gave seven films for the same frames."""
    path, digests = tmp_path / f"film{suffix}", set()
    sizes = np.random.default_rng(0).integers(1, 200_000, (6, 20))
    for fill, row in enumerate(sizes):
        litter = [np.full(size, 51 * fill % 256, np.uint8) for size in row]
        del litter
        write(path, gradient(12, 64, 64), frame_count=12)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        path.unlink()
    assert len(digests) == 1


@pytest.mark.parametrize("suffix", SINKS)
def test_nothing_of_a_film_that_failed_remains(suffix: str, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        open_sink(tmp_path / f"film{suffix}", frame_count=9) as sink,
    ):
        for frame in gradient(3, 16, 16):
            sink.write(frame)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SINKS)
def test_overwriting_replaces_the_old_film_only_by_a_whole_one(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"film{suffix}", gradient(2, 8, 8), frame_count=2)
    old = read(path)[0]
    with pytest.raises(OutputError, match="exists"):
        write(path, [], frame_count=2)
    with pytest.raises(ArgumentError, match="No frame was written"):
        write(path, [], frame_count=2, overwrite=True)
    assert np.array_equal(read(path)[0], old)
    write(path, gradient(3, 8, 8), frame_count=3, overwrite=True)
    assert read(path)[0].shape != old.shape
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", SINKS)
@pytest.mark.parametrize("size", [0, 500, 5000])
def test_a_full_disk_is_told_and_leaves_nothing(suffix: str, size: int, tmp_path: Path) -> None:
    film = noise(30, 64, 64)
    why = r"/(film\.\w+|frame_0+\.png) failed: file too large; raise the limit on file size"
    with pytest.raises(StorageError, match=why), files_of_at_most(size):
        write(tmp_path / f"film{suffix}", film, frame_count=30)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", VIDEOS)
def test_a_video_that_cannot_be_read_back_gets_no_name(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "count_frames", lambda path: 2)
    with pytest.raises(StorageError, match="Only 2 of the 3 frames"):
        write(tmp_path / f"film{suffix}", gradient(3, 16, 16))
    assert not list(tmp_path.iterdir())


# --- budget ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*PICTURES, ".png", ""])
def test_memory_does_not_grow_with_the_film(suffix: str, tmp_path: Path) -> None:
    count = 600 if suffix else 200  # each file of a folder waits for the disk
    code = (  # a process in which nothing else allocates
        "import sys, tracemalloc, numpy as np\nfrom ddim_interp.sinks import open_sink\n"
        "rng = np.random.default_rng(0)\n"
        "colours = rng.integers(0, 256, (200, 3), np.uint8)\n"
        "for frames in 2, *map(int, sys.argv[3:]):\n"  # two, for what is allocated once
        "    tracemalloc.start()\n"
        "    name = f'{sys.argv[1]}/{frames}{sys.argv[2]}'\n"
        "    with open_sink(name, frame_count=frames) as sink:\n"
        "        for _ in range(frames):\n"
        "            sink.write(colours[rng.integers(0, 200, (32, 32))])\n"
        "    print(tracemalloc.get_traced_memory()[1])\n"
        "    tracemalloc.stop()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path, suffix, str(count), str(count // 10)],
        capture_output=True,
        check=True,
    )
    _, long, short = map(int, ran.stdout.split())
    waste = 200_000  # cycles that wait for the garbage collector; the frames alone are over 600 kB
    assert long <= 1.2 * short + waste


@pytest.mark.parametrize("suffix", VIDEOS)
def test_memory_of_an_encoder_does_not_grow_with_the_film(suffix: str, tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np\nfrom ddim_interp.sinks import open_sink\n"
        "for frames in 60, 600:\n"
        "    with open_sink(f'{sys.argv[1]}/{frames}{sys.argv[2]}') as sink:\n"
        "        for i in range(frames):\n"
        "            sink.write(np.full((160, 160, 3), i % 256, np.uint8))\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path, suffix], capture_output=True, check=True
    )
    short, long = map(int, ran.stdout.split())
    assert long <= 1.2 * short  # 600 frames by themselves would be 46 MB


# --- refusal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["morph.tiff", "morph.avi", "morph.mp4.txt", "a.b"])
def test_an_unknown_suffix_is_answered_with_the_known(name: str, tmp_path: Path) -> None:
    for refused in (check_sink, lambda path: write(path, [])):
        with pytest.raises(ArgumentError, match=r"choose one of \.gif, \.mp4, .* or no suffix"):
            refused(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("-", "do not go to stdout"),
        ("f.", "ends in a dot"),
        ("f.mp4.", "a dot"),
        (".mp4", r"without a name; .* as in film\.mp4"),
    ],
)
def test_a_name_that_asks_for_no_folder_makes_none(name: str, says: str, tmp_path: Path) -> None:
    for refused in (check_sink, lambda path: open_sink(path).__enter__()):
        with pytest.raises(ArgumentError, match=says):
            refused(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9, 0.001])
def test_a_rate_that_is_none_is_refused(fps: float, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"choose one from 0\.1 to 240"):
        check_sink(tmp_path / "film.mp4", fps=fps)


def test_a_gif_faster_than_viewers_is_refused_with_a_remedy(tmp_path: Path) -> None:
    check_sink(tmp_path / "film.gif", fps=50)
    with pytest.raises(ArgumentError, match=r"use fps=50, or write \.webp or \.mp4"):
        check_sink(tmp_path / "film.gif", fps=60)


def test_a_filmstrip_wants_to_know_its_length(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="give frame_count"):
        check_sink(tmp_path / "film.png")


def test_a_missing_encoder_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"gif"})
    with pytest.raises(OutputError, match=r"lacks the encoder libx264; write \.webp"):
        check_sink(tmp_path / "film.mp4")


def test_without_ffmpeg_all_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ddim_interp.sinks.video", None)
    for suffix in VIDEOS:
        with pytest.raises(OutputError, match=rf"writes {suffix}, cannot be loaded .*write \.webp"):
            check_sink(tmp_path / f"film{suffix}")
    film = write(tmp_path / "film.webp", gradient(3, 16, 16), recipe={"seed": 7})
    assert read_recipe(film) == {"seed": 7}
    assert diagnose()["encoders"].startswith("none: PyAV cannot be loaded")


def test_ffmpeg_is_loaded_with_the_first_video() -> None:
    program = "import sys, ddim_interp.production; assert not {'av', 'imageio'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_an_output_in_the_way_is_found_before_any_work(tmp_path: Path) -> None:
    for suffix, first in itertools.product(SINKS, ["film", "nowhere/film"]):
        path = tmp_path / f"{first}{suffix}"
        if first == "film":
            check_sink(path, frame_count=1)
            write(path, gradient(1, 2, 2), frame_count=1)
            check_sink(path, frame_count=1, overwrite=True)
        with pytest.raises(OutputError):
            check_sink(path, frame_count=1)


def test_a_folder_with_other_things_is_never_a_film(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"other files, such as notes\.txt"):
        check_sink(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((5, 4, 3), np.uint8),
    ],
    ids=["flat", "four channels", "float", "empty", "another size"],
)
def test_a_frame_that_does_not_fit_is_refused(frame: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="give"):
        write(tmp_path / "film.gif", [np.zeros((4, 4, 3), np.uint8), frame])
    assert not list(tmp_path.iterdir())


def test_frames_too_large_for_any_player_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="choose a smaller upscale"):
        write(tmp_path / "film.webp", gradient(1, 2, 1100), upscale=15)
    with pytest.raises(ArgumentError, match="choose 1 or more"):
        check_sink(tmp_path / "film.webp", upscale=0)


def test_small_films_are_enlarged_to_a_pleasant_size() -> None:
    sizes = (1, 16, 32, 64, 100, 128, 256, 300, 512, 1024)
    assert [default_upscale(s, s // 2 + 1) for s in sizes] == [16, 16, 16, 8, 5, 4, 2, 2, 1, 1]


def test_a_sheet_holds_its_pictures_in_order() -> None:
    frames = list(noise(5, 16, 8))
    sheet = contact_sheet(frames, columns=2)
    assert sheet.shape == (3 * 17 - 1, 2 * 9 - 1, 3)
    for i, frame in enumerate(frames):
        top, left = i // 2 * 17, i % 2 * 9
        assert np.array_equal(sheet[top : top + 16, left : left + 8], frame)
    assert (sheet[-16:, -8:] == 255).all()
    with pytest.raises(ArgumentError, match="at least one"):
        contact_sheet([])


def test_rows_of_different_length_are_centred() -> None:
    frames = list(noise(3, 16, 8))
    sheet = contact_sheet(frames, columns=[1, 2])
    assert sheet.shape == (2 * 17 - 1, 2 * 9 - 1, 3)
    assert np.array_equal(sheet[:16, 4:12], frames[0])
    assert np.array_equal(sheet[17:, 9:], frames[2])
    with pytest.raises(ArgumentError, match="at least one"):
        contact_sheet(frames, columns=[1, 1])
