"""docs/logs.md, written from the tables of moves and actions:  python -m orchestrator.domain.logs_page > docs/logs.md

A test compares the page with the tables, and the tables with the source. Knows no log.
"""

from __future__ import annotations

import sys

from orchestrator.domain.actions import ACTIONS
from orchestrator.domain.states import BATCH_MOVES, GANG_MOVES, REQUEST_MOVES, Move

_HEAD = """# Logs

Written by `python -m orchestrator.domain.logs_page > docs/logs.md` from `orchestrator/domain/actions.py` and the tables
of moves; a test compares them with each other and with every place that logs.

The service's own log, on standard error: one line per record, JSON, or text where that is a terminal (`MUSTER_LOG`);
from `MUSTER_LOG_LEVEL` on. What handlers print is another matter: `muster logs`.

Every line has `at` (UTC), `level` and `action`. The words of `action` are stable: they are added to, never changed.
Fields are IDs and figures; inputs, results and sentences of handlers stay in the database. What looks like a token, or
a password in a URL, is masked. Lines of libraries are held to the same form.

## Moves

Every move of a request, a gang or a batch is one line at `info`, written after its commit by the replica that committed
it. `action` is the name of the move ([states](states.md)):

    {"at": "…Z", "level": "info", "action": "succeed", "state": "succeeded", "tenant": "default", "template": "digits",
     "request": "req_…", "gang": "gng_…", "attempt": "att_…", "incarnation": 1, "placement": "warm", "seconds": 0.464}

What it is about is told by its IDs: `request`; else `batch`, with `items` if so many items of it made the move in one
statement; else `gang`. `seconds` is how long what the move ended had lasted: the queue at `assign`, the attempt at
`succeed`, `fail`, `retry` and `end_cancel`, the wait at `cancel` and `expire`; of gangs the launch at `hello` and
`ready`, the plan at `launch`, the life at `end`. `reason` is a code of [errors.md](errors.md); `lost` says why an
attempt was lost where the request ended for another reason. A replica that is killed between a commit and its line
loses the line; the event is in the database (`muster events`).
"""
_QUESTIONS = """
## Questions

    jq -c 'select(.request == "req_…" or .gang == "gng_…")'                       all of one request, over all replicas
    jq -c 'select(.action == "retry") | {at, request, gang, reason}'              what was lost, and why
    jq -r 'select(.action == "ready") | [.template, .seconds] | @tsv'             how long gangs took to start
    jq -c 'select(.action == "defect" or .level == "error")'                      what to report
"""


def page() -> str:
    """The whole page."""
    moves = [
        _moves(title, table)
        for title, table in (("a request", REQUEST_MOVES), ("a gang", GANG_MOVES), ("a batch", BATCH_MOVES))
    ]
    return "\n".join([_HEAD, *moves, _others()]) + _QUESTIONS


def _moves(title: str, table: dict[str, Move]) -> str:
    rows = "".join(f"| `{name}` | `{move.target}` | {move.meaning} |\n" for name, move in table.items())
    return f"| `action` of {title} | `state` | |\n|---|---|---|\n{rows}"


def _others() -> str:
    rows = "".join(
        f"| `{word}` | {one.level} | {' '.join(f'`{field}`' for field in one.fields)} | {one.meaning} |\n"
        for word, one in ACTIONS.items()
    )
    return f"## Other actions\n\n| `action` | level | fields | |\n|---|---|---|---|\n{rows}"


if __name__ == "__main__":
    sys.stdout.write(page())
