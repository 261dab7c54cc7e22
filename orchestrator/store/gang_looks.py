"""Gangs as they are shown: what each does now, what it served, its ranks. Read-only."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from orchestrator.errors import NotFound
from orchestrator.store import arrivals
from orchestrator.store.database import Record, Tx

_SHOW = f"""
SELECT g.*, b.ranks AS steps, {arrivals.SHOWN},
       ARRAY(SELECT json_build_object('slot', a.slot, 'request', a.request_id) FROM attempt a
             WHERE a.gang_id = g.id AND a.ended_at IS NULL ORDER BY a.slot) AS serving,
       (SELECT count(*) FROM attempt s WHERE s.gang_id = g.id AND s.outcome = 'succeeded'
        AND s.ended_at IS NOT NULL) AS served,
       (SELECT max(s.ended_at) FROM attempt s WHERE s.gang_id = g.id) AS last_end,
       (SELECT coalesce(json_agg(json_build_object('rank', k.rank, 'node', k.node, 'pid', k.pid, 'device', k.device,
          'ready', k.ready_at IS NOT NULL) ORDER BY k.rank), '[]')
        FROM gang_rank k WHERE k.gang_id = g.id AND k.incarnation = g.incarnation) AS ranks
FROM gang g
LEFT JOIN gang_beat b ON b.gang_id = g.id AND b.incarnation = g.incarnation
{arrivals.JOIN}
"""


def get(tx: Tx, tenant: str, gang_id: str) -> Record:
    """By ID or by name. Raises NotFound."""
    row = tx.execute(
        text(f"{_SHOW} WHERE g.tenant = :t AND (g.id = :id OR g.name = :id)"), {"t": tenant, "id": gang_id}
    ).one_or_none()
    if row is None:
        raise NotFound(f"no gang {gang_id!r}; `muster gang ls` shows what there is")
    return row


def list_all(tx: Tx, tenant: str, *, gone: bool, limit: int = 200) -> Sequence[Record]:
    """Live gangs, newest first; with `gone` also the ended ones."""
    return tx.execute(
        text(
            f"{_SHOW} WHERE g.id = ANY(ARRAY(SELECT id FROM gang WHERE tenant = :t AND (:gone OR state <> 'gone')"
            " ORDER BY planned_at DESC LIMIT :n)) ORDER BY g.planned_at DESC"
        ),
        {"t": tenant, "gone": gone, "n": limit},
    ).all()


def serving(tx: Tx, tenant: str, template: str) -> Sequence[Record]:
    """The serve gangs of a template that are not gone, of all its versions, oldest first."""
    return tx.execute(
        text(
            f"{_SHOW} WHERE g.tenant = :t AND g.template = :name AND g.mode = 'serve' AND g.state <> 'gone'"
            " ORDER BY g.planned_at, g.id"
        ),
        {"t": tenant, "name": template},
    ).all()


def stories(tx: Tx, places: Sequence[str]) -> Sequence[Record]:
    """What every launched gang of these places does now."""
    return tx.execute(
        text(f"{_SHOW} WHERE g.backend = ANY(:places) AND g.state NOT IN ('planned', 'gone') ORDER BY g.id"),
        {"places": [*places]},
    ).all()
