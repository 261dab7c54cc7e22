"""Templates: what they accept, what they refuse and where they point."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.api.catalog import read_template
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid

GOOD: dict[str, Any] = {"name": "digits", "handler": "samples.digits:Digits"}


@pytest.mark.parametrize(
    "name",
    [
        "MUSTER_TOKEN",
        "TORCHELASTIC_RUN_ID",
        "PET_NNODES",
        "KUBERNETES_SERVICE_HOST",
        "LD_PRELOAD",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
    ],
)
def test_the_environment_of_muster_and_torchrun_is_reserved(name: str) -> None:
    with pytest.raises(Invalid, match=name):
        read_template(GOOD | {"env": {name: "x"}})


@pytest.mark.parametrize("name", ["HF_HOME", "RANKING", "MY_MUSTER_X", "PYTHONUNBUFFERED", "_x"])
def test_other_environment_is_free(name: str) -> None:
    assert read_template(GOOD | {"env": {name: "x"}}).env == {name: "x"}


@pytest.mark.parametrize("seconds", [600, 600.0])
def test_whole_numbers_are_seconds_too(seconds: float) -> None:
    template = read_template(
        GOOD | {"limits": {"timeout_s": seconds}, "pool": {"idle_timeout_s": seconds}, "gpus_per_rank": 1}
    )
    assert template.limits.timeout_s == template.pool.idle_timeout_s == 600.0
    assert isinstance(template.limits.timeout_s, float)


def test_the_spelling_of_a_number_makes_no_new_version() -> None:
    whole, broken = (read_template(GOOD | {"limits": {"timeout_s": s}}) for s in (600, 600.0))
    assert whole.digest == broken.digest


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "Digits"}, "/name"),
        ({"name": "-x"}, "/name"),
        ({"name": "x" * 41}, "/name"),
        ({"name": "../x"}, "/name"),
        ({"name": "x\n"}, "/name"),
        ({"handler": "samples.digits"}, "/handler"),
        ({"handler": "a:b:c"}, "/handler"),
        ({"nodes": 0}, "/nodes"),
        ({"nodes": 1025}, "/nodes"),
        ({"nodes": True}, "/nodes"),
        ({"nodes": "2"}, "/nodes"),
        ({"nodes": 1.5}, "/nodes"),
        ({"ranks_per_node": 65}, "/ranks_per_node"),
        ({"gpus_per_rank": -1}, "/gpus_per_rank"),
        ({"gpus_per_rank": True}, "/gpus_per_rank"),
        ({"limits": {"timeout_s": 0}}, "/limits/timeout_s"),
        ({"limits": {"timeout_s": -5}}, "/limits/timeout_s"),
        ({"limits": {"timeout_s": 1e12}}, "/limits/timeout_s"),
        ({"limits": {"timeout_s": "60"}}, "/limits/timeout_s"),
        ({"limits": {"timeout_s": True}}, "/limits/timeout_s"),
        ({"limits": 3}, "/limits"),
        ({"limits": {"timeout": 3}}, "/limits/timeout"),
        ({"pool": {"max": 0, "min": 1}}, "/pool"),
        ({"pool": {"max": 1001}}, "/pool/max"),
        ({"batch": {"max_gangs": 0}}, "/batch/max_gangs"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts"),
        ({"data_backend": "mpi"}, "/data_backend"),
        ({"hander": "a:b"}, "/hander"),
        ({"env": {"1X": "x"}}, "/env/1X/[key]"),
        ({"env": {"X": "x" * 4097}}, "/env/X"),
        ({"input": {"type": "strin"}}, "/input/type"),
        ({"input": {"properties": {"n": {"pattern": "("}}}}, "/input/properties/n/pattern"),
        ({"input": []}, "/input"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_pointer(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_template(GOOD | change)
    assert refused.value.code == "invalid_template"
    assert refused.value.pointer == pointer


def test_a_template_without_name_or_handler_says_so() -> None:
    for missing in GOOD:
        with pytest.raises(Invalid) as refused:
            read_template({key: value for key, value in GOOD.items() if key != missing})
        assert refused.value.pointer == f"/{missing}"


def test_equal_content_has_an_equal_digest_whatever_its_order() -> None:
    first = Template.model_validate(GOOD | {"args": {"a": 1, "b": 2}})
    second = Template.model_validate({"args": {"b": 2, "a": 1}} | GOOD)
    assert first.digest == second.digest
    assert first.digest != Template.model_validate(GOOD | {"args": {"a": 1, "b": 3}}).digest


def test_what_is_stored_reads_back_as_the_same_template() -> None:
    template = Template.model_validate(GOOD | {"nodes": 2, "ranks_per_node": 3, "limits": {"no_progress_s": 5}})
    assert Template.model_validate(template.spec) == template
    assert template.world == 6


def test_a_template_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Template.model_validate(GOOD).nodes = 2  # type: ignore[misc]


def test_a_warm_up_must_fit_the_input_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert read_template(GOOD | {"input": schema, "warmup": {"input": {"n": 1}}}).warmup is not None
    with pytest.raises(Invalid) as refused:
        read_template(GOOD | {"input": schema, "warmup": {"input": {"n": "one"}}})
    assert (refused.value.code, refused.value.pointer) == ("invalid_template", "/warmup/input/n")


def test_what_is_not_asked_for_leaves_no_trace_in_the_digest() -> None:
    spec = read_template(GOOD).spec
    assert not {"script", "warmup", "preflight"} & spec.keys()
    assert "setup_timeout_s" not in spec["limits"]
    asked = read_template(GOOD | {"preflight": {"min_free_mb": 5}, "limits": {"setup_timeout_s": 5}})
    assert Template.model_validate(asked.spec) == asked
    assert asked.setup_timeout_s == 5


def test_all_mistakes_are_said_at_once_each_with_its_pointer() -> None:
    with pytest.raises(Invalid) as refused:
        read_template({"name": "film", "nodes": "eight", "ranks": 2, "limits": {"timeout_s": -1}})
    assert [one["pointer"] for one in refused.value.listed] == ["/handler", "/nodes", "/limits/timeout_s", "/ranks"]
    assert refused.value.pointer == "/handler"
