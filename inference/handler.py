"""The class a user writes for a model, and how its name becomes that class. Knows no ranks and no requests."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import pydantic
from typing_extensions import TypeVar

from inference.environment import ConfigurationError

if TYPE_CHECKING:
    from inference.context import Context


class Input(pydantic.BaseModel):
    """What one request brings. An unknown field is an error, so that a typing slip is not silently ignored."""

    model_config = pydantic.ConfigDict(extra="forbid")


InputT = TypeVar("InputT", default=Any)


class Handler(Generic[InputT]):
    """Set up once on every rank, run per request on every rank. All ranks get the same input; rank 0's value wins."""

    Input: ClassVar[type[pydantic.BaseModel] | None] = None  # none: `run` gets the plain dict

    def setup(self, ctx: "Context") -> None:
        """Loads the model. Runs on every rank, once per incarnation of the gang; may use `ctx.data_group`."""

    def run(self, ctx: "Context", input: InputT) -> dict[str, Any] | None:
        """Answers one request, on every rank at the same time. Returns what JSON can hold."""
        raise NotImplementedError(f"{type(self).__name__} must define run(ctx, input)")

    def teardown(self, ctx: "Context") -> None:
        """Runs on every rank when the gang is drained; not when it is killed."""


def load(reference: str, workdir: str | None) -> type[Handler[Any]]:
    """`module:Class` or `/path/file.py:Class`, with `workdir` first on the module path."""
    where, _, name = reference.rpartition(":")
    if not where or not name:
        raise ConfigurationError(f"handler {reference!r} must be module:Class or /path/file.py:Class")
    if workdir and workdir not in sys.path:
        sys.path.insert(0, workdir)
    module = _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Handler)):
        raise ConfigurationError(f"handler {reference!r}: {name} is not a class derived from inference.Handler")
    return found


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(f"handler file {path} does not exist on this node")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # classes defined in it must find their own module
    spec.loader.exec_module(module)
    return module
