"""How pictures enter: any still picture there is, upright, cropped, in the range a network expects.

The one door of Pillow for reading. What comes in may have been made to do harm, so only common
formats are tried, the size is checked before decoding, and whatever goes wrong inside a decoder
becomes one `ImageError`.
"""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from ddim_interp.errors import (
    ArgumentError,
    DdimInterpError,
    ImageError,
    NonFiniteError,
    StorageError,
)
from ddim_interp.files import StrPath, open_input, sha256_bytes, sha256_file, shown
from ddim_interp.shapes import Frame, Frames, Images

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Box",
    "Picture",
    "from_frames",
    "open_image",
    "to_frames",
    "to_pil",
]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""The formats read, by Pillow's names; told by a file's content, whatever it is called."""

MAX_PIXELS = 2**26
"""The largest picture opened: 64 megapixels, or 8192×8192."""

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

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


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a network takes it, and where it came from."""

    pixels: Tensor  # (C, H, W), float32, in [-1, 1]: `frame`, as the network sees it
    frame: Frame  # (H, W, 3), uint8: the cropped picture; what a faithful round trip gives back
    name: str  # the file's name, without its folders
    sha256: str  # of the file's bytes
    box: Box  # left, top, right, bottom of the crop, in pixels of the upright original
    full_size: tuple[int, int]  # height and width of the upright original
    whole: Frame | None = None  # the upright original itself, if it was asked for


def open_image(
    source: StrPath | Image.Image,
    size: int | tuple[int, int],
    *,
    channels: int = 3,
    whole: bool = False,
) -> Picture:
    """Open a picture of any common kind and bring it to a network's size.

    It is set upright (EXIF), brought to sRGB (ICC), laid on white where it is transparent, cropped
    about its centre to the shape wanted and resampled (Lanczos); nothing is squashed, and a picture
    that has the size already keeps its pixels to the bit. 16-bit pictures are scaled, not clipped.
    Of a moving picture, the first frame is taken.

    Args:
        source: A file (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, PPM), or a Pillow image.
        size: Height and width wanted, or one number for a square.
        channels: 3 for colour, 1 for a network that sees grey.
        whole: Whether to keep the upright original too.

    Raises:
        ImageError: The file is no picture we can read, is damaged, or has over 64 megapixels.
        InputMissingError: There is no such file, or it may not be read.
        ArgumentError: `size` or `channels` cannot be meant.

    Example:
        >>> picture = open_image(Image.new("L", (100, 50), 255), 32)
        >>> picture.pixels.shape, picture.box, picture.pixels.min().item()
        (torch.Size([3, 32, 32]), (25, 0, 75, 50), 1.0)
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ArgumentError(f"size={size} holds no pixel; give a height and a width of 1 or more.")
    if channels not in (1, 3):
        raise ArgumentError(f"channels={channels} is no picture; choose 3 (colour) or 1 (grey).")
    if isinstance(source, Image.Image):
        with _refusing("The image"):
            name, digest = "", sha256_bytes(source.tobytes())
            upright = _upright_srgb(source, "The image")
    else:
        name = Path(source).name
        upright = _read(source)
        digest = sha256_file(source)
    box = _centre(upright.height, upright.width, height, width)
    image = upright.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    frame = _frame(image, channels)
    return Picture(
        pixels=from_frames(frame[None], channels=channels)[0],
        frame=frame,
        name=name,
        sha256=digest,
        box=box,
        full_size=(upright.height, upright.width),
        whole=_frame(upright, channels) if whole else None,
    )


def to_frames(images: Images) -> Frames:
    """Finished pictures, ready for a screen or a sink.

        frame = round(255 · clamp(x / 2 + 1/2, 0, 1))

    Args:
        images: Pictures, (N, C, H, W), float, nominally in [-1, 1]; C is 3, or 1 for grey.

    Returns:
        Frames, (N, H, W, 3), uint8, in main memory. `to_frames(from_frames(f))` is `f`.

    Raises:
        NonFiniteError: A picture holds NaN or infinity, which would come out as black or white.
        ArgumentError: The shape is another.

    Example:
        >>> to_frames(torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1))[:, 0, 0]
        array([[  0,   0,   0],
               [128, 128, 128],
               [255, 255, 255]], dtype=uint8)
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ArgumentError(
            f"Images of shape {tuple(images.shape)} are no pictures; "
            "give (N, 3, H, W), or (N, 1, H, W) for grey."
        )
    broken = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
    if broken:
        raise NonFiniteError(
            f"NaN or infinity in picture {broken[0]} of {len(images)} ({images.dtype}); "
            "sample in float32, with more steps."
        )
    levels = (images.float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    frames: Frames = levels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return frames


def from_frames(frames: Frames, *, channels: int = 3) -> Images:
    """Frames as a network takes them; undoes `to_frames`.

        x = frame / 127.5 - 1

    Args:
        frames: Pictures, (N, H, W, 3), uint8.
        channels: 3, or 1 to take the first of three equal ones.

    Returns:
        Images, (N, C, H, W), float32, in [-1, 1].

    Example:
        >>> from_frames(np.array([[[[0, 51, 255]]]], np.uint8)).flatten()
        tensor([-1.0000, -0.6000,  1.0000])
    """
    levels = torch.from_numpy(np.array(frames[..., :channels]))
    return (levels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def to_pil(frames: Frames) -> list[Image.Image]:
    """Frames, (N, H, W, 3), uint8, as Pillow images."""
    return [Image.fromarray(frame) for frame in frames]


def _read(path: StrPath) -> Image.Image:
    """The picture in a file, upright, in sRGB."""
    label = shown(path)
    with open_input(path, ImageError) as file:
        head = file.read(256)
        if not head:
            raise ImageError(f"{label} is empty (0 bytes); copy it again.")
        file.seek(0)
        with _refusing(label, head), Image.open(file, formats=FORMATS) as image:
            return _upright_srgb(image, label)


@contextmanager
def _refusing(label: str, head: bytes = b"") -> Iterator[None]:
    """Turn whatever a decoder raises, or warns of, into one line."""
    kinds = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or PPM"
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
        raise ImageError(
            f"{label} holds {what}, not a picture of a kind read here; give a {kinds} file."
        ) from None
    except MemoryError:
        raise ImageError(f"{label} asks for more memory than there is; reduce it first.") from None
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        if getattr(error, "errno", None) == errno.EIO:
            raise StorageError(f"Reading {label} failed: {os.strerror(errno.EIO)}.") from error
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ImageError(
            f"{label} is cut short or damaged ({shown(reason)}); copy it again, or save it anew."
        ) from error


def _too_large(label: str) -> str:
    return f"{label} has more than {MAX_PIXELS:,} pixels (64 megapixels); reduce it first."


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in head)


def _upright_srgb(image: Image.Image, label: str) -> Image.Image:
    """Decode `image`, as RGB, on white, the way up it was taken."""
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


def _frame(image: Image.Image, channels: int) -> Frame:
    """`image`, RGB, as a frame; grey where the network sees no colour."""
    return np.array(image.convert("L").convert("RGB") if channels == 1 else image)


def _centre(full_height: int, full_width: int, height: int, width: int) -> Box:
    """The largest box of the shape `height` by `width` about the centre of a picture."""
    box_width = max(1, min(full_width, round(full_height * width / height)))
    box_height = max(1, min(full_height, round(full_width * height / width)))
    left, top = (full_width - box_width) // 2, (full_height - box_height) // 2
    return left, top, left + box_width, top + box_height
