"""An ID says what it is of: where a command was given one of another kind, which command was meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ID = re.compile(r"(req|bat|gng|sch|whk)_[0-9a-z]{26}")


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    group: str
    """The commands about it; empty: those of `muster` itself."""
    look: str
    """The command that shows one."""
    verbs: Mapping[str, str] = field(default_factory=dict)
    """What is said to one, by what is said to others."""


KINDS = {
    "req": Kind(
        name="a request",
        group="",
        look="get",
        verbs={one: one for one in ("explain", "wait", "logs", "events", "cancel", "retry", "download", "rm")},
    ),
    "bat": Kind(
        name="a batch",
        group="batch",
        look="status",
        verbs={one: one for one in ("cancel", "pause", "resume", "download", "rm", "items")}
        | {"wait": "status --wait"},
    ),
    "gng": Kind(name="a gang", group="gang", look="show", verbs={"logs": "logs", "drain": "drain"}),
    "sch": Kind(
        name="a schedule",
        group="schedule",
        look="show",
        verbs={one: one for one in ("edit", "trigger", "pause", "resume", "rm")} | {"events": "fires"},
    ),
    "whk": Kind(name="a webhook", group="webhook", look="deliveries", verbs={"rm": "rm"}),
}
GROUPS = frozenset(kind.group for kind in KINDS.values()) - {""}


def meant(arguments: Sequence[str]) -> str | None:
    """`bat_… is a batch: muster batch cancel bat_…`, of `cancel bat_…`; nothing where the kinds agree."""
    words = [one for one in arguments if not one.startswith("-")]
    named = next((one for one in words if ID.fullmatch(one)), None)
    if named is None:
        return None
    group, verb = ("", words[0]) if words[0] not in GROUPS else (words[0], words[1])
    kind = KINDS[named[:3]]
    if group == kind.group:
        return None
    command, _, options = (kind.verbs.get(verb) or kind.look).partition(" ")
    return f"{named} is {kind.name}: " + " ".join(one for one in ("muster", kind.group, command, named, options) if one)
