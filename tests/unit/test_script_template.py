"""A template with a script instead of a handler."""

from typing import Any

import pytest
import yaml

from orchestrator.api.catalog import read_template
from orchestrator.domain.template import SCRIPT_HANDLER, Template
from orchestrator.errors import Invalid

GOOD: dict[str, Any] = {
    "name": "wan",
    "script": {"path": "/srv/wan/generate.py", "gang_args": ["task"], "outputs": {"save_file": "video.mp4"}},
    "args": {"task": "t2v-14B"},
}


def test_a_script_brings_the_built_in_handler() -> None:
    template = read_template(GOOD)
    assert template.handler == SCRIPT_HANDLER
    assert template.handler_args["args"] == {"task": "t2v-14B"}
    assert template.handler_args["script"]["outputs"] == {"save_file": "video.mp4"}
    assert Template.model_validate(template.spec) == template


def test_without_a_script_nothing_changes() -> None:
    template = read_template({"name": "x", "handler": "a:B", "args": {"size": 3}})
    assert template.handler_args == {"size": 3}
    assert "script" not in template.spec


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"handler": "a:B"}, "not both"),
        ({"args": {"tusk": "x"}}, "args.tusk is no gang-level argument"),
        ({"script": {"path": "x.py", "outputs": {"save_file": "../x"}}}, "/script/outputs/save_file"),
        ({"script": {"path": "x.py", "memoise": ["no class"]}}, "/script/memoise/0"),
        ({"script": {"file": "x.py"}}, "/script/path"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        read_template(GOOD | change)


def test_the_shipped_script_template_is_one() -> None:
    with open("job_templates/wanlike.yaml") as file:
        assert read_template(yaml.safe_load(file)).script is not None
