"""A file as it is sent: read in blocks, counted, hashed; and its name as the service takes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import IO

BLOCK_BYTES = 1 << 18
LONGEST_NAME = 200


class Counted:
    """What httpx reads: it asks `fileno` for the length and `read` for the blocks."""

    def __init__(self, file: IO[bytes], sent: Callable[[int], None] | None) -> None:
        self._file = file
        self._sent = sent
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._digest.hexdigest()

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, _: int = -1) -> bytes:
        block = self._file.read(BLOCK_BYTES)
        self._digest.update(block)
        if self._sent is not None:
            self._sent(len(block))
        return block

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read():
            yield block


def plain_name(name: str) -> str:
    """Letters, digits and a few signs; the suffix stays."""
    plain = re.sub(r"[^A-Za-z0-9_. ()+,=@-]", "_", name)[-LONGEST_NAME:]
    return plain if re.match(r"[A-Za-z0-9_]", plain) else f"_{plain[1:]}"
