"""Where the service is and who we are: the environment, else the file that `muster up` leaves on this machine.

A token is never taken from the command line (`ps` shows it), and the local file's token is sent to the local file's
URL only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.errors import Invalid, Unavailable
from orchestrator.settings import default_folder

LOCAL_FILE = "local.json"
LARGEST_BYTES = 64 * 1024
NOT_FOUND = "no Muster service is known here: start one with `muster up`, or set MUSTER_URL and MUSTER_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A service and the credential for it. `source` says, in words, where we learned of it."""

    url: str
    token: str | None = field(default=None, repr=False)
    namespace: str | None = None
    """Through Kubeflow's gateway: for which namespace we call."""
    source: str


def find(url: str | None = None, environ: Mapping[str, str] = os.environ) -> Connection:
    """The service named by `url`, else by MUSTER_URL, else by `<state folder>/local.json`."""
    return replace(_named(url, environ), namespace=environ.get("MUSTER_NAMESPACE") or None)


def _named(url: str | None, environ: Mapping[str, str]) -> Connection:
    local = _local(default_folder(environ) / LOCAL_FILE)
    token = environ.get("MUSTER_TOKEN") or None
    named = url or environ.get("MUSTER_URL")
    if not named:
        if local is None:
            raise Unavailable(NOT_FOUND, code="not_configured")
        return Connection(url=local.url, token=token or local.token, source=local.source)
    if token is None and local is not None and local.url.rstrip("/") == named.rstrip("/"):
        token = local.token
    return Connection(url=named, token=token, source="--url" if url else "MUSTER_URL")


def _local(path: Path) -> Connection | None:
    text = _read(path)
    if text is None:
        return None
    try:
        document = json.loads(text)
        return Connection(url=str(document["url"]), token=str(document["token"]), source=str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path} is damaged: remove it and start `muster up` again", code="bad_local_file") from error


def _read(path: Path) -> str | None:
    """None also for a file of somebody else: it would choose where our token goes."""
    try:
        with path.open("rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            return file.read(LARGEST_BYTES).decode("utf-8") if owner in (os.getuid(), 0) else None
    except (OSError, UnicodeDecodeError):
        return None
