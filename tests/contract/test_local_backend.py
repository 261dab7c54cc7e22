"""What only the local backend promises: its folder, its secrets, and gangs of real torchrun agents."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from test_backend_conformance import AT_ONCE, SOON, LocalGround, _marked, shell_command, until, until_phase

from orchestrator.backends.base import LaunchSpec, Phase
from orchestrator.backends.local import LocalBackend
from orchestrator.backends.local_torchrun import root_cause, torchrun_agent
from orchestrator.errors import BackendError

RANKS = """
import ctypes, datetime, os, pathlib, signal, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # as the ranks of the inference package do
import torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank = dist.get_rank()
if sys.argv[1:] == ["fail"] and rank == 1:
    sys.exit(3)
while True:
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)
    draft = pathlib.Path(os.environ["MUSTER_SCRATCH"], f"draft-{rank}")
    draft.write_text(f"{os.getpid()} {int(total)} {os.environ['MUSTER_NODE']}")
    draft.rename(draft.with_name(f"rank-{rank}"))
    time.sleep(0.1)
"""


@pytest.fixture
def ground(tmp_path: Path) -> LocalGround:
    return LocalGround(tmp_path)


@pytest.fixture
def backend(ground: LocalGround) -> Iterator[LocalBackend]:
    backend = LocalBackend(ground.folder / "gangs", command=shell_command)
    yield backend
    _end_all(backend)


def _end_all(backend: LocalBackend) -> None:
    for seen in backend.observe():
        backend.stop(seen.name, AT_ONCE)
    until(lambda: backend.observe() == ())


def test_a_half_started_gang_is_told_and_finished_by_the_next_launch(
    ground: LocalGround, backend: LocalBackend
) -> None:
    spec = ground.spec("stay", nodes=3)
    _launch_and_crash(ground, spec)
    assert until_phase(backend, Phase.PENDING).reason == "half_started"
    until(lambda: ground.starts() == 2)

    launched = backend.launch(spec)

    assert not launched.adopted
    until(lambda: ground.starts() == 3)
    assert until_phase(backend, Phase.RUNNING).nodes_running == len(ground.agents(launched.ref)) == 3


def _launch_and_crash(ground: LocalGround, spec: LaunchSpec) -> None:
    service = multiprocessing.get_context("spawn").Process(target=_crash_before_node_2, args=(ground, spec))
    service.start()
    service.join()
    assert service.exitcode == -signal.SIGKILL


def _crash_before_node_2(ground: LocalGround, spec: LaunchSpec) -> None:
    def command(spec: LaunchSpec, node: int, endpoint: str) -> list[str]:
        if node == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return shell_command(spec, node, endpoint)

    LocalBackend(ground.folder / "gangs", command=command).launch(spec)


def test_a_half_started_gang_can_be_stopped(ground: LocalGround, backend: LocalBackend) -> None:
    _launch_and_crash(ground, ground.spec("stay", nodes=3))

    backend.stop("digits-1", SOON)

    until(lambda: backend.observe() == ())
    assert not (ground.folder / "gangs" / "digits-1").exists()


def test_a_crash_before_the_record_leaves_only_litter_that_is_swept(ground: LocalGround, backend: LocalBackend) -> None:
    (ground.folder / "gangs" / "digits-1").mkdir(parents=True)
    (ground.folder / "gangs" / "digits-1" / "token").write_text("secret")

    assert backend.observe() == ()

    assert not (ground.folder / "gangs" / "digits-1").exists()


def test_a_launch_that_cannot_start_leaves_nothing(ground: LocalGround) -> None:
    backend = LocalBackend(ground.folder / "gangs", command=lambda *_: ["x" * 10_000_000])

    with pytest.raises(BackendError) as refusal:
        backend.launch(ground.spec("stay"))

    assert refusal.value.code == "launch_failed"
    assert backend.observe() == ()


def test_an_agent_that_loses_its_wrapper_is_lost_and_still_stopped(ground: LocalGround, backend: LocalBackend) -> None:
    launched = backend.launch(ground.spec("stay"))
    until(lambda: ground.starts() == 1)
    (wrapper,) = [process for process in _marked(launched.ref) if "muster-agent" in process.cmdline()]

    wrapper.kill()

    assert until_phase(backend, Phase.FAILED).reason == "agent_lost"
    backend.stop("digits-1", SOON)
    until(lambda: backend.observe() == ())
    assert ground.left(launched.ref) == []


def test_the_token_is_only_in_a_file_of_its_owner(ground: LocalGround, backend: LocalBackend) -> None:
    spec = ground.spec("tell")
    launched = backend.launch(spec)
    until(lambda: "MUSTER_SCRATCH" in backend.logs("digits-1"))
    folder = ground.folder / "gangs" / "digits-1"

    assert (folder / "token").read_text() == spec.token
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.glob("*")) if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(_marked(launched.ref)) >= 2
    for process in _marked(launched.ref):
        assert spec.token not in " ".join(process.cmdline())
        assert spec.token not in " ".join(process.environ().values())
    assert spec.token not in repr(spec)


def test_a_log_stays_within_its_bound_and_keeps_its_tail(ground: LocalGround) -> None:
    backend = LocalBackend(ground.folder / "gangs", command=shell_command, log_bytes=8_000)
    backend.launch(ground.spec("talk"))
    until(lambda: "the end" in backend.logs("digits-1"))

    backend.observe()

    log = ground.folder / "gangs" / "digits-1" / "node-0.log"
    assert log.stat().st_size == 0
    assert backend.logs("digits-1").endswith("line 2000\nthe end\n")
    assert len(backend.logs("digits-1")) == 2_000
    _end_all(backend)


def test_ended_agents_are_reaped(ground: LocalGround, backend: LocalBackend) -> None:
    backend.launch(ground.spec("end_well", nodes=2))
    until_phase(backend, Phase.SUCCEEDED)

    until(lambda: backend.observe() and not [c for c in psutil.Process().children() if c.status() == "zombie"])


def test_torchrun_names_the_rank_that_failed_first() -> None:
    words = "Root Cause (first observed failure):\n[0]:\n  rank      : 2 (local_rank: 0)\n  exitcode  : -9 (pid: 7)\n"
    assert root_cause("noise\n" + words) == (2, -9)
    assert root_cause("Root Cause unknown") is None
    assert root_cause("") is None


# torchrun itself


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[LocalBackend]:
    (tmp_path / "ranks.py").write_text(RANKS)
    backend = LocalBackend(
        tmp_path / "gangs",
        command=lambda spec, node, endpoint: [
            *torchrun_agent(spec, endpoint),
            str(tmp_path / "ranks.py"),
            str(spec.template["do"]),
        ],
    )
    yield backend
    _end_all(backend)


def _gang(mode: str, nodes: int, do: str) -> LaunchSpec:
    return LaunchSpec(
        gang="gng_1",
        name="digits-1",
        mode=mode,
        nodes=nodes,
        ranks_per_node=2,
        api_urls=(),
        token="secret",
        template={"do": do},
    )


@pytest.mark.slow
def test_two_agents_form_one_world_and_are_whole_again_after_a_killed_rank(
    torchrun: LocalBackend, tmp_path: Path
) -> None:
    launched = torchrun.launch(_gang("serve", 2, "stay"))
    first = until(lambda: _whole(tmp_path, set()), SOON * 60)
    assert {total for _, total, _ in first} == {"10"}
    assert len({node for _, _, node in first}) == 2
    _assert_no_agent_listens(launched.ref, ranks={int(pid) for pid, _, _ in first})

    os.kill(int(first[1][0]), signal.SIGKILL)

    until(lambda: _whole(tmp_path, {pid for pid, _, _ in first}), SOON * 60)
    assert until_phase(torchrun, Phase.RUNNING).nodes_running == 2
    torchrun.stop("digits-1", SOON * 10)
    until(lambda: torchrun.observe() == ())
    assert _marked(launched.ref) == []


def _whole(folder: Path, old_pids: set[str]) -> list[list[str]] | None:
    ranks = [file.read_text().split() for file in sorted(folder.glob("gangs/digits-1/scratch/rank-*"))]
    return ranks if len(ranks) == 4 and not old_pids & {rank[0] for rank in ranks} else None


def _assert_no_agent_listens(ref: str, ranks: set[int]) -> None:
    listening = {
        process.pid: {place.laddr.ip for place in process.net_connections() if place.status == psutil.CONN_LISTEN}
        for process in _marked(ref)
    }
    assert not any(places for pid, places in listening.items() if pid not in ranks)
    # torch's own store of rank 0 binds everywhere; everything else is held to this machine.
    assert sum(places != {"127.0.0.1"} for pid, places in listening.items() if pid in ranks) <= 1


@pytest.mark.slow
def test_a_batch_gang_ends_with_its_rank_and_names_it(torchrun: LocalBackend) -> None:
    torchrun.launch(_gang("batch", 1, "fail"))
    until(lambda: torchrun.observe()[0].phase is Phase.FAILED, SOON * 60)
    (seen,) = torchrun.observe()
    assert seen.reason == "exit_code"
    assert "rank 1 was the first to fail, with exit code 3" in str(seen.detail)
