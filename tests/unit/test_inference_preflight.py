"""What is said against a new gang, and about which rank."""

from dataclasses import replace

import pytest

from inference.preflight import Fact, Wanted, odd_one


def gpu(rank: int, **changes: object) -> Fact:
    """Of a gang of 2 nodes with 2 GPUs each."""
    fact = Fact(
        rank=rank,
        node=f"n{rank // 2}",
        agent=rank // 2,
        local_rank=rank % 2,
        device=f"cuda:{rank % 2}",
        place=f"GPU-{rank % 2}",
        free_mb=70_000,
    )
    return replace(fact, **changes)  # type: ignore[arg-type]


GANG = [gpu(rank) for rank in range(4)]
WANTED = Wanted(nodes=2, ranks_per_node=2, min_free_mb=60_000)


def test_a_gang_as_it_should_be_is_not_spoken_against() -> None:
    assert odd_one(GANG, WANTED) is None
    assert odd_one(GANG, Wanted()) is None
    assert odd_one([gpu(rank, device="cpu", place="") for rank in range(4)], WANTED) is None


@pytest.mark.parametrize(
    ("odd", "rank", "why"),
    [
        (gpu(3, free_mb=900), 3, "900 MB free on cuda:1"),
        (gpu(3, device="cpu", place=""), 3, "it has cpu, most others have cuda"),
        (gpu(3, place="GPU-0"), 2, "ranks 2, 3 share the device GPU-0"),
        (gpu(3, problem="cuda:1 does not work"), 3, "cuda:1 does not work"),
        (gpu(3, agent=2, node="n2"), 0, "3 nodes, the template says 2"),
    ],
    ids=["memory", "no GPU", "one GPU twice", "a broken GPU", "another shape"],
)
def test_the_rank_that_is_off_is_named(odd: Fact, rank: int, why: str) -> None:
    found = odd_one([*GANG[:3], odd], WANTED)
    assert found is not None
    assert (found[0].rank, why in found[1]) == (rank, True)
