"""What noise does a UNet see in a picture?"""

from typing import Any

import torch
from torch import Tensor, nn

from ddim_interp.as_mapping import by_name
from ddim_interp.errors import ArgumentError
from ddim_interp.shapes import Images
from ddim_interp.unet.blocks import DownBlock, SkipDownBlock, SkipUpBlock, UNetMidBlock2D, UpBlock
from ddim_interp.unet.config import UNetConfig
from ddim_interp.unet.conv import Conv2d
from ddim_interp.unet.embedding import TimestepEmbedding, time_projection
from ddim_interp.unet.norm import GroupNorm
from ddim_interp.unet.remembered import remembering
from ddim_interp.unet.resnet import activation

__all__ = ["UNet2DModel"]


class UNet2DModel(nn.Module):
    """A U-shaped network from a noisy picture and its timestep to a prediction of the same size.

        picture ─ conv_in ─ down ─ down ─ … ─ mid ─ … ─ up ─ up ─ conv_out ─ prediction
                             │      └────── skips ──────┘    │
                             └──────────── skips ────────────┘

    Going down, resolution halves from block to block and channels grow, so that deep layers see the
    whole picture; going up, skips return the detail. Every ResNet is told the timestep.

    Modules are named as in diffusers' checkpoints: `load_state_dict(…, strict=True)` takes them as
    they are, and its `UNet2DModel` takes ours. A new network has random weights.

    Args:
        *values: The fields of `UNetConfig`, which explains them, in diffusers' order.
        **options: The same by name; diffusers' names and defaults.

    Attributes:
        config: The options, checked and complete.

    Raises:
        ModelError: No network can be built from these options.

    References:
        Ronneberger et al. (2015), U-Net, arXiv:1505.04597; Ho et al. (2020), Denoising diffusion
        probabilistic models, arXiv:2006.11239, appendix B.

    Example:
        >>> unet = UNet2DModel(block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
        >>> unet(torch.zeros(2, 3, 16, 24), 999.5).shape
        torch.Size([2, 3, 16, 24])
    """

    def __init__(self, *values: Any, **options: Any) -> None:
        super().__init__()
        options = by_name(UNetConfig, values, options)
        self.config = config = UNetConfig.from_mapping(options, source="UNet2DModel")
        channels = config.block_out_channels

        self.conv_in = Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_proj = time_projection(config)
        self.time_embedding = TimestepEmbedding(self.time_proj.channels, config.time_channels)
        self.class_embedding: nn.Module | None = None
        if config.class_embed_type == "timestep":
            self.class_embedding = TimestepEmbedding(self.time_proj.channels, config.time_channels)
        elif config.class_embed_type == "identity":
            self.class_embedding = nn.Identity()
        elif config.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(config.num_class_embeds, config.time_channels)
        self.emb_act = activation(config.act_fn)

        self.down_blocks = nn.ModuleList(
            (SkipDownBlock if plan.kind.sampler == "fir" else DownBlock)(plan, config)
            for plan in config.down_plan
        )
        self.up_blocks = nn.ModuleList()  # named before the middle, as optimizers number weights
        self.mid_block = None if config.mid_block_type is None else UNetMidBlock2D(config)
        self.up_blocks.extend(
            (SkipUpBlock if plan.kind.sampler == "fir" else UpBlock)(plan, config)
            for plan in config.up_plan
        )

        self.conv_norm_out = GroupNorm(config.out_groups, channels[0], config.norm_eps)
        self.conv_out = Conv2d(channels[0], config.out_channels, 3, padding=1)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, and so of the pictures that `forward` takes."""
        return self.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.conv_in.weight.device

    def forward(
        self, sample: Images, timestep: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """Predict, for each picture, what the network was trained to predict: mostly its noise.

        Args:
            sample: Noisy pictures, (N, in_channels, H, W), in the dtype of the weights. See
                `check_size` for H and W.
            timestep: How noisy they are: one number, or (N,). Fractions are meant as such: they
                are never rounded, as diffusers does with Python floats. Under `torch.compile`
                give a tensor, for which nothing is compiled twice.
            class_labels: What they show, if the network was trained with classes: (N,) numbers, or
                vectors (N, time_channels) if its `class_embed_type` is "identity".

        Returns:
            Predictions, (N, out_channels, H, W), in the dtype of `sample`.

        Raises:
            ArgumentError: Class labels are missing, or the network knows no classes.
        """
        if self.config.center_input_sample:
            sample = 2 * sample - 1
        timesteps = self._timesteps(sample, timestep)
        emb = self.emb_act(self._embed(timesteps, class_labels))

        with remembering(self, sample):
            x: Tensor = self.conv_in(sample)
            skips = [x]
            image: Tensor | None = sample
            for block in self.down_blocks:
                x, image = block(x, emb, skips, image)
            if self.mid_block is not None:
                x = self.mid_block(x, emb)
            image = None
            for block in self.up_blocks:
                x, image = block(x, emb, skips, image)
            x = self.conv_out(self.conv_norm_out(x, silu=True))

        if image is not None:
            x = x + image
        if self.config.time_embedding_type == "fourier":  # the "timestep" is the noise level σ
            x = x / timesteps.to(x.dtype)[:, None, None, None]
        return x

    @staticmethod
    def _timesteps(sample: Tensor, timestep: Tensor | float) -> Tensor:
        """One float32 timestep a picture, (N,), made without waiting for the device."""
        count = len(sample)
        if isinstance(timestep, Tensor):
            return timestep.to(sample.device, torch.float32).expand(count)
        return torch.full((count,), timestep, dtype=torch.float32, device=sample.device)

    def _embed(self, timesteps: Tensor, class_labels: Tensor | None) -> Tensor:
        """The vector that steers every ResNet, (N, time_channels)."""
        emb: Tensor = self.time_embedding(self.time_proj(timesteps))
        if self.class_embedding is not None:
            if class_labels is None:
                raise ArgumentError("This network was trained with classes; give class_labels.")
            if self.config.class_embed_type == "timestep":
                class_labels = self.time_proj(class_labels.float())
            emb = emb + self.class_embedding(class_labels).to(emb.dtype)
        elif class_labels is not None:
            raise ArgumentError(
                "class_labels mean nothing to a network without classes; drop them."
            )
        return emb
