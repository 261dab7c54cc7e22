"""The promises that every database must keep after every test, as orchestrator/store/invariants.py checks them."""

from __future__ import annotations

from orchestrator.store import invariants
from orchestrator.store.database import Database, Tx

SET_BY_HAND = frozenset({"I12"})
"""Tests turn clocks back instead of waiting, so the order of times tells nothing there."""


def broken(tx: Tx) -> dict[str, list[str]]:
    """Each promise that does not hold, with what breaks it."""
    found: dict[str, list[str]] = {}
    for one in invariants.check(tx):
        if one.invariant not in SET_BY_HAND:
            found.setdefault(one.invariant, []).append(f"{one.subject}: {one.detail}")
    return found


def check(database: Database) -> None:
    """Fails the test that left a promise broken."""
    found = database.transact(broken)
    assert not found, found
