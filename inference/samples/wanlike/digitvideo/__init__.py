"""What a model's authors ship beside their script: a pipeline, its configurations, a few helpers."""

from .pipeline import DigitVideo
from .tools import cache_video, str2bool

CONFIGS = {"t2v-digits": {"name": "digits", "num_heads": 8, "sample_steps": 10}}
SIZES = {"256*256": (256, 256), "128*128": (128, 128)}

__all__ = ["CONFIGS", "SIZES", "DigitVideo", "cache_video", "str2bool"]
