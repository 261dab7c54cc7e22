"""Files in a request's input: from the names that a caller gives to what a gang fetches.

A name is that of a row of the caller's tenant, an upload or an earlier request's output; where its bytes lie is never
the caller's to say. So there is no path, scheme or host to be tricked with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Invalid, NotFound
from orchestrator.store import files, outputs
from orchestrator.store.database import Record, Tx

_UPLOAD = re.compile(r"fil_[0-9a-z]{26}")
_OUTPUT = re.compile(r"(req_[0-9a-z]{26})/([^/\x00]{1,255})")


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How an upload and an output are got at."""

    upload: Callable[[Tx, str, str], Record]
    output: Callable[[Tx, str, str, str], Record]


HOLD = Reach(upload=files.hold, output=outputs.hold)
"""They stay until the request that names them has its row."""
LOOK = Reach(upload=files.get, output=outputs.get)


def find(
    tx: Tx, tenant: str, names: Iterable[str], values: Mapping[str, Any], reach: Reach = HOLD
) -> dict[str, dict[str, Any]]:
    """Of each input among `names` that has a value: where the file lies and what it must be.

    Raises Invalid with a pointer for what is no name of a file, or names none of this tenant's.
    """
    given = (name for name in sorted(names) if values.get(name) is not None)
    return {name: _find(tx, tenant, name, values[name], reach) for name in given}


def _find(tx: Tx, tenant: str, name: str, value: Any, reach: Reach) -> dict[str, Any]:
    pointer = f"/input/{name}"
    said = value if isinstance(value, str) else ""
    try:
        if _UPLOAD.fullmatch(said):
            row = reach.upload(tx, tenant, said)
            return {"file": row.id, "name": row.name, "uri": row.uri, "bytes": row.bytes, "sha256": row.sha256}
        if output := _OUTPUT.fullmatch(said):
            row = reach.output(tx, tenant, output[1], output[2])
            return {"name": row.name, "uri": row.uri, "bytes": row.bytes, "sha256": row.sha256}
    except NotFound:
        raise Invalid(f"{pointer}: there is no file {said!r}", pointer=pointer) from None
    raise Invalid(
        f"{pointer}: give the `id` of an upload (fil_…) or an output of a request (req_…/NAME)", pointer=pointer
    )
