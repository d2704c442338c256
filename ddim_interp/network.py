"""UNet2DModel with the manners of diffusers, for code written against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim_interp import unet
from ddim_interp.checkpoint import read_checkpoint, write_network
from ddim_interp.convert import as_folder
from ddim_interp.errors import ArgumentError, ModelError
from ddim_interp.files import StrPath
from ddim_interp.hub import locate
from ddim_interp.shapes import Images

__all__ = ["UNet2DModel", "UNet2DOutput", "check_safe"]


@dataclass(frozen=True)
class UNet2DOutput:
    """What a UNet returns: its prediction, (N, C, H, W)."""

    sample: Tensor


class UNet2DModel(unet.UNet2DModel):
    """The UNet, returning an object with a `sample`, with `from_pretrained` and `save_pretrained`.

    Args:
        **options: diffusers' names and defaults; see `unet.UNetConfig`.

    Example:
        >>> unet = UNet2DModel(block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
        >>> unet(torch.zeros(1, 3, 16, 16), 999).sample.shape
        torch.Size([1, 3, 16, 16])
    """

    @classmethod
    def wrap(cls, core: unet.UNet2DModel) -> "UNet2DModel":
        """The same network, sharing its weights, with these manners."""
        if isinstance(core, cls):
            return core
        twin = cls.__new__(cls)
        twin.__dict__ = core.__dict__
        return twin

    @classmethod
    def from_pretrained(
        cls,
        source: StrPath | None = None,
        *,
        subfolder: str | None = None,
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: StrPath | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        use_safetensors: bool = True,
    ) -> "UNet2DModel":
        """Load the network of a folder or a hub repository; diffusers' keywords.

        `subfolder` may be given or left out: the network is found either way. Weights are read from
        safetensors only, whatever `use_safetensors` says.
        """
        located = locate(
            source,
            revision=revision,
            variant=variant,
            offline=local_files_only,
            cache_dir=cache_dir,
            token=token,
        )
        dtype = torch_dtype or torch.float32
        with as_folder(located) as ready:
            network = read_checkpoint(ready.folder, dtype=dtype, variant=variant).unet
        if not isinstance(network, unet.UNet2DModel):
            raise ModelError(
                f"{located.name} is a {type(network).__name__}, not a UNet2DModel; load it with "
                "DDIMPipeline.from_pretrained."
            )
        return cls.wrap(network)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **overrides: Any) -> "UNet2DModel":
        """A new network of another's config, with random weights.

        Raises:
            ModelError: No network can be built from it.
        """
        return cls(**{**config, **overrides})

    def save_pretrained(self, save_directory: StrPath, *, safe_serialization: bool = True) -> None:
        """Write `config.json` and safetensors, as diffusers reads them.

        Raises:
            ArgumentError: Pickles are asked for, which nothing here writes.
        """
        check_safe(safe_serialization)
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_network(save_directory, self, overwrite=True)

    def forward(
        self,
        sample: Images,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Predict; returns a `UNet2DOutput`, or a tuple if `return_dict` is False."""
        output = super().forward(sample, timestep, class_labels)
        return UNet2DOutput(output) if return_dict else (output,)


def check_safe(safe_serialization: bool) -> None:
    """Refuse to write pickles.

    Raises:
        ArgumentError: Something else than safetensors is asked for.
    """
    if not safe_serialization:
        raise ArgumentError(
            "safe_serialization=False asks for a pickle, which this package neither reads nor "
            "writes; leave it at True."
        )
