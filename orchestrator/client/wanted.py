"""Which requests a list is to show, as keyword arguments and as query parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypedDict

from orchestrator.errors import Invalid


class Wanted(TypedDict, total=False):
    """All that is given must hold. Moments need a zone; they are not included themselves."""

    status: Sequence[str]
    template: str | None
    pool: str | None
    mode: str | None
    labels: Mapping[str, str]
    created_after: datetime | None
    created_before: datetime | None


def asked(wanted: Wanted) -> dict[str, str]:
    """The query parameters. Raises Invalid for a moment without a zone."""
    params = {name: str(value) for name in ("template", "pool", "mode") if (value := wanted.get(name))}
    if states := wanted.get("status"):
        params["status"] = ",".join(states)
    params |= {f"label.{key}": value for key, value in wanted.get("labels", {}).items()}
    moments = {"created_after": wanted.get("created_after"), "created_before": wanted.get("created_before")}
    return params | {name: said(name, moment) for name, moment in moments.items() if moment is not None}


def said(name: str, moment: datetime) -> str:
    """A moment as the service reads it. Raises Invalid for one without a zone."""
    if moment.tzinfo is None:
        raise Invalid(f"{name} has no zone: say which, or use `datetime.now(UTC)`", pointer=f"/{name}")
    return moment.isoformat()
