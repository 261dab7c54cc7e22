"""Bad input by its number in the catalogue of faults: status, code, no row anywhere, no 5xx, bounded time and memory.

B1 to B50 are the public API, B61 to B68 templates, B92 to B98 files, B100 to B110 the worker API. Rows of the
connection itself (B5, B8, B10, B11, B13) are in test_wire.py, of races and keys in test_api_requests.py.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import builders as make
import httpx
import psutil
import pytest
from http_gang import HttpGang, gang_in
from replica import Replica, replica
from sqlalchemy import text

from orchestrator.store.database import Database

MIB = 1 << 20
MOST_CPU_S, MOST_MIB = 3.0, 200.0
SCHEMA = {
    "type": "object",
    "properties": {"digit": {"type": "integer"}, "email": {"type": "string", "pattern": "^(a+)+$"}, "list": {}},
}
TEMPLATE = {"handler": "samples.echo:Echo", "input": SCHEMA, "pool": {"max": 1}}
REQUEST = {"template": "digits", "input": {"digit": 3}}
NO_REQUEST = "req_" + "0" * 26


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    settings = {"image_registries": ("registry.example.org/team",), "image_digests": True}
    with replica(shared_database, tmp_path_factory.mktemp("replica"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def caller(here: Replica) -> httpx.Client:
    client = here.caller()
    assert client.put("/v1/templates/digits", json=TEMPLATE).status_code == 200
    client.get("/v1/requests?cursor=x")  # the first makes the key that signs cursors
    return client


@contextmanager
def untouched(here: Replica) -> Iterator[None]:
    """No table has a row more or less, and the process (service and test together) has worked no harder than this."""
    process = psutil.Process(os.getpid())
    before, rss, cpu = rows(here), process.memory_info().rss, time.process_time()
    yield
    spent, grown = time.process_time() - cpu, (process.memory_info().rss - rss) / MIB
    assert rows(here) == before
    assert spent < MOST_CPU_S and grown < MOST_MIB, (spent, grown)


def rows(here: Replica) -> dict[str, int]:
    """Of every table; beats come and go."""

    def work(tx: make.Tx) -> dict[str, int]:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        return {table: make.count(tx, f'SELECT count(*) FROM "{table}"') for table in tables}

    return here.database.transact(work)


def refused(answer: httpx.Response, status: int | set[int], code: str | None) -> None:
    assert answer.status_code in (status if isinstance(status, set) else {status}), answer.text[:500]
    if answer.headers.get("content-type") != "application/problem+json":
        assert code is None, answer.text[:500]
        return
    body = answer.json()
    assert body["status"] == answer.status_code and body["detail"]
    assert code is None or body["code"] == code, answer.text[:500]
    for leak in ("Traceback", "psycopg", "SELECT", "sqlalchemy", "/site-packages/"):
        assert leak not in answer.text


Case = tuple[Callable[[httpx.Client], httpx.Response], int | set[int], str | None]


def post(body: Any, **headers: str) -> Callable[[httpx.Client], httpx.Response]:
    """A submit of this body: bytes as they are, all else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda c: c.post("/v1/requests", content=content, headers={"Content-Type": "application/json"} | headers)


def get(path: str, **headers: str) -> Callable[[httpx.Client], httpx.Response]:
    return lambda c: c.get(path, headers=headers)


def call(method: str, path: str, **more: Any) -> Callable[[httpx.Client], httpx.Response]:
    return lambda c: c.request(method, path, **more)


def raw(field: str) -> bytes:
    """A submit whose input is this JSON text."""
    return b'{"template": "digits", "input": ' + field.encode() + b"}"


def forged(at: str, of: str = NO_REQUEST) -> str:
    return base64.urlsafe_b64encode(json.dumps([at, of]).encode()).decode()


API: dict[str, Case] = {
    "B1 no scheme": (get("/v1/requests", Authorization="mst_abc"), 401, "unauthorized"),
    "B1 another scheme": (get("/v1/requests", Authorization="Basic YTpi"), 401, "unauthorized"),
    "B2 a token of another kind": (
        get("/v1/requests", Authorization="Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."), 401, "unauthorized"),
    "B2 a token of a megabyte": (get("/v1/requests", Authorization="Bearer " + "a" * 15_000), 401, "unauthorized"),
    "B4 a gateway's word": (
        lambda c: httpx.get(f"{c.base_url}/v1/requests", headers={"kubeflow-userid": "a", "X-Forwarded-For": "::1"}),
        401, "unauthorized"),
    "B5 a body over the limit": (post(b" " * (MIB + 1)), 413, "too_large"),
    "B7 a gzip bomb": (
        post(gzip.compress(b" " * 50 * MIB), **{"Content-Encoding": "gzip"}), 415, "unsupported_media_type"),
    "B7 brotli": (post(b"x", **{"Content-Encoding": "br"}), 415, "unsupported_media_type"),
    "B14 empty": (post(b""), 422, "invalid_input"),
    "B14 null": (post(None), 422, "invalid_input"),
    "B14 a list": (post([]), 422, "invalid_input"),
    "B14 a text": (post("x"), 422, "invalid_input"),
    "B14 a number": (post(42), 422, "invalid_input"),
    "B14 input null": (post(REQUEST | {"input": None}), 422, "invalid_input"),
    "B16 a byte order mark": (post(b"\xef\xbb\xbf{}"), 400, "bad_json"),
    "B16 UTF-16": (post("{}".encode("utf-16")), 400, "bad_json"),
    "B16 UTF-32": (post("{}".encode("utf-32")), 400, "bad_json"),
    "B16 no UTF-8": (post(b'{"template": "\xff"}'), 400, "bad_json"),
    "B17 nested 100,000 deep": (post(raw("[" * 100_000 + "]" * 100_000)), 400, "bad_json"),
    "B17 objects 100,000 deep": (post(raw('{"a":' * 100_000)), 400, "bad_json"),
    "B19 NaN": (post(raw('{"digit": NaN}')), 400, "bad_json"),
    "B19 Infinity": (post(raw('{"digit": Infinity}')), 400, "bad_json"),
    "B19 -Infinity": (post(raw('{"digit": -Infinity}')), 400, "bad_json"),
    "B20 1e400": (post(raw('{"digit": 1e400}')), 400, "bad_json"),
    "B22 5,000 digits": (post(raw('{"digit": ' + "9" * 5000 + "}")), 400, "bad_json"),
    "B22 true as a number": (post(REQUEST | {"input": {"digit": True}}), 422, "invalid_input"),
    "B22 1.5 as a whole number": (post(b'{"template": "digits", "priority": 1.5}'), 422, "invalid_input"),
    "B22 2^63": (post(REQUEST | {"priority": 2**63}), 422, "invalid_input"),
    "B23 NUL in a value": (post(raw('{"list": "\\u0000"}')), 422, "invalid_string"),
    "B23 NUL in a key": (post(raw('{"\\u0000": 1}')), 422, "invalid_string"),
    "B23 a lone surrogate": (post(raw('{"list": "\\ud800"}')), 422, "invalid_string"),
    "B25 escapes in a name": (post(REQUEST | {"template": "\x1b[31m"}), 404, "unknown_template"),
    "B25 a label that turns text around": (post(REQUEST | {"labels": {"\u202e": "x"}}), 422, "invalid_input"),
    "B26 a misspelt field": (post(REQUEST | {"priorty": 1}), 422, "invalid_input"),
    "B26 a key twice": (post(b'{"template": "digits", "template": "other"}'), 400, "bad_json"),
    "B28 nothing required": (post({"input": {}}), 422, "invalid_input"),
    "B28 an empty name": (post(REQUEST | {"template": ""}), 422, "invalid_input"),
    "B28 a name of 64 KiB": (post(REQUEST | {"template": "x" * 65536}), 422, "invalid_input"),
    "B28 a million labels": (post(REQUEST | {"labels": {f"k{n}": "" for n in range(60_000)}}), 422, "invalid_input"),
    "B28 a label of 64 KiB": (post(REQUEST | {"labels": {"a": "x" * 65536}}), 422, "invalid_input"),
    "B28 a list where an object is due": (post(REQUEST | {"input": [0] * 300_000}), 422, "invalid_input"),
    "B31 an unknown ID": (get(f"/v1/requests/{NO_REQUEST}"), 404, "not_found"),
    "B31 no ID at all": (get("/v1/requests/req_1"), 404, "not_found"),
    "B32 another method": (call("PATCH", "/v1/requests"), 405, "method_not_allowed"),
    "B32 TRACE": (call("TRACE", "/v1/requests"), 405, "method_not_allowed"),
    "B32 an unknown path": (get("/v2/requests"), 404, "not_found"),
    "B32 a slash behind": (get("/v1/requests/"), 404, "not_found"),
    "B32 two slashes": (get("//v1/requests"), 404, "not_found"),
    "B32 dots": (call("GET", "/v1/x/%2e%2e/requests"), 404, "not_found"),
    "B34 a cursor that is none": (get("/v1/requests?cursor=abc"), 400, "bad_cursor"),
    "B34 a forged cursor": (get(f"/v1/requests?cursor={forged('2026-01-01T00:00:00+00:00')}"), 400, "bad_cursor"),
    "B34 a cursor of bytes": (get("/v1/requests?cursor=%ff%00"), {400, 422}, None),
    "B34 a cursor of 4 KiB": (get("/v1/requests?cursor=" + "a" * 4096), {400, 422}, None),
    "B35 a status that is none": (get("/v1/requests?status=' OR 1=1"), 422, "invalid_input"),
    "B35 a huge list": (get("/v1/requests?status=" + ",".join(["queued"] * 1500)), {200, 422}, None),
    "B35 a pattern": (get("/v1/requests?template=%25"), 200, None),
    "B35 NUL in a filter": (get("/v1/requests?template=%00"), 422, "invalid_input"),
    "B35 no such parameter": (get("/v1/requests?where=1"), 422, "unknown_parameter"),
    "B37 a key that is none": (post(REQUEST, **{"Idempotency-Key": "x" * 256}), 422, "invalid_input"),
    "B40 no duration": (post(REQUEST | {"expire_queued_after_s": "infinity"}), 422, "invalid_input"),
    "B41 zero": (post(REQUEST | {"timeout_s": 0}), 422, "invalid_input"),
    "B41 negative": (post(REQUEST | {"timeout_s": -1}), 422, "invalid_input"),
    "B41 too long": (post(REQUEST | {"timeout_s": 1e12}), 422, "invalid_input"),
    "B41 in words": (post(REQUEST | {"timeout_s": "PT1H"}), 422, "invalid_input"),
    "B43 out of range": (post(REQUEST | {"priority": 1001}), 422, "invalid_input"),
    "B43 a fraction": (post(REQUEST | {"priority": 1.5}), 422, "invalid_input"),
    "B43 a text": (post(REQUEST | {"priority": "1"}), 422, "invalid_input"),
    "B46 a wait below nothing": (get(f"/v1/requests/{NO_REQUEST}?wait=-1"), 422, "invalid_input"),
    "B46 a wait that is no number": (get(f"/v1/requests/{NO_REQUEST}?wait=nan"), {404, 422}, None),
    "B46 a wait for ever": (get(f"/v1/requests/{NO_REQUEST}?wait=1e9"), 404, "not_found"),
    "B47 cancel what is not there": (call("POST", f"/v1/requests/{NO_REQUEST}/cancel"), 404, "not_found"),
    "B49 a path as template": (post(REQUEST | {"template": "../x"}), 404, "unknown_template"),
    "B49 capitals": (post(REQUEST | {"template": "DIGITS"}), 404, "unknown_template"),
    "B49 200 characters": (post(REQUEST | {"template": "x" * 200}), 422, "invalid_input"),
    "a pattern that would backtrack": (post(REQUEST | {"input": {"email": "a" * 60_000 + "!"}}), 422, "invalid_input"),
    "query of 12 KiB": (get("/v1/requests?template=" + "a" * 12_000), 422, "invalid_input"),
    "a hundred parameters": (get("/v1/requests?" + "&".join(f"p{n}=1" for n in range(100))), 422, "unknown_parameter"),
    "a tail beyond all": (get(f"/v1/requests/{NO_REQUEST}/logs?tail=1e9"), 422, "invalid_input"),
    "ranks beyond all": (get(f"/v1/requests/{NO_REQUEST}/logs?rank=99999999"), 422, "invalid_input"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(API))
def test_the_public_api_refuses_it(here: Replica, caller: httpx.Client, case: str) -> None:
    send, status, code = API[case]
    with untouched(here):
        refused(send(caller), status, code)


def test_b29_text_that_looks_like_code_is_text(caller: httpx.Client) -> None:
    values = ["__proto__", "constructor", "$where", "'; drop table request; --", "{{7*7}}", "${jndi:ldap://x}", "%n%s"]
    said = {"list": values, "__proto__": {"a": 1}, "constructor": "x"}
    made = caller.post("/v1/requests", json=REQUEST | {"input": said}).json()
    assert caller.get(f"/v1/requests/{made['id']}").json()["input"] == said


def test_b32_a_refused_method_names_the_ones_there_are(caller: httpx.Client) -> None:
    allowed = caller.patch(f"/v1/requests/{NO_REQUEST}").headers["allow"]
    assert {one.strip() for one in allowed.split(",")} <= {"GET", "PUT", "DELETE", "POST", "HEAD"}


# ----------------------------------------------------------------------------------------------------------- templates


def put(**changes: Any) -> Callable[[httpx.Client], httpx.Response]:
    return lambda c: c.put("/v1/templates/odd", json={"handler": "samples.echo:Echo", **changes})


GOOD_IMAGE = "registry.example.org/team/wan@sha256:" + "0" * 64
TEMPLATES: dict[str, Callable[[httpx.Client], httpx.Response]] = {
    "B50 no ranks": put(ranks_per_node=0),
    "B50 10,000 nodes": put(nodes=10_000),
    "B50 half a node": put(nodes=0.5),
    "B50 nodes in words": put(nodes="1e3"),
    "B64 LD_PRELOAD": put(env={"LD_PRELOAD": "/x.so"}),
    "B64 PYTHONPATH": put(env={"PYTHONPATH": "/x"}),
    "B64 MASTER_ADDR": put(env={"MASTER_ADDR": "x"}),
    "B64 RANK": put(env={"RANK": "1"}),
    "B64 TORCHELASTIC_RUN_ID": put(env={"TORCHELASTIC_RUN_ID": "x"}),
    "B64 KUBERNETES_SERVICE_HOST": put(env={"KUBERNETES_SERVICE_HOST": "x"}),
    "B64 HTTP_PROXY": put(env={"HTTP_PROXY": "http://x"}),
    "B64 https_proxy": put(env={"https_proxy": "http://x"}),
    "B64 MUSTER_TOKEN": put(env={"MUSTER_TOKEN": "x"}),
    "B64 a name with =": put(env={"A=B": "x"}),
    "B64 a name with a line": put(env={"A\nB": "x"}),
    "B65 a tag": put(image="registry.example.org/team/wan:latest"),
    "B65 another registry": put(image="evil.example.org/team/wan@sha256:" + "0" * 64),
    "B65 a registry that begins alike": put(image="registry.example.org/teamwork/wan@sha256:" + "0" * 64),
    "B65 half a digest": put(image="registry.example.org/team/wan@sha256:abc"),
    "B65 4 KiB": put(image="registry.example.org/team/" + "x" * 4096),
    "B65 a blank": put(image=GOOD_IMAGE + " --privileged"),
    "B65 a line": put(image=GOOD_IMAGE + "\n"),
    "B67 a label of ours": put(pod={"labels": {"kubernetes.io/x": "y"}}),
    "B67 a label with blanks": put(pod={"labels": {"a": "b c"}}),
    "B67 a label of 64 characters": put(pod={"labels": {"a": "x" * 64}}),
    "a patch of the pod": put(podSpecPatch="hostNetwork: true"),
    "host network": put(pod={"hostNetwork": True}),
    "host path": put(pod={"volumes": {"x": {"hostPath": "/"}}}),
    "privileged": put(pod={"securityContext": {"privileged": True}}),
    "a service account": put(pod={"serviceAccountName": "admin"}),
    "a sidecar": put(pod={"containers": [{"image": "x"}]}),
    "a schema that is none": put(input={"type": 7}),
    "a schema that leads away": put(input={"$ref": "http://169.254.169.254/"}),
    "a schema that leads to a file": put(input={"$ref": "file:///etc/passwd"}),
    "a pattern with look-around": put(input={"properties": {"x": {"pattern": "(?=a)"}}}),
    "a schema of 10,000 places": put(input={"properties": {f"p{n}": {"type": "string"} for n in range(10_000)}}),
    "a handler that is a shell": put(handler="; rm -rf /"),
    "no handler": lambda c: c.put("/v1/templates/odd", json={}),
    "another name": put(name="other"),
    "times below nothing": put(limits={"timeout_s": -1}),
    "times beyond all": put(limits={"timeout_s": 1e300}),
}


@pytest.mark.parametrize("case", list(TEMPLATES))
def test_a_template_is_refused_for_it(here: Replica, caller: httpx.Client, case: str) -> None:
    with untouched(here):
        answer = TEMPLATES[case](caller)
        refused(answer, 422, None)
        assert answer.json()["code"] in ("invalid_template", "invalid_input")
        assert answer.json()["errors"][0]["pointer"].startswith("/")


def test_b61_what_looks_like_yaml_or_a_placeholder_is_a_plain_value(caller: httpx.Client) -> None:
    odd = ["a\n  hostNetwork: true", "${X}", "{{ x }}", "!!python/object/apply:os.system", "&a *a", "$(id)", "`id`"]
    env = {f"V{n}": value for n, value in enumerate(odd)}
    assert put(env=env, image=GOOD_IMAGE)(caller).status_code == 200
    assert caller.get("/v1/templates/odd").json()["spec"]["env"] == env


# ---------------------------------------------------------------------------------------------------------------- files


NAMES = ["../x", "/etc/passwd", "a/../../b", "..\\x", "C:x", "a\0b", ".", "", "x" * 256, "a\nb", "~/x", "-rf", "a;b"]


@pytest.mark.parametrize("name", NAMES)
def test_b92_an_upload_with_such_a_name_is_refused(here: Replica, caller: httpx.Client, name: str) -> None:
    with untouched(here):
        refused(caller.post("/v1/files", params={"name": name}, content=b"x"), 422, "invalid_input")


@pytest.mark.parametrize("name", [*NAMES[:6], "%2e%2e/", "x" * 256])
def test_b92_an_output_with_such_a_name_is_not_there(here: Replica, caller: httpx.Client, name: str) -> None:
    quoted = name.replace("\0", "%00").replace("\\", "%5c").replace("/", "%2f")
    with untouched(here):
        refused(caller.get(f"/v1/requests/{NO_REQUEST}/outputs/{quoted}"), 404, "not_found")


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3://bucket/x", "dbfs:/x", "http://x/#y", "../x", "fil_x?a=b"])
def test_b98_no_input_is_a_place(here: Replica, caller: httpx.Client, uri: str) -> None:
    schema = {"type": "object", "properties": {"image": {"type": "string", "format": "muster-file"}}}
    caller.put("/v1/templates/painter", json=TEMPLATE | {"input": schema})
    with untouched(here):
        refused(post({"template": "painter", "input": {"image": uri}})(caller), 422, "invalid_input")


# --------------------------------------------------------------------------------------------------------- worker API


@pytest.fixture(scope="module")
def gang(here: Replica) -> HttpGang:
    pool = here.database.transact(lambda tx: make.pool(tx, ranks_per_node=2))
    return gang_in(here, pool).begin()


def beat(**changes: Any) -> Callable[[HttpGang], httpx.Response]:
    return lambda g: g.call("POST", f"/gangs/{g.id}/beat", {"phase": "idle", "ranks": [], "attempts": []} | changes)


def finish(**changes: Any) -> Callable[[HttpGang], httpx.Response]:
    body = {"token": "x", "outcome": "succeeded", "result": {}} | changes
    return lambda g: g.call("POST", f"/attempts/att_{'0' * 26}/finish", body)


def content(path: str, sent: bytes, **headers: str) -> Callable[[HttpGang], httpx.Response]:
    def send(g: HttpGang) -> httpx.Response:
        named = {"Content-Type": "application/json", "Authorization": f"Bearer {g.session}"} | headers
        return g.http.post(f"/internal/v1{path.replace('GANG', g.id)}", content=sent, headers=named)

    return send


WORKERS: dict[str, tuple[Callable[[HttpGang], httpx.Response], int | set[int]]] = {
    "B101 an attempt of nobody": (finish(), {404, 409}),
    "B104 a result of 10 MiB": (finish(result="x" * 10 * MIB), 413),
    "B104 no JSON": (content(f"/attempts/att_{'0' * 26}/finish", b"\x89PNG"), 400),
    "B104 NaN": (content(f"/attempts/att_{'0' * 26}/finish", b'{"token": "x", "run_s": NaN}'), 400),
    "B104 NUL": (finish(result="\0"), 422),
    "B104 compressed": (content("/gangs/GANG/beat", b"x", **{"Content-Encoding": "gzip"}), 415),
    "B104 an outcome that is none": (finish(outcome="fine"), 422),
    "B106 a rank beyond the world": (lambda g: g.join(2), 409),
    "B106 a rank below nothing": (lambda g: g.join(-1), 404),
    "B106 another world": (lambda g: g.hello(world=3), 409),
    "B109 a trace of a megabyte": (
        lambda g: g.call("POST", f"/gangs/{g.id}/ranks/0/error", {"node": "n", "type": "E", "message": "m" * 900_000}),
        422),
    "B109 ranks that are text": (beat(ranks="all"), 422),
    "B109 a million ranks": (beat(ranks=[{"rank": n} for n in range(100_000)]), {200, 413, 422}),
    "B110 a version that is not spoken": (lambda g: g.http.get(f"/internal/v2/gangs/{g.id}/work"), 404),
    "no gang of that form": (lambda g: g.call("GET", "/gangs/gng_x/work"), 404),
    "no attempt of that form": (lambda g: g.call("POST", "/attempts/att_x/finish", {}), 404),
    "a wait below nothing": (lambda g: g.work(wait=-1), 422),
}  # fmt: skip


@pytest.mark.parametrize("case", list(WORKERS))
def test_the_worker_api_refuses_it(here: Replica, gang: HttpGang, case: str) -> None:
    send, status = WORKERS[case]
    with untouched(here):
        refused(send(gang), status, None)
    assert gang.work().status_code == 200


def test_b110_fields_of_a_newer_worker_are_left_alone(gang: HttpGang) -> None:
    assert beat(flavour={"new": [1]})(gang).status_code == 200
