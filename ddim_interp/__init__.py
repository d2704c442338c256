"""Carry pictures into a diffusion model's noise space and back, and travel between them."""

__version__ = "0.1.0.dev0"
