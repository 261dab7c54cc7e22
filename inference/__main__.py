"""`python -m inference`: one rank of a gang, started by torchrun. Does what must precede torch, and ends right.

Its exit code is what docs/protocol.md says, whatever happened.
"""

import atexit
import gc
import os
import sys
import time
import traceback
from typing import NoReturn

from inference.contact import Contact
from inference.environment import ConfigurationError, Environment
from inference.faults import ControlBroken, Exit
from inference.leaving import Leaving, code_of, die_with_parent, watch_signals
from inference.service import Over, Refused, Service, Stale
from inference.shipping import Shipping
from inference.words import LastWords, folder_of

NCCL_FAREWELL_MS = "1000"  # once a collective timed out NCCL's watchdog waits four times this (15 s) before it aborts


def main() -> NoReturn:
    began = time.monotonic()
    die_with_parent()
    try:
        environment = Environment.read()
    except ConfigurationError as error:
        print(f"muster: {error}", file=sys.stderr)  # noqa: T201 (the rank's log)
        sys.exit(Exit.CONFIGURATION)
    os.environ.setdefault("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", NCCL_FAREWELL_MS)
    os.environ.update(environment.replica.variables(os.environ))  # before torch looks for GPUs
    os.environ.pop("MUSTER_TOKEN", None)  # not for the handler's child processes
    contact = Contact.of_node(environment.scratch, environment.node)
    contact.begin()
    service = Service(environment.urls, environment.gang, environment.token, contact, slot=environment.replica.number)
    shipping = Shipping(environment.rank, service)
    shipping.start()
    words = LastWords(folder_of(environment.scratch, environment.node), environment.rank)
    leaving = Leaving(environment.rank, environment.node, service, shipping, words)
    watch_signals(leaving)
    _run(environment, service, shipping, leaving, words, began)


def _run(
    environment: Environment, service: Service, shipping: Shipping, leaving: Leaving, words: LastWords, began: float
) -> NoReturn:
    try:
        gc.disable()  # a tenth of importing torch is collecting what is not garbage
        from inference.start import Rank, run_rank

        gc.freeze()  # nor will it ever be: collections after this look at the handler's objects only
        gc.enable()

        rank = Rank(
            environment=environment, service=service, shipping=shipping, leaving=leaving, words=words, began=began
        )
        code = run_rank(rank)
    except Over as error:
        _last_words(error)
        leaving.now(code_of(error))
    except (ConfigurationError, Refused, Stale) as error:
        _last_words(error)
        leaving.now(Exit.CONFIGURATION, _as_error(error))
    except ControlBroken as error:
        _last_words(error)
        leaving.after_hearsay(Exit.POISONED, _as_error(error))
    except BaseException as error:
        traceback.print_exc()
        leaving.now(Exit.POISONED, _as_error(error))
    if code == Exit.DRAINED:  # after anything else a library may wait for a GPU that stands still
        atexit._run_exitfuncs()  # the handler's libraries may have something to finish
    leaving.now(Exit(code))  # and no interpreter shutdown: a C++ thread that aborts in it would undo the good order


def _last_words(error: Exception) -> None:
    print(f"muster: {error}", file=sys.stderr, flush=True)  # noqa: T201 (the rank's log)


def _as_error(error: BaseException) -> dict[str, object]:
    return {
        "attempt": None,
        "phase": "runtime",
        "step": 0,
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "traceback": "".join(traceback.format_exception(error))[-6000:],
    }


if __name__ == "__main__":
    main()
