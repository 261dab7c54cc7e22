"""Starts a program as another user and binds its life to ours. Both sides are in this file.

The parent calls `command()` and runs what it returns. That runs this same file as a script, which gives up its rights,
asks the kernel for a signal at the death of its parent, and becomes the program (same pid). A script instead of
`preexec_fn`: Python code between fork and exec can hang in a process that has other threads.

The order matters. The kernel forgets the wish for a signal whenever the credentials change, so the user is changed
first. The parent may be gone before the wish is made, so it is looked for afterwards. And "parent" means the *thread*
that forked: call `command()` anywhere, but start it from a thread that lives as long as the program should.

On systems other than Linux there is no such signal; there the next owner of the folder ends what is left.

Must not know: which program it is. Imports the standard library only, for the script runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from orchestrator.store.embedded.identity import Account

_PR_SET_PDEATHSIG = 1
# Nothing of the owner's environment is needed, and PGOPTIONS or PGDATA in it would be obeyed.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def command(program: list[str], account: Account, *, at_owners_death: signal.Signals) -> list[str]:
    """The argv that runs `program` (an absolute path and its arguments) as the account."""
    bond = [os.getpid(), account.uid, account.gid, int(at_owners_death)]
    return [sys.executable, "-I", "-S", __file__, *map(str, bond), *program]


def _main(arguments: list[str]) -> NoReturn:
    owner, uid, gid, death_signal = map(int, arguments[:4])
    program = arguments[4:]
    # An owner in the background of a script ignores SIGINT, and we would inherit that: die of it until the exec.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        # Loaded while we may still read it: the interpreter, too, may lie below a closed directory.
        libc = ctypes.CDLL(None, use_errno=True)
        _become(uid, gid)
        if sys.platform == "linux":
            _signal_me_at_parents_death(libc, death_signal)
        if os.getppid() != owner:
            sys.exit(f"owner {owner} is gone; {program[0]} not started")
        os.umask(0o077)
        os.execv(program[0], program)  # noqa: S606 - that is the purpose
    except OSError as error:
        sys.exit(f"cannot run {program[0]} as user id {uid}: {error}")


def _become(uid: int, gid: int) -> None:
    if uid == os.geteuid():
        return
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


def _signal_me_at_parents_death(libc: ctypes.CDLL, number: int) -> None:
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) refused")


if __name__ == "__main__":
    _main(sys.argv[1:])
