"""Settings of the gateway's door under the names that the apps which come with Kubeflow read. Pure.

Those names are plain (APP_PREFIX, say), so they count only where there is such a door, and ours go before.
"""

from __future__ import annotations

from collections.abc import Mapping

DOOR = "MUSTER_GATEWAY_PORT"
OURS: Mapping[str, str] = {
    "USERID_HEADER": "MUSTER_USERID_HEADER",
    "USERID_PREFIX": "MUSTER_USERID_PREFIX",
    "APP_PREFIX": "MUSTER_PAGE_PREFIX",
    "APP_SECURE_COOKIES": "MUSTER_SECURE_COOKIES",
    "APP_DISABLE_AUTH": "MUSTER_DISABLE_AUTH",
}


def translated(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, with our names for theirs."""
    if not environ.get(DOOR):
        return environ
    theirs = {ours: environ[stock].rstrip("/") for stock, ours in OURS.items() if environ.get(stock)}
    return {**theirs, **{name: value for name, value in environ.items() if value or name not in theirs}}
