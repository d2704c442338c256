"""Pictures between four corners, or on a table of keyframes: the DDIM paper's grid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddim_interp.corners import Sheet, raster
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

__all__ = ["PictureGrid"]


@dataclass(frozen=True)
class PictureGrid:
    """Rows and columns of pictures that lie between keyframes.

    Args:
        model: The model.
        found: Keyframes in reading order, `across` in a row; four for the corners of a grid.
        rows: Pictures down.
        columns: Pictures across.
        across: Keyframes in a row.
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
    columns: int = 5
    across: int = 2
    blend: str = "slerp"
    raw: bool = False
    batch_size: int = 16
    keep: Keep = forget

    def __post_init__(self) -> None:
        if self.across < 1 or len(self.keyframes) % self.across:
            raise ArgumentError(
                f"{len(self.keyframes)} keyframes do not fill rows of {self.across}; "
                "give four corners, or a whole table."
            )
        raster(self.rows, self.columns)
        _ = self.sheet

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """What the sheet is hung on, in reading order."""
        return self.found.each

    @property
    def plan(self) -> Plan:
        """How latents are decoded: as they were found."""
        return self.found.plan

    @cached_property
    def sheet(self) -> Sheet:
        """The surface through the keyframes' latents."""
        return Sheet(self._table(self._together.x), find_blend(self.blend))

    @cached_property
    def _together(self) -> State:
        return join_states([keyframe.state for keyframe in self.keyframes])

    def _table(self, tensors: Tensor) -> Tensor:
        """One tensor for each keyframe, as they lie, (R, S, C, H, W)."""
        return tensors.reshape(-1, self.across, *tensors.shape[1:])

    def _state(self, down: Tensor, across: Tensor) -> State:
        """The latents at some places, and whatever else the solver keeps."""
        together = self._together
        memory = tuple(
            (level, self.sheet.carry(self._table(kept), down, across))
            for level, kept in together.memory
        )
        return State(self.sheet(down, across), together.level, memory)

    def draw(self, counted: CountCalls | None = None, watch: Watch = unwatched) -> Iterator[Frame]:
        """The pictures in reading order, (H, W, 3), uint8.

        Args:
            counted: The denoiser to use, if its calls are being counted.
            watch: Sees the pictures being drawn.
        """
        return iter(watch(self._drawn(counted), self.rows * self.columns, "drawing"))

    @torch.inference_mode()
    def _drawn(self, counted: CountCalls | None) -> Iterator[Frame]:
        denoiser = counted or CountCalls(self.model.for_frames)
        down, across = raster(self.rows, self.columns)
        for start in range(0, len(down), self.batch_size):
            batch = slice(start, start + self.batch_size)

            def decode(batch: slice = batch) -> Frames:
                state = self._state(down[batch], across[batch])
                images = sample_latents(self.model, state, self.plan, counted=denoiser)
                return to_frames(images)

            frames = keep_frames(self.keep, f"cells-{self.batch_size}-{start}", decode)
            places = self._places(down[batch], across[batch])
            for frame, place in zip(frames, places, strict=True):
                picture = None if place is None or self.raw else self.keyframes[place].picture
                yield frame if picture is None else picture.frame

    def _places(self, down: Tensor, across: Tensor) -> list[int | None]:
        """Which keyframe lies at each place, if one does."""
        last_row, last_column = len(self.keyframes) // self.across - 1, self.across - 1
        places: list[int | None] = []
        for y, x in zip((down * last_row).tolist(), (across * last_column).tolist(), strict=True):
            hit = y == round(y) and x == round(x)
            places.append(round(y) * self.across + round(x) if hit else None)
        return places

    def recipe(self) -> Mapping[str, Any]:
        """How the grid was made, for `info` to read in it."""
        return {
            "tool": "ddim_interp",
            "kind": "grid",
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            **self.found.describe(),
            "rows": self.rows,
            "columns": self.columns,
            "across": self.across,
            "blend": self.blend,
            "batch_size": self.batch_size,
            "keyframes": [keyframe.report() for keyframe in self.keyframes],
        }
