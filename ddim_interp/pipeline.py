"""DDIMPipeline: a network and its noise schedule under one roof.

Works as diffusers' DDIMPipeline for code written against it, and has the toolkit's own verbs:
`invert`, `sample` and `morph`. It holds no formula.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from torch import Generator, Tensor

from ddim_interp.autoencoder import DiffusersAutoencoder
from ddim_interp.checkpoint import read_checkpoint, write_checkpoint
from ddim_interp.compiled import Compiled, warn
from ddim_interp.convert import as_folder
from ddim_interp.denoiser import Denoiser, Fallback, NetworkDenoiser
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.files import StrPath
from ddim_interp.hub import Located, locate
from ddim_interp.latents import draw_like_diffusers
from ddim_interp.model import Model
from ddim_interp.network import UNet2DModel, check_safe
from ddim_interp.networks import Network
from ddim_interp.precision import (
    default_batch_size,
    draft_dtype,
    fastest_layout,
    parse_device,
    parse_dtype,
)
from ddim_interp.recorded import Recorded, answering
from ddim_interp.scheduler import DDIMScheduler
from ddim_interp.tf32 import true_float32
from ddim_interp.unet import UNet2DModel as CoreUNet2DModel
from ddim_interp.unet.derived import Derived
from ddim_interp.verbs import ImagePipelineOutput, Pipeline, as_output, check_output_type

__all__ = ["DDIMPipeline", "ImagePipelineOutput"]


class DDIMPipeline(Pipeline):
    """Samples, inverts and morphs with one model.

    Args:
        unet: The network.
        scheduler: The levels it was trained on; any scheduler with a diffusers config will do.
        autoencoder: What stands between the network and pictures, if anything does.
        name: What recipes call the model; no path.
        weights_sha256: Identity of the weights, for latent files.
        class_label: What to draw, for a network that was trained with classes.

    Example:
        >>> pipe = DDIMPipeline.from_pretrained()  # the model in the package
        >>> pipe.model.shape
        (3, 64, 64)
    """

    def __init__(
        self,
        unet: Network,
        scheduler: Any,
        *,
        autoencoder: DiffusersAutoencoder | None = None,
        name: str = "custom",
        weights_sha256: str = "",
        class_label: int | None = None,
    ) -> None:
        self.unet = _with_manners(unet)
        self.scheduler: DDIMScheduler = DDIMScheduler.from_config(scheduler.config)
        self.autoencoder = autoencoder
        self.name = name
        self.weights_sha256 = weights_sha256
        self.class_label = class_label
        self.warning: str | None = None
        self._twins: dict[torch.dtype, Derived] = {}
        self._compiled: Compiled | None = None
        self._recorded: dict[Network, Recorded] = {}
        self._say: Callable[[str], None] | None = None  # compiles, if there is somebody to tell
        self._compiled_for: int | None = None
        self._draft_dtype: torch.dtype | None = None
        self.set_progress_bar_config()

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
        class_label: int | None = None,
        config: str | None = None,
        unet: Network | None = None,
        scheduler: Any = None,
    ) -> "DDIMPipeline":
        """Load a model: the embedded one, a folder, a bare checkpoint such as `ckpt.pth`, or
        `org/name` (`org/name@revision`).

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
            class_label: What to draw, for a network that was trained with classes.
            config: What a bare checkpoint does not say of itself; see `convert.convert_folder`.
            unet: Takes the place of the model's own network, whose weights are then not opened.
            scheduler: Takes the place of its own scheduler.

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
        return cls.from_located(
            located,
            device=device,
            dtype=torch_dtype or dtype,
            variant=variant,
            class_label=class_label,
            config=config,
            unet=unet,
            scheduler=scheduler,
        )

    @classmethod
    def from_located(
        cls,
        located: Located,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        variant: str | None = None,
        class_label: int | None = None,
        config: str | None = None,
        unet: Network | None = None,
        scheduler: Any = None,
    ) -> "DDIMPipeline":
        """Load a model that lies ready on this machine; see `from_pretrained`."""
        where, precision = parse_device(device), parse_dtype(dtype)
        with as_folder(located, config) as ready:
            checkpoint = read_checkpoint(
                ready.folder,
                dtype=precision or torch.float32,
                variant=variant,
                source=located.name,
                unet=unet,
            )
        pipe = cls(
            checkpoint.unet,
            scheduler or DDIMScheduler.from_config(checkpoint.scheduler_config),
            autoencoder=checkpoint.autoencoder,
            name=located.name if unet is None else "custom",
            weights_sha256=checkpoint.weights_sha256,
            class_label=class_label,
        )
        pipe.warning = ready.warning or checkpoint.warning
        pipe._draft_dtype = draft_dtype(where) if precision is None else None
        return pipe.to(where)

    def save_pretrained(self, save_directory: StrPath, *, safe_serialization: bool = True) -> None:
        """Write a diffusers folder: `model_index.json`, the networks and the scheduler.

        Raises:
            ArgumentError: Pickles are asked for, which nothing here writes.
        """
        check_safe(safe_serialization)
        config, coder = self.scheduler.config, self.autoencoder
        write_checkpoint(save_directory, self.unet, config, coder, overwrite=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.device}, {self.precision})"

    @property
    def components(self) -> dict[str, Any]:
        """What it is made of, by diffusers' names: `DDIMPipeline(**pipe.components)`."""
        coder = {"autoencoder": self.autoencoder} if self.autoencoder else {}
        return {"unet": self.unet, "scheduler": self.scheduler, **coder}

    def to(
        self,
        *places: str | torch.device | torch.dtype,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> "DDIMPipeline":
        """Move to a device, or change the network's precision; returns itself.

        An autoencoder stays in float32.
        """
        for place in (*places, device, dtype):
            if place is None:
                continue
            if isinstance(place, torch.dtype):
                self._draft_dtype = None  # an explicit precision is meant for everything
                self.unet.to(place)
            else:
                self.unet.to(parse_device(place))
                if self.autoencoder:
                    self.autoencoder.to(parse_device(place))
        layout = fastest_layout(self.device)
        self.unet.to(memory_format=layout)  # type: ignore[call-overload]
        self._compiled = None
        self._twins, self._recorded = {}, {}
        return self

    def compile(
        self, say: Callable[[str], None] = warn, batch_size: int | None = None
    ) -> "DDIMPipeline":
        """Draw frames by a compiled network from now on; returns itself.

        The first frame comes a minute or two later. On a GPU it pays for networks without kernels
        of our own only: diffusers' and guided-diffusion's have them, and are faster as they are.
        Inversion is done by the network as it is. Last bits may differ from run to run.

        Args:
            say: Takes one line if the network cannot be compiled; frames are drawn all the same.
            batch_size: For how many pictures at once; by their size when not given.
        """
        self._say, self._compiled, self._compiled_for = say, None, batch_size
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
    def precision(self) -> str:
        """The precisions in use: of the network and, where it is another, of frames."""
        draft = self._draft_dtype or self.dtype
        words = [str(self.dtype)] + ([f"{draft} for frames"] if draft != self.dtype else [])
        words += ["compiled"] if self._say else []
        return ", ".join(words).replace("torch.", "")

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
        shape = (config.in_channels, height, width)
        kind, label = self.scheduler.config.prediction_type, self.class_label
        self._check_class()
        denoiser: Denoiser = NetworkDenoiser(self._run(self.unet), kind, self.dtype, label)
        if self.dtype in (torch.float16, torch.bfloat16):
            wide = NetworkDenoiser(self._widened, kind, torch.float32, label)
            denoiser = Fallback(denoiser, wide)
        draft = None
        network: Any = self.unet
        if self._draft_dtype is not None and self._draft_dtype != self.dtype:
            network = self._twin(self._draft_dtype)
            draft = NetworkDenoiser(self._run(network), kind, self._draft_dtype, label)
        if self._say:
            if self._compiled is None or self._compiled.network is not network:
                batch = self._compiled_for or default_batch_size(shape, self.device)
                self._compiled = Compiled(network, say=self._say, size=batch)
            draft = NetworkDenoiser(self._compiled, kind, network.dtype, label)
        return Model(
            denoiser,
            self.scheduler.schedule,
            shape,
            self.name if label is None else f"{self.name} (class {label})",
            self.weights_sha256,
            draft,
            self.device,
            self.autoencoder,
            str(self.dtype).removeprefix("torch.") if self._draft_dtype is None else "",
        )

    def _run(self, network: Network) -> Callable[..., Any]:
        """The network as it runs fastest here without being compiled."""
        if self.device.type != "cuda":
            return network
        return self._recorded.setdefault(network, Recorded(network))

    @overload
    def __call__(
        self,
        batch_size: int = ...,
        generator: Generator | Sequence[Generator] | None = ...,
        eta: float = ...,
        num_inference_steps: int = ...,
        use_clipped_model_output: bool | None = ...,
        output_type: str = ...,
        return_dict: Literal[True] = ...,
    ) -> ImagePipelineOutput[Any]: ...

    @overload
    def __call__(
        self,
        batch_size: int = ...,
        generator: Generator | Sequence[Generator] | None = ...,
        eta: float = ...,
        num_inference_steps: int = ...,
        use_clipped_model_output: bool | None = ...,
        output_type: str = ...,
        *,
        return_dict: Literal[False],
    ) -> tuple[Any]: ...

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
    ) -> ImagePipelineOutput[Any] | tuple[Any]:
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
        check_output_type(output_type)
        model = self.model
        shape = (batch_size, *model.shape)
        if batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size} draws nothing; ask for 1 or more.")
        image = draw_like_diffusers(shape, generator, self.device, self.dtype)
        image = model.place(image)
        label = self.class_label
        labels = None if label is None else torch.full(shape[:1], label, device=self.device)
        self.scheduler.set_timesteps(num_inference_steps, self.device)  # which others may look at
        scheduler = copy.copy(self.scheduler)  # and another thread may set otherwise
        scheduler.set_timesteps(num_inference_steps, self.device)
        for t in self.progress_bar(scheduler.timesteps, num_inference_steps):
            with true_float32(self.device):
                output = self.unet(image.to(self.dtype), t, labels)
            output = getattr(output, "sample", output).to(image.dtype)
            image = scheduler.step(
                output[:, : shape[1]],
                t,
                image,
                eta=eta,
                use_clipped_model_output=use_clipped_model_output,
                generator=generator,
            ).prev_sample
        images = as_output(model.decode(image), output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)

    def _check_class(self) -> None:
        """A network with classes needs one, and one without cannot use it."""
        config = self.unet.config
        count = config.num_class_embeds
        if self.unet.class_embedding is None:
            if self.class_label is not None:
                raise ArgumentError(
                    f"{self.name} was not trained with classes, so class_label={self.class_label} "
                    "means nothing to it; drop it."
                )
        elif config.class_embed_type is not None or count is None:
            raise ModelError(
                f"{self.name} is told its classes as {config.class_embed_type} vectors, not by "
                "number, and no verb here can do that; use a model without classes, or with a list "
                "of them."
            )
        elif self.class_label is None or not 0 <= self.class_label < count:
            said = "" if self.class_label is None else f", and {self.class_label} is not among them"
            raise ArgumentError(
                f"{self.name} was trained with {count} classes{said}; say which to draw: "
                f"class_label=0 … {count - 1} (--class-label on the command line)."
            )

    def _widened(self, *inputs: Tensor) -> Tensor:
        """The network's answer in float32; a second copy of it is made when it is first needed."""
        return answering(self._twin(torch.float32))(*inputs)

    def _twin(self, dtype: torch.dtype) -> Network:
        """The network in another precision, of the weights that it has now."""
        weights = (*self.unet.parameters(), *self.unet.buffers())
        twin = self._twins.get(dtype)
        if twin is None or not twin.fits(*weights):
            if twin is not None:
                self._recorded.pop(twin.value, None)
            twin = Derived.of(copy.deepcopy(self.unet).to(dtype), *weights)
            self._twins[dtype] = twin
        network: Network = twin.value
        return network


def _with_manners(unet: Network) -> Network:
    """The network with the face of diffusers, if it is diffusers' own; any other has but one."""
    return UNet2DModel.wrap(unet) if isinstance(unet, CoreUNet2DModel) else unet
