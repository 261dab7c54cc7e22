"""What somebody hostile sends to the pages, or has them show: no defect, no broken answer, nobody else kept waiting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import httpx
import pytest
from gateway_matrix import _pages
from replica import ALL, Replica, replica
from visitors import Visitor

from orchestrator.api.admission import MOST_UPLOADS
from orchestrator.store import tokens
from orchestrator.store.database import Database

HTMX = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(here: Replica) -> Visitor:
    """May do everything, with the template `echo`."""
    found = Visitor(here)
    answer = here.caller(tenant=found.tenant).put("/v1/templates/echo", json={"handler": "samples.echo:Echo"})
    assert answer.status_code == 200, answer.text
    return found


@pytest.mark.parametrize("to", ["/a\r\nSet-Cookie: evil=1\r\n\r\n<b>", "/a\nb", "/中", "//evil.example/"])
def test_a_link_to_the_sign_in_puts_nothing_into_a_header(here: Replica, owner: Visitor, to: str) -> None:
    token = here.database.transact(lambda tx: tokens.create(tx, tenant=owner.tenant, name="x", scopes=ALL))[1]
    for headers in (HTMX, {"Content-Type": HTMX["Content-Type"]}):
        answer = owner.http.post("/login", content=urlencode({"token": token, "to": to}), headers=headers)
        target = answer.headers.get("HX-Redirect") or answer.headers["location"]
        assert answer.status_code in (204, 303) and target.startswith("/ui/") and target.isprintable(), to
        assert "evil" not in answer.headers["set-cookie"]


FORMS = {
    "/templates/echo/submit": ("labels", "own_key", "in:more"),
    "/templates/echo/check": ("labels", "in:more"),
    "/pools/echo": ("min",),
    "/schedules/_new": ("name", "template", "timezone", "inject", "labels", "source"),
    "/schedules/_preview": ("cron", "timezone"),
    "/schedules/_runs": ("template",),
    "/templates/-/new": ("yaml",),
    "/login": ("token",),
}


@pytest.mark.parametrize("odd", ["\0", "k=\0", "\N{RIGHT-TO-LEFT OVERRIDE}", '{"a": "\\ud800"}', "9" * 5000])
def test_no_form_takes_what_cannot_be_kept_for_a_defect(owner: Visitor, odd: str) -> None:
    whole = {"template": "echo", "name": "n1", "cron": "0 3 1 1 *", "timezone": "UTC", "kind": "request"}
    for path, names in FORMS.items():
        for name in names:
            answer = owner.http.post(path, content=urlencode({**whole, name: odd}), headers=HTMX)
            assert answer.status_code < 500, (path, name, answer.text)


QUERIES = {
    "/requests": ("q", "template", "older", "after"),
    "/gangs": ("template", "at"),
    "/batches": ("status", "cursor"),
    "/batches/new": ("template",),
    "/schedules/_new": ("template",),
    "/templates/echo/submit": ("from",),
    "/login": ("to",),
}


@pytest.mark.parametrize("odd", ["%00", "%ED%A0%80%0d%0aX:%20y", "9" * 3000])
def test_no_address_is_taken_for_a_defect(owner: Visitor, odd: str) -> None:
    """As each part of a path, and behind the names that pages know."""
    reads = [route.split()[1] for route in _pages() if route.startswith("GET ") and "/live/" not in route]
    paths = {re.sub(r"\{[^}]*\}", odd, path) for path in reads if "{" in path}
    for address in paths | {f"{path}?{name}={odd}" for path, names in QUERIES.items() for name in names}:
        assert owner.http.get(address).status_code < 500, address


@pytest.mark.parametrize("said", ['"\\0"', '"\\ud800"', "1e999", "9" * 5000, "[" * 40 + "1" + "]" * 40])
def test_yaml_says_nothing_that_the_api_would_not_take(owner: Visitor, said: str) -> None:
    text = f"name: odd\nhandler: samples.echo:Echo\ninput: {{type: object, properties: {{a: {{default: {said}}}}}}}\n"
    answer = owner.http.post("/templates/-/new", content=urlencode({"yaml": text}), headers=HTMX)
    assert answer.status_code == 422, answer.text


def test_yaml_of_many_values_is_refused_before_it_is_read(owner: Visitor) -> None:
    many = "name: many\nhandler: samples.echo:Echo\ninput: {a: [" + "1," * 21_000 + "1]}\n"
    for text, why in ((many, "more than 20000"), ("#" * 300_000, "KiB of YAML")):
        answer = owner.http.post("/templates/-/new", content=urlencode({"yaml": text}), headers=HTMX)
        assert answer.status_code == 422 and why in answer.text


def test_a_large_and_deep_input_makes_no_larger_page_than_it_is(here: Replica, owner: Visitor) -> None:
    deep: object = [1] * 200_000
    for _ in range(28):
        deep = [deep]
    sent = {
        "template": "echo",
        "input": {"a": deep, "b": "b" * 200_000, **{f"c{n}": [[[1] * 2000]] for n in range(20)}},
    }
    answer = here.caller(tenant=owner.tenant).post("/v1/requests", json=sent)
    assert answer.status_code == 202, answer.text
    page = owner.get(f"/requests/{answer.json()['id']}")
    assert len(page) < 1_000_000 and "characters)" in page and "muster retry req_" in page


def test_a_schema_that_says_much_by_references_makes_no_endless_form(here: Replica, owner: Visitor) -> None:
    shared = {
        "choice": {"enum": [f"{n}" + "x" * 900 for n in range(300)]},
        "text": {"type": "string", "default": "y" * 300_000},
    }
    fields = {f"p{n}": {"$ref": f"#/$defs/{'choice' if n % 2 else 'text'}"} for n in range(200)}
    schema = {"type": "object", "$defs": shared, "properties": {"q": {"enum": ["one", "two"]}, **fields}}
    api = here.caller(tenant=owner.tenant)
    assert api.put("/v1/templates/much", json={"handler": "samples.echo:Echo", "input": schema}).status_code == 200
    for path in ("/templates/much/submit", "/templates/much", "/batches/new?template=much"):
        page = owner.get(path)
        assert len(page) < 3_000_000, path


@pytest.mark.parametrize("path", ["/login", "/theme"])
def test_whoever_has_no_session_may_send_little(here: Replica, path: str) -> None:
    with httpx.Client(base_url=f"{here.url}/ui") as outsider:
        outsider.get("/login")
        outsider.headers.update(HTMX | {"X-XSRF-TOKEN": outsider.cookies["XSRF-TOKEN"]})
        answer = outsider.post(path, content="token=" + "x" * 5000)
        assert answer.status_code == 413, answer.text


def test_so_many_uploads_of_a_tenant_are_under_way_and_no_more(here: Replica, owner: Visitor) -> None:
    admission, lines = here.office.admission, {"Content-Type": "application/jsonl"}
    with ExitStack() as under_way:
        for _ in range(MOST_UPLOADS):
            under_way.enter_context(admission.sending(owner.tenant))
        api = here.caller(tenant=owner.tenant)
        for answer in (
            api.post("/v1/files", content=b"x"),
            api.post("/v1/batches?template=echo", content=b'{"custom_id": "a", "input": {}}', headers=lines),
            owner.http.post("/files?name=a", content=b"x"),
            owner.http.post("/batches/new?template=echo", content=b'{"custom_id": "a", "input": {}}', headers=lines),
        ):
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_uploads"), answer.text
        assert here.caller().post("/v1/files", content=b"x").status_code == 201
    assert api.post("/v1/files", content=b"x").status_code == 201


def test_who_asked_for_a_change_stands_in_the_log(
    here: Replica, owner: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    reader = here.caller(tokens.Scope.READ, tenant=owner.tenant)
    with caplog.at_level("INFO", logger="muster.audit"):
        assert owner.post("/pools/echo/drain").status_code == 204
        assert reader.patch("/v1/pools/echo", json={"max": 1}).status_code == 403
        assert owner.get("/pools/echo") and reader.get("/v1/pools").status_code == 200
    found = [(one.who[:4], one.tenant, one.method, one.path, one.status) for one in caplog.records]  # type: ignore[attr-defined]
    assert found == [
        ("tok_", owner.tenant, "POST", "/ui/pools/echo/drain", 204),
        ("tok_", owner.tenant, "PATCH", "/v1/pools/echo", 403),
    ]
