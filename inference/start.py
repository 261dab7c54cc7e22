"""From a bare process to a ready rank: groups, hello, handler, setup, ready. Then it serves until told to end.

The only place that knows all the parts. Imports torch; `__main__` does what must happen before that.
"""

import json
import os
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

import torch

from inference import obituary
from inference.attempt import Life
from inference.beat import Beat
from inference.board import Board
from inference.commons import Commons
from inference.context import Context
from inference.control import Control, Frame, Kind, Missing, Peer, meet
from inference.ear import Ear
from inference.environment import Environment
from inference.faults import Exit
from inference.gpu import Gpu
from inference.kin import Kin
from inference.leaving import Leaving
from inference.run import Runner
from inference.serve import Leader, Orphaned, follow
from inference.service import Over, Service
from inference.shipping import Shipping
from inference.starting import Start, failure
from inference.vote import Say
from inference.watch import Me, Watch
from inference.words import LastWords
from inference.work import Config, encode

DRAIN_S = 30.0  # for teardown and the interpreter's end; the work is done by then


@dataclass(frozen=True, kw_only=True)
class Rank:
    """What exists before torch is imported."""

    environment: Environment
    service: Service
    shipping: Shipping
    leaving: Leaving
    words: LastWords
    began: float

    def stay_owned(self) -> None:
        """Between two tries. Raises Orphaned."""
        if self.service.silent_s > self.environment.orphan_s:
            raise Orphaned


def run_rank(rank: Rank) -> int:
    """The exit code, if the rank ends in good order."""
    try:
        return _run(rank)
    except Orphaned:  # before it was ready; ranks that wait for this one find the service as silent when they come back
        return Exit.DRAINED


def _run(rank: Rank) -> int:
    imported = time.monotonic()
    device, problem = _device(rank.environment.replica.local_rank)
    control, commons, peers = _meet(rank, device)
    met = time.monotonic()
    kin = _kin(rank, peers)
    config = _enter_incarnation(rank, control, commons, device)
    if config is None:
        return Exit.DRAINED
    start = Start(rank.leaving, Life(), config)
    runner, link = _set_up(rank, control, commons, config, device, kin, start, problem)
    start.seconds |= {"import": imported - rank.began, "rendezvous": met - imported}
    rank.service.ready(rank.environment.rank, start.shown, link, rank.stay_owned)
    runner.life.loaded = True
    code = _serve(rank, config, runner)
    if code == Exit.DRAINED:
        _drain(rank, runner, commons)
    return code


def _meet(rank: Rank, device: torch.device) -> tuple[Control, Commons, list[Peer]]:
    """The control group, and what reaches beyond it. Where a rank does not come, rank 0 says which, and all end."""
    here = rank.environment
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store, peers = meet(host, port, here.rank, here.world, here.node, here.join_s)
    except Missing as missing:
        print(f"muster: {missing}", flush=True)  # noqa: T201 (the rank's log)
        _adopt(rank, rank.service.hello(0, _first_words(rank, here.world, device), rank.stay_owned))
        rank.leaving.now(Exit.SETUP_FAILED, _absence(here, missing))
    own = here.replica
    return Control(store, own.rank, own.world, own.number), Commons(store, own), peers


def _absence(here: Environment, missing: Missing) -> dict[str, Any]:
    """About the first rank that is missing. Its node is known if a neighbour came."""
    first, each = missing.ranks[0], here.local_world
    near = [node for peer, node in missing.nodes.items() if peer // each == first // each]
    node = near[0] if near else f"node {first // each}"
    message = f"{missing} (rank {first} on {node})"
    return {"rank": first, "node": node, **failure("preflight", "Missing", message)}


def _kin(rank: Rank, peers: list[Peer]) -> Kin:
    """The ranks of this node, told by the node's name; those of this replica, unless it has no other here."""
    here, own = rank.environment, rank.environment.replica
    alone = own.count > 1 and own.local_world == 1
    near = {
        peer.rank: peer.pid
        for peer in peers
        if peer.node == here.node and peer.rank != here.rank and (alone or peer.rank in own.ranks)
    }
    kin = Kin(rank.words.folder, near, rank.leaving.mourn_stranger if alone else rank.leaving.mourn)
    kin.watch()
    return kin


def _device(local_rank: int) -> tuple[torch.device, str | None]:
    """Where this rank computes, and what the preflight will say against it."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), None
    if local_rank >= torch.cuda.device_count():
        return torch.device("cpu"), f"its node has {torch.cuda.device_count()} GPUs, none for LOCAL_RANK {local_rank}"
    device = torch.device("cuda", local_rank)
    try:
        torch.cuda.set_device(device)
        torch.zeros(1, device=device)
    except RuntimeError as error:  # gone, in error, or in use by somebody who wants it alone
        return torch.device("cpu"), f"{device} does not work: {str(error).splitlines()[0]}"
    return device, None


def _enter_incarnation(rank: Rank, control: Control, commons: Commons, device: torch.device) -> Config | None:
    """Rank 0 says hello first; the others learn the incarnation's token from it. None: nobody owns this gang."""
    frame = _first_frame(rank, control, commons, device)
    if frame.kind is Kind.STOP:
        if control.rank == 0:
            control.send(frame)
        if json.loads(frame.body)["exit"] == Exit.OVER:
            raise Over("the gang is over")
        return None
    config = _adopt(rank, json.loads(frame.body))
    if control.rank == 0:
        _board(rank, config).lay_out()
        control.send(frame)
    if rank.environment.rank != 0:
        rank.service.hello(rank.environment.rank, _self(rank, device), rank.stay_owned)
    return config


def _first_frame(rank: Rank, control: Control, commons: Commons, device: torch.device) -> Frame:
    """What hello answered, or why there is nothing to do: rank 0 asks, leaders of replicas hear it and pass it on."""
    if rank.environment.rank == 0:
        frame = _first_hello(rank, control, _first_words(rank, rank.environment.world, device))
        if commons.is_shared:
            commons.announce("hello", encode([int(frame.kind), frame.body.decode()]))
        return frame
    if control.rank == 0:
        kind, body = json.loads(commons.hear("hello"))
        return Frame(kind=Kind(kind), body=body.encode())
    frame = control.receive()
    while frame.kind is Kind.NOOP:
        frame = control.receive()
    return frame


def _self(rank: Rank, device: torch.device) -> dict[str, Any]:
    here = rank.environment
    return {"node": here.node, "pid": os.getpid(), "device": str(device), "local_rank": here.local_rank}


def _first_words(rank: Rank, world: int, device: torch.device) -> dict[str, Any]:
    replicas = rank.environment.replica.count
    return {"nonce": secrets.token_hex(16), "world": world, "replicas": replicas, **_self(rank, device)}


def _first_hello(rank: Rank, control: Control, words: dict[str, Any]) -> Frame:
    def stay_owned() -> None:
        rank.stay_owned()
        control.send(Frame(kind=Kind.NOOP))

    try:
        return Frame(kind=Kind.CONFIG, body=encode(rank.service.hello(0, words, stay_owned)))
    except Orphaned:
        return Frame(kind=Kind.STOP, body=encode({"exit": int(Exit.DRAINED)}))
    except Over as over:
        print(f"muster: {over}", flush=True)  # noqa: T201 (the rank's log)
        return Frame(kind=Kind.STOP, body=encode({"exit": int(Exit.OVER)}))


def _adopt(rank: Rank, answer: dict[str, Any]) -> Config:
    config = Config.of(answer)
    rank.service.enter_incarnation(config.incarnation, config.token)
    rank.shipping.enter_incarnation(config.log_flush_s)
    if rank.environment.local_world == 1:
        obituary.leave_key(rank.words.folder, config.token)
    return config


def _board(rank: Rank, config: Config) -> Board:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return Board(host, port, config.incarnation, rank.environment.rank, rank.environment.replica.ranks)


def _set_up(
    rank: Rank,
    control: Control,
    commons: Commons,
    config: Config,
    device: torch.device,
    kin: Kin,
    start: Start,
    problem: str | None,
) -> tuple[Runner, dict[str, Any]]:
    """The threads first: the gang beats while it loads, and a phase that stands still is named."""
    here, life, board, gpu = rank.environment, start.life, _board(rank, config), Gpu(device)
    rank.leaving.during(life.now)
    if control.rank == 0:
        Beat(rank.service, life, board, rank.leaving, config.beat_s).start()
        Ear(rank.service, life, config.poll_s).start()
    me = Me(rank=here.rank, node=here.node, ranks=here.replica.ranks, lease_s=config.lease_s)
    Watch(me, life, board, rank.leaving, rank.shipping.capture, rank.words, kin, gpu).start()
    groups, link = start.preflight(here, control, commons, device, problem)
    context = Context(here, config.args, device, control, groups, gpu)
    runner = Runner(
        handler=start.setup(context, control),
        context=context,
        control=control,
        groups=groups,
        gpu=gpu,
        board=board,
        leaving=rank.leaving,
        life=life,
    )
    start.warm_up(runner)
    return runner, link


def _serve(rank: Rank, config: Config, runner: Runner) -> int:
    if runner.control.rank != 0:
        return follow(runner.control, runner, rank.shipping)
    return Leader(rank.environment, config, rank.service, rank.shipping, runner).serve()


def _drain(rank: Rank, runner: Runner, commons: Commons) -> None:
    """Teardown on all ranks, then rank 0 says that the gang left in good order. Replicas begin and end it together."""
    leads = runner.control.rank == 0
    if commons.is_shared:
        if leads:
            commons.assemble("drained")
        runner.control.vote(Say.DONE)
    timer = threading.Timer(DRAIN_S, rank.leaving.now, [Exit.DRAINED])
    timer.daemon = True
    timer.start()
    try:
        runner.handler.teardown(runner.context)
    except Exception as error:  # the work is done: a failed goodbye changes nothing
        print(f"muster: teardown failed: {error}", flush=True)  # noqa: T201 (the rank's log)
    runner.control.vote(Say.DONE)
    if leads:
        commons.assemble("torn down")
    if rank.environment.rank == 0:
        rank.leaving.in_good_order()
    runner.control.vote(Say.DONE)  # the store of all ranks lives in rank 0: nobody leaves before the others
    if leads:
        commons.part()
    runner.control.close()
