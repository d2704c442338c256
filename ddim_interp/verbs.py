"""What can be done with any model: `sample`, `invert`, `morph`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from ddim_interp.errors import ArgumentError
from ddim_interp.images import Picture, open_image, to_frames, to_pil
from ddim_interp.inversion import Inversion, invert_images, sample_latents
from ddim_interp.keep import Keep, forget
from ddim_interp.keyframes import find_keyframes
from ddim_interp.latents import draw
from ddim_interp.model import Model, Plan
from ddim_interp.morph import Morph
from ddim_interp.precision import default_batch_size
from ddim_interp.progress import bar
from ddim_interp.shapes import Frame, spelled
from ddim_interp.solver import State
from ddim_interp.sources import Source, count_keyframes, plan_for
from ddim_interp.style import Style
from ddim_interp.watch import Watch

__all__ = ["ImagePipelineOutput", "Pipeline", "as_output", "check_output_type"]

T = TypeVar("T")
Form = TypeVar("Form", list[Image], NDArray[np.float32], Tensor)


@dataclass(frozen=True)
class ImagePipelineOutput(Generic[Form]):
    """Pictures: a list of PIL images, or an array (N, H, W, C) in [0, 1], or such a tensor (N, C,
    H, W), as was asked for."""

    images: Form

    @property
    def frames(self) -> list[Frame]:
        """The pictures as frames, (H, W, 3), uint8: what sinks, `Plate` and `Reel` take."""
        if isinstance(self.images, Tensor):
            return list(to_frames(2 * self.images - 1))
        if isinstance(self.images, np.ndarray):
            return list((255 * self.images).round().astype(np.uint8))
        return [np.asarray(image) for image in self.images]

    def _repr_jpeg_(self) -> bytes:
        """The pictures in rows of eight."""
        from ddim_interp.display import Plate

        frames = self.frames
        rows = [frames[start : start + 8] for start in range(0, len(frames), 8)]
        return Plate(rows)._repr_jpeg_()


class Pipeline:
    """The toolkit's verbs on one model, whatever its network is.

    Args:
        model: The model; `as_denoiser` makes one of any function.

    Example:
        >>> from ddim_interp import GaussianDenoiser, NoiseSchedule
        >>> grey = Model(GaussianDenoiser(variance=0.25), NoiseSchedule.from_config({}), (1, 8, 8))
        >>> film = Pipeline(grey).morph(["seed:1", "seed:2"], frames=3)
        >>> [frame.shape for frame in film.draw()]
        [(8, 8, 3), (8, 8, 3), (8, 8, 3)]
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._watch: Watch = partial(bar, disable=None)  # no bar where nobody watches

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model})"

    @property
    def model(self) -> Model:
        """The network as the verbs see it."""
        return self._model

    def set_progress_bar_config(self, **options: Any) -> None:
        """Options for the progress bar, tqdm's own; `disable=True` switches it off."""
        self._watch = partial(bar, **options)

    def watch_by(self, watch: Watch) -> None:
        """Have loops watched by something else than a bar.

        Example:
            >>> from ddim_interp import GaussianDenoiser, NoiseSchedule
            >>> grey = GaussianDenoiser(variance=0.25), NoiseSchedule.from_config({}), (1, 8, 8)
            >>> pipe = Pipeline(Model(*grey))
            >>> def tell(items, total, doing):
            ...     print(f"{doing}, {total} steps")
            ...     return items
            >>> pipe.watch_by(tell)
            >>> _ = pipe.sample(seeds=[1], plan=Plan(steps=4))
            sampling, 4 steps
        """
        self._watch = watch

    def progress_bar(self, items: Iterable[T], total: int, doing: str = "sampling") -> Iterable[T]:
        """Watch a loop."""
        return self._watch(items, total, doing)

    @overload
    def sample(
        self,
        latents: Inversion | State | Tensor | None = ...,
        *,
        seeds: Sequence[int] | None = ...,
        plan: Plan | None = ...,
        output_type: Literal["pil"] = ...,
    ) -> ImagePipelineOutput[list[Image]]: ...

    @overload
    def sample(
        self,
        latents: Inversion | State | Tensor | None = ...,
        *,
        seeds: Sequence[int] | None = ...,
        plan: Plan | None = ...,
        output_type: Literal["np"],
    ) -> ImagePipelineOutput[NDArray[np.float32]]: ...

    @overload
    def sample(
        self,
        latents: Inversion | State | Tensor | None = ...,
        *,
        seeds: Sequence[int] | None = ...,
        plan: Plan | None = ...,
        output_type: Literal["pt"],
    ) -> ImagePipelineOutput[Tensor]: ...

    def sample(
        self,
        latents: Inversion | State | Tensor | None = None,
        *,
        seeds: Sequence[int] | None = None,
        plan: Plan | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput[Any]:
        """Decode latents, or the latents of some seeds, to pictures.

        Args:
            latents: An inversion, which knows how it is decoded; its state; or x_T, (N, C, H, W).
            seeds: Instead of latents: one picture for each.
            plan: How to walk; as the inversion was found, or `Plan()`, when not given.
            output_type: "pil", "np" or "pt".

        Raises:
            ArgumentError: Neither latents nor seeds were given, or both; or latents that are no
                batch, or have not the model's channels.
        """
        check_output_type(output_type)
        if (latents is None) == (seeds is None):
            raise ArgumentError("sample needs latents or seeds, and not both; give one of them.")
        if isinstance(latents, Inversion):
            plan, latents = plan or latents.plan, latents.state
        start = draw(seeds, self.model.shape) if seeds is not None else latents
        assert start is not None
        if isinstance(start, Tensor) and (start.ndim != 4 or not len(start)):
            raise ArgumentError(
                f"Latents of shape {spelled(start.shape)} are no batch; give (N, C, H, W), N at "
                "least 1."
            )
        if isinstance(start, Tensor) and start.shape[1] != self.model.shape[0]:
            raise ArgumentError(
                f"Latents of shape {spelled(start.shape)} have not the {self.model.shape[0]} "
                f"channels of {self.model.name}; draw, or invert, with this model."
            )
        images = sample_latents(self.model, start, plan or Plan(), self.progress_bar)
        return ImagePipelineOutput(as_output(images, output_type))

    def invert(
        self,
        images: Source | Tensor | Sequence[Source],
        *,
        plan: Plan | None = None,
    ) -> Inversion:
        """Find the latents of pictures, with a certificate for each.

        Args:
            images: Files, PIL images or opened pictures, one or several; or a tensor (N, C, H, W)
                in [−1, 1].
            plan: How to walk; `Plan()` when not given.

        Raises:
            ImageError: A file is no picture.
            ArgumentError: A tensor has the wrong shape.
        """
        if not isinstance(images, Tensor):
            images = torch.stack([self._open(image).pixels for image in _each(images)])
        return invert_images(self.model, images, plan or Plan(), self.progress_bar)

    def morph(
        self,
        keyframes: Source | Sequence[Source],
        *,
        plan: Plan | None = None,
        batch_size: int | None = None,
        style: Style | None = None,
        keep: Keep = forget,
        repair: str | None = None,
        **options: Any,
    ) -> Morph:
        """Prepare a film through keyframes; `Morph.draw` draws it.

        Args:
            keyframes: Pictures, latent files or `seed:N`, two or more.
            plan: How to walk; when not given, as the latent files given were found, or `Plan()`.
                `Plan.quick()` takes half the evaluations.
            batch_size: Pictures in the network at once; by their size when not given.
            style: How the film moves.
            keep: Remembers the batches of work done, or does not.
            repair: What is done to the latents of pictures; a name from `REPAIRS`.
            **options: Instead of `style`, its fields: frames, blend, ease, loop; see `Style`.

        Raises:
            PathError: There are fewer than two keyframes.
            ArgumentError: The style cannot be meant, or is given twice.
        """
        if style is not None and options:
            raise ArgumentError(
                f"A style and {', '.join(options)} were given, and the style says that already; "
                "give one or the other."
            )
        chosen = style or Style(**options)
        keyframes = _each(keyframes)
        chosen.check(count_keyframes(keyframes))
        model, plan = self.model, plan or plan_for(keyframes)
        size = batch_size or default_batch_size(model.shape, model.device)
        found = find_keyframes(
            model,
            keyframes,
            plan,
            size,
            self.progress_bar,
            keep,
            repair,
            whole=chosen.paste,
            take_notes=chosen.tolerance > 0,
        )
        return Morph(model, found, chosen, size, keep)

    def _open(self, image: Source) -> Picture:
        channels, height, width = self.model.picture_shape
        if isinstance(image, Picture):
            return image
        return open_image(image, (height, width), channels=channels)


def _each(given: Any) -> Sequence[Any]:
    """What is given, one by one; a name is one thing, and no sequence of letters.

    Raises:
        ArgumentError: Nothing is given.
    """
    one = isinstance(given, (str, Image, Picture)) or not isinstance(given, Sequence)
    each: Sequence[Any] = [given] if one else given
    if not each:
        raise ArgumentError("No pictures were given; name at least one.")
    return each


def check_output_type(output_type: str) -> None:
    """Refuse a form of output that there is not.

    Raises:
        ArgumentError: It is not pil, np or pt.
    """
    if output_type not in ("pil", "np", "pt"):
        raise ArgumentError(f"output_type={output_type!r} is unknown; choose pil, np or pt.")


def as_output(images: Tensor, output_type: str) -> Any:
    """Pictures, (N, C, H, W) in [−1, 1], in the form that was asked for."""
    if output_type == "pil":
        return to_pil(to_frames(images))
    unit = (images / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return unit
    array: NDArray[np.float32] = unit.cpu().permute(0, 2, 3, 1).numpy()
    return array
