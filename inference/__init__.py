"""What runs in the pods: a gang of ranks that serves requests. The only package of Muster that knows torch.

For handlers: `from inference import Context, Handler, Input`. Importing it starts nothing and does not import torch.
Knows nothing of the service but docs/protocol.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.context import Context
    from inference.faults import Canceled
    from inference.handler import Handler, Input

__all__ = ["Canceled", "Context", "Handler", "Input"]

_HOMES = {
    "Canceled": "inference.faults",
    "Context": "inference.context",
    "Handler": "inference.handler",
    "Input": "inference.handler",
}


def __getattr__(name: str) -> Any:
    """Looked up when asked for: the agent of a node starts before its ranks and needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
