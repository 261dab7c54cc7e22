"""What the agent of a node tells of its only rank when that died without a word: no neighbour is there to do it.

For that a lone rank leaves the token of its incarnation on the node, for the same user's eyes only. Where a node has
several ranks, those that live tell more, with stacks, and the agent is silent.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from inference import words
from inference.environment import api_urls, node_name, scratch_folder

_GIVE_UP_S = 2.0


def leave_key(folder: Path, token: str) -> None:
    """By a rank that is alone on its node, when its incarnation has begun."""
    key = folder / "key"
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)


def forget_key(variables: Mapping[str, str] = os.environ) -> None:
    """Before ranks start: the incarnation before is over."""
    with suppress(OSError):
        (_folder(variables) / "key").unlink(missing_ok=True)


def _folder(variables: Mapping[str, str]) -> Path:
    return words.folder_of(scratch_folder(variables), node_name(variables))


def tell(rank: int, pid: int, exit_code: int, variables: Mapping[str, str] = os.environ) -> None:
    """One bounded try. Silent if the rank spoke itself, or was never part of an incarnation."""
    from inference.contact import Contact
    from inference.kin import death_of
    from inference.service import Over, Refused, Service, Stale, Unreachable

    folder = _folder(variables)
    with suppress(OSError):
        token = (folder / "key").read_text()
        status = -exit_code if exit_code < 0 else exit_code << 8
        death = death_of(rank, status, words.read(folder, rank, pid))
        if death is None:
            return
        urls, gang = api_urls(variables), variables.get("MUSTER_GANG", "")
        service = Service(urls, gang, token, Contact.of_node(scratch_folder(variables), node_name(variables)))
        body = {
            "node": node_name(variables),
            "attempt": None,
            "phase": "runtime",
            "step": None,
            **death.as_error(),
        }
        with suppress(Over, Stale, Refused, Unreachable):
            service.error(body.pop("rank"), body, give_up_s=_GIVE_UP_S)
