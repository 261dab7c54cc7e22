"""The form of a request without a browser: what is sent is recorded, what is wrong is said beside its field."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pages
import pytest
from replica import Replica, replica

from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

MOST = 50_000
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 40, "title": "What the video shows"},
        "frames": {"type": "integer", "minimum": 5, "maximum": 81, "default": 8},
        "guidance": {"type": "number", "exclusiveMinimum": 0, "default": 5.0},
        "solver": {"type": "string", "enum": ["unipc", "dpm++"], "default": "unipc"},
        "look": {"enum": ["noir", "pastel", 3, "comic", "oil", "clay"]},
        "upscale": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}},
        "channels": {"type": "array", "uniqueItems": True, "items": {"enum": ["depth", "mask"]}},
        "size": {
            "type": "object",
            "required": ["width"],
            "properties": {"width": {"type": "integer", "minimum": 16}, "height": {"type": "integer"}},
        },
        "image": {"type": ["string", "null"], "format": "muster-file"},
        "camera": {"anyOf": [{"type": "string"}, {"type": "array"}]},
    },
}
FILM = {"handler": "samples.film:Film", "input": SCHEMA, "pool": {"max": 1}}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202egpj\x1b[31m'


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("pages"), max_upload_bytes=MOST) as running:
        yield running


class House:
    """A tenant with a template, its API and its browser."""

    def __init__(self, here: Replica, template: dict[str, Any] = FILM, name: str = "film") -> None:
        self.tenant, self.name = f"tenant-{secrets.token_hex(6)}", name
        self._here = here
        here.database.transact(lambda tx: make.tenant(tx, self.tenant))
        self.api = here.caller(tenant=self.tenant)
        assert self.api.put(f"/v1/templates/{name}", json=template).status_code == 200
        self.path = f"/ui/templates/{name}/submit"

    def token(self, *scopes: Scope) -> str:
        made = self._here.database.transact(
            lambda tx: tokens.create(tx, tenant=self.tenant, name="test", scopes=scopes or tuple(Scope))
        )
        return made[1]


@pytest.fixture(scope="module")
def house(here: Replica) -> House:
    return House(here)


@pytest.fixture(scope="module")
def browser(here: Replica, house: House) -> Iterator[httpx.Client]:
    with pages.signed_in(here.url, house.token()) as opened:
        yield opened


def submit(browser: httpx.Client, house: House, **typed: Any) -> httpx.Response:
    """The form as it comes, with these things typed; a name without a slash is that of a property."""
    form = pages.fields(browser.get(house.path).text)
    return browser.post(house.path, data=form | {name.replace("__", "/"): value for name, value in typed.items()})


def recorded(house: House, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 303, pages.wrong(answer.text)
    where = answer.headers["location"]
    assert where.startswith("/ui/requests/req_")
    found: dict[str, Any] = house.api.get(where.replace("/ui", "/v1")).json()
    return found


def test_what_is_filled_in_is_recorded_with_the_types_of_the_schema(browser: httpx.Client, house: House) -> None:
    answer = submit(
        browser,
        house,
        in__prompt="a cat,\r\nit jumps",
        in__frames="12",
        in__guidance="2.5",
        in__look="3",
        in__upscale="true",
        in__tags="red\r\n\r\n blue ",
        in__channels=['"mask"'],
        in__size__width="64",
        in__camera='["pan", 1]',
        mode="batch",
        priority="5",
        labels="team = ads\r\nrun=7",
        timeout_s="90s",
        max_attempts="2",
    )
    found = recorded(house, answer)
    assert found["input"] == {
        "prompt": "a cat,\nit jumps",
        "frames": 12,
        "guidance": 2.5,
        "solver": "unipc",
        "look": 3,
        "upscale": True,
        "tags": ["red", "blue"],
        "channels": ["mask"],
        "size": {"width": 64},
        "camera": ["pan", 1],
    }
    assert (found["mode"], found["priority"], found["max_attempts"]) == ("batch", 5, 2)
    assert found["labels"] == {"team": "ads", "run": "7"}


def test_what_is_left_empty_is_left_out(browser: httpx.Client, house: House) -> None:
    found = recorded(house, submit(browser, house, in__prompt="a cat"))
    assert found["input"] == {"prompt": "a cat", "frames": 8, "guidance": 5.0, "solver": "unipc"}


def test_all_that_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost(
    browser: httpx.Client, house: House
) -> None:
    typed = {
        "in__prompt": "x" * 41,
        "in__frames": "three",
        "in__guidance": "0",
        "in__look": '"disco"',
        "in__tags": "red\nmuch too long",
        "in__size__width": "8",
        "in__camera": "{",
        "priority": "5000",
        "labels": "no value",
        "timeout_s": "soon",
    }
    answer = submit(browser, house, **typed)
    assert answer.status_code == 422
    shown = pages.fields(answer.text)
    assert {name: shown[name.replace("__", "/")][0] for name in typed} == typed
    said = pages.wrong(answer.text)
    for words in (
        "At most 40 characters.",
        "'three' is no number: write 12, -3 or 0.5",
        "More than 0.",
        "Choose one of those offered.",
        "Entry 2: At most 5 characters.",
        "At least 16.",
        "this is not JSON",
        "less than or equal to 1000",
        "'no value': write key=value, one in each line",
        "'soon' is not a duration",
    ):
        assert any(words in one for one in said), (words, said)


def test_a_required_field_that_is_empty_says_so(browser: httpx.Client, house: House) -> None:
    answer = submit(browser, house)
    assert (answer.status_code, pages.wrong(answer.text)) == (422, ["Fill this in."])
    assert 'aria-invalid="true"' in answer.text


def test_the_same_form_twice_is_one_request(browser: httpx.Client, house: House) -> None:
    form = pages.fields(browser.get(house.path).text) | {"in/prompt": "once"}
    first, second = browser.post(house.path, data=form), browser.post(house.path, data=form)
    assert recorded(house, first)["id"] == recorded(house, second)["id"]


def test_the_same_form_with_other_values_asks_first_and_is_then_another_request(
    browser: httpx.Client, house: House
) -> None:
    form = pages.fields(browser.get(house.path).text) | {"in/prompt": "once"}
    first = recorded(house, browser.post(house.path, data=form))
    refused = browser.post(house.path, data=form | {"in/prompt": "twice"})
    assert "This form was sent before, with other values." in refused.text
    again = recorded(house, browser.post(house.path, data=pages.fields(refused.text)))
    assert (again["id"] != first["id"], again["input"]["prompt"]) == (True, "twice")


def test_a_key_of_ones_own_is_held_to_what_was_sent_with_it(browser: httpx.Client, house: House) -> None:
    first = recorded(house, submit(browser, house, in__prompt="mine", own_key="night-1"))
    assert recorded(house, submit(browser, house, in__prompt="mine", own_key="night-1"))["id"] == first["id"]
    other = submit(browser, house, in__prompt="other", own_key="night-1")
    assert other.status_code == 422
    assert 'id="own_key-wrong"' in other.text
    assert submit(browser, house, in__prompt="mine", own_key="two words").status_code == 422


def test_an_earlier_request_is_cloned_with_its_terms(browser: httpx.Client, house: House) -> None:
    first = recorded(
        house, submit(browser, house, in__prompt="a & b", in__tags="red\nblue", in__size__width="64", labels="a=b")
    )
    form = pages.fields(browser.get(f"{house.path}?from={first['id']}").text)
    again = recorded(house, browser.post(house.path, data=form))
    assert (again["id"] != first["id"], again["input"], again["labels"]) == (True, first["input"], {"a": "b"})


def test_nothing_of_another_tenant_is_cloned_or_used(here: Replica, browser: httpx.Client, house: House) -> None:
    theirs = House(here)
    request = theirs.api.post("/v1/requests", json={"template": "film", "input": {"prompt": "secret"}}).json()
    file = theirs.api.post("/v1/files", content=b"secret").json()
    assert browser.get(f"{house.path}?from={request['id']}").status_code == 404
    answer = submit(browser, house, in__prompt="x", in__image=file["id"])
    assert (answer.status_code, "there is no file" in answer.text) == (422, True)
    assert browser.get("/ui/templates/nothing/submit").status_code == 404


def test_a_token_that_may_only_read_gets_no_form_and_sends_none(here: Replica, house: House) -> None:
    with pages.signed_in(here.url, house.token(Scope.READ)) as reader:
        for answer in (
            reader.get(house.path),
            reader.post(house.path, data={"in/prompt": "x"}),
            reader.post("/ui/templates/film/check", data={"in/prompt": "x"}),
            reader.post("/ui/files?name=x", content=b"x"),
        ):
            assert (answer.status_code, "lacks the scope" in answer.text) == (403, True)
    assert house.api.get("/v1/requests?label.by=reader").json()["data"] == []


def test_a_file_that_a_form_sends_is_stored_and_may_be_named(browser: httpx.Client, house: House) -> None:
    answer = browser.post("/ui/files", params={"name": "../a cät<b>.png"}, content=b"a cat")
    assert (answer.status_code, answer.json()["name"]) == (201, "_.._a c_t_b_.png")
    found = recorded(house, submit(browser, house, in__prompt="x", in__image=answer.json()["id"]))
    assert found["input"]["image"] == answer.json()["id"]
    cloned = browser.get(f"{house.path}?from={found['id']}")
    assert pages.fields(cloned.text)["in/image"] == [answer.json()["id"]]
    assert "_.._a c_t_b_.png, 5 bytes" in cloned.text


def test_a_file_that_is_too_large_is_refused_in_words(browser: httpx.Client) -> None:
    answer = browser.post("/ui/files?name=x", content=b"x" * (MOST + 1))
    assert (answer.status_code, "larger than 50000 bytes" in answer.json()["detail"]) == (413, True)


@pytest.mark.parametrize("path", ["/ui/files?name=x", "/ui/templates/film/submit", "/ui/templates/film/check"])
def test_a_change_without_the_proof_is_refused(browser: httpx.Client, path: str) -> None:
    assert browser.post(path, content=b"", headers={"X-XSRF-TOKEN": "another"}).status_code == 403


def test_while_the_form_is_filled_it_says_the_path_and_what_it_equals(browser: httpx.Client, house: House) -> None:
    form = pages.fields(browser.get(house.path).text)
    assert "1 field is to be filled" in browser.post("/ui/templates/film/check", data=form).text
    said = browser.post("/ui/templates/film/check", data=form | {"in/prompt": "it's @home"}).text
    assert "status is-idle" in said
    assert "-i &#39;prompt=it&#39;&#34;&#39;&#34;&#39;s @home&#39;" in said
    warm = browser.post("/ui/templates/film/check", data=form | {"in/prompt": "x", "mode": "batch"}).text
    assert "batch" in warm


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/a"}}}}},
        {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["b"]}]},
    ],
)
def test_a_schema_that_no_form_can_show_takes_json(here: Replica, schema: dict[str, Any]) -> None:
    of = House(here, {**FILM, "input": schema})
    with pages.signed_in(here.url, of.token()) as browser:
        form = pages.fields(browser.get(of.path).text)
        name = "in" if "in" in form else "in:more"
        found = recorded(of, browser.post(of.path, data=form | {name: '{"b": {"c": 1}}'.replace("1", "{}")}))
        assert found["input"] == {"b": {"c": {}}}
        assert browser.post(of.path, data=form | {name: "[1]"}).status_code == 422


def test_texts_of_a_schema_are_text(here: Replica) -> None:
    schema = {
        "type": "object",
        "title": HOSTILE,
        "properties": {
            HOSTILE: {"type": "string", "title": HOSTILE, "description": HOSTILE, "default": HOSTILE},
            "choice": {"enum": [HOSTILE, "b"], "default": HOSTILE},
            "many": {"enum": [HOSTILE, *"bcdefg"]},
        },
    }
    of = House(here, {**FILM, "description": HOSTILE, "input": schema})
    with pages.signed_in(here.url, of.token()) as browser:
        page = browser.get(of.path).text
        for bad in ("<script>alert", "<img src=x"):
            assert bad not in page
        found = recorded(of, browser.post(of.path, data=pages.fields(page)))
        assert found["input"] == {HOSTILE: HOSTILE, "choice": HOSTILE}


def test_what_postgres_would_refuse_is_said_in_the_form(browser: httpx.Client, house: House) -> None:
    answer = submit(browser, house, in__prompt="a\0b")
    assert (answer.status_code, "NUL" in answer.text) == (422, True)
