"""The map between three or four keyframes: what lies at each of its points, and a first survey."""

import secrets
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ddim_interp.corners import barycentric, shares
from ddim_interp.images import to_frames
from ddim_interp.inversion import sample_latents
from ddim_interp.keyframes import Keyframes
from ddim_interp.model import Model, Plan
from ddim_interp.shapes import Frame
from ddim_interp.sheet import PictureGrid
from ddim_interp.watch import Watch

__all__ = ["CORNERS", "SIDE", "Chart"]

CORNERS = (3, 4)
"""Keyframes that make a map: a triangle, a rectangle."""

SIDE = 5
"""Pictures across a survey, and down."""


class Chart:
    """A map.

    Args:
        model: The model.
        corners: Three keyframes, the first above and the others below; or four, in reading order.
        blend: What lies between them; a name from `BLENDS`.

    Attributes:
        survey: The pictures in the middles of its cells that are drawn, in reading order.
    """

    def __init__(self, model: Model, corners: Keyframes, blend: str) -> None:
        self.id = secrets.token_hex(8)
        self.blend = blend
        self.survey: tuple[Frame, ...] = ()
        self._model = model
        self._grid = PictureGrid(model, corners, blend=blend)

    def weights(self, down: Tensor, across: Tensor) -> Tensor:
        """Share of each corner at places of the map, (F, corners).

        Args:
            down: 0 is the upper edge, 1 the lower, (F,).
            across: 0 is the left edge, 1 the right, (F,).
        """
        if len(self._grid.keyframes) == 3:
            return barycentric(down, across)
        return shares(2, 2, down, across)

    def picture(self, down: float, across: float, plan: Plan | None, watch: Watch) -> Frame:
        """The picture at a place; the user's own at a corner.

        Args:
            down: 0 is the upper edge, 1 the lower.
            across: 0 is the left edge, 1 the right.
            plan: How to decode it; as the corners were found if None.
            watch: Sees the walk.
        """
        weights = self.weights(torch.tensor([down]), torch.tensor([across]))
        own = self._grid.own_picture(weights[0])
        return self._decode(weights, plan, watch)[0] if own is None else own

    def recipe(self, down: float, across: float) -> dict[str, Any]:
        """How the picture at a place was made, for `info` to read in it."""
        recipe = dict(self._grid.recipe())
        weights = self.weights(torch.tensor([down]), torch.tensor([across]))[0]
        for name in ("layout", "across"):
            del recipe[name]
        return recipe | {"kind": "point", "weights": [round(w, 6) for w in weights.tolist()]}

    def draw(self, plan: Plan, watch: Watch) -> Iterator[None]:
        """Draw what is missing of the survey, a row at a time."""
        middles = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE
        for row in range(len(self.survey) // SIDE, SIDE):
            weights = self.weights(middles[row].expand(SIDE), middles)
            self.survey += tuple(self._decode(weights, plan, watch))
            yield

    def describe(self) -> dict[str, Any]:
        """What the page knows of it, as JSON values."""
        return {
            "id": self.id,
            "corners": len(self._grid.keyframes),
            "side": SIDE,
            "ready": len(self.survey),
        }

    @property
    def plan(self) -> Plan:
        """How its corners were found."""
        return self._grid.plan

    @torch.inference_mode()
    def _decode(self, weights: Tensor, plan: Plan | None, watch: Watch) -> list[Frame]:
        state = self._grid.state(weights)
        denoiser = self._model.for_frames
        return list(
            to_frames(sample_latents(self._model, state, plan or self.plan, watch, denoiser))
        )
