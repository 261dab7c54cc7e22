"""The pages of templates without a browser: who sees them, who changes them, and what is said of a mistake."""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import builders as make
import httpx
import pages
import pytest
from replica import Replica

from orchestrator.store import tokens
from orchestrator.store.tokens import Scope

HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}\u202egpj'
FILM = """\
name: film
description: Text to video
handler: samples.film:Film
nodes: 2
ranks_per_node: 4
input:
  type: object
  required: [prompt]
  properties:
    zebra: {type: integer, minimum: 3, default: 7, description: The first of them.}
    prompt: {type: string, maxLength: 40}
    size: {type: object, properties: {width: {type: integer}}}
    apple: {enum: [red, green]}
pool: {max: 1}
"""


@dataclass(frozen=True)
class Tenant:
    here: Replica
    name: str

    def token(self, *scopes: Scope) -> str:
        def work(tx: Any) -> str:
            return tokens.create(tx, tenant=self.name, name="test", scopes=scopes or tuple(Scope))[1]

        return self.here.database.transact(work)

    @property
    def api(self) -> httpx.Client:
        return self.here.client(self.token())


@pytest.fixture
def tenant(here: Replica) -> Tenant:
    name = f"tenant-{secrets.token_hex(6)}"
    here.database.transact(lambda tx: make.tenant(tx, name))
    return Tenant(here, name)


@pytest.fixture
def browser(here: Replica, tenant: Tenant) -> Iterator[httpx.Client]:
    with pages.signed_in(here.url, tenant.token()) as opened:
        yield opened


def register(browser: httpx.Client, text: str = FILM, name: str = "-/new") -> httpx.Response:
    return browser.post(f"/ui/templates/{name}", data={"yaml": text.replace("\n", "\r\n")})


def test_without_templates_the_page_says_how_to_get_one(browser: httpx.Client) -> None:
    assert "muster template apply digits" in browser.get("/ui/templates").text


def test_a_template_written_in_the_page_is_registered_and_shown(browser: httpx.Client, tenant: Tenant) -> None:
    answer = register(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/templates/film")
    assert tenant.api.get("/v1/templates/film").json()["spec"]["nodes"] == 2
    shown = browser.get("/ui/templates/film").text
    for words in (
        "Text to video",
        "2 nodes × 4 ranks",
        "samples.film:Film",
        "At least 3.",
        "The first of them.",
        "red, green",
    ):
        assert words in shown
    card = browser.get("/ui/templates").text
    assert "8 ranks on 2 nodes" in card
    assert "never" in card


def test_inputs_stand_in_the_order_of_their_author(browser: httpx.Client) -> None:
    register(browser)
    shown = browser.get("/ui/templates/film").text
    assert re.findall(r"<code>(zebra|prompt|size|width|apple)</code>", shown) == [
        "zebra", "prompt", "size", "width", "apple",
    ]  # fmt: skip
    fields = pages.fields(browser.get("/ui/templates/film/submit").text)
    assert [name for name in fields if name.startswith("in/z") or name == "in/size/width"] == [
        "in/zebra",
        "in/size/width",
    ]


def test_the_yaml_that_is_shown_is_the_same_version_again(browser: httpx.Client, tenant: Tenant) -> None:
    register(browser)
    text = pages.fields(browser.get("/ui/templates/film/edit").text)["yaml"][0]
    assert text.index("zebra") < text.index("apple")
    assert register(browser, text, "film/edit").status_code == 303
    assert tenant.api.get("/v1/templates/film").json()["version"] == 1
    assert register(browser, text.replace("nodes: 2", "nodes: 1"), "film/edit").status_code == 303
    shown = browser.get("/ui/templates/film").text
    assert re.search(r'data-label="Version">2<.*?data-label="What changed">nodes<', shown, re.DOTALL)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: film\nnodes: eight\nranks: 2\n", ["/nodes", "/ranks", "/handler"]),
        ("a: [", ["this is no YAML that is taken", "line 1"]),
        ("- 1", ["a template is a mapping"]),
        ("name: film\nname: film", ["stands twice"]),
        (FILM.replace("maxLength: 40", "maxLength: -1"), ["/input/properties/prompt/maxLength"]),
        (FILM.replace("name: film", "name: Film"), ["/name"]),
        ("a: &a [1]\nb: *a", ["aliases are not taken"]),
        (HOSTILE, ["this is no YAML that is taken"]),
        ("", ["a template is a mapping"]),
    ],
)
def test_mistakes_are_listed_with_their_place_and_the_text_is_kept(
    browser: httpx.Client, tenant: Tenant, text: str, said: list[str]
) -> None:
    answer = register(browser, text)
    assert answer.status_code == 422
    assert pages.fields(answer.text)["yaml"] == [text]
    summary = html.unescape(answer.text[answer.text.index('id="mistakes"') : answer.text.index('for="yaml"')])
    assert [one for one in said if one not in summary] == []
    assert "<script>alert" not in answer.text
    assert tenant.api.get("/v1/templates").json()["data"] == []


def test_the_editor_of_a_template_makes_no_other_one(browser: httpx.Client, tenant: Tenant) -> None:
    register(browser)
    answer = register(browser, FILM.replace("name: film", "name: other"), "film/edit")
    assert (answer.status_code, "calls itself" in answer.text) == (422, True)
    assert tenant.api.get("/v1/templates/other").status_code == 404


def test_a_template_is_deleted_and_one_in_use_is_not(browser: httpx.Client, tenant: Tenant) -> None:
    register(browser)
    request = tenant.api.post("/v1/requests", json={"template": "film", "input": {"prompt": "x"}}).json()["id"]
    refused = browser.post("/ui/templates/film/delete", headers={"HX-Request": "true"})
    assert (refused.status_code, "has open requests" in refused.headers["hx-trigger"]) == (409, True)
    tenant.api.post(f"/v1/requests/{request}/cancel")
    assert browser.post("/ui/templates/film/delete").headers["location"] == "/ui/templates"
    assert browser.get("/ui/templates/film").status_code == 404


def test_who_may_only_read_sees_templates_and_changes_none(
    here: Replica, browser: httpx.Client, tenant: Tenant
) -> None:
    register(browser)
    with pages.signed_in(here.url, tenant.token(Scope.READ)) as reader:
        shown = reader.get("/ui/templates/film")
        assert shown.status_code == 200
        for words in ("Delete", "/edit", "/submit", "/batches/new"):
            assert words not in shown.text
        for path in ("-/new", "film/edit"):
            assert reader.get(f"/ui/templates/{path}").status_code == 403
            assert register(reader, FILM.replace("nodes: 2", "nodes: 3"), path).status_code == 403
        assert reader.post("/ui/templates/film/delete").status_code == 403
    assert tenant.api.get("/v1/templates/film").json()["version"] == 1


def test_nobody_sees_the_templates_of_another_tenant(here: Replica, browser: httpx.Client) -> None:
    theirs = Tenant(here, here.database.transact(make.tenant))
    with pages.signed_in(here.url, theirs.token()) as stranger:
        register(stranger)
        assert "film" in stranger.get("/ui/templates").text
    assert "film" not in browser.get("/ui/templates").text
    for path in ("film", "film/edit", "film/submit", "Film", "no%2Fname"):
        assert browser.get(f"/ui/templates/{path}").status_code == 404
    assert browser.post("/ui/templates/film/delete").status_code == 404


def test_what_an_author_wrote_is_text(browser: httpx.Client, tenant: Tenant) -> None:
    schema = {
        "type": "object",
        "properties": {HOSTILE: {"enum": [HOSTILE], "description": HOSTILE, "default": HOSTILE}},
    }
    spec = {"handler": "samples.film:Film", "description": HOSTILE, "args": {HOSTILE: HOSTILE}, "input": schema}
    assert tenant.api.put("/v1/templates/film", json=spec).status_code == 200
    for path in ("", "/film", "/film/edit"):
        shown = browser.get(f"/ui/templates{path}").text
        assert "<script>alert" not in shown
    assert "\\u202e" in browser.get("/ui/templates/film").text
