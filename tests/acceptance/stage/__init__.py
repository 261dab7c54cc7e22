"""The stage of the acceptance tests: real services, real gangs, and the means to hurt them.

    services.py    `Up` (`muster up`) and `Replicas` (two `muster serve` over one Postgres), as subprocesses
    processes.py   which process is which rank, agent or postmaster
    templates.py   echo gangs in the shapes that the tests need
    blows.py       one blow to a running service, and how long it took to recover; benchmarks/recovery.py uses it too
    waiting.py     bounded looks at a condition

Knows the product only from outside: the command line, the client, processes; and the database, to check its promises.
"""

from __future__ import annotations

from .services import Replicas, Stage, Up, running
from .templates import PATIENT, QUAD, echo
from .waiting import until

__all__ = ["PATIENT", "QUAD", "Replicas", "Stage", "Up", "echo", "running", "until"]
