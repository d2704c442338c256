"""What a picture, a film or a folder says about its making, read back."""

from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from ddim_interp.errors import DdimInterpError, ImageError
from ddim_interp.files import StrPath, is_there, open_input, shown
from ddim_interp.recipe import MAX_RECIPE_BYTES, from_xmp, unpack
from ddim_interp.sinks.folder import RECIPE

__all__ = ["find_recipe", "read_recipe"]


def read_recipe(path: StrPath) -> dict[str, Any]:
    """The recipe inside a file or folder that a sink wrote.

    The kind of file is told by its content, not by its name. Everything in it is taken for a
    stranger's: see `recipe.unpack`.

    Raises:
        ImageError: It carries no recipe, or is not a kind of file that can.
        InputMissingError: There is no such file.

    Example:
        >>> import tempfile, numpy as np
        >>> from ddim_interp.sinks import write_picture
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_picture(f"{folder}/a.png", np.zeros((1, 1, 3), np.uint8), recipe={"seed": 7})
        ...     read_recipe(f"{folder}/a.png")
        {'seed': 7}
    """
    recipe = find_recipe(path)
    if recipe is None:
        raise ImageError(f"{shown(path)} carries no recipe; only outputs of ddim_interp do.")
    return recipe


def find_recipe(path: StrPath) -> dict[str, Any] | None:
    """The recipe inside a file or folder, as `read_recipe` has it; None if it carries none.

    Raises:
        ImageError: It is damaged, or not a kind of file that can carry one.
        InputMissingError: There is no such file.
    """
    inside = Path(path, RECIPE)  # where a folder has it
    is_folder = is_there(path) and Path(path).is_dir()
    if is_folder and not inside.exists():
        return None
    with open_input(inside if is_folder else path) as file:
        try:
            text = file.read(MAX_RECIPE_BYTES + 1) if is_folder else _find(file)
        except DdimInterpError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(
                f"{shown(path)} is no film or picture as written here, or is damaged; "
                "give an output of ddim_interp."
            ) from error
        except Exception as error:  # of Pillow or FFmpeg, on bytes that anybody may have made
            raise ImageError(
                f"{shown(path)} cannot be read ({type(error).__name__}) and may be cut short; "
                "copy it again, or make it anew."
            ) from error
    return None if text is None else unpack(text, shown(path))


def _find(file: BinaryIO) -> str | bytes | None:
    """The packed recipe in an open file."""
    head = file.read(12)
    file.seek(0)
    if head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3":
        from ddim_interp.sinks.video import tags  # and FFmpeg, which nothing else here needs

        return tags(file).get("ddim_interp")
    with Image.open(file, formats=("PNG", "GIF", "WEBP")) as image:
        found = image.info
    if "xmp" in found and image.format == "WEBP":
        return from_xmp(found["xmp"].decode("utf-8", "replace"))
    text = found.get("ddim_interp", found.get("comment"))
    return text if isinstance(text, str | bytes) else None
