"""The templates that come with Muster: accepted as they are, and refused in shapes that could not run."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest

from orchestrator.api.catalog import read_template
from orchestrator.api.input_schema import Form
from orchestrator.cli.template_files import parse, shipped_names
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid

WAN = [name for name in shipped_names() if re.match(r"wan2\d-", name)]


def document(name: str) -> dict[str, Any]:
    return parse((resources.files("job_templates") / f"{name}.yaml").read_text(), name)


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_template_can_be_registered_under_its_file_name(name: str) -> None:
    assert read_template(document(name)).name == name


def test_the_wans_are_shipped() -> None:
    assert WAN == ["wan21-t2v-14b-1x8", "wan21-t2v-14b-2x8", "wan22-t2v-a14b-1x8", "wan22-ti2v-5b-1x8"]


@pytest.mark.parametrize("name", WAN)
def test_the_name_of_a_wan_says_its_shape_and_its_gpus_are_one_per_rank(name: str) -> None:
    template = read_template(document(name))
    assert name.endswith(f"-{template.nodes}x{template.ranks_per_node}")
    assert template.pod.resources.gpus == template.ranks_per_node


def registered(name: str, *, nodes: int, **args: Any) -> Template:
    template = document(name)
    return read_template(template | {"nodes": nodes, "args": template["args"] | args})


@pytest.mark.parametrize(
    ("nodes", "ulysses", "ring"), [(1, 8, 1), (1, 4, 2), (1, 1, 8), (2, 8, 2), (2, 4, 4), (4, 8, 4), (5, 40, 1)]
)
def test_wan21_takes_every_split_of_its_ranks_that_deals_40_heads_out(nodes: int, ulysses: int, ring: int) -> None:
    assert registered("wan21-t2v-14b-2x8", nodes=nodes, ulysses_size=ulysses, ring_size=ring)


@pytest.mark.parametrize(
    ("nodes", "ulysses", "ring", "said"),
    [
        (1, 8, 2, "= 16 must equal world = 8"),
        (2, 8, 1, "= 8 must equal world = 16"),
        (2, 16, 1, "args.ulysses_size = 16 must divide 40"),
        (3, 12, 2, "args.ulysses_size = 12 must divide 40"),
    ],
)
def test_wan21_refuses_other_splits(nodes: int, ulysses: int, ring: int, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        registered("wan21-t2v-14b-2x8", nodes=nodes, ulysses_size=ulysses, ring_size=ring)


@pytest.mark.parametrize(("nodes", "ulysses"), [(2, 16), (2, 8), (1, 4)])
def test_wan22_has_no_ring_so_sixteen_ranks_are_refused(nodes: int, ulysses: int) -> None:
    with pytest.raises(Invalid, match=r"must (equal|divide)"):
        registered("wan22-t2v-a14b-1x8", nodes=nodes, ulysses_size=ulysses)


@pytest.mark.parametrize("name", WAN)
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prompt": ""},
        {"prompt": "a cat", "frame_num": 80},
        {"prompt": "a cat", "size": "640*480"},
        {"prompt": "a cat", "sample_steps": 0},
        {"prompt": "a cat", "base_seed": -2},
        {"prompt": "a cat", "sample_step": 30},
        {"prompt": "a cat", "ulysses_size": 4},
    ],
)
def test_a_wan_refuses_a_request_that_the_script_could_not_run(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Form(read_template(document(name)).input).fit(values)


@pytest.mark.parametrize("name", WAN)
def test_a_prompt_is_all_a_wan_needs(name: str) -> None:
    filled = Form(read_template(document(name)).input).fit({"prompt": "a cat"})
    assert filled["frame_num"] % 4 == 1
    assert filled["base_seed"] == -1


@pytest.mark.parametrize("name", shipped_names())
def test_no_request_may_give_an_argument_of_the_gang(name: str) -> None:
    template = read_template(document(name))
    fixed = set(template.script.gang_args) if template.script else set()
    assert not fixed & template.input.get("properties", {}).keys()
