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
from orchestrator.store.database import Record, Tx

log = logging.getLogger("muster.launch")

CLAIM = timedelta(seconds=30)
"""How long a replica may take for one launch before another one repeats it; a repeated launch is adopted."""
_PERMANENT = {
    "name_taken": Reason.LAUNCH_FAILED,
    "bad_name": Reason.LAUNCH_FAILED,
    "rejected": Reason.LAUNCH_FAILED,
    "forbidden": Reason.LAUNCH_FAILED,
    "namespace_gone": Reason.NAMESPACE_GONE,
}
LOST_AFTER = timedelta(minutes=1)
"""A namespace that lets us do nothing is asked so long for what may be left of a gang, which holds a place in its pool
meanwhile: requests of its tenant wait that should be told."""


def run_once(desk: Desk) -> Report:
    """Launch what is planned and stop what is unwanted."""
    report = Report()
    for gang in desk.database.transact(lambda tx: gangs.to_launch(tx, desk.places.addresses, CLAIM)):
        _launch(desk, gang, report)
    for gang in desk.database.transact(lambda tx: gangs.unwanted(tx, desk.places.addresses.all)):
        _stop(desk, gang, report)
    return report


def _launch(desk: Desk, gang: Record, report: Report) -> None:
    token = new_token()
    desk.database.transact(lambda tx: gangs.add_token(tx, gang.id, token))
    try:
        desk.places.at(gang.backend).launch(_spec(desk, gang, token))
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
    if verdict is None:
        return

    def work(tx: Tx) -> gangs.Ended | None:
        ended = gangs.end(tx, gang.id, *verdict)
        if error.code == "namespace_gone":  # nothing was made there, and nobody lets us look
            gangs.absent(tx, gang.id)
        return ended

    desk.settle(desk.database.transact(work))


def _verdict(gang: Record, error: BackendError) -> tuple[Reason, str] | None:
    if error.code in _PERMANENT:
        return _PERMANENT[error.code], error.message
    if float(gang.planned_s) > gang.spec["limits"]["start_timeout_s"]:
        return Reason.START_TIMEOUT, f"the backend refused it for {float(gang.planned_s):.0f} s: {error.message}"
    return None


def _stop(desk: Desk, gang: Record, report: Report) -> None:
    if desk.places.is_quiet(gang.backend):
        return
    try:
        place = desk.places.at(gang.backend)
        place.tell(_farewell(gang))
        place.stop(gang.name, desk.settings.stop_grace)
        gone = place.look(gang.name) is None
    except BackendError as error:
        _not_stopped(desk, gang, error, report)
        return
    if gone:
        desk.database.transact(lambda tx: gangs.absent(tx, gang.id))
        report.note("removed", gang.id)


def _not_stopped(desk: Desk, gang: Record, error: BackendError, report: Report) -> None:
    """A namespace that is gone took its gangs along. Should it only have shut us out, we meet them as orphans later."""
    said = {"action": "stop_refused", "gang": gang.id}
    log.warning("backend did not stop gang %s: %s", gang.id, error.message, extra=said)
    if error.code != "namespace_gone":
        return
    desk.places.hush(gang.backend)
    if float(gang.gone_s) > LOST_AFTER.total_seconds():
        desk.database.transact(lambda tx: gangs.absent(tx, gang.id))
        report.note("given_up", gang.id)


def _farewell(gang: Record) -> Story:
    return Story(
        gang=gang.id,
        name=gang.name,
        state="gone",
        why=gang.reason,
        incarnation=gang.incarnation,
        went_wrong=gang.reason_code not in gangs.IN_ORDER,
    )
