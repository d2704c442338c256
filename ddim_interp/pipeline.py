"""DDIMPipeline: a network and its noise schedule under one roof.

Works as diffusers' DDIMPipeline for code written against it, and adds the toolkit's own verbs:
`invert`, `sample` and `morph`. It holds no formula.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Generator, Tensor

from ddim_interp.checkpoint import read_checkpoint, write_checkpoint
from ddim_interp.denoiser import Denoiser, Fallback, NetworkDenoiser
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.files import StrPath
from ddim_interp.hub import Located, locate
from ddim_interp.images import Picture, open_image, to_frames, to_pil
from ddim_interp.inversion import Inversion, invert_images, sample_latents
from ddim_interp.keep import Keep, forget
from ddim_interp.keyframes import Source, find_keyframes
from ddim_interp.latents import draw, draw_like_diffusers
from ddim_interp.model import Model, Plan
from ddim_interp.morph import Morph, Style, default_batch_size
from ddim_interp.network import UNet2DModel
from ddim_interp.precision import draft_dtype, parse_device, parse_dtype
from ddim_interp.progress import bar
from ddim_interp.scheduler import DDIMScheduler
from ddim_interp.shapes import Frame
from ddim_interp.solver import State
from ddim_interp.unet import UNet2DModel as CoreUNet2DModel

__all__ = ["DDIMPipeline", "ImagePipelineOutput"]

T = TypeVar("T")


@dataclass(frozen=True)
class ImagePipelineOutput:
    """Pictures: a list of PIL images, or an array (N, H, W, C) in [0, 1], or such a tensor (N, C,
    H, W), as was asked for."""

    images: list[Image] | NDArray[np.float32] | Tensor

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


class DDIMPipeline:
    """Samples, inverts and morphs with one model.

    Args:
        unet: The network.
        scheduler: The levels it was trained on; any scheduler with a diffusers config will do.
        name: What recipes call the model; no path.
        weights_sha256: Identity of the weights, for latent files.

    Example:
        >>> pipe = DDIMPipeline.from_pretrained()  # the model in the package
        >>> pipe.model.shape
        (3, 64, 64)
    """

    def __init__(
        self,
        unet: CoreUNet2DModel,
        scheduler: Any,
        *,
        name: str = "custom",
        weights_sha256: str = "",
    ) -> None:
        self.unet = UNet2DModel.wrap(unet)
        self.scheduler: DDIMScheduler = DDIMScheduler.from_config(scheduler.config)
        self.name = name
        self.weights_sha256 = weights_sha256
        self.warning: str | None = None
        self._draft: UNet2DModel | None = None
        self._wide: UNet2DModel | None = None
        self._draft_dtype: torch.dtype | None = None
        self._bar: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls,
        source: StrPath | None = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: StrPath | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        use_safetensors: bool = True,
    ) -> "DDIMPipeline":
        """Load a model: the embedded one, a folder, or `org/name` (`org/name@revision`).

        Args:
            source: Which; None is the model in the package.
            device: `auto`, `cpu`, `cuda`, `mps` …
            dtype: Precision of the network. `auto` inverts in float32 and draws frames in the
                fastest precision that looks the same. The solver's state is float32 in any case.
            torch_dtype: diffusers' name for `dtype`.
            revision: Branch, tag or commit on the hub.
            variant: Which weights, if there are several: "fp16".
            cache_dir: Instead of the hub's own cache.
            token: Instead of the hub client's own.
            local_files_only: Open no connection.
            use_safetensors: Accepted for compatibility; nothing else is ever read.

        Raises:
            InputMissingError: It looks like a folder and is not there.
            HubError: The hub cannot be reached, or refuses.
            ModelError: It is no model that can be run.
        """
        located = locate(
            source,
            revision=revision,
            variant=variant,
            offline=local_files_only,
            cache_dir=cache_dir,
            token=token,
        )
        return cls.from_located(located, device=device, dtype=torch_dtype or dtype, variant=variant)

    @classmethod
    def from_located(
        cls,
        located: Located,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        variant: str | None = None,
    ) -> "DDIMPipeline":
        """Load a model that lies ready on this machine; see `from_pretrained`."""
        where, precision = parse_device(device), parse_dtype(dtype)
        checkpoint = read_checkpoint(
            located.folder,
            dtype=precision or torch.float32,
            variant=variant,
            source=located.name,
        )
        pipe = cls(
            checkpoint.unet,
            DDIMScheduler.from_config(checkpoint.scheduler_config),
            name=located.name,
            weights_sha256=checkpoint.weights_sha256,
        )
        pipe.warning = located.warning or checkpoint.warning
        pipe._draft_dtype = draft_dtype(where) if precision is None else None
        return pipe.to(where)

    def save_pretrained(self, folder: StrPath) -> None:
        """Write a diffusers folder: `model_index.json`, the network and the scheduler."""
        write_checkpoint(folder, self.unet, self.scheduler.config, overwrite=True)

    def to(self, *places: str | torch.device | torch.dtype) -> "DDIMPipeline":
        """Move to a device, or change the network's precision; returns itself."""
        for place in places:
            if isinstance(place, torch.dtype):
                self._draft_dtype = None  # an explicit precision is meant for everything
                self.unet.to(place)
            else:
                self.unet.to(parse_device(place))
        # Channels beside each other in memory suit convolutions on every device.
        self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._draft = self._wide = None
        return self

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network's weights."""
        return self.unet.dtype

    @property
    def model(self) -> Model:
        """The network as the verbs see it."""
        config = self.unet.config
        size = config.sample_size
        if size is None:
            raise ModelError(
                f"{self.name} does not say at which size it works; set sample_size in its config."
            )
        height, width = (size, size) if isinstance(size, int) else size
        kind = self.scheduler.config.prediction_type
        denoiser: Denoiser = NetworkDenoiser(self.unet, kind, self.dtype)
        if self.dtype in (torch.float16, torch.bfloat16):
            denoiser = Fallback(denoiser, NetworkDenoiser(self._widened, kind, torch.float32))
        draft = None
        if self._draft_dtype not in (None, self.dtype):
            if self._draft is None:
                self._draft = copy.deepcopy(self.unet).to(self._draft_dtype)
            draft = NetworkDenoiser(self._draft, kind, self._draft_dtype)
        return Model(
            denoiser,
            self.scheduler.schedule,
            (config.in_channels, height, width),
            self.name,
            self.weights_sha256,
            draft,
            self.device,
        )

    def set_progress_bar_config(self, **options: Any) -> None:
        """Options for the progress bar, tqdm's own; `disable=True` switches it off."""
        self._bar = options

    def progress_bar(self, items: Iterable[T], total: int, doing: str = "sampling") -> Iterable[T]:
        """Watch a loop."""
        return bar(items, total, doing, **self._bar)

    @torch.inference_mode()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generator | Sequence[Generator] | None = None,
        eta: float = 0.0,
        num_inference_steps: int = 50,
        use_clipped_model_output: bool | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw pictures from noise, as diffusers' pipeline does, to the same pictures.

        Its habits are kept: its timesteps and their spacing, clipping as the config says, noise
        from `generator` in its order. `sample` is the same without the habits.

        Args:
            batch_size: How many.
            generator: Where noise comes from; a list has one for each picture.
            eta: Share of fresh noise, 0 (DDIM) to 1 (DDPM).
            num_inference_steps: Steps.
            use_clipped_model_output: Whether ε is derived again from a clipped x_0.
            output_type: "pil", "np" or "pt".
            return_dict: Whether to return an object with `images`, or a plain tuple.

        Raises:
            ArgumentError: `output_type` is unknown, or generators and batch differ in number.
            ScheduleError: `num_inference_steps` is out of range.
        """
        _check_output_type(output_type)
        shape = (batch_size, *self.model.shape)
        if batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size} draws nothing; ask for 1 or more.")
        image = draw_like_diffusers(shape, generator, self.device, self.dtype)
        image = self.model.place(image)
        self.scheduler.set_timesteps(num_inference_steps, self.device)
        for t in self.progress_bar(self.scheduler.timesteps, num_inference_steps):
            output = self.unet(image.to(self.dtype), t).sample.to(image.dtype)
            image = self.scheduler.step(
                output[:, : shape[1]],
                t,
                image,
                eta=eta,
                use_clipped_model_output=use_clipped_model_output,
                generator=generator,
            ).prev_sample
        images = _as(image, output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)

    def sample(
        self,
        latents: State | Tensor | None = None,
        *,
        seeds: Sequence[int] | None = None,
        plan: Plan | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Decode latents, or the latents of some seeds, to pictures.

        Args:
            latents: x_T, (N, C, H, W), or the state of an inversion.
            seeds: Instead of latents: one picture for each.
            plan: How to walk; `Plan()` when not given.
            output_type: "pil", "np" or "pt".

        Raises:
            ArgumentError: Neither latents nor seeds were given, or both.
        """
        _check_output_type(output_type)
        if (latents is None) == (seeds is None):
            raise ArgumentError("sample needs latents or seeds, and not both; give one of them.")
        start = draw(seeds, self.model.shape) if seeds is not None else latents
        assert start is not None
        images = sample_latents(self.model, start, plan or Plan(), self.progress_bar)
        return ImagePipelineOutput(_as(images, output_type))

    def invert(
        self,
        images: Source | Picture | Tensor | Sequence[Source | Picture],
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
            if isinstance(images, (str, Image, Picture)) or not isinstance(images, Sequence):
                images = [images]
            images = torch.stack([self._open(image).pixels for image in images])
        return invert_images(self.model, images, plan or Plan(), self.progress_bar)

    def morph(
        self,
        keyframes: Sequence[Source],
        *,
        plan: Plan | None = None,
        batch_size: int | None = None,
        style: Style | None = None,
        keep: Keep = forget,
        **options: Any,
    ) -> Morph:
        """Prepare a film through keyframes; `Morph.draw` draws it.

        Args:
            keyframes: Pictures, latent files or `seed:N`, two or more.
            plan: How to walk; `Plan()` when not given.
            batch_size: Pictures in the network at once; by their size when not given.
            style: How the film moves.
            keep: Remembers the batches of work done, or does not.
            **options: Instead of `style`, its fields: frames, blend, ease, loop, boomerang, raw.

        Raises:
            PathError: There are fewer than two keyframes.
            ArgumentError: The style cannot be meant.
        """
        chosen = style or Style(**options)
        chosen.check()
        model, plan = self.model, plan or Plan()
        size = batch_size or default_batch_size(model.shape)
        found, nfe = find_keyframes(model, keyframes, plan, size, self.progress_bar, keep)
        return Morph(model, found, plan, chosen, size, nfe, keep)

    def _widened(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """The network's answer in float32; a second copy of it is made when it is first needed."""
        if self._wide is None:
            self._wide = copy.deepcopy(self.unet).float()
        output: Tensor = self._wide(x_t, timestep).sample
        return output

    def _open(self, image: Source | Picture) -> Picture:
        channels, height, width = self.model.shape
        if isinstance(image, Picture):
            return image
        return open_image(image, (height, width), channels=channels)


def _check_output_type(output_type: str) -> None:
    if output_type not in ("pil", "np", "pt"):
        raise ArgumentError(f"output_type={output_type!r} is unknown; choose pil, np or pt.")


def _as(images: Tensor, output_type: str) -> list[Image] | NDArray[np.float32] | Tensor:
    if output_type == "pil":
        return to_pil(to_frames(images))
    unit = (images / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return unit
    array: NDArray[np.float32] = unit.cpu().permute(0, 2, 3, 1).numpy()
    return array
