"""The local backend: gangs are torchrun agents on this machine, one per node, that outlive the service.

It knows folders and processes. It must not know Postgres, HTTP or torch; several replicas of the service may use one
folder at the same time, and a restarted one finds everything as it was.

A crash between "recorded" and "all agents started" leaves a gang PENDING, reason "half_started": the next launch() of
it starts what is missing, stop() removes it. observe() starts nothing: only launch() has the token and the intent.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from orchestrator.backends.base import LOG_TAIL_BYTES, Failed, Launched, LaunchSpec, Observed, Phase, Story
from orchestrator.backends.local_folder import GangFolder, Record, locked
from orchestrator.backends.local_process import (
    Agent,
    Life,
    ask_to_end,
    kill_marked,
    processes_marked,
    reap,
    start_agent,
)
from orchestrator.backends.local_torchrun import MARK, agent_environment, root_cause, torchrun_command, words_of_ranks
from orchestrator.errors import BackendError

LOG_BYTES = 16 * 1024 * 1024
_CLOSING_WORDS_BYTES = 16 * 1024
_LOCK_WAIT = timedelta(seconds=10)
_AT_ONCE = timedelta(0)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")

Command = Callable[[LaunchSpec, int, str], list[str]]  # spec, node, rendezvous file -> argv


def _place(root: Path) -> str:
    """The name of this backend: gangs of another folder or machine are not ours to miss."""
    return "local:" + hashlib.sha256(f"{socket.gethostname()}:{root}".encode()).hexdigest()[:12]


class LocalBackend:
    def __init__(self, folder: Path, *, command: Command = torchrun_command, log_bytes: int = LOG_BYTES) -> None:
        self._root = folder.resolve()
        self.name = _place(self._root)
        self._command = command
        self._log_bytes = log_bytes

    def launch(self, spec: LaunchSpec) -> Launched:
        if not _NAME.fullmatch(spec.name):
            raise BackendError(f"{spec.name!r} cannot name a gang: use up to 40 of a-z, 0-9 and -.", code="bad_name")
        with locked(self._root, wait=_LOCK_WAIT):
            return self._launch(GangFolder(self._root / spec.name), spec)

    def rehearse(self, spec: LaunchSpec) -> None:
        """This machine takes what it can start."""

    def observe(self) -> tuple[Observed, ...]:
        reap()
        if not self._root.is_dir():
            return ()
        with locked(self._root, wait=_AT_ONCE) as alone:
            if alone:
                for folder in self._folders():
                    self._tidy(folder)
        return tuple(_observed(folder, record) for folder in self._folders() if (record := folder.read()))

    def look(self, name: str) -> Observed | None:
        return next((seen for seen in self.observe() if seen.name == name), None)

    def stop(self, name: str, grace: timedelta) -> None:
        folder = GangFolder(self._root / name)
        if not _NAME.fullmatch(name) or not folder.path.exists():
            return
        with locked(self._root, wait=_LOCK_WAIT):
            record = folder.read()
            if record is not None:
                _begin_stop(folder, record, stop_by=time.monotonic() + grace.total_seconds())
            self._tidy(folder)
        reap()

    def logs(self, name: str, *, node: int = 0, tail_bytes: int = LOG_TAIL_BYTES) -> str:
        folder = GangFolder(self._root / name)
        record = folder.read() if _NAME.fullmatch(name) else None
        if record is None or not 0 <= node < record.nodes:
            raise BackendError(f"No gang {name!r} with a node {node} runs here; see observe().", code="not_found")
        return folder.log_tail(node, tail_bytes)

    def tell(self, story: Story) -> None:
        """Nobody looks at folders."""

    def close(self) -> None:
        reap()

    def _folders(self) -> list[GangFolder]:
        return [GangFolder(path) for path in sorted(self._root.iterdir()) if _NAME.fullmatch(path.name)]

    def _launch(self, folder: GangFolder, spec: LaunchSpec) -> Launched:
        record = folder.read()
        if record is None:
            record = Record(gang=spec.gang, mode=spec.mode, nodes=spec.nodes, ref=secrets.token_hex(16))
            folder.create(record, spec.token)
        if record.gang != spec.gang:
            raise BackendError(f"The name {spec.name} belongs to gang {record.gang}.", code="name_taken")
        missing = _missing_nodes(folder, record)
        try:
            for node in missing:
                self._start(folder, record, spec, node)
        except OSError as error:
            _begin_stop(folder, record, stop_by=time.monotonic())
            self._tidy(folder)
            raise BackendError(f"Gang {spec.name} could not be started: {error}.", code="launch_failed") from error
        return Launched(ref=record.ref, adopted=not missing)

    def _start(self, folder: GangFolder, record: Record, spec: LaunchSpec, node: int) -> None:
        start_agent(
            folder.agent_file(node),
            self._command(spec, node, str(folder.path / "rendezvous")),
            env=agent_environment(spec, node, ref=record.ref, folder=folder.path, inherited=os.environ),
            cwd=folder.path,  # not the template's workdir: a file inference.py there would shadow the package
            log=folder.log(node),
        )

    def _tidy(self, folder: GangFolder) -> None:
        """Carry on what a stop began, here or in another replica; sweep litter; bound the logs."""
        record = folder.read()
        if record is None:
            if not folder.has_live_agent():
                folder.remove()
            return
        if record.stop_by is None:
            folder.bound_logs(record.nodes, self._log_bytes)
            return
        if time.monotonic() >= record.stop_by:
            kill_marked(_mark(record))
        if not folder.has_live_agent() and not processes_marked(_mark(record)):
            folder.remove()


def _missing_nodes(folder: GangFolder, record: Record) -> list[int]:
    """Nodes to start now: none once the gang is being stopped or has lost a member, for it will never be whole."""
    agents = folder.agents(record.nodes)
    if record.stop_by is not None or any(agent.life in (Life.ENDED, Life.LOST) for agent in agents):
        return []
    return [agent.node for agent in agents if agent.life is Life.ABSENT]


def _begin_stop(folder: GangFolder, record: Record, *, stop_by: float) -> None:
    """The intent first: whoever observes after a crash here still ends the gang in time. One SIGTERM is enough, a
    second would cut torchrun's own farewell short."""
    if record.stop_by is None:
        folder.write(replace(record, stop_by=stop_by))
        ask_to_end(folder.agents(record.nodes), _mark(record))
    elif stop_by < record.stop_by:
        folder.write(replace(record, stop_by=stop_by))


def _mark(record: Record) -> tuple[str, str]:
    return MARK, record.ref


def _observed(folder: GangFolder, record: Record) -> Observed:
    agents = folder.agents(record.nodes)
    phase, reason, detail = _judge(folder, agents)
    if record.stop_by is not None:
        reason, detail = "stopping", "It was asked to end."
    return Observed(
        gang=record.gang,
        name=folder.name,
        phase=phase,
        reason=reason,
        detail=detail,
        nodes_running=sum(agent.life is Life.RUNNING for agent in agents),
        failed=_failed(folder, agents) if phase is Phase.FAILED else None,
    )


def _judge(folder: GangFolder, agents: list[Agent]) -> tuple[Phase, str | None, str | None]:
    to_blame = _to_blame(agents)
    if to_blame is not None:
        return Phase.FAILED, *_cause(folder, to_blame)
    lives = {agent.life for agent in agents}
    if Life.ABSENT in lives:
        absent = sum(agent.life is Life.ABSENT for agent in agents)
        return Phase.PENDING, "half_started", f"{absent} of {len(agents)} agents were not started; launch it again."
    if lives == {Life.ENDED}:
        return Phase.SUCCEEDED, None, None
    return Phase.RUNNING, None, None


def _failed(folder: GangFolder, agents: list[Agent]) -> Failed | None:
    """None where no rank of the node to blame ended by itself."""
    agent = _to_blame(agents)
    log = folder.log_tail(agent.node, _CLOSING_WORDS_BYTES) if agent else ""
    found = root_cause(log)
    return Failed(node=agent.node, rank=found[0], words=words_of_ranks(log)) if agent and found else None


def _to_blame(agents: list[Agent]) -> Agent | None:
    failed = [agent for agent in agents if agent.life is Life.LOST or agent.code]
    return min(failed, key=_order_of_blame) if failed else None


def _order_of_blame(agent: Agent) -> tuple[bool, float]:
    """Who was killed drags the others down, so the killed come first; then who ended first."""
    return agent.life is not Life.LOST and agent.signal_name is None, agent.changed_at


def _cause(folder: GangFolder, agent: Agent) -> tuple[str, str]:
    who = f"The agent of node {agent.node}"
    if agent.life is Life.LOST:
        return "agent_lost", f"{who} is gone and left no exit code: killed, or the machine was restarted."
    if agent.signal_name:
        hint = "; often that means the machine ran out of memory" if agent.signal_name == "SIGKILL" else ""
        return "agent_lost", f"{who} was killed by {agent.signal_name} (exit code {agent.code}){hint}."
    return "exit_code", f"{who} ended with exit code {agent.code}{_first_failed_rank(folder, agent.node)}."


def _first_failed_rank(folder: GangFolder, node: int) -> str:
    found = root_cause(folder.log_tail(node, _CLOSING_WORDS_BYTES))
    if found is None:
        return ""
    rank, code = found
    memory = ", which often means out of memory" if code == -9 else ""
    return f": rank {rank} was the first to fail, with exit code {code}{memory}"
