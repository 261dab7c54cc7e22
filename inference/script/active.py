"""The request that a script serves in this process, if any: how the patched parts and `inference.sdk` find it.

Imports nothing heavy: `inference.sdk` must cost a plain script nothing.
"""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.context import Context
    from inference.script.keep import Keep


@dataclass(kw_only=True)
class Run:
    context: "Context"
    keep: "Keep"
    result: dict[str, Any] | None = None  # from `sdk.main`
    thread: int = field(default_factory=threading.get_ident)

    @property
    def here(self) -> bool:
        """Whether this is the script's own thread: only that one may take steps with the other ranks."""
        return threading.get_ident() == self.thread


run: Run | None = None


def current() -> Run | None:
    """The run, if the caller is in the script's own thread."""
    return run if run is not None and run.here else None
