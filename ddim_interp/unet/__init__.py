"""The network: diffusers' `UNet2DModel`, layer for layer, and what makes its layers fast."""

from ddim_interp.unet.config import UNetConfig as UNetConfig
from ddim_interp.unet.cost import count_flops as count_flops, flops_of as flops_of
from ddim_interp.unet.keys import modern_keys as modern_keys
from ddim_interp.unet.model import UNet2DModel as UNet2DModel
from ddim_interp.unet.size import check_size as check_size
