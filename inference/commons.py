"""What the ranks and the replicas of one gang tell each other across their process groups: by notes in the store.

Only the main thread may use it; every wait ends when rank 0 of the gang, which keeps the store, is gone. Knows no HTTP.
"""

from collections.abc import Iterable

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

from inference.control import PATIENCE, breaking
from inference.replica import Replica


class Commons:
    def __init__(self, store: Store, replica: Replica) -> None:
        self._store = PrefixStore("commons", store)
        self._replica = replica

    @property
    def rank(self) -> int:
        """In the gang."""
        return self._replica.first + self._replica.rank

    @property
    def is_shared(self) -> bool:
        """Whether there is more than one replica."""
        return self._replica.count > 1

    def announce(self, name: str, note: bytes) -> None:
        """For all to hear. `note` is text."""
        with breaking():
            self._store.set(name, note.decode())

    def hear(self, name: str) -> bytes:
        """Blocks until somebody announced it, for days if need be."""
        return self._await([name])[0]

    def exchange(self, name: str, note: bytes) -> list[bytes]:
        """Every rank's note to every rank of the gang, in their order."""
        self.announce(f"{name}/{self.rank}", note)
        return self._await(f"{name}/{rank}" for rank in range(self._replica.count * self._replica.world))

    def assemble(self, name: str) -> None:
        """Leaders only: returns when the leader of every replica has come here."""
        if self.is_shared:
            self.announce(f"{name}/{self._replica.number}", b"1")
            self._await(f"{name}/{number}" for number in range(self._replica.count))

    def part(self) -> None:
        """Leaders only, before they end: who keeps the store goes last."""
        if self.is_shared and self.rank != 0:
            self.announce(f"parted/{self._replica.number}", b"1")
        elif self.is_shared:
            self._await(f"parted/{number}" for number in range(1, self._replica.count))

    def _await(self, names: Iterable[str]) -> list[bytes]:
        keys = list(names)
        with breaking():
            self._store.wait(keys, PATIENCE)
            return [bytes(note) for note in self._store.multi_get(keys)]
