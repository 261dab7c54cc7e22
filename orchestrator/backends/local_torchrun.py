"""What a local gang runs: torchrun's command line, the environment of its processes, and its closing words.

Pure text. It knows torchrun's flags and the environment of docs/protocol.md; it must not touch processes or files.

Rendezvous goes through a file, not a port: c10d unpickles what it finds there and asks nobody for a password, and
torch binds its TCP store to every interface. A file in a 0700 folder closes that door and needs no free port. One
listener stays that torch gives no flag for: the ranks' own TCPStore (MASTER_PORT, every interface; plain keys, no
pickle). Gloo itself, which carries the data, is held to loopback.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.backends.base import LaunchSpec
from orchestrator.errors import BackendError

MARK = "MUSTER_LAUNCH"  # in the environment of every process of a gang: how stop() finds them all

JOIN_S = 120.0
"""For all ranks to join, where the template does not say `preflight.timeout_s`."""

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

# Whoever ends a lost gang is the orchestrator, so agents need not watch each other: the rendezvous file grows by about
# a kilobyte per beat, and a beat every ten minutes keeps a gang of weeks at a few megabytes.
_RENDEZVOUS = "store_type=file,join_timeout=600,keep_alive_interval=600"

_SERVE_RESTARTS = 1000  # a lifetime total per agent that torchrun never refills

# Of the service itself (it may hold database passwords), or of a torchrun that the service happens to run under.
_NOT_INHERITED = re.compile(
    r"MUSTER_(?!((ORPHAN|HOLD)_S|INPUT_CACHE_BYTES)$)|PG[A-Z]|DATABASE_URL|PET_|TORCHELASTIC_|MASTER_(ADDR|PORT)$|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)$"
)

_AGENT_LINE = re.compile(r"muster agent: |[EWI]\d{4} [\d:.]+ ")
_ROOT_CAUSE = re.compile(r"Root Cause.*?\brank\s*:\s*(\d+).*?\bexitcode\s*:\s*(-?\d+)", re.DOTALL)


def torchrun_command(spec: LaunchSpec, node: int, endpoint: str) -> list[str]:
    """The agent of one node, running the inference package. All nodes of a gang get the same command."""
    return [*torchrun_agent(spec, endpoint), "-m", "inference"]


def torchrun_agent(spec: LaunchSpec, endpoint: str) -> list[str]:
    """The agent without what its ranks run; `endpoint` is the rendezvous file."""
    return [
        sys.executable,
        "-m",
        "inference.agent",
        f"--nnodes={spec.nodes}",
        f"--nproc-per-node={spec.ranks_per_node}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        f"--rdzv-id={spec.name}",
        f"--rdzv-conf={_RENDEZVOUS}",
        f"--max-restarts={_SERVE_RESTARTS if spec.mode == 'serve' else 0}",
        "--local-addr=127.0.0.1",
        f"--log-dir={Path(endpoint).with_name('agent')}",  # else below /tmp, where a killed agent leaves it
    ]


def agent_environment(
    spec: LaunchSpec, node: int, *, ref: str, folder: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Inherited, then defaults, then the template's wishes, then what the protocol fixes. No secret is among them."""
    return {
        **{name: value for name, value in inherited.items() if not _NOT_INHERITED.match(name)},
        "OMP_NUM_THREADS": inherited.get("OMP_NUM_THREADS", "1"),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "GLOO_SOCKET_IFNAME": _LOOPBACK,
        "NCCL_SOCKET_IFNAME": _LOOPBACK,
        **_template_environment(spec.template),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "MUSTER_API_URLS": ",".join(spec.api_urls),
        "MUSTER_GANG": spec.gang,
        "MUSTER_TOKEN_FILE": str(folder / "token"),
        "MUSTER_NODE": f"{socket.gethostname()}-{node}",
        "MUSTER_SCRATCH": str(folder / "scratch"),
        "MUSTER_JOIN_S": str(_join_s(spec.template)),
        "MUSTER_REPLICAS": str(spec.template.get("replicas", 1)),
        MARK: ref,
    }


def root_cause(log: str) -> tuple[int, int] | None:
    """(rank, exit code) of the first rank that failed, from torchrun's closing words; a negative code is a signal."""
    last = log.rfind("Root Cause")
    found = _ROOT_CAUSE.search(log, last) if last >= 0 else None
    return (int(found[1]), int(found[2])) if found else None


def words_of_ranks(log: str, lines: int = 20) -> str:
    """The last lines of a node's log that are not its agent's."""
    return "\n".join([line for line in log.splitlines() if line.strip() and not _AGENT_LINE.match(line)][-lines:])


def _join_s(template: Mapping[str, object]) -> float:
    preflight = template.get("preflight")
    return float(preflight["timeout_s"]) if isinstance(preflight, Mapping) else JOIN_S


def _template_environment(template: Mapping[str, object]) -> dict[str, str]:
    env = template.get("env") or {}
    if not isinstance(env, Mapping):
        raise BackendError("The template's env must map names to values.", code="bad_template")
    return {str(name): str(value) for name, value in env.items()}
