"""Any still picture comes in as it looks; anything else is refused in one line."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ddim_interp import decoding, files
from ddim_interp.errors import (
    ArgumentError,
    ImageError,
    InputMissingError,
    NonFiniteError,
    StorageError,
)
from ddim_interp.images import from_frames, open_image, to_frames, to_pil

Pixels = NDArray[np.uint8]

FORMATS = {
    ".png": {},
    ".jpg": {"quality": 95},
    ".webp": {"lossless": True},
    ".gif": {},
    ".bmp": {},
    ".tif": {"compression": "tiff_lzw"},
    ".avif": {"quality": 95},
    ".ppm": {},
}


def smooth(height: int, width: int) -> Pixels:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 128 + 0 * x], -1).astype(np.uint8)


def saved(image: Image.Image, suffix: str, **how: Any) -> bytes:
    buffer = BytesIO()
    buffer.name = f"picture{suffix}"
    image.save(buffer, **how)
    return buffer.getvalue()


# --- truth -------------------------------------------------------------------------------------


def test_every_level_survives_the_network_s_range() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    levels[..., 1] = 255 - levels[..., 1]
    assert np.array_equal(to_frames(from_frames(levels)), levels)
    assert np.array_equal(to_frames(from_frames(levels).double()), levels)
    assert from_frames(levels).min() == -1 and from_frames(levels).max() == 1


def test_levels_are_rounded_and_kept_in_range() -> None:
    x = torch.tensor([-7.0, -1.0, -0.001, 0.0, 0.003, 0.999, 1.0, 9.0]).view(1, 1, 1, 8)
    assert to_frames(x)[0, 0, :, 2].tolist() == [0, 0, 127, 128, 128, 255, 255, 255]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_whatever_it_is_called(suffix: str, tmp_path: Path) -> None:
    truth = smooth(40, 40)
    path = tmp_path / "a picture.dat"
    path.write_bytes(saved(Image.fromarray(truth), suffix, **FORMATS[suffix]))
    picture = open_image(path, 40)
    error = np.abs(picture.frame.astype(int) - truth).max()
    assert error <= {".jpg": 8, ".gif": 24, ".avif": 12}.get(suffix, 0)
    assert picture.name == "a picture.dat"
    assert picture.sha256 == files.sha256_file(path)
    assert picture.pixels.shape == (3, 40, 40) and picture.pixels.dtype == torch.float32
    assert np.array_equal(to_frames(picture.pixels[None])[0], picture.frame)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_pictures_stand_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    truth = np.zeros((16, 32, 3), np.uint8)
    truth[:8, :8] = 255, 0, 0
    truth[:8, -8:] = 0, 0, 255
    lying = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](truth)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(lying)), suffix, exif=exif)
    (tmp_path / "a").write_bytes(data)
    picture = open_image(tmp_path / "a", (16, 32))
    assert np.abs(picture.frame.astype(int) - truth).mean() < 8
    assert picture.full_size == (16, 32) and picture.box == (0, 0, 32, 16)


@pytest.mark.parametrize("mode", ["I;16", "I", "I;16B", "F"])
def test_deep_grey_is_scaled_not_clipped(mode: str) -> None:
    levels = np.linspace(0, 65535, 256).round().reshape(16, 16)
    if mode == "F":
        image = Image.fromarray((levels / 65535).astype(np.float32))
    else:
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": "i4"}[mode]
        image = Image.frombytes(mode, (16, 16), levels.astype(kind).tobytes())
    assert image.mode == mode
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(open_image(image, 16).frame[..., 0], expected)


def test_every_16_bit_level_goes_to_the_nearest_of_256() -> None:
    levels = np.arange(65536, dtype="<u2").reshape(256, 256)
    frame = open_image(Image.frombytes("I;16", (256, 256), levels.tobytes()), 256).frame[..., 0]
    assert np.abs(frame - levels / 257).max() <= 0.5


def test_a_picture_in_lab_without_a_profile_has_its_colours() -> None:
    truth = Image.fromarray(smooth(16, 32))
    srgb, space = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(truth, srgb, space, outputMode="LAB")
    assert lab is not None
    lab.info.clear()
    error = open_image(lab, (16, 32)).frame - np.asarray(truth, int)
    assert np.abs(error).mean() < 2


def test_a_16_bit_png_and_ppm_keep_their_whole_range(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(levels), ".png"))
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + levels.astype(">u2").tobytes())
    for name in "a.png", "a.pgm":
        frame = open_image(tmp_path / name, 16).frame
        assert frame[..., 1].flatten().tolist() == list(range(256))


def transparent(mode: str) -> Image.Image:
    """Red (or dark grey) on the left, nothing on the right."""
    rgba = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    rgba.paste((200, 0, 0, 255), (0, 0, 4, 4))
    if mode in ("RGBA", "LA"):
        return rgba.convert(mode)
    if mode == "RGBa":
        return rgba.convert("RGBa")
    if mode == "La":
        return rgba.convert("LA").convert("La")
    image = Image.new("P" if mode == "P" else "RGB", (8, 4))
    if mode == "P":
        image.putpalette([200, 0, 0, 1, 2, 3])
        image.paste(1, (4, 0, 8, 4))
        image.info["transparency"] = 1
    else:
        image.paste((200, 0, 0), (0, 0, 4, 4))
        image.info["transparency"] = (0, 0, 0)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "P", "RGB"])
def test_transparent_pictures_lie_on_white(mode: str, tmp_path: Path) -> None:
    sources: list[Any] = [transparent(mode)]
    if mode not in ("RGBa", "La"):
        (tmp_path / "a.png").write_bytes(saved(sources[0], ".png"))
        sources.append(tmp_path / "a.png")
    for source in sources:
        frame = open_image(source, (4, 8)).frame
        assert (frame[:, 4:] == 255).all()
        assert (frame[:, :4] == ([60] * 3 if mode in ("LA", "La") else [200, 0, 0])).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_every_mode_comes_out_in_colour(mode: str) -> None:
    truth = Image.new("RGB", (8, 8), (255, 255, 255))
    if mode == "LAB":
        image = Image.new("LAB", (8, 8), (255, 128, 128))  # L* = 100, a* = b* = 0
    else:
        image = truth.convert(mode)
    frame = open_image(image, 8).frame
    assert frame.shape == (8, 8, 3) and frame.min() >= 253


def test_cmyk_jpegs_have_their_colours(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (200, 30, 40)).convert("CMYK")
    (tmp_path / "a.jpg").write_bytes(saved(image, ".jpg", quality=100))
    assert np.abs(open_image(tmp_path / "a.jpg", 8).frame - np.array([200.0, 30, 40])).max() < 4


def swapped_profile() -> bytes:
    """An ICC profile in which red is blue and blue is red."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    head, rest = profile[:128], profile[128:]
    return head + rest.replace(b"rXYZ", b"----", 1).replace(b"bXYZ", b"rXYZ", 1).replace(
        b"----", b"bXYZ", 1
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_is_followed(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    profile = swapped_profile()
    (tmp_path / "a.png").write_bytes(saved(image, ".png", icc_profile=profile))
    frame = open_image(tmp_path / "a.png", 8).frame
    assert np.abs(frame - np.array([0.0, 0, 255])).max() <= 2


@pytest.mark.parametrize("profile", [b"nonsense", swapped_profile()[:200], b"\0" * 128])
def test_a_broken_profile_leaves_a_good_picture(profile: bytes, tmp_path: Path) -> None:
    truth = smooth(8, 8)
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(truth), ".png", icc_profile=profile))
    assert np.array_equal(open_image(tmp_path / "a.png", 8).frame, truth)


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(truth), ".png", icc_profile=srgb))
    assert np.array_equal(open_image(tmp_path / "a.png", 32).frame, truth)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_of_a_moving_picture_the_first_frame_is_taken(suffix: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    how = {"lossless": True} if suffix == ".webp" else {}
    data = saved(first, suffix, save_all=True, append_images=[second], **how)
    (tmp_path / "a").write_bytes(data)
    assert (open_image(tmp_path / "a", 8).frame == [255, 0, 0]).all()


# --- law ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("full", "size", "box"),
    [
        ((64, 64), (64, 64), (0, 0, 64, 64)),
        ((64, 128), (64, 64), (32, 0, 96, 64)),
        ((129, 64), (64, 64), (0, 32, 64, 96)),
        ((90, 160), (9, 16), (0, 0, 160, 90)),
        ((1, 100_000), (8, 8), (49_999, 0, 50_000, 1)),
        ((100_000, 1), (4, 8), (0, 49_999, 1, 50_000)),
        ((7, 5), (3, 64), (0, 3, 5, 4)),
    ],
)
def test_the_crop_is_central_and_of_the_shape_wanted(
    full: tuple[int, int], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    picture = open_image(Image.new("RGB", full[::-1], "teal"), size)
    assert picture.box == box and picture.full_size == full
    assert (picture.frame == [0, 128, 128]).all()  # resampling adds no colour


def test_a_picture_of_the_right_size_keeps_its_pixels() -> None:
    truth = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    assert np.array_equal(open_image(Image.fromarray(truth), (24, 40)).frame, truth)
    assert np.array_equal(open_image(Image.fromarray(truth), 24).frame, truth[:, 8:32])


def test_a_large_picture_is_reduced_as_a_photographer_would() -> None:
    small = open_image(Image.fromarray(smooth(640, 640)), 64).frame.astype(int)
    assert np.abs(small - smooth(640, 640)[5::10, 5::10]).max() <= 4
    checker = np.indices((512, 512)).sum(0) % 2 * 255
    grey = open_image(Image.fromarray(checker.astype(np.uint8)), 64).frame
    assert np.abs(grey.astype(int) - 128).max() <= 2  # no moiré


def test_grey_networks_get_one_channel() -> None:
    picture = open_image(Image.new("RGB", (9, 9), (200, 0, 0)), 9, channels=1)
    assert picture.pixels.shape == (1, 9, 9)
    assert (picture.frame == 60).all()
    assert np.array_equal(to_frames(picture.pixels[None])[0], picture.frame)


def test_pillow_images_come_and_go() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    back = [open_image(image, 8) for image in to_pil(frames)]
    assert all(np.array_equal(p.frame, f) for p, f in zip(back, frames, strict=True))
    assert back[0].sha256 != back[1].sha256 and back[0].name == ""


# --- refusal -----------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


GOOD = saved(Image.fromarray(smooth(64, 64)), ".jpg")
HOSTILE = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "text": (b"I am a cat.\n", "holds text, not a picture"),
    "html": (b"<html><body>404</body></html>", "holds text, not a picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a kind"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not a picture of a kind"),
    "psd": (b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\1\0\0\0\1\0\x08\0\3", "holds something else"),
    "fits": (b"SIMPLE  =                    T".ljust(2880), "not a picture of a kind"),
    "ico": (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(60), "holds something else"),
    "zip": (b"PK\3\4" + bytes(60), "holds something else"),
    "noise": (bytes(range(256)), "holds something else"),
    "cut jpeg": (GOOD[:-50], "is cut short or damaged .*truncated"),
    "cut header": (GOOD[:20], r"cut short or damaged|not a picture"),
    "png bomb": (png_header(60_000, 60_000), r"64 megapixels\); reduce it first"),
    "png wide": (png_header(2**31 - 1, 1), r"64 megapixels\)"),
    "png just over": (png_header(8193, 8192), r"64 megapixels\)"),
    "png no data": (png_header(9, 9), "cut short or damaged"),
    "png no pixel": (png_header(0, 9), r"cut short or damaged|not a picture"),
    "bmp bomb": (bmp_header(60_000, 60_000), r"64 megapixels\)"),
    "bmp negative": (bmp_header(-5, 5), r"64 megapixels|cut short or damaged"),
    "gif bomb": (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;",
        r"64 megapixels\)",
    ),
    "ppm bomb": (b"P6 99999 99999 255\n", r"64 megapixels\)"),
    "ppm letters": (b"P6 nine 9 255\n", r"cut short or damaged|not a picture"),
}


@pytest.mark.parametrize(("data", "why"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_picture_is_refused_in_one_line(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[31m.png").write_bytes(data)
    with pytest.raises(ImageError, match=why) as caught:
        open_image(tmp_path / "a\n\x1b[31m.png", 16)
    assert r"a\x0a\x1b[31m.png" in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    for path, kind, why in [
        (tmp_path / "pipe.png", ImageError, "pipe or a device"),
        ("/dev/zero", ImageError, "pipe or a device"),
        (tmp_path, ImageError, "is a folder"),
        (tmp_path / "loop.png", ImageError, "cannot be opened"),
        (tmp_path / "gone.png", InputMissingError, "is not there; check the name"),
        (tmp_path / "none.png", InputMissingError, "is not there"),
        ("x" * 5000, ImageError, "cannot be opened: file name too long"),
        ("a\0.png", ImageError, "cannot be opened"),
    ]:
        with pytest.raises(kind, match=why):
            open_image(path, 16)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), ImageError),
        (OSError("out of memory when reading image file"), ImageError),
        (OSError(5, "Input/output error"), StorageError),
        (SyntaxError("not a PNG file"), ImageError),
        (RuntimeError("could not create decoder object"), ImageError),
        (struct.error("unpack requires a buffer of 4 bytes"), ImageError),
        (Image.DecompressionBombError("exceeds limit"), ImageError),
        (Image.DecompressionBombWarning("exceeds limit"), ImageError),
        (ZeroDivisionError(), ImageError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_whatever_a_decoder_raises_is_one_of_ours(
    error: Exception, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise error

    (tmp_path / "a.png").write_bytes(GOOD)
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(kind, match=r"a\.png"):
        open_image(tmp_path / "a.png", 16)


def test_a_warning_of_pillow_about_a_harmless_fault_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Image.open

    def warned(*args: Any, **kwargs: Any) -> Image.Image:
        warnings.warn("Corrupt EXIF data", UserWarning, stacklevel=2)
        return real(*args, **kwargs)

    monkeypatch.setattr(Image, "open", warned)
    (tmp_path / "a.jpg").write_bytes(GOOD)
    open_image(tmp_path / "a.jpg", 16)  # would fail: warnings are errors in the tests


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_cut_short_anywhere_is_read_or_refused(suffix: str, tmp_path: Path) -> None:
    data = saved(Image.fromarray(smooth(24, 24)), suffix, **FORMATS[suffix])
    for percent in range(0, 100, 2):
        (tmp_path / "a").write_bytes(data[: len(data) * percent // 100])
        try:
            open_image(tmp_path / "a", 16)
        except ImageError as error:
            assert str(error).isprintable()
        else:
            assert percent > 50  # what is there was enough


def mutations() -> dict[str, Callable[[bytearray, np.random.Generator], bytearray]]:
    def flip(data: bytearray, rng: np.random.Generator) -> bytearray:
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= 1 << rng.integers(8)
        return data

    def overwrite(data: bytearray, rng: np.random.Generator) -> bytearray:
        start, length = rng.integers(0, len(data)), rng.integers(1, 9)
        data[start : start + length] = bytes([rng.choice([0, 0x7F, 0x80, 0xFF])]) * length
        return data

    def repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
        start, length = rng.integers(0, len(data)), rng.integers(1, 40)
        data[start:start] = data[start : start + length] * rng.integers(1, 5)
        return data

    def remove(data: bytearray, rng: np.random.Generator) -> bytearray:
        start, length = rng.integers(0, len(data)), rng.integers(1, 40)
        del data[start : start + length]
        return data

    def header(data: bytearray, rng: np.random.Generator) -> bytearray:
        for place in rng.integers(0, min(64, len(data)), 3):
            data[place] = rng.integers(256)
        return data

    return {f.__name__: f for f in (flip, overwrite, repeat, remove, header)}


@pytest.mark.parametrize("mutation", mutations())
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_picture_is_read_or_refused(suffix: str, mutation: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([*map(ord, suffix + mutation)])
    exif = Image.Exif()
    exif[0x0112] = 6
    how = {} if suffix in (".gif", ".bmp", ".ppm") else {"exif": exif}
    data = saved(Image.fromarray(smooth(12, 20)), suffix, **FORMATS[suffix], **how)
    for _ in range(40):
        (tmp_path / "a").write_bytes(mutations()[mutation](bytearray(data), rng))
        try:
            picture = open_image(tmp_path / "a", 16)
        except ImageError as error:
            assert str(error).isprintable()
        else:
            assert picture.frame.shape == (16, 16, 3) and torch.isfinite(picture.pixels).all()


def test_a_damaged_tiff_is_one_line_of_ours_and_none_of_its_library(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(saved(Image.fromarray(smooth(64, 64)), ".tif", compression="tiff_lzw"))
    data[200:300] = b"\xff" * 100
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError):
        open_image(tmp_path / "a.tif", 16)
    assert capfd.readouterr().err == ""
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_levels_of_unknown_meaning_are_refused(tmp_path: Path) -> None:
    for levels in ([[0, 70_000]], [[-1, 5]]):
        image = Image.fromarray(np.array(levels, np.int32))
        (tmp_path / "a.tif").write_bytes(saved(image, ".tif"))
        with pytest.raises(ImageError, match=r"a\.tif has levels from .* save it with 8 or 16"):
            open_image(tmp_path / "a.tif", 1)
    for bad in (float("nan"), 2.0):
        with pytest.raises(ImageError, match="The image has levels"):
            open_image(Image.fromarray(np.array([[0.0, bad]], np.float32)), 1)


@pytest.mark.parametrize("size", [0, -4, (0, 8), (8, 0)])
def test_a_size_without_pixels_is_refused(size: Any) -> None:
    with pytest.raises(ArgumentError, match="holds no pixel"):
        open_image(Image.new("RGB", (4, 4)), size)


def test_a_number_of_channels_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"choose 3 \(colour\) or 1 \(grey\)"):
        open_image(Image.new("RGB", (4, 4)), 4, channels=4)
    for shape in [(3, 4, 4), (1, 4, 8, 8)]:
        with pytest.raises(ArgumentError, match="give \\(N, 3, H, W\\)"):
            to_frames(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_no_picture_is_made_of_what_is_no_number(value: float, dtype: torch.dtype) -> None:
    x = torch.zeros(5, 3, 4, 4, dtype=dtype)
    x[3, 2, 1, 0] = value
    with pytest.raises(NonFiniteError, match="in picture 3 of 5"):
        to_frames(x)


def test_the_cap_is_of_pixels_not_of_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    open_image(Image.new("RGB", (100, 1)), 1)
    with pytest.raises(ImageError, match="more than 100 pixels"):
        open_image(Image.new("RGB", (101, 1)), 1)
