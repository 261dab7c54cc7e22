"""The surface of Wan's package as its generate.py uses it; nothing of its source. Draws a few bytes, on the CPU."""

from . import configs
from .text2video import WanT2V

WanI2V = WanFLF2V = WanVace = WanTI2V = WanS2V = WanAnimate = WanT2V

__all__ = ["WanAnimate", "WanFLF2V", "WanI2V", "WanS2V", "WanT2V", "WanTI2V", "WanVace", "configs"]
