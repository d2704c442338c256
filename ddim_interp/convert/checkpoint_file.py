"""Bare checkpoints: one file of weights, in the layout of whoever trained it.

Each layout is a module with three names: `PUBLISHED`, the settings of well-known checkpoints,
`recognises`, which looks at the names of the weights, and `read`, which brings them to names here.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ddim_interp.convert import adm, ermongroup, lucid
from ddim_interp.convert.confined import is_pickle, unpickle
from ddim_interp.convert.foreign import Foreign
from ddim_interp.convert.hints import Hints, parse_hints, read_hints
from ddim_interp.errors import ModelError
from ddim_interp.files import shown
from ddim_interp.model_folder import BARE
from ddim_interp.tensors import read_tensors

__all__ = ["LAYOUTS", "Layout", "find_file", "read_file"]


class Layout(Protocol):
    """How one training program lays its weights out."""

    @property
    def PUBLISHED(self) -> Mapping[str, Hints]:
        """Settings of well-known checkpoints, by name."""

    def recognises(self, names: Collection[str], /) -> bool:
        """Whether weights of these names are of this layout."""

    def read(self, tensors: Mapping[str, Tensor], source: str, hints: Hints, /) -> Foreign:
        """Bring config, schedule and weights."""


LAYOUTS: tuple[Layout, ...] = (ermongroup, adm, lucid)


def find_file(source: Path) -> Path | None:
    """The checkpoint that a path means: itself, or the only one in a folder."""
    if source.is_file():
        return source
    files = [path for path in source.iterdir() if path.is_file() and path.suffix in BARE]
    return files[0] if len(files) == 1 else None


def read_file(path: Path, config: str | None) -> Foreign:
    """Read a checkpoint of one of the layouts.

    What the weights do not tell comes from `config`, else from the only `.yml` beside the file,
    else from a published checkpoint of the file's name.

    Args:
        path: The checkpoint.
        config: What the user says of it; see `parse_hints`.

    Raises:
        ArgumentError: `config` cannot be meant.
        InputMissingError: `config` names a file that is not there.
        ModelError: The file is damaged, asks for more than tensors, or is of no layout known here.
    """
    published = {name: hints for layout in LAYOUTS for name, hints in layout.PUBLISHED.items()}
    hints = Hints() if config is None else parse_hints(config, published)
    ymls = [other for other in path.parent.iterdir() if other.suffix in (".yml", ".yaml")]
    if len(ymls) == 1 and config not in published:
        hints = hints.over(read_hints(ymls[0]))
    hints = hints.over(published.get(path.stem, Hints()))
    tensors = unpickle(path) if is_pickle(path) else read_tensors(path)[0]
    layout = next((layout for layout in LAYOUTS if layout.recognises(tensors)), None)
    if layout is None:
        raise ModelError(
            f"{shown(path)} is of no format known here (its first weight is "
            f"{shown(min(tensors))}); expected a diffusers folder, or a checkpoint of "
            "ermongroup/ddim, improved-diffusion, guided-diffusion or "
            "denoising-diffusion-pytorch."
        )
    return layout.read(tensors, shown(path), hints)
