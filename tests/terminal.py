"""`muster` as a process: in a pipe, and on a terminal of a given width."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

MUSTER = [str(Path(sys.executable).with_name("muster"))]
"""The installed entry point."""
PATIENCE_S = 120.0
AGAIN_S = 5.0
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")
"""What a terminal obeys: colours, the cursor."""


def piped(
    environ: Mapping[str, str], *arguments: str, timeout_s: float = PATIENCE_S, **options: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*MUSTER, *arguments], env=dict(environ), capture_output=True, timeout=timeout_s, **options)  # type: ignore[call-overload,no-any-return]


def on_terminal(
    environ: Mapping[str, str],
    *arguments: str,
    interrupt_after: bytes | None = None,
    columns: int = 0,
    cwd: Path | None = None,
) -> tuple[int, bytes]:
    """Exit code and all that the terminal saw; Ctrl-C when `interrupt_after` is on it, until that helps."""
    ours, theirs = pty.openpty()
    if columns:
        termios.tcsetwinsize(theirs, (24, columns))
    command = [*MUSTER, *arguments]
    with subprocess.Popen(command, env=dict(environ), stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd) as process:
        os.close(theirs)
        seen = _read(ours, process, interrupt_after)
        os.close(ours)
    return process.returncode, seen


def _read(terminal: int, process: subprocess.Popen[bytes], interrupt_after: bytes | None) -> bytes:
    """All of it, until the other side is closed. A person whose Ctrl-C comes a moment too early presses it again."""
    seen, until, interrupted_at = b"", time.monotonic() + PATIENCE_S, float("-inf")
    while time.monotonic() < until:
        if interrupt_after is not None and interrupt_after in seen and time.monotonic() > interrupted_at + AGAIN_S:
            process.send_signal(signal.SIGINT)
            interrupted_at = time.monotonic()
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed
            return seen
        if not part:
            return seen
        seen += part
    process.kill()
    raise AssertionError(f"it did not end: {seen!r}")
