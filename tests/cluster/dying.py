"""`python dying.py POINT`: the launch and observe loops of a replica, which kills itself at a named point.

Points after a commit carry the name of the move, those after a call that Kubernetes carried out "VERB kind". With the
point "never" it runs until it is killed. A process of its own, so that nothing but Postgres and Kubernetes survives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from behaving import Behaving

from orchestrator import place
from orchestrator.backends.kubeflow_wall import Kube
from orchestrator.errors import MusterError
from orchestrator.loops import launch, observe
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import gangs
from orchestrator.store.database import Database

MOVES = ("to_launch", "add_token", "launched", "absent")
_made: list[str] = []


def main(point: str) -> None:
    for name in MOVES:
        setattr(gangs, name, _noted(name, getattr(gangs, name)))
    Database.transact = _dying_after_commit(point, Database.transact)
    Kube.call = _dying_after_call(point, Kube.call)
    place.PyTorchJobs = Behaving
    launch.CLAIM = timedelta(seconds=0.5)
    settings = Settings.from_env()
    desk = Desk(
        database=Database(settings.database_url or ""),
        places=place.places_of(settings),
        settings=settings,
        wake=lambda **_: None,
    )
    while True:
        for loop in (launch, observe):
            try:
                loop.run_once(desk)
            except MusterError as error:
                print(error, file=sys.stderr, flush=True)
        time.sleep(0.1)


def _noted(name: str, move: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(move)
    def noted(*given: Any, **more: Any) -> Any:
        answer = move(*given, **more)
        if answer or answer is None:
            _made.append(name)
        return answer

    return noted


def _dying_after_commit(point: str, transact: Callable[..., Any]) -> Callable[..., Any]:
    def dying(*given: Any, **more: Any) -> Any:
        answer = transact(*given, **more)
        if point in _made:
            _die()
        return answer

    return dying


def _dying_after_call(point: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def dying(self: Kube, method: str, path: str, *rest: Any, **more: Any) -> Any:
        answer = call(self, method, path, *rest, **more)
        if point.split(" ")[0] == method and f"/{point.split(' ')[-1]}" in path:
            _die()
        return answer

    return dying


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
