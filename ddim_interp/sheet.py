"""Pictures between corners, in a table of keyframes or a triangle: the DDIM paper's grid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddim_interp.corners import raster, shares, simplex
from ddim_interp.denoiser import CountCalls
from ddim_interp.errors import ArgumentError
from ddim_interp.images import to_frames
from ddim_interp.interpolate import find_blend
from ddim_interp.inversion import sample_latents
from ddim_interp.keep import Keep, forget, keep_frames
from ddim_interp.keyframes import Keyframe, Keyframes, join_states
from ddim_interp.model import Model, Plan
from ddim_interp.shapes import Frame, Frames
from ddim_interp.solver import State
from ddim_interp.watch import Watch, unwatched

__all__ = ["Layout", "PictureGrid"]

_MOST = 10_000  # cells


@dataclass(frozen=True)
class Layout:
    """How a grid's cells stand, whatever is in them.

    Args:
        keyframes: How many there are.
        rows: Pictures down.
        columns: Pictures across; 5 if None. A triangle has as many as rows.
        across: Keyframes in a row; if None, three keyframes make a triangle, and others stand two
            by two.

    Raises:
        PathError: The keyframes make no table of at least two rows and columns.
        ArgumentError: The grid has fewer than two rows or columns, or too many cells; or the
            keyframes fill no table.

    Example:
        >>> Layout(3, rows=2).cells, Layout(4, rows=2, columns=3).cells
        ([1, 2], [3, 3])
    """

    keyframes: int
    rows: int = 5
    columns: int | None = None
    across: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no grid."""
        if self.is_triangle:
            if self.rows < 2 or self.columns not in (None, self.rows):
                raise ArgumentError(
                    f"Three keyframes make a triangle, and {self.rows} rows of up to "
                    f"{self.columns or self.rows} pictures make none; give two rows at least, and "
                    "no columns."
                )
        elif self._in_a_row < 1 or self.keyframes % self._in_a_row:
            raise ArgumentError(
                f"{self.keyframes} keyframes do not fill rows of {self._in_a_row}; give three "
                "or four corners, or a whole table."
            )
        if self.rows * self._width > _MOST:
            raise ArgumentError(
                f"{self.rows} × {self._width} pictures are more than a sheet holds; ask for "
                f"{_MOST} at most."
            )
        _ = self.weights

    @property
    def is_triangle(self) -> bool:
        """Whether the keyframes are the corners of a triangle."""
        return self.keyframes == 3 and self.across is None

    @property
    def cells(self) -> list[int]:
        """How many pictures stand in each row."""
        if self.is_triangle:
            return list(range(1, self.rows + 1))
        return [self._width] * self.rows

    @cached_property
    def weights(self) -> Tensor:
        """Share of each keyframe in each cell, in reading order, (cells, keyframes)."""
        if self.is_triangle:
            return simplex(3, self.rows - 1)
        across = self._in_a_row
        places = raster(self.rows, self._width)
        return shares(self.keyframes // across, across, *places)

    @property
    def _width(self) -> int:
        if self.is_triangle:
            return self.rows
        return 5 if self.columns is None else self.columns

    @property
    def _in_a_row(self) -> int:
        return 2 if self.across is None else self.across


@dataclass(frozen=True)
class PictureGrid:
    """Rows of pictures that lie between keyframes.

    Four keyframes are the corners of a rectangle, any table of them is one with more corners, and
    three are those of a triangle: the first above, the second and third below, left and right. The
    cell at each keyframe is that keyframe.

    Args:
        model: The model.
        found: Keyframes in reading order.
        rows: Pictures down.
        columns: Pictures across; 5 if None. A triangle has as many as rows.
        across: Keyframes in a row; if None, three keyframes make a triangle, and others stand two
            by two.
        blend: What lies between keyframes; a name from `BLENDS`.
        raw: Whether cells that are the user's own pictures are decoded all the same.
        batch_size: Pictures drawn at once.
        keep: Remembers the batches drawn, or does not.

    Raises:
        PathError: The keyframes make no table of at least two rows and columns.
        ArgumentError: The grid has fewer than two rows or columns, or the keyframes fill no table.

    References:
        Song et al. (2021), DDIM, arXiv:2010.02502, §D.5.
    """

    model: Model
    found: Keyframes
    rows: int = 5
    columns: int | None = None
    across: int | None = None
    blend: str = "slerp"
    raw: bool = False
    batch_size: int = 16
    keep: Keep = forget

    def __post_init__(self) -> None:
        """Refuse what no sheet can be hung on."""
        _ = self.layout, self._together

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """What the sheet is hung on, in reading order."""
        return self.found.each

    @property
    def plan(self) -> Plan:
        """How latents are decoded: as they were found."""
        return self.found.plan

    @cached_property
    def layout(self) -> Layout:
        """Where the cells stand, and what each is made of."""
        return Layout(len(self.keyframes), self.rows, self.columns, self.across)

    @cached_property
    def _together(self) -> State:
        return join_states([keyframe.state for keyframe in self.keyframes])

    def state(self, weights: Tensor) -> State:
        """The latents of some places, and whatever else the solver keeps.

        Args:
            weights: Share of each keyframe in each place, (F, K), rows adding up to 1.
        """
        blend, together = find_blend(self.blend), self._together
        # A dither is known of the keyframes alone.
        at = (weights == 1).to(together.x)
        return replace(
            together.moved(lambda kept: blend.carry(together.x, kept, weights)),
            dither=None
            if together.dither is None
            else torch.einsum("fk,kchw->fchw", at, together.dither),
        )

    def draw(self, counted: CountCalls | None = None, watch: Watch = unwatched) -> Iterator[Frame]:
        """The pictures in reading order, (H, W, 3), uint8.

        Args:
            counted: The denoiser to use, if its calls are being counted.
            watch: Sees the pictures being drawn.
        """
        return iter(watch(self._drawn(counted), len(self.layout.weights), "drawing"))

    @torch.inference_mode()
    def _drawn(self, counted: CountCalls | None) -> Iterator[Frame]:
        denoiser = counted or CountCalls(self.model.for_frames)
        cells = self.layout.weights
        for start in range(0, len(cells), self.batch_size):
            weights = cells[start : start + self.batch_size]

            def decode(weights: Tensor = weights) -> Frames:
                state = self.state(weights)
                images = sample_latents(self.model, state, self.plan, denoiser=denoiser)
                return to_frames(images)

            frames = keep_frames(self.keep, f"cells-{self.batch_size}-{start}", decode)
            for frame, share in zip(frames, weights, strict=True):
                own = self.own_picture(share)
                yield frame if own is None else own

    def own_picture(self, share: Tensor) -> Frame | None:
        """The user's own picture, if these weights, (K,), are of its keyframe alone."""
        if self.raw:
            return None
        for keyframe, part in zip(self.keyframes, share.tolist(), strict=True):
            if part == 1 and keyframe.picture is not None:
                return keyframe.picture.frame
        return None

    def recipe(self) -> Mapping[str, Any]:
        """How the grid was made, for `info` to read in it."""
        return {
            "tool": "ddim_interp",
            "kind": "grid",
            **self.model.describe(),
            **self.found.describe(),
            "layout": self.layout.cells,
            "across": self.across,
            "blend": self.blend,
            "batch_size": self.batch_size,
            "keyframes": [keyframe.report() for keyframe in self.keyframes],
        }
