"""Pictures and films as they lie in files, decoded: upright, in sRGB, on white.

The one door of Pillow for reading. What comes in may have been made to do harm, so only common
formats are tried, the size is checked before decoding, and whatever goes wrong inside a decoder
becomes one `ImageError`.
"""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ddim_interp.errors import DdimInterpError, ImageError, StorageError
from ddim_interp.files import StrPath, open_input, shown
from ddim_interp.memory import ran_out_of_memory

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "MOVING",
    "count_pictures",
    "read_moving",
    "read_still",
    "refusing",
    "upright_srgb",
]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""The formats read, by Pillow's names; told by a file's content, whatever it is called."""

MOVING = ("PNG", "WEBP")
"""The formats in which films keep every pixel, or nearly."""

MAX_PIXELS = 2**26
"""The largest picture opened: 64 megapixels, or 8192×8192."""

# The turn that sets a picture upright, for each value of EXIF's Orientation tag.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_still(path: StrPath) -> Image.Image:
    """The picture in a file, upright, in sRGB; of a moving one, the first.

    Raises:
        ImageError: The file is no picture we can read, is damaged, or has over 64 megapixels.
        InputMissingError: There is no such file, or it may not be read.
    """
    with _opened(path, FORMATS) as image, refusing(shown(path)):
        return upright_srgb(image, shown(path))


def read_moving(path: StrPath) -> Iterator[Image.Image]:
    """The pictures of a film (APNG, WebP), one after the other, each as `read_still` has it.

    Raises:
        ImageError: As for `read_still`; also half-way, where the file is cut short.
        InputMissingError: There is no such file, or it may not be read.
    """
    with _opened(path, MOVING) as image:
        for index in range(getattr(image, "n_frames", 1)):
            with refusing(shown(path)):
                image.seek(index)
                picture = upright_srgb(image, shown(path))
            yield picture


def count_pictures(path: StrPath) -> int:
    """How many pictures a film (APNG, WebP) says it has; 1 for a still picture.

    Raises:
        ImageError: The file is neither, or damaged.
        InputMissingError: There is no such file, or it may not be read.
    """
    with _opened(path, MOVING) as image:
        return int(getattr(image, "n_frames", 1))


@contextmanager
def _opened(path: StrPath, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """A file as Pillow's image, nothing decoded yet."""
    label = shown(path)
    with open_input(path, ImageError) as file:
        head = file.read(256)
        if not head:
            raise ImageError(f"{label} is empty (0 bytes); copy it again.")
        file.seek(0)
        with refusing(label, head, formats):
            image = Image.open(file, formats=formats)
        with image:
            yield image


_NAMES = {"WEBP": "WebP"}  # where they are not Pillow's


@contextmanager
def refusing(label: str, head: bytes = b"", formats: tuple[str, ...] = FORMATS) -> Iterator[None]:
    """Turn whatever a decoder raises, or warns of, into one line.

    Args:
        label: What the picture is called in it.
        head: How its file begins, if it is one.
        formats: What it should have been.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except DdimInterpError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(_too_large(label)) from None
    except UnidentifiedImageError:
        what = "text" if _is_text(head) else "something else"
        *kinds, last = (_NAMES.get(name, name) for name in formats)
        raise ImageError(
            f"{label} holds {what}, not a picture of a kind read here; "
            f"give a {', '.join(kinds)} or {last} file."
        ) from None
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        if ran_out_of_memory(error):
            raise ImageError(
                f"{label} asks for more memory than there is; reduce it first."
            ) from None
        if getattr(error, "errno", None) == errno.EIO:
            raise StorageError(
                f"Reading {label} failed: {os.strerror(errno.EIO).lower()}; try again, or copy it "
                "to another disk."
            ) from error
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ImageError(
            f"{label} is cut short or damaged ({shown(reason)}); copy it again, or save it anew."
        ) from error


def _too_large(label: str) -> str:
    return f"{label} has more than {MAX_PIXELS:,} pixels (64 megapixels); reduce it first."


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in head)


def upright_srgb(image: Image.Image, label: str) -> Image.Image:
    """Decode `image`, as RGB, on white, the way up it was taken; to be called while `refusing`."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_large(f"{label} ({image.height}×{image.width})"))
    with _silent_libtiff() if image.format == "TIFF" else nullcontext():
        image.load()
    turn = _UPRIGHT.get(_orientation(image))
    rgb = _srgb(image, label)
    return rgb if turn is None else rgb.transpose(turn)


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Keep what libtiff, of itself, says on stderr about a damaged file from the user's screen."""
    try:
        screen = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF leaves a good picture
        return 1


def _srgb(image: Image.Image, label: str) -> Image.Image:
    """`image` in 8-bit sRGB, laid on white where it is transparent."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, label)
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # colour divided by alpha again
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK", "LAB": "LAB"}
    colour = image.convert(mode.get(image.mode, "RGB"))
    if profile or colour.mode == "LAB":
        colour = _through_profile(colour, profile)
    colour = colour.convert("RGB")
    if alpha is None:
        return colour
    return Image.composite(colour, Image.new("RGB", colour.size, "white"), alpha)


def _eight_bits(image: Image.Image, label: str) -> Image.Image:
    """A 16-bit or floating-point grey picture in 8 bits, over the whole of its range."""
    levels = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (np.isfinite(levels).all() and 0 <= levels.min() and levels.max() <= top):
        raise ImageError(
            f"{label} has levels from {levels.min():g} to {levels.max():g}, and what is black or "
            f"white is only known for 0 to {top:g}; save it with 8 or 16 bits."
        )
    return Image.fromarray(np.rint(levels * (255 / top)).astype(np.uint8))


def _through_profile(colour: Image.Image, profile: bytes | None) -> Image.Image:
    """`colour` carried from its own colour space to sRGB; as it is, if its profile is unusable."""
    srgb = ImageCms.createProfile("sRGB")
    try:
        source = ImageCms.ImageCmsProfile(
            BytesIO(profile) if profile else ImageCms.createProfile("LAB")
        )
        converted = ImageCms.profileToProfile(
            colour,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a broken or unfit profile
        return colour
    return colour if converted is None else converted
