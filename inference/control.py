"""The control group: frames from rank 0 to all, one int32 vote of all, and reports after a bad vote.

CPU, gloo, a timeout of days; only the main thread may use it. JSON, never pickle. Knows no HTTP and no handler.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Self

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from inference.faults import ControlBroken
from inference.vote import Say, Verdict, ballot, count

# Below 2^31 ms; a no-op frame passes at least once per poll anyway. Cut only by benchmarks.long_idle.
PATIENCE = timedelta(seconds=float(os.environ.get("INFERENCE_CONTROL_S", 20 * 86400)))
AFTER_RANK_0_S = 10.0  # rank 0 says who is missing
FRAME_BYTES = 8192
REPORT_BYTES = 16384
_HEADER = struct.Struct("<BI")
INLINE_BYTES = FRAME_BYTES - _HEADER.size


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A rank that came."""

    rank: int
    node: str
    pid: int

    @classmethod
    def read(cls, rank: int, note: bytes) -> Self:
        pid, _, node = note.decode().partition(" ")
        return cls(rank=rank, node=node, pid=int(pid))


class Missing(Exception):
    """Ranks that did not come to the store in time. `nodes` by rank, of those that came."""

    def __init__(self, ranks: list[int], nodes: dict[int, str], bound_s: float) -> None:
        self.ranks = ranks
        self.nodes = nodes
        names = ", ".join(map(str, ranks))
        super().__init__(f"rank{'s' if len(ranks) > 1 else ''} {names} did not join within {bound_s:g} s")


def meet(host: str, port: int, rank: int, world: int, node: str, bound_s: float) -> tuple[Store, list[Peer]]:
    """The store of the gang and who came to it, once all ranks have. Rank 0 keeps it. Raises Missing on rank 0.

    As torch's `env://` makes it, but that one waits without saying for whom.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    bound = timedelta(seconds=bound_s if rank == 0 else bound_s + AFTER_RANK_0_S)
    with breaking():
        store = TCPStore(host, port, world, rank == 0 and not shared, timeout=bound, wait_for_workers=False)
        store.set(f"joined/{rank}", f"{os.getpid()} {node}")
        try:
            store.wait([f"joined/{peer}" for peer in range(world)], bound)
        except RuntimeError:
            here = [peer for peer in range(world) if store.check([f"joined/{peer}"])]
            came = {peer: Peer.read(peer, store.get(f"joined/{peer}")).node for peer in here}
            if len(came) == world or rank != 0:
                raise
            raise Missing([peer for peer in range(world) if peer not in came], came, bound_s) from None
        store.set_timeout(PATIENCE)
        notes = store.multi_get([f"joined/{peer}" for peer in range(world)])
        return store, [Peer.read(peer, note) for peer, note in enumerate(notes)]


class Kind(IntEnum):
    NOOP = 0
    CONFIG = 1
    WORK = 2
    STOP = 3


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What rank 0 tells all ranks. Ranks other than 0 wait for it while the gang is idle."""

    kind: Kind
    body: bytes = b""


class Control:
    """The first process group of the incarnation; named in every call, since a script may have another default.

    Of the ranks of a replica, `number`, which count from 0: to each of them the others do not exist.
    """

    def __init__(self, store: Store, rank: int, world: int, number: int = 0) -> None:
        own = PrefixStore(f"replica/{number}", store)
        with breaking():
            dist.init_process_group("gloo", store=own, rank=rank, world_size=world, timeout=PATIENCE)
        self._group = dist.group.WORLD
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()
        self._frame = torch.zeros(FRAME_BYTES, dtype=torch.uint8)
        self._ballot = torch.zeros(1, dtype=torch.int32)

    def send(self, frame: Frame) -> None:
        """Rank 0 only. One broadcast; a second one if the body does not fit into the frame."""
        head = pack(frame)
        self._frame[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8)
        with breaking():
            dist.broadcast(self._frame, src=0, group=self._group)
            if len(frame.body) > INLINE_BYTES:
                dist.broadcast(torch.frombuffer(bytearray(frame.body), dtype=torch.uint8), src=0, group=self._group)

    def receive(self) -> Frame:
        """Ranks other than 0: blocks until rank 0 sends, for days if need be."""
        with breaking():
            dist.broadcast(self._frame, src=0, group=self._group)
            kind, length, inline = unpack(bytes(self._frame.numpy()))
            if length <= INLINE_BYTES:
                return Frame(kind=kind, body=inline)
            rest = torch.empty(length, dtype=torch.uint8)
            dist.broadcast(rest, src=0, group=self._group)
            return Frame(kind=kind, body=bytes(rest.numpy()))

    def vote(self, say: Say, stride: int = 1) -> Verdict:
        """One all-reduce of one int32."""
        self._ballot.fill_(ballot(say, stride))
        with breaking():
            dist.all_reduce(self._ballot, op=dist.ReduceOp.BOR, group=self._group)
        return count(int(self._ballot))

    def exchange(self, report: bytes) -> list[bytes]:
        """Every rank's report to every rank. Only after a bad vote: it costs many times a vote."""
        mine = torch.zeros(REPORT_BYTES, dtype=torch.uint8)
        packed = struct.pack("<I", len(report)) + report
        if len(packed) > REPORT_BYTES:
            raise ValueError(f"a report of {len(report)} bytes does not fit into {REPORT_BYTES}")
        mine[: len(packed)] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        with breaking():
            dist.all_gather(parts, mine, group=self._group)
        return [_unpack_report(bytes(part.numpy())) for part in parts]

    def close(self) -> None:
        dist.destroy_process_group()


@contextmanager
def breaking() -> Iterator[None]:
    """Whatever fails in a control collective means that a peer is gone."""
    try:
        yield
    except RuntimeError as error:
        raise ControlBroken(f"the control group broke: {error}") from error


def pack(frame: Frame) -> bytes:
    return _HEADER.pack(frame.kind, len(frame.body)) + (frame.body if len(frame.body) <= INLINE_BYTES else b"")


def unpack(content: bytes) -> tuple[Kind, int, bytes]:
    """Kind, length of the body, and the body as far as it is in the frame."""
    kind, length = _HEADER.unpack_from(content)
    return Kind(kind), length, content[_HEADER.size : _HEADER.size + length] if length <= INLINE_BYTES else b""


def _unpack_report(content: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", content)
    return content[4 : 4 + length]
