"""The cable between a client and the API server: a test may cut it, or let it go quiet."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Cable:
    """Forwards every connection to `target` on loopback, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._ends: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._cut = False
        self._quiet = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.url = f"https://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Every connection breaks, and new ones are refused a word."""
        with self._guard:
            self._cut = True
            ends, self._ends = self._ends, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        with self._guard:
            self._cut = False
        self._quiet.clear()

    def swallow(self) -> None:
        """Connections stay, and nothing that the server says arrives any more."""
        self._quiet.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                with self._guard:
                    if self._cut:
                        near.close()
                        continue
                self._join(near)

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._guard:
            self._ends |= {near, far}
        for one, other, heard in ((near, far, True), (far, near, False)):
            threading.Thread(target=self._forward, args=(one, other, heard), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, heard: bool) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                if heard or not self._quiet.is_set():
                    other.sendall(content)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.close()
        with self._guard:
            self._ends -= {one, other}
