"""Where the numbers come from: the committed weights, or seeded random ones for a model of any size.

Every rank calls this for itself and gets the same tensors, so sharding needs no broadcast. The shape of the network
travels in the file's metadata. safetensors only: a weights file must not be able to run code.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inference.samples.digits.model import DiffusionTransformer, Shape

COMMITTED = Path(__file__).with_name("weights.safetensors")


def save(model: DiffusionTransformer, path: Path) -> None:
    """Half precision on disk: the rounding is far below what a picture shows, and the repository stays small."""
    halves = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(halves, path, metadata={"shape": json.dumps(asdict(model.shape))})


def load(path: Path = COMMITTED) -> DiffusionTransformer:
    """The trained model on the CPU, in float32."""
    with safe_open(path, framework="pt") as file:
        shape = Shape(**json.loads(file.metadata()["shape"]))
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    with torch.device("meta"):
        model = DiffusionTransformer(shape)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def random(shape: Shape, seed: int = 0) -> DiffusionTransformer:
    """A model that draws nothing readable but costs what a trained one of this shape would. On the CPU, float32."""
    with torch.device("meta"):
        model = DiffusionTransformer(shape)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return model.eval().requires_grad_(False)
