"""Turns intents into gangs: the row first, then the backend, then the row again. Never a call inside a transaction."""

from __future__ import annotations

import logging
from datetime import timedelta

from orchestrator.backends.base import LaunchSpec, Story
from orchestrator.domain.ids import new_token
from orchestrator.domain.states import Reason
from orchestrator.errors import BackendError
from orchestrator.loops.desk import Desk, Report
from orchestrator.store import gangs
from orchestrator.store.database import Record

log = logging.getLogger("muster.launch")

CLAIM = timedelta(seconds=30)
"""How long a replica may take for one launch before another one repeats it; a repeated launch is adopted."""
_PERMANENT = frozenset({"name_taken", "bad_name", "rejected", "forbidden"})


def run_once(desk: Desk) -> Report:
    """Launch what is planned and stop what is unwanted."""
    report = Report()
    for gang in desk.database.transact(lambda tx: gangs.to_launch(tx, desk.backend.name, CLAIM)):
        _launch(desk, gang, report)
    for gang in desk.database.transact(lambda tx: gangs.unwanted(tx, desk.backend.name)):
        _stop(desk, gang, report)
    return report


def _launch(desk: Desk, gang: Record, report: Report) -> None:
    token = new_token()
    desk.database.transact(lambda tx: gangs.add_token(tx, gang.id, token))
    try:
        desk.backend.launch(_spec(desk, gang, token))
    except BackendError as error:
        _refused(desk, gang, error, report)
        return
    timeout = timedelta(seconds=gang.spec["limits"]["start_timeout_s"])
    desk.database.transact(lambda tx: gangs.launched(tx, gang.id, timeout))
    report.note("launched", gang.id)


def _spec(desk: Desk, gang: Record, token: str) -> LaunchSpec:
    return LaunchSpec(
        gang=gang.id,
        name=gang.name,
        mode=gang.mode,
        nodes=gang.nodes,
        ranks_per_node=gang.world // gang.nodes,
        api_urls=desk.settings.api_urls,
        token=token,
        template=gang.spec,
    )


def _refused(desk: Desk, gang: Record, error: BackendError, report: Report) -> None:
    """A refusal for good, or for longer than a start may take, ends the gang; all else is tried again later."""
    said = {"action": "launch_refused", "gang": gang.id}
    log.warning("backend refused gang %s: %s", gang.id, error.message, extra=said)
    report.note("refused", gang.id)
    verdict = _verdict(gang, error)
    if verdict is not None:
        desk.settle(desk.database.transact(lambda tx: gangs.end(tx, gang.id, *verdict)))


def _verdict(gang: Record, error: BackendError) -> tuple[Reason, str] | None:
    if error.code in _PERMANENT:
        return Reason.LAUNCH_FAILED, error.message
    if float(gang.planned_s) > gang.spec["limits"]["start_timeout_s"]:
        return Reason.START_TIMEOUT, f"the backend refused it for {float(gang.planned_s):.0f} s: {error.message}"
    return None


def _stop(desk: Desk, gang: Record, report: Report) -> None:
    try:
        desk.backend.tell(_farewell(gang))
        desk.backend.stop(gang.name, desk.settings.stop_grace)
        gone = desk.backend.look(gang.name) is None
    except BackendError as error:
        said = {"action": "stop_refused", "gang": gang.id}
        log.warning("backend did not stop gang %s: %s", gang.id, error.message, extra=said)
        return
    if gone:
        desk.database.transact(lambda tx: gangs.absent(tx, gang.id))
        report.note("removed", gang.id)


def _farewell(gang: Record) -> Story:
    return Story(
        gang=gang.id,
        name=gang.name,
        state="gone",
        why=gang.reason,
        incarnation=gang.incarnation,
        went_wrong=gang.reason_code not in gangs.IN_ORDER,
    )
