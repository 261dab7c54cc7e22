"""What every backend promises, run over each of them with real processes.

A backend joins by a Ground: it opens the backend as a new life of the service would, turns a behaviour ("stay",
"end_well", ...) into a gang it can launch, and can look at and hurt processes from outside.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import pytest

from orchestrator.backends.base import Backend, Launched, LaunchSpec, Observed, Phase
from orchestrator.backends.local import LocalBackend
from orchestrator.errors import BackendError

AT_ONCE = timedelta(0)
SOON = timedelta(seconds=1)
LONG = timedelta(minutes=5)
PATIENCE = timedelta(seconds=30)

_NEW_SESSION = f'{sys.executable} -S -c \'import os; os.setsid(); os.execvp("sleep", ["sleep", "300"])\''

# What the agent of a node does, as a shell script. `$COUNT` is a file that tells how often an agent was started.
BEHAVIOURS = {
    "stay": 'echo "$MUSTER_NODE" >> "$COUNT"; echo "$MUSTER_NODE is up"; exec sleep 300',
    "end_well": 'echo "$MUSTER_NODE" >> "$COUNT"; exit 0',
    "fail": "exit 7",
    "one_fails": 'case "$MUSTER_NODE" in *-1) exit 7;; *) exec sleep 300;; esac',
    "leave_when_asked": "trap 'echo farewell; exit 0' TERM; echo ready; sleep 300 & wait",
    "ignore_the_ask": f"trap '' TERM; {_NEW_SESSION} & echo ready; while :; do sleep 300; done",
    "talk": 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo "line $i"; done; echo "the end" >&2; exec sleep 300',
    "tell": "env; exec sleep 300",
}


class Ground(Protocol):
    def open(self) -> Backend: ...

    def spec(self, behaviour: str, *, name: str = ..., gang: str = ..., nodes: int = 1) -> LaunchSpec: ...

    def starts(self) -> int:
        """How many agents of all gangs were started so far, by their own count."""
        ...

    def agents(self, ref: str) -> list[int]:
        """The agents' processes, by node."""
        ...

    def left(self, ref: str) -> list[str]:
        """Everything that runs of one launch, for people."""
        ...


G = TypeVar("G", bound=Ground)


def shell_command(spec: LaunchSpec, node: int, endpoint: str) -> list[str]:
    return ["/bin/sh", "-c", BEHAVIOURS[str(spec.template["behaviour"])]]


class LocalGround:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = folder / "count"
        self._count.touch()

    def open(self) -> Backend:
        return LocalBackend(self.folder / "gangs", command=shell_command)

    def spec(self, behaviour: str, *, name: str = "digits-1", gang: str = "gng_1", nodes: int = 1) -> LaunchSpec:
        return LaunchSpec(
            gang=gang,
            name=name,
            mode="serve",
            nodes=nodes,
            ranks_per_node=1,
            api_urls=("http://127.0.0.1:1", "http://127.0.0.1:2"),
            token=f"secret-{uuid.uuid4().hex}",
            template={"behaviour": behaviour, "env": {"COUNT": str(self._count), "WISH": "granted"}},
        )

    def starts(self) -> int:
        return len(self._count.read_text().splitlines())

    def agents(self, ref: str) -> list[int]:
        mine = [process for process in _marked(ref) if "muster-agent" not in process.cmdline()]
        return [process.pid for process in sorted(mine, key=lambda process: process.environ()["MUSTER_NODE"])]

    def left(self, ref: str) -> list[str]:
        return [str(process) for process in _marked(ref)]


def _marked(ref: str) -> list[psutil.Process]:
    """Found by another way than the backend's own: the test must not share its mistakes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MUSTER_LAUNCH={ref}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(int(folder.name)))
        except (OSError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Local gangs; tests/cluster/test_conformance.py runs the same tests over Kubeflow."""
    yield from cleared(LocalGround(tmp_path))


def cleared(ground: G) -> Iterator[G]:
    """The ground, of which nothing is left afterwards."""
    yield ground
    backend = ground.open()
    for seen in backend.observe():
        backend.stop(seen.name, AT_ONCE)
    until(lambda: backend.observe() == ())
    backend.close()


@pytest.fixture
def backend(ground: Ground) -> Iterator[Backend]:
    backend = ground.open()
    yield backend
    backend.close()


def until(holds: Callable[[], Any], patience: timedelta = PATIENCE) -> Any:
    give_up_at = time.monotonic() + patience.total_seconds()
    while not (value := holds()):
        assert time.monotonic() < give_up_at, f"not within {patience}"
        time.sleep(0.02)
    return value


def the(backend: Backend, name: str = "digits-1") -> Observed:
    return next(seen for seen in backend.observe() if seen.name == name)


def until_phase(backend: Backend, phase: Phase, name: str = "digits-1") -> Observed:
    until(lambda: the(backend, name).phase is phase)
    return the(backend, name)


# launch


def test_a_launched_gang_is_observed_as_running_on_all_its_nodes(ground: Ground, backend: Backend) -> None:
    launched = backend.launch(ground.spec("stay", nodes=2))

    assert launched.ref
    assert not launched.adopted
    seen = until_phase(backend, Phase.RUNNING)
    assert (seen.gang, seen.name, seen.nodes_running, seen.reason) == ("gng_1", "digits-1", 2, None)


def test_a_rehearsal_starts_nothing_and_keeps_nothing(ground: Ground, backend: Backend) -> None:
    backend.rehearse(ground.spec("stay"))
    assert backend.observe() == ()
    assert ground.starts() == 0
    assert not backend.launch(ground.spec("stay")).adopted


def test_a_second_launch_of_a_name_adopts_the_gang_that_runs(ground: Ground, backend: Backend) -> None:
    spec = ground.spec("stay", nodes=2)
    first = backend.launch(spec)
    until(lambda: ground.starts() == 2)

    again = [backend.launch(spec) for _ in range(3)]

    assert again == [Launched(ref=first.ref, adopted=True)] * 3
    assert ground.starts() == len(ground.agents(first.ref)) == 2


def test_a_second_launch_of_a_name_adopts_the_gang_that_ended(ground: Ground, backend: Backend) -> None:
    spec = ground.spec("end_well")
    first = backend.launch(spec)
    until_phase(backend, Phase.SUCCEEDED)

    assert backend.launch(spec) == Launched(ref=first.ref, adopted=True)
    assert ground.starts() == 1
    assert the(backend).phase is Phase.SUCCEEDED


def test_the_name_of_another_gang_is_refused(ground: Ground, backend: Backend) -> None:
    first = backend.launch(ground.spec("stay"))

    with pytest.raises(BackendError, match="gng_1") as refusal:
        backend.launch(ground.spec("stay", gang="gng_2"))

    assert refusal.value.code == "name_taken"
    assert the(backend).gang == "gng_1"
    until(lambda: ground.left(first.ref))


def test_a_new_gang_may_not_break_out_of_its_place_by_its_name(ground: Ground, backend: Backend) -> None:
    for name in ("../elsewhere", "", ".lock", "a" * 41, "Digits", "a/b"):
        with pytest.raises(BackendError):
            backend.launch(ground.spec("stay", name=name))
    assert backend.observe() == ()


def test_replicas_that_launch_one_name_at_the_same_moment_start_it_once(ground: Ground, backend: Backend) -> None:
    rounds = 20
    specs = [ground.spec("stay", name=f"race-{number}", gang=f"gng_{number}", nodes=2) for number in range(rounds)]
    start = multiprocessing.get_context("spawn")
    barrier, answers = start.Barrier(2), start.Queue()
    replicas = [start.Process(target=_launch_all, args=(ground, specs, barrier, answers)) for _ in range(2)]
    for replica in replicas:
        replica.start()
    one, other = answers.get(timeout=60), answers.get(timeout=60)
    for replica in replicas:
        replica.join()
    assert isinstance(one, list), one
    assert isinstance(other, list), other

    assert [(a.ref, a.adopted) for a in one] == [(b.ref, not b.adopted) for b in other]
    until(lambda: ground.starts() >= 2 * rounds)
    assert [len(ground.agents(launched.ref)) for launched in one] == [2] * rounds
    assert ground.starts() == 2 * rounds


def _launch_all(ground: Ground, specs: list[LaunchSpec], barrier: Any, answers: Any) -> None:
    backend = ground.open()
    launched = []
    try:
        for spec in specs:
            barrier.wait(timeout=10)
            launched.append(backend.launch(spec))
    except Exception as error:
        answers.put(repr(error))
        raise
    answers.put(launched)


# observe


def test_a_restarted_service_and_its_replica_see_the_same_gangs(ground: Ground, backend: Backend) -> None:
    specs = [ground.spec("stay", name=f"digits-{number}", gang=f"gng_{number}") for number in (1, 2)]
    launched = [backend.launch(spec) for spec in specs]
    for spec in specs:
        until_phase(backend, Phase.RUNNING, spec.name)
    backend.close()

    restarted, replica = ground.open(), ground.open()

    assert [seen.name for seen in restarted.observe()] == ["digits-1", "digits-2"]
    assert restarted.observe() == replica.observe()
    assert replica.launch(specs[0]) == Launched(ref=launched[0].ref, adopted=True)


def test_a_gang_outlives_a_service_that_is_killed(ground: Ground, backend: Backend) -> None:
    start = multiprocessing.get_context("spawn")
    answers = start.Queue()
    service = start.Process(target=_launch_and_hang, args=(ground, ground.spec("stay", nodes=2), answers))
    service.start()
    launched = answers.get(timeout=30)
    service.kill()
    service.join()

    assert until_phase(backend, Phase.RUNNING).nodes_running == 2
    for pid in ground.agents(launched.ref):
        os.kill(pid, 15)
    assert until_phase(backend, Phase.FAILED).reason == "agent_lost"


def _launch_and_hang(ground: Ground, spec: LaunchSpec, answers: Any) -> None:
    answers.put(ground.open().launch(spec))
    time.sleep(60)


def test_a_gang_whose_agents_all_end_well_succeeded_in_the_eyes_of_any_replica(
    ground: Ground, backend: Backend
) -> None:
    backend.launch(ground.spec("end_well", nodes=2))

    seen = until_phase(ground.open(), Phase.SUCCEEDED)

    assert (seen.reason, seen.nodes_running) == (None, 0)


def test_an_exit_code_fails_the_gang_and_is_told_to_any_replica(ground: Ground, backend: Backend) -> None:
    backend.launch(ground.spec("one_fails", nodes=2))

    seen = until_phase(ground.open(), Phase.FAILED)

    assert seen.reason == "exit_code"
    assert seen.nodes_running < 2  # a place may end the others by itself
    assert "node 1" in str(seen.detail)
    assert "exit code 7" in str(seen.detail)


def test_a_killed_agent_fails_the_gang_and_is_named(ground: Ground, backend: Backend) -> None:
    launched = backend.launch(ground.spec("stay", nodes=3))
    pids = until(lambda: len(found := ground.agents(launched.ref)) == 3 and found)

    os.kill(pids[1], 9)

    seen = until_phase(backend, Phase.FAILED)
    assert seen.reason == "agent_lost"
    assert seen.nodes_running < 3
    assert "node 1" in str(seen.detail)
    assert "SIGKILL" in str(seen.detail)


# stop


def test_a_stopped_gang_gets_to_say_farewell_and_then_leaves_no_trace(ground: Ground, backend: Backend) -> None:
    launched = backend.launch(ground.spec("leave_when_asked", nodes=2))
    until(lambda: all("ready" in backend.logs("digits-1", node=node) for node in (0, 1)))

    backend.stop("digits-1", SOON)

    until(lambda: backend.observe() == ())
    assert ground.left(launched.ref) == []
    with pytest.raises(BackendError):
        backend.logs("digits-1")


def test_stop_returns_while_the_gang_still_uses_its_grace(ground: Ground, backend: Backend) -> None:
    backend.launch(ground.spec("ignore_the_ask"))
    until(lambda: "ready" in backend.logs("digits-1"))

    began = time.monotonic()
    backend.stop("digits-1", LONG)

    assert time.monotonic() - began < LONG.total_seconds() / 5
    seen = the(backend)
    assert (seen.phase, seen.reason) == (Phase.RUNNING, "stopping")


def test_what_ignores_the_ask_is_killed_after_the_grace_by_any_replica(ground: Ground, backend: Backend) -> None:
    launched = backend.launch(ground.spec("ignore_the_ask", nodes=2))
    until(lambda: all("ready" in backend.logs("digits-1", node=node) for node in (0, 1)))
    until(lambda: len(ground.left(launched.ref)) >= 6)  # wrapper, shell and a grandchild in its own session, twice
    backend.stop("digits-1", SOON)
    backend.close()
    began = time.monotonic()

    replica = ground.open()
    until(lambda: replica.observe() == ())

    assert time.monotonic() - began > 0.5
    assert ground.left(launched.ref) == []


def test_of_two_stops_the_earlier_end_holds(ground: Ground, backend: Backend) -> None:
    launched = backend.launch(ground.spec("ignore_the_ask"))
    until(lambda: "ready" in backend.logs("digits-1"))

    backend.stop("digits-1", LONG)
    backend.stop("digits-1", SOON)
    backend.stop("digits-1", LONG)

    until(lambda: backend.observe() == ())
    assert ground.left(launched.ref) == []


def test_what_a_killed_agent_left_behind_is_stopped_too(ground: Ground, backend: Backend) -> None:
    launched = backend.launch(ground.spec("ignore_the_ask"))
    until(lambda: len(ground.left(launched.ref)) >= 3)
    os.kill(ground.agents(launched.ref)[0], 9)
    until_phase(backend, Phase.FAILED)

    backend.stop("digits-1", AT_ONCE)

    until(lambda: backend.observe() == ())
    assert ground.left(launched.ref) == []


def test_stopping_what_is_unknown_or_gone_is_no_error(ground: Ground, backend: Backend) -> None:
    backend.launch(ground.spec("stay"))
    for name in ("digits-1", "never-was", "../elsewhere"):
        for _ in range(2):
            backend.stop(name, AT_ONCE)
    until(lambda: backend.observe() == ())
    backend.stop("digits-1", AT_ONCE)


def test_a_look_tells_what_is_there_now_and_nothing_else(ground: Ground, backend: Backend) -> None:
    backend.launch(ground.spec("stay"))
    until(lambda: (seen := backend.look("digits-1")) is not None and seen.phase is Phase.RUNNING)
    for name in ("never-was", "../elsewhere", ""):
        assert backend.look(name) is None

    backend.stop("digits-1", AT_ONCE)

    until(lambda: backend.look("digits-1") is None)
    assert backend.observe() == ()


def test_an_ended_gang_stays_until_it_is_stopped(ground: Ground, backend: Backend) -> None:
    backend.launch(ground.spec("fail"))
    until_phase(backend, Phase.FAILED)
    assert len(backend.observe()) == 1

    backend.stop("digits-1", LONG)

    assert backend.observe() == ()


# logs and environment


def test_logs_are_the_tail_of_what_one_node_wrote_to_both_streams(ground: Ground, backend: Backend) -> None:
    backend.launch(ground.spec("talk", nodes=2))
    until(lambda: "the end" in backend.logs("digits-1", node=1))

    assert backend.logs("digits-1", node=1).startswith("line 1\nline 2\n")
    assert backend.logs("digits-1", node=1, tail_bytes=18) == "line 2000\nthe end\n"
    for name, node in (("digits-1", 2), ("digits-1", -1), ("unknown", 0)):
        with pytest.raises(BackendError) as refusal:
            backend.logs(name, node=node)
        assert refusal.value.code == "not_found"


def test_every_pod_gets_the_environment_of_the_protocol(
    ground: Ground, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_DATABASE_URL", "postgresql://service:password@db/muster")
    monkeypatch.setenv("WORLD_SIZE", "9")
    spec = ground.spec("tell", nodes=2)
    backend.launch(spec)
    until(lambda: all("MUSTER_SCRATCH=" in backend.logs("digits-1", node=node) for node in (0, 1)))

    told = [dict(line.partition("=")[::2] for line in backend.logs("digits-1", node=n).splitlines()) for n in (0, 1)]

    assert told[0]["MUSTER_API_URLS"] == "http://127.0.0.1:1,http://127.0.0.1:2"
    assert told[0]["MUSTER_GANG"] == "gng_1"
    assert told[0]["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert told[0]["WISH"] == "granted"
    assert told[0]["MUSTER_NODE"] != told[1]["MUSTER_NODE"]
    assert "WORLD_SIZE" not in told[0]
    assert "password" not in backend.logs("digits-1")
