"""A Postgres of our own, for laptops, tests and single machines; production gives a database URL instead.

    with EmbeddedPostgres(Path(".muster/postgres")) as pg:
        engine = create_engine(pg.url)

The server belongs to one process, its owner, and to one folder, and ends with its owner:

| file           | what it is for                                                                      |
|----------------|-------------------------------------------------------------------------------------|
| `server.py`    | `EmbeddedPostgres`: start, stop, the URL                                            |
| `cluster.py`   | what lies in the folder: data, password, port, log; initdb; the settings            |
| `binaries.py`  | where `initdb` and `postgres` come from                                             |
| `identity.py`  | which user they run as, and how that user gets at files below closed directories    |
| `launch.py`    | starts a program as that user, bound to the life of its owner                       |
| `supervisor.py`| the thread that starts the postmaster and starts it again when it dies              |
| `leftovers.py` | processes that an earlier postmaster of the same data folder left behind            |
| `readiness.py` | real connections until one succeeds                                                 |
| `lock.py`      | one owner for each folder                                                           |

Must not know: tables, sessions, or anything that Muster keeps in the database.
"""

from __future__ import annotations

from orchestrator.store.embedded.errors import EmbeddedPostgresError
from orchestrator.store.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
