"""How pictures enter: any still picture there is, upright, cropped, in the range a network expects.

Frames, which a screen shows, are bytes; images, which a network sees, are numbers in [-1, 1].
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddim_interp.decoding import read_still, refusing, upright_srgb
from ddim_interp.errors import ArgumentError, NonFiniteError
from ddim_interp.files import StrPath, sha256_bytes, sha256_file
from ddim_interp.shapes import Frame, Frames, Images

__all__ = [
    "Box",
    "Picture",
    "from_frames",
    "open_image",
    "to_frames",
    "to_pil",
]

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""


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
        with refusing("The image"):
            name, digest = "", sha256_bytes(source.tobytes())
            upright = upright_srgb(source, "The image")
    else:
        name = Path(source).name
        upright = read_still(source)
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


def _frame(image: Image.Image, channels: int) -> Frame:
    """`image`, RGB, as a frame; grey where the network sees no colour."""
    return np.array(image.convert("L").convert("RGB") if channels == 1 else image)


def _centre(full_height: int, full_width: int, height: int, width: int) -> Box:
    """The largest box of the shape `height` by `width` about the centre of a picture."""
    box_width = max(1, min(full_width, round(full_height * width / height)))
    box_height = max(1, min(full_height, round(full_width * height / width)))
    left, top = (full_width - box_width) // 2, (full_height - box_height) // 2
    return left, top, left + box_width, top + box_height
