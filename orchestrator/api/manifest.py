"""All lines of a batch, looked at as they come. In constant memory: they go to a file, and from there to the database
in one transaction, so that nothing runs before all of them are known. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from orchestrator.api.batch_checks import Checker
from orchestrator.api.batch_lines import Numbered
from orchestrator.errors import Invalid
from orchestrator.store.batches import Refusal

MOST_ITEMS = 100_000
LISTED = 20
"""Lines that a refusal names."""
ROWS = 1000
ROWS_BYTES = 4 << 20
"""What goes to the database in one statement."""


class Manifest(AbstractContextManager["Manifest"]):
    """All lines that came, looked at. A file without a name holds them until they are stored."""

    def __init__(self, checker: Checker, folder: Path, *, strict: bool) -> None:
        self._checker = checker
        self._strict = strict
        self._items: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._refusals: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - likewise
        self._first: list[Refusal] = []
        self._digest = hashlib.sha256()
        self.items = 0
        self.refused = 0

    def __exit__(self, *_: object) -> None:
        self._items.close()
        self._refusals.close()

    def take(self, lines: Iterable[Numbered]) -> None:
        """Raises Invalid `too_many_items`; in a strict manifest also once that many lines are no items."""
        for line in lines:
            self._digest.update(line.raw + b"\n")
            match self._checker.check(line):
                case Refusal() as refusal:
                    self._refuse(refusal)
                case dict() as row:
                    self._keep(row)
                case None:
                    pass

    def _keep(self, row: dict[str, Any]) -> None:
        self.items += 1
        if self.items + self.refused > MOST_ITEMS:
            raise Invalid(f"a batch has at most {MOST_ITEMS} items: send several", code="too_many_items")
        self._items.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def _refuse(self, refusal: Refusal) -> None:
        self.refused += 1
        if len(self._first) < LISTED:
            self._first.append(refusal)
        if self._strict and self.refused >= LISTED:
            raise self._wrong()
        if self.items + self.refused > MOST_ITEMS:
            raise Invalid(f"a batch has at most {MOST_ITEMS} items: send several", code="too_many_items")
        self._refusals.write(json.dumps(vars(refusal)).encode() + b"\n")

    def close(self) -> bytes:
        """After the last line: the digest of all. Raises Invalid, `empty_batch` or with what is `listed`."""
        if self.refused and (self._strict or not self.items):
            raise self._wrong()
        if not self.items:
            raise Invalid("there is no line in it", code="empty_batch")
        return self._digest.digest()

    def _wrong(self) -> Invalid:
        first = self._first[0]
        listed = [
            {
                "pointer": f"/lines/{one.line}{one.pointer or ''}",
                "code": one.code,
                "message": one.message.removeprefix(f"{one.pointer}: "),
            }
            for one in self._first
        ]
        where = "" if first.message.startswith("line ") else f"line {first.line}: "
        more = f" (and {self.refused - 1} more)" if self.refused > 1 else ""
        error = Invalid(f"{where}{first.message}{more}; nothing was stored", code=first.code)
        error.listed = listed
        return error

    @property
    def refusals(self) -> Sequence[Refusal]:
        """The first of them."""
        return self._first

    def rows(self) -> Iterator[str]:
        """The items as JSON lists, each for one statement; from the beginning at every call."""
        for block in _blocks(self._items):
            yield f"[{b','.join(block).decode()}]"

    def all_refusals(self) -> Iterator[list[Refusal]]:
        """Likewise."""
        for block in _blocks(self._refusals):
            yield [Refusal(**json.loads(line)) for line in block]


def _blocks(file: IO[bytes]) -> Iterator[list[bytes]]:
    file.seek(0)
    block: list[bytes] = []
    size = 0
    for line in file:
        block.append(line.rstrip(b"\n"))
        size += len(line)
        if len(block) >= ROWS or size >= ROWS_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
