"""Where the ranks leave notes for each other outside of any collective: steps, a failure, a cancel.

A TCPStore client of its own, with its own connection to the store of the process group, so that threads may use it
while the main thread is inside a collective. Notes are hints: nothing here decides together, votes do.
"""

import json
import time
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

NOTHING = "null"
PATIENCE = timedelta(seconds=5)


class Board:
    """Of a replica, whose ranks are called as the gang counts them."""

    def __init__(self, host: str, port: int, incarnation: int, rank: int, ranks: range) -> None:
        client = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
        self._store = PrefixStore(f"muster/{incarnation}/{ranks.start}", client)
        self._rank = rank
        self._ranks = ranks
        self._seen = dict.fromkeys(ranks, NOTHING)
        self._moved_at = dict.fromkeys(ranks, time.monotonic())
        self._heard: dict[int, tuple[str, float]] = {}  # last note of a rank, and since when it is the same

    def lay_out(self) -> None:
        """Its first rank, before the others can know the incarnation: a read never meets a missing key."""
        for key in ["failed", "stop", "stacks", *self._keys(), *self._stack_keys(), *self._memory_keys()]:
            self._store.set(key, NOTHING)

    def publish(self, attempt: str, step: int, age_s: float) -> None:
        self._store.set(f"rank/{self._rank}", json.dumps([attempt, step, round(age_s, 2)]))

    def note_failed(self, attempt: str) -> None:
        self._store.set("failed", json.dumps({"attempt": attempt, "rank": self._rank}))

    def note_stop(self, attempt: str) -> None:
        self._store.set("stop", json.dumps({"attempt": attempt}))

    def ask_for_stacks(self, attempt: str) -> None:
        """Every rank's watch thread is to say where its main thread is."""
        self._store.set("stacks", json.dumps({"attempt": attempt}))

    def wants_stacks(self, attempt: str) -> bool:
        note = self._read("stacks")
        return bool(note and note["attempt"] == attempt)

    def give_stack(self, attempt: str, rank: int, note: dict[str, Any]) -> None:
        self._store.set(f"stack/{rank}", json.dumps([attempt, note]))

    def stacks(self, attempt: str) -> dict[int, dict[str, Any]]:
        """What was given in this attempt, by rank."""
        notes = [json.loads(raw) for raw in self._store.multi_get(self._stack_keys())]
        return {rank: note[1] for rank, note in zip(self._ranks, notes, strict=True) if note and note[0] == attempt}

    def note_memory(self, rss_bytes: int, grown_bytes: int) -> None:
        self._store.set(f"memory/{self._rank}", json.dumps([rss_bytes, grown_bytes]))

    def memory(self) -> dict[int, list[int]]:
        """Bytes that each rank holds, and by how much it grew since its first request."""
        notes = [json.loads(raw) for raw in self._store.multi_get(self._memory_keys())]
        return {rank: note for rank, note in zip(self._ranks, notes, strict=True) if note}

    def failed(self, attempt: str) -> int | None:
        """The rank that failed in this attempt."""
        note = self._read("failed")
        return note["rank"] if note and note["attempt"] == attempt and note["rank"] != self._rank else None

    def stopped(self, attempt: str) -> bool:
        note = self._read("stop")
        return bool(note and note["attempt"] == attempt)

    def ranks(self, attempt: str) -> list[dict[str, Any]]:
        """The ranks' last steps in this attempt and how long ago they moved, by the clock of the rank that asks.

        As exact as it is asked often: a note tells its age only when it was written.
        """
        now = time.monotonic()
        for rank, raw in zip(self._ranks, self._store.multi_get(self._keys()), strict=True):
            note = raw.decode()
            if note != self._seen[rank]:
                self._seen[rank] = note
                self._moved_at[rank] = now - json.loads(note)[2]
        return [
            {"rank": rank, "step": json.loads(note)[1], "age_s": round(now - self._moved_at[rank], 2)}
            for rank, note in self._seen.items()
            if note != NOTHING and json.loads(note)[0] == attempt
        ]

    def _keys(self) -> list[str]:
        return [f"rank/{rank}" for rank in self._ranks]

    def silent_s(self, rank: int) -> float:
        """For how long the rank has written nothing, as far as this was asked."""
        now, note = time.monotonic(), self._store.get(f"rank/{rank}").decode()
        if rank not in self._heard or self._heard[rank][0] != note:
            self._heard[rank] = (note, now)
        return now - self._heard[rank][1]

    def _memory_keys(self) -> list[str]:
        return [f"memory/{rank}" for rank in self._ranks]

    def _stack_keys(self) -> list[str]:
        return [f"stack/{rank}" for rank in self._ranks]

    def _read(self, key: str) -> Any:
        return json.loads(self._store.get(key))
