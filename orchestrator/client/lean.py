"""httpx without its own command line, which draws with rich and pygments: a third of what importing the client cost.

httpx goes without it where those are not installed, and so it does here. Knows nothing else.
"""

import sys

_COMMAND_LINE = "httpx._main"

sys.modules.setdefault(_COMMAND_LINE, None)  # type: ignore[arg-type]  # importing it fails, which httpx allows for
import httpx  # noqa: E402

if sys.modules[_COMMAND_LINE] is None:
    del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]
