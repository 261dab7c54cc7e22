"""Which of xdist's workers runs which file.

A file runs on one worker, as with `--dist loadfile`; the files that share the session's service run on one together, so
that it and its gangs start once and not once on each. Knows nothing of what the tests do.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadFileScheduling

TOGETHER = frozenset(
    f"tests/acceptance/test_{name}.py"
    for name in (
        "admission",
        "cancel",
        "cli_every_command",
        "failures",
        "go_client",
        "idle",
        "modes",
        "pipelines",
        "pools",
    )
)
"""Whose tests ask for the fixture `service` of tests/acceptance/conftest.py, which holds them to stand here."""


class FilesTogether(LoadFileScheduling):
    """Hands out files one by one, and those that belong together at once."""

    def _split_scope(self, nodeid: str) -> Any:
        file = super()._split_scope(nodeid)
        return "tests/acceptance, with one service" if file in TOGETHER else file
