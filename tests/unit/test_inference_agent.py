"""When an agent gives up its ranks, and how long it waits before it starts them again."""

from pathlib import Path

import pytest
from torch.distributed import run as torchrun
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

from inference import agent
from inference.agent import MAX_EARLY_DEATHS, Agent, Patience
from inference.contact import Contact


@pytest.fixture
def contact(tmp_path: Path) -> Contact:
    contact = Contact.of_node(tmp_path, "n0")
    contact.begin()
    return contact


@pytest.fixture
def patience(contact: Contact) -> Patience:
    patience = Patience(contact)
    patience.begin_round()
    return patience


def test_ranks_that_die_before_the_service_answered_are_started_ever_later_and_not_for_ever(patience: Patience) -> None:
    pauses = []
    for _ in range(MAX_EARLY_DEATHS - 1):
        assert patience.lose_round([1]) is None
        pauses.append(patience.pause_s())
        patience.begin_round()
    assert 0.5 <= pauses[0] <= 1.0 <= pauses[1] <= 2.0
    assert "died 3 times before they said hello" in (patience.lose_round([1]) or "")


def test_ranks_that_had_an_answer_are_started_at_once_and_forgive_earlier_deaths(
    patience: Patience, contact: Contact
) -> None:
    assert patience.lose_round([1]) is None
    patience.begin_round()
    contact.note()
    for _ in range(MAX_EARLY_DEATHS):
        assert patience.lose_round([83]) is None
        assert patience.pause_s() == 0.0


@pytest.mark.parametrize("code", [80, 81, 82])
def test_a_code_that_is_for_good_is_the_end_of_the_gang(patience: Patience, contact: Contact, code: int) -> None:
    contact.note()
    assert str(code) in (patience.lose_round([83, code]) or "")


@pytest.mark.parametrize("code", [1, 83, 84, 85, 86, 143, -9])
def test_all_other_codes_are_not(patience: Patience, contact: Contact, code: int) -> None:
    contact.note()
    assert patience.lose_round([code]) is None


def test_torch_still_has_the_methods_that_the_agent_overrides() -> None:
    for name in ("_monitor_workers", "_restart_workers"):
        assert callable(getattr(LocalElasticAgent, name))
        assert getattr(Agent, name) is not getattr(LocalElasticAgent, name)
    assert hasattr(agent.launcher, "LocalElasticAgent")


def test_the_agent_reads_the_rendezvous_that_the_training_operator_injects(monkeypatch: pytest.MonkeyPatch) -> None:
    """As seen on pods of a serve gang; our manifest adds the address."""
    injected = {
        "PET_NPROC_PER_NODE": "4",
        "PET_NNODES": "2:2",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "m-s-wan-bcdfg-worker-0:29400",
        "PET_RDZV_ID": "m-s-wan-bcdfg",
        "PET_RDZV_CONF": "join_timeout=900,last_call_timeout=5,close_timeout=30,read_timeout=120",
        "PET_MAX_RESTARTS": "1000",
        "PET_LOCAL_ADDR": "10.1.2.3",
    }
    for name, value in injected.items():
        monkeypatch.setenv(name, value)
    config, _, _ = torchrun.config_from_args(torchrun.parse_args(["-m", "inference"]))
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (2, 2, 4)
    assert (config.rdzv_backend, config.rdzv_endpoint) == ("c10d", "m-s-wan-bcdfg-worker-0:29400")
    assert (config.run_id, config.max_restarts, config.local_addr) == ("m-s-wan-bcdfg", 1000, "10.1.2.3")
    assert config.rdzv_configs["join_timeout"] == "900"
