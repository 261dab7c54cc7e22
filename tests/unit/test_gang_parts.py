"""Replicas of a gang: how ranks are split, what each is told, which templates have them, how many gangs that makes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.environment import ConfigurationError, Environment
from inference.replica import Replica
from orchestrator.api.catalog import read_template
from orchestrator.api.hub import Hub, gang_topic
from orchestrator.api.parking import Parking
from orchestrator.domain.placement import Mode, Placement, PoolLoad, place, predicted_wait
from orchestrator.domain.pool_plan import GangView, PoolView, plan_pool
from orchestrator.errors import Invalid

GOOD: dict[str, Any] = {"name": "digits", "handler": "samples.digits:Digits"}

shapes = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 32)).filter(lambda shape: _fits(*shape))
"""Nodes, ranks on each, and replicas."""


def _fits(nodes: int, ranks: int, replicas: int) -> bool:
    size, odd = divmod(nodes * ranks, replicas)
    return not odd and (size % ranks == 0 or ranks % size == 0)


def split(nodes: int, ranks: int, replicas: int) -> list[Replica]:
    """What each rank of the gang finds."""
    return [
        Replica.of(rank=rank, world=nodes * ranks, local_rank=rank % ranks, local_world=ranks, count=replicas)
        for rank in range(nodes * ranks)
    ]


# ------------------------------------------------------------------------------------------------------------- ranks


@given(shapes)
def test_every_rank_has_one_place_in_one_replica(shape: tuple[int, int, int]) -> None:
    nodes, ranks, replicas = shape
    parts = split(*shape)
    assert {part.number for part in parts} == set(range(replicas))
    assert len({(part.number, part.rank) for part in parts}) == len(parts)
    for rank, part in enumerate(parts):
        assert part.ranks[part.rank] == rank and len(part.ranks) == part.world == nodes * ranks // replicas
        node = range(rank - rank % ranks, rank - rank % ranks + ranks)
        mine = [one for one in part.ranks if one in node]
        assert len(mine) == part.local_world and mine.index(rank) == part.local_rank
        assert node[part.local_first] == mine[0]
        assert part.on_node == len({parts[one].number for one in node})


@given(shapes)
def test_replicas_on_a_node_see_gpus_of_their_own_and_all_are_seen(shape: tuple[int, int, int]) -> None:
    _, ranks, replicas = shape
    if replicas == 1:
        assert split(*shape)[0].variables({}) == {}
        return
    seen = [part.variables({}) for part in split(*shape)[:ranks]]
    for rank, said in enumerate(seen):
        assert said["CUDA_VISIBLE_DEVICES"].split(",")[int(said["LOCAL_RANK"])] == str(rank)
        assert len(said["CUDA_VISIBLE_DEVICES"].split(",")) == int(said["LOCAL_WORLD_SIZE"])


def test_gpus_that_the_pod_was_given_by_name_are_dealt_out_in_their_order() -> None:
    part = Replica.of(rank=3, world=4, local_rank=3, local_world=4, count=2)
    assert part.variables({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c,GPU-d"}) == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_RANK": "1",
        "ROLE_WORLD_SIZE": "2",
        "CUDA_VISIBLE_DEVICES": "GPU-c,GPU-d",
    }


def test_a_pod_whose_ranks_cannot_be_split_says_so() -> None:
    variables = {
        "MUSTER_API_URLS": "http://here",
        "MUSTER_GANG": "gng_1",
        "MUSTER_TOKEN": "t",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "4",
    }
    assert Environment.read(variables).replica.world == 4
    assert Environment.read(variables | {"MUSTER_REPLICAS": "2"}).replica.world == 2
    with pytest.raises(ConfigurationError, match="3 replicas cannot share 4 ranks"):
        Environment.read(variables | {"MUSTER_REPLICAS": "3"})


# --------------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize(
    ("nodes", "ranks", "replicas"), [(1, 8, 4), (1, 8, 8), (2, 8, 2), (4, 2, 2), (2, 2, 4), (1, 1, 1)]
)
def test_ranks_are_split_evenly_into_whole_nodes_or_parts_of_one(nodes: int, ranks: int, replicas: int) -> None:
    found = read_template(GOOD | {"nodes": nodes, "ranks_per_node": ranks, "replicas": replicas})
    assert found.ranks_per_replica * replicas == nodes * ranks
    assert found.spec.get("replicas", 1) == replicas


@pytest.mark.parametrize(
    ("nodes", "ranks", "replicas", "why"),
    [
        (1, 8, 3, "replicas must divide 8"),
        (1, 2, 4, "replicas must divide 2"),
        (3, 4, 2, "a replica of 6 ranks would lie across nodes of 4 unevenly"),
        (3, 2, 2, "a replica of 3 ranks"),
    ],
)
def test_other_splits_are_refused_with_a_pointer(nodes: int, ranks: int, replicas: int, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        read_template(GOOD | {"nodes": nodes, "ranks_per_node": ranks, "replicas": replicas})
    assert refused.value.pointer == "/replicas"


def test_rules_of_geometry_may_name_a_replica() -> None:
    rule = {"product": ["args.tensor_size"], "equals": "ranks_per_replica", "because": "a model per replica"}
    shape = {"nodes": 1, "ranks_per_node": 8, "replicas": 4, "geometry": [rule]}
    assert read_template(GOOD | shape | {"args": {"tensor_size": 2}}).ranks_per_replica == 2
    with pytest.raises(Invalid, match="must equal ranks_per_replica = 2: a model per replica"):
        read_template(GOOD | shape | {"args": {"tensor_size": 8}})


def test_a_template_without_replicas_keeps_its_digest() -> None:
    assert "replicas" not in read_template(GOOD).spec
    assert read_template(GOOD | {"replicas": 1}).digest == read_template(GOOD).digest


# -------------------------------------------------------------------------------------------------------------- plans


def view(*leases: int | None, queued: int, replicas: int = 4, **more: Any) -> PoolView:
    """A pool with a gang for each number of requests that it runs; None: it starts."""
    gangs = [
        GangView(id=f"g{n}", starting=one is None, busy=bool(one), idle_for=timedelta(hours=1), leases=one or 0)
        for n, one in enumerate(leases)
    ]
    values = {"min_gangs": 0, "max_gangs": 9, "idle_timeout": timedelta(minutes=1), "current": True, "held": False}
    return PoolView(queued=queued, gangs=gangs, replicas=replicas, **(values | more))


@pytest.mark.parametrize(
    ("leases", "queued", "launch"),
    [((), 1, 1), ((), 4, 1), ((), 5, 2), ((3,), 1, 0), ((3,), 2, 1), ((4,), 4, 1), ((None,), 4, 0), ((None, 1), 8, 1)],
)
def test_gangs_are_launched_for_what_no_free_replica_will_take(
    leases: tuple[int | None, ...], queued: int, launch: int
) -> None:
    assert plan_pool(view(*leases, queued=queued)).launch == launch


def test_a_gang_goes_when_all_of_its_replicas_are_idle() -> None:
    assert plan_pool(view(1, 0, queued=0)).drain == ("g1",)


@given(st.lists(st.integers(0, 4) | st.none(), max_size=6), st.integers(0, 30))
def test_what_is_launched_is_needed_and_enough(leases: list[int | None], queued: int) -> None:
    planned = view(*leases, queued=queued)
    launch, free = plan_pool(planned).launch, sum(planned.free_soon(gang) for gang in planned.gangs)
    assert len(leases) + launch == 9 or free + 4 * launch >= queued
    assert not launch or free + 4 * (launch - 1) < queued


def test_placement_counts_replicas_and_gangs() -> None:
    load = PoolLoad(idle=3, busy=5, starting=0, queued=2, max_gangs=2, run_s=10.0, cold_s=5.0, replicas=4)
    assert load.gangs == 2
    assert (placed := place(Mode.AUTO, load)) is not None and placed.reason == "a warm gang is idle"
    full = PoolLoad(idle=0, busy=8, starting=0, queued=8, max_gangs=2, run_s=10.0, cold_s=5.0, replicas=4)
    assert predicted_wait(full) == 15.0
    assert (placed := place(Mode.AUTO, full)) is not None and placed.placement is Placement.BATCH


# ------------------------------------------------------------------------------------------------------------ waiting


def test_a_lease_is_handed_to_the_replica_that_it_is_for() -> None:
    async def work() -> None:
        hub = Hub()
        hub.open()
        with hub.waiter(gang_topic("g")) as first, hub.waiter(gang_topic("g"), slot=1) as second:
            lease: Any = SimpleNamespace(slot=1)
            hub.hand(gang_topic("g"), lease)
            await asyncio.sleep(0)
            assert (first.lease, second.lease) == (None, lease) and not first.is_set()
            assert (hub.crowd(gang_topic("g")), hub.crowd(gang_topic("g"), 1)) == (1, 1)

    asyncio.run(work())


def test_each_replica_has_a_place_of_its_own_between_report_and_question() -> None:
    async def work() -> None:
        hub = Hub()
        hub.open()
        places = Parking(hub)
        places.know(b"s", "g", 1)
        kept = [places.reserve(b"s", slot) for slot in range(2)]
        for place_ in kept:
            assert place_ is not None
            places.keep(place_)
        assert places.take("g", b"s", 1) is kept[1] and places.take("g", b"s") is kept[0]

    asyncio.run(work())
