"""What runs in the pods: a gang of ranks that serves requests. The only package of Muster that knows torch.

For handlers: `from inference import Context, Handler, Input`. Importing it starts nothing and does not import torch.
Knows nothing of the service but docs/protocol.md.
"""

from inference.context import Context
from inference.faults import Canceled
from inference.handler import Handler, Input

__all__ = ["Canceled", "Context", "Handler", "Input"]
