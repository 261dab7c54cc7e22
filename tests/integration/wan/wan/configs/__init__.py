from types import SimpleNamespace

_CONFIG = SimpleNamespace(num_heads=40, sample_steps=5, sample_shift=5.0, sample_guide_scale=5.0, frame_num=81,
                          sample_fps=16, num_train_timesteps=1000)  # fmt: skip
WAN_CONFIGS = dict.fromkeys(("t2v-14B", "t2v-1.3B", "t2v-A14B"), _CONFIG)
SIZE_CONFIGS = {"1280*720": (1280, 720), "832*480": (832, 480)}
MAX_AREA_CONFIGS = {name: width * height for name, (width, height) in SIZE_CONFIGS.items()}
SUPPORTED_SIZES = dict.fromkeys(WAN_CONFIGS, tuple(SIZE_CONFIGS))
