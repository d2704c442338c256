"""From places on a path to the frames there: in batches, or in families that share work."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ddim_interp.denoiser import CountCalls, Denoiser, InBatches
from ddim_interp.ends import EndCorrection
from ddim_interp.errors import ArgumentError
from ddim_interp.files import sha256_bytes
from ddim_interp.images import to_frames
from ddim_interp.keep import Keep, Kept, forget
from ddim_interp.keyframes import Keyframes, join_states
from ddim_interp.model import Model
from ddim_interp.notebook import Notebook, Sayings
from ddim_interp.notes import Known
from ddim_interp.paste import Paste
from ddim_interp.path import KeyframePath
from ddim_interp.refinement import FAMILY, Together
from ddim_interp.shapes import Frame, Images, spelled
from ddim_interp.solver import settle
from ddim_interp.style import Style
from ddim_interp.trajectory import last, sample
from ddim_interp.watch import Watch, unwatched

__all__ = ["Rendering"]


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a film shows at each place of its path.

    A frame is decoded from the latent there; where that is a keyframe's, the frame is the user's
    own picture, and what its inversion missed fades out around it.

    Args:
        model: The model.
        found: What the film passes through.
        path: The curve through the keyframes' latents.
        style: How the film looks.
        batch_size: Frames in the network at once.
        keep: Remembers the batches drawn, or does not.
        counted: The denoiser to use, if its calls are being counted.
        watch: Sees the walks.
        notebook: What the network said of frames drawn before, for those that come after them.
        name: What is remembered, of all that is.

    Raises:
        ArgumentError: There are no full pictures to paste squares back into, of one size.
    """

    model: Model
    found: Keyframes
    path: KeyframePath
    style: Style
    batch_size: int
    keep: Keep = forget
    counted: CountCalls | None = None
    watch: Watch = unwatched
    notebook: Notebook | None = None
    name: str = "frames"

    def __post_init__(self) -> None:
        _ = self._paste

    def frames(self, u: Sequence[float], *, early: bool) -> Iterator[Frame]:
        """The frames at u, in batches; or in families of about one size, to share work, and the
        first one before them, if somebody should see it early."""
        at = torch.tensor(u, dtype=torch.float64)
        if self.style.tolerance:
            alone = at[: int(early)]
            families = max(1, math.ceil((len(u) - len(alone)) / FAMILY))
            parts = (alone, *at[len(alone) :].tensor_split(families))
        else:
            parts = torch.split(at, self.batch_size)
        for part in filter(len, parts):
            kept = self._kept(part)
            frames = kept.tensors["frames"].numpy()
            said = Sayings.from_tensors(kept.tensors)
            if self.notebook and said:
                self.notebook.add(said)
            if self._paste is None:
                yield from frames
            else:
                yield from map(self._paste, frames, part.tolist())

    def decode(self, u: Tensor) -> Images:
        """The pictures at u, each drawn by itself or all together, with what belongs to the ends.

        Args:
            u: Places on the path, (F,), float64.

        Returns: (F, C, H, W), in about [-1, 1].
        """
        return self._decode(u)[0]

    def _kept(self, u: Tensor) -> Kept:
        """Frames that are drawn at once, now or remembered, and what was said of them."""
        name = f"{self.name}-{self.batch_size}-{sha256_bytes(u.numpy().tobytes())[:32]}"
        return self.keep(name, lambda: self._draw(u))

    @torch.inference_mode()
    def _draw(self, u: Tensor) -> Kept:
        """Frames that are drawn at once; a keyframe that is the user's picture is that picture."""
        own = [self._own_picture(at) for at in u.tolist()]
        missing = u[[picture is None for picture in own]]
        said = None
        drawn: Iterator[Frame] = iter(())
        if len(missing):
            images, said = self._decode(missing)
            drawn = iter(to_frames(images))
        frames = [next(drawn) if picture is None else picture for picture in own]
        tensors = {"frames": torch.from_numpy(np.stack(frames))}
        return Kept(tensors | (said.tensors() if said else {}))

    def _decode(self, u: Tensor) -> tuple[Images, Sayings | None]:
        grid, solver = self.found.plan.walk(self.model.schedule)
        together = join_states([keyframe.state for keyframe in self.found.each])
        denoiser: Denoiser = self.counted or self.model.for_frames
        family, places = None, u
        if self.style.tolerance:
            places, known = self._beside(u)
            denoiser = family = Together(
                InBatches(denoiser, self.batch_size),
                places,
                tolerance=self.style.tolerance * 2 / 255,
                grain=self.model.grain,
                known=known,
                take_notes=self.notebook is not None and not self.notebook.full,
            )
        start = settle(solver, together).moved(lambda kept: self.path.carry(kept, places))
        walk = sample(denoiser, start, grid, solver)
        x_0 = last(self.watch(walk, len(grid) - 1, f"{len(u)} frames")).x[: len(u)]
        if together.dither is not None:
            x_0 = x_0 - self._faded(together.dither)(u)
        images = torch.cat([self.model.decode(part) for part in torch.split(x_0, self.batch_size)])
        if not self.style.raw:
            images = images + self._correction(u)
        return images, family.said if family else None

    def _beside(self, u: Tensor) -> tuple[Tensor, dict[int, Known]]:
        """u, and after them those places among and next to them of which something is known; and
        what that is, by their number in these."""
        places = u.tolist()
        reach = 2 * (max(places) - min(places)) / max(1, len(places) - 1)
        low, high = min(places) - reach, max(places) + reach
        about = self.notebook.about(low, high, most=FAMILY) if self.notebook else {}
        for number, knot in enumerate(self.path.knots.tolist()):
            notes = self.found.each[number % len(self.found.each)].notes
            if notes and low <= knot <= high:
                about[knot] = notes
        places += [place for place in about if place not in places]
        known = {places.index(place): notes for place, notes in about.items()}
        return torch.tensor(places, dtype=u.dtype), known

    @cached_property
    def _correction(self) -> EndCorrection:
        none = torch.zeros(self.model.picture_shape, device=self.model.device)
        residuals = [none if k.residual is None else k.residual for k in self.found.each]
        return self._faded(torch.stack(residuals))

    def _faded(self, residuals: Tensor) -> EndCorrection:
        """What belongs to the keyframes, (K, C, H, W), and fades out around them."""
        knots = self.path.knots[: len(self.found.each)]
        return EndCorrection(residuals, knots, self.style.loop)

    @cached_property
    def _paste(self) -> Paste | None:
        """What puts the square back into the full pictures, if that is wanted."""
        style = self.style
        if not style.paste:
            return None
        wholes, squares = [], []
        for keyframe in self.found.each:
            picture = keyframe.picture
            if picture is None or picture.whole is None:
                raise ArgumentError(
                    f"There is no full picture around {keyframe.source} to paste its square back "
                    "into; give pictures only, or do without paste."
                )
            wholes.append(picture.whole)
            squares.append(picture.frame)
            if picture.full_size != wholes[0].shape[:2]:
                first = self.found.each[0].source or "the first one"
                mine, its = picture.full_size[::-1], wholes[0].shape[1::-1]
                raise ArgumentError(
                    f"{keyframe.source or 'A picture'} has {spelled(mine)} pixels, and {first} "
                    f"{spelled(its)}, so their squares do not fit one film; bring the pictures to "
                    "one size, or do without paste."
                )
            box = picture.box
        knots = self.path.knots
        return Paste(wholes, squares, box, knots, style.loop, style.feather, style.raw)

    def _own_picture(self, u: float) -> Frame | None:
        """The user's own picture, if this is the place of its keyframe."""
        if self.style.raw:
            return None
        for knot, keyframe in zip(self.path.knots.tolist(), self.found.each, strict=False):
            if u == knot and keyframe.picture is not None:
                return keyframe.picture.frame
        return None
