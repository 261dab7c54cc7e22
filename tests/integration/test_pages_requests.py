"""The pages about requests without a browser: who sees what, what they may do, and that nothing of others is obeyed."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import quote

import builders as make
import httpx
import pages
import pytest
from http_gang import HttpGang, gang_with
from replica import Replica

from orchestrator.store import arrivals, gangs, tokens
from orchestrator.store.tokens import Scope
from orchestrator.web.frame.ids import short
from orchestrator.web.requests import several

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u202egpj\x1b[31m"
NOBODY = "req_" + "0" * 26


class House:
    """A tenant with the template `echo`, its API, and a browser that may do everything."""

    def __init__(self, here: Replica) -> None:
        self.here, self.tenant = here, f"tenant-{secrets.token_hex(6)}"
        self.gang: HttpGang | None = None
        here.database.transact(lambda tx: make.tenant(tx, self.tenant))
        self.api = here.caller(tenant=self.tenant)
        assert self.api.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"}).status_code == 200

    def token(self, *scopes: Scope) -> str:
        create = lambda tx: tokens.create(tx, tenant=self.tenant, name="test", scopes=scopes or tuple(Scope))  # noqa: E731
        return str(self.here.database.transact(create)[1])

    def submit(self, **changes: Any) -> str:
        answer = self.api.post("/v1/requests", json={"template": "echo"} | changes)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def running(self, **changes: Any) -> tuple[HttpGang, dict[str, Any]]:
        """A request that the gang of `echo` has just begun; it had nothing to do."""
        request = self.submit(**changes)
        if self.gang is None:
            self.gang = gang_with(self.here, request)
        lease = self.gang.lease()
        assert lease["request"] == request
        assert self.gang.beat(lease, phase="denoise", current=3, total=12).status_code == 200
        return self.gang, lease

    def published(self, outputs: dict[str, tuple[str, bytes]]) -> str:
        """A request that left these outputs: by name, media type and bytes."""
        gang, lease = self.running()
        told = []
        folder = self.here.office.settings.folder / "outputs" / lease["output_prefix"].split("/outputs/")[1]
        folder.mkdir(parents=True)
        for number, (name, (media, content)) in enumerate(outputs.items()):
            (folder / str(number)).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            uri = f"{lease['output_prefix']}/{number}"
            told.append({"name": name, "media_type": media, "bytes": len(content), "sha256": digest, "uri": uri})
        assert gang.finish(lease, outputs=told).status_code == 200
        return str(lease["request"])


@pytest.fixture
def house(here: Replica) -> House:
    return House(here)


@pytest.fixture
def browser(here: Replica, house: House) -> Iterator[httpx.Client]:
    with pages.signed_in(here.url, house.token()) as opened:
        yield opened


def listed(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return re.findall(r'id="row-(req_\w+)"', answer.text)


def turned(answer: httpx.Response, way: str) -> str:
    """The address behind Older or Newer."""
    found = re.search(rf'rel="{way}" href="(?:/ui)([^"]+)"', answer.text)
    assert found, f"no {way} on the page"
    return "/ui" + unescape(found[1])


# ------------------------------------------------------------------------------------------------------------ the list


def test_the_list_begins_with_how_to_send_one(browser: httpx.Client) -> None:
    page = browser.get("/ui/requests").text
    assert "No request yet." in page and "muster submit" in page


def test_filters_and_searches_find_what_they_say(house: House, browser: httpx.Client) -> None:
    plain = house.submit()
    marked = house.submit(labels={"team": "ads", "shot": "7"}, mode="batch")
    house.api.post(f"/v1/requests/{plain}/cancel")
    for query, found in (
        ("", [marked, plain]),
        ("status=canceled", [plain]),
        ("status=queued&status=canceled", [marked, plain]),
        ("mode=batch", [marked]),
        ("template=echo", [marked, plain]),
        ("template=other", []),
        ("span=15m", [marked, plain]),
        ("after=2100-01-01T00:00:00Z", []),
        (f"q={marked}", [marked]),
        (f"q={marked[:24]}", [marked]),
        (f"q={quote(short(marked))}", [marked]),
        (f"q={marked[4:12]}...{marked[-3:]}0", []),
        ("q=team%3Dads+shot%3D7", [marked]),
        ("q=team%3Dads+shot%3D8", []),
        ("q=ads", [marked]),
        ("q=7", [marked]),
        ("q=ad", []),
        ("q=ads&status=canceled", []),
    ):
        assert listed(browser.get(f"/ui/requests?{query}")) == found, query
    assert "No request fits these filters." in browser.get("/ui/requests?q=ad").text
    assert "no label has such a key" in browser.get("/ui/requests?q=%3D7").text


@pytest.mark.parametrize("odd", ["older=x", "newer=%00", "older=" + "a" * 300, "q=%00%ff", "status=" + "x" * 3000])
def test_an_address_that_makes_no_sense_shows_the_first_page(house: House, browser: httpx.Client, odd: str) -> None:
    mine = house.submit()
    assert mine in listed(browser.get(f"/ui/requests?{odd}")) or "q=" in odd


def test_pages_lead_to_and_fro_without_gap_or_overlap(house: House, browser: httpx.Client) -> None:
    made = [house.submit(labels={"n": "1"}) for _ in range(52)][::-1]
    for question in ("", "?status=queued", "?q=n%3D1", "?q=1"):
        first = browser.get(f"/ui/requests{question}")
        assert listed(first) == made[:50]
        second = browser.get(turned(first, "next"))
        assert listed(second) == made[50:]
        assert "data-live" not in second.text, "only the first page is alive"
        back = browser.get(turned(second, "prev"))
        assert listed(back) == made[:50]


def test_a_cursor_is_good_for_its_question_only(house: House, browser: httpx.Client) -> None:
    made = [house.submit() for _ in range(51)][::-1]
    older = turned(browser.get("/ui/requests"), "next")
    assert listed(browser.get(older.replace("?", "?status=queued&"))) == made[:50]


def test_what_htmx_asks_for_gets_the_address_to_show(browser: httpx.Client) -> None:
    answer = browser.get("/ui/requests?q=&status=failed&mode=", headers={"HX-Request": "true"})
    assert answer.headers["hx-push-url"] == "/ui/requests?status=failed"


def test_the_list_is_of_one_tenant(here: Replica, house: House, browser: httpx.Client) -> None:
    other = House(here)
    theirs = other.submit(labels={"team": "theirs"})
    assert listed(browser.get("/ui/requests")) == []
    for search in (theirs, "theirs", "team%3Dtheirs"):
        assert listed(browser.get(f"/ui/requests?q={search}")) == []


def test_the_queries_of_the_list_do_not_grow_with_its_rows(here: Replica, house: House, browser: httpx.Client) -> None:
    def count() -> int:
        with pages.counted(here) as queries:
            browser.get("/ui/requests")
        return len(queries)

    house.submit()
    count()  # the first look of a replica finds its secret and the token's row
    few = count()
    for _ in range(20):
        house.submit(labels={"a": "b"})
    assert count() <= few <= 4


# ---------------------------------------------------------------------------------------------------------- one request


def test_a_request_of_another_tenant_is_not_there(here: Replica, browser: httpx.Client) -> None:
    theirs = House(here).published({"a.txt": ("text/plain", b"secret")})
    for path in ("", "/logs", "/logs.txt", "/outputs/a.txt", "/previews/a.txt", "/inputs/x"):
        assert browser.get(f"/ui/requests/{theirs}{path}").status_code == 404, path
    assert browser.get(f"/ui/live/requests/{theirs}").status_code == 404
    for what in ("cancel", "retry", "delete"):
        assert browser.post(f"/ui/requests/{theirs}/{what}").status_code == 404, what


@pytest.mark.parametrize("path", [NOBODY, "req_x", "x", "req_%00", f"{NOBODY}/outputs/a", f"{NOBODY}/nothing"])
def test_an_address_of_nothing_is_a_page_that_says_so(browser: httpx.Client, path: str) -> None:
    answer = browser.get(f"/ui/requests/{path}")
    assert answer.status_code == 404
    assert "<h1>" in answer.text


def test_a_request_that_waits_says_why_and_at_which_place(house: House, browser: httpx.Client) -> None:
    house.submit(mode="warm")
    second = house.submit(mode="warm")
    page = browser.get(f"/ui/requests/{second}").text
    assert "at position 2: 1 ahead of it" in unescape(page)
    assert "Why it waits" in page and f"muster cancel {second}" in page


def test_a_request_that_runs_shows_its_progress(house: House, browser: httpx.Client) -> None:
    _, lease = house.running()
    page = browser.get(f"/ui/requests/{lease['request']}").text
    assert "25%" in page and "step 3 of 12" in page and "denoise" in page


def test_the_phases_of_a_run_are_in_the_waterfall(house: House, browser: httpx.Client) -> None:
    gang, lease = house.running()
    trail = {"elapsed_s": 0.009, "phases": [["encode", 0.0], ["denoise", 0.003], ["publish", 0.006]]}
    assert gang.finish(lease, trail=trail).status_code == 200
    page = browser.get(f"/ui/requests/{lease['request']}").text
    spans = re.findall(r'aria-hidden="true"></span>([\w-]+)', page)
    assert spans[-3:] == ["encode", "denoise", "save"]


def test_a_request_that_waits_for_pods_shows_where_their_start_is_and_why(house: House, browser: httpx.Client) -> None:
    request = house.submit(mode="batch")
    place = "UPDATE gang SET backend = 'kubeflow:team-a/muster' WHERE id = :g"

    def launched(tx: make.Tx) -> make.Gang:
        gang = make.launching(tx, make.pools_of(tx, house.tenant)[0], request_id=request)
        tx.execute(make.text(place), {"g": gang.id})
        made = make.gang_row(tx, gang).launched_at
        arrivals.note(tx, {gang.id: arrivals.Told(made=made, scheduled=None, started=None, word=None)})
        gangs.note_words(tx, {gang.id: ("unschedulable", f"0/4 nodes are available {HOSTILE}")})
        return gang

    gang = house.here.database.transact(launched)
    for address in (f"/ui/requests/{request}", f"/ui/gangs/{gang.id}", "/ui/"):
        page = browser.get(address).text
        assert "scheduling" in page and "unschedulable" in page, address
        assert "<script>alert" not in page and "<img src=x" not in page
    spans = re.findall(r'aria-hidden="true"></span>([\w-]+)', browser.get(f"/ui/requests/{request}").text)
    assert spans[-1] == "scheduling" and "0/4 nodes are available" in browser.get(f"/ui/gangs/{gang.id}").text


def test_a_page_of_a_request_asks_the_database_so_many_times_and_no_more(
    here: Replica, house: House, browser: httpx.Client
) -> None:
    gang, lease = house.running()
    with pages.counted(here) as running:
        browser.get(f"/ui/requests/{lease['request']}")
    outputs = {f"{n}.txt": ("text/plain", b"x") for n in range(30)}
    gang.finish(lease)
    mine = house.published(outputs)
    with pages.counted(here) as ended:
        browser.get(f"/ui/requests/{mine}")
    assert len(ended) <= len(running) <= 20


def test_a_failure_shows_cause_rank_node_and_traceback(house: House, browser: httpx.Client) -> None:
    gang, lease = house.running()
    error = {"code": "handler_error", "message": HOSTILE, "rank": 2, "node": "n7", "traceback": f"Traceback {HOSTILE}"}
    assert gang.finish(lease, outcome="failed", result=None, error=error).status_code == 200
    page = browser.get(f"/ui/requests/{lease['request']}").text
    assert "handler_error on rank 2" in page and "<code>n7</code>" in page
    harmless(page)


def test_everything_that_somebody_else_said_is_text(house: House, browser: httpx.Client) -> None:
    named = {f"{HOSTILE.replace('/', '')}.txt": ("text/plain", HOSTILE.encode())}
    gang, lease = house.running(input={"text": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}}, labels={"team": HOSTILE})
    trail = {"elapsed_s": 1.0, "phases": [[HOSTILE, 0.0], ["b", 0.5]]}
    assert gang.finish(lease, result={HOSTILE: HOSTILE}, metrics={HOSTILE: 1.0}, trail=trail).status_code == 200
    harmless(browser.get(f"/ui/requests/{lease['request']}").text)
    harmless(browser.get("/ui/requests").text)
    files = house.published(named)
    harmless(browser.get(f"/ui/requests/{files}").text)
    address = re.search(r'hx-get="(/ui/requests/[^"]+/previews/[^"]+)"', browser.get(f"/ui/requests/{files}").text)
    assert address
    harmless(browser.get(unescape(address[1])).text)


def harmless(page: str) -> None:
    """Of HOSTILE nothing is markup, and nothing unseen is left but what is copied exactly."""
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "onerror=alert" in unescape(page), "the page shows it"
    shown = re.sub(r'(data-copy|value)="[^"]*"', "", page)
    assert "\u202e" not in shown and "\x1b" not in shown


# ---------------------------------------------------------------------------------------------------------- the files


EVIL = b"<script>document.title='taken'</script>"


@pytest.mark.parametrize(
    ("media", "served"),
    [
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("video/webm", "video/webm"),
        ("text/html", "application/octet-stream"),
        ("text/html; charset=utf-8", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/xml", "application/octet-stream"),
        ("application/pdf", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
        ("text/plain", "application/octet-stream"),
        ("IMAGE/PNG;x=text/html", "image/png"),
        ("a\r\nX-Evil: 1", "application/octet-stream"),
    ],
)
def test_an_output_is_an_attachment_of_a_type_that_no_browser_runs(
    house: House, browser: httpx.Client, media: str, served: str
) -> None:
    mine = house.published({"evil": (media, EVIL)})
    answer = browser.get(f"/ui/requests/{mine}/outputs/evil")
    assert answer.content == EVIL
    assert answer.headers["content-type"].partition(";")[0] == served
    assert answer.headers["content-disposition"] == 'attachment; filename="evil"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "x-evil" not in answer.headers


def test_a_video_is_served_in_parts(house: House, browser: httpx.Client) -> None:
    mine = house.published({"clip.mp4": ("video/mp4", bytes(range(200)))})
    part = browser.get(f"/ui/requests/{mine}/outputs/clip.mp4", headers={"Range": "bytes=100-109"})
    assert (part.status_code, part.content) == (206, bytes(range(100, 110)))


def test_only_text_has_a_preview_and_no_more_than_its_beginning(house: House, browser: httpx.Client) -> None:
    mine = house.published(
        {
            "a.json": ("application/json", b'{"b":[1,2]}'),
            "long.txt": ("text/plain", b"x" * 100_000),
            "odd.txt": ("text/plain", b"\xff\xfe<b>"),
            "page.html": ("text/html", EVIL),
            "draw.svg": ("image/svg+xml", EVIL),
        }
    )
    at = f"/ui/requests/{mine}/previews"
    assert '"b": [\n' in unescape(browser.get(f"{at}/a.json").text)
    long = browser.get(f"{at}/long.txt").text
    assert 65_000 < long.count("x") < 66_000 and "The first" in long
    assert "&lt;b&gt;" in browser.get(f"{at}/odd.txt").text
    assert [browser.get(f"{at}/{name}").status_code for name in ("page.html", "draw.svg", "none")] == [404, 404, 404]


def test_files_of_the_input_are_linked_and_served_as_safely(house: House, browser: httpx.Client) -> None:
    schema = {"properties": {"image": {"type": "string", "format": "muster-file"}}}
    template = {"handler": "samples.echo:Echo", "input": schema}
    assert house.api.put("/v1/templates/sees", json=template).status_code == 200
    headers = {"Content-Type": "application/octet-stream"}
    file = house.api.post("/v1/files?name=cat.html", content=EVIL, headers=headers).json()["id"]
    mine = house.submit(template="sees", input={"image": file})
    page = browser.get(f"/ui/requests/{mine}").text
    assert f'href="/ui/requests/{mine}/inputs/image"' in page and "cat.html" in page
    answer = browser.get(f"/ui/requests/{mine}/inputs/image")
    assert (answer.content, answer.headers["content-type"]) == (EVIL, "application/octet-stream")
    assert "attachment" in answer.headers["content-disposition"]


def test_logs_are_saved_as_they_were_written(house: House, browser: httpx.Client) -> None:
    gang, lease = house.running()
    chunk = {"seq": 1, "request": lease["request"], "at": 1_800_000_000.0, "text": f"line {HOSTILE}\n"}
    assert gang.call("POST", f"/gangs/{gang.id}/logs", {"rank": 0, "chunks": [chunk]}).status_code == 200
    answer = browser.get(f"/ui/requests/{lease['request']}/logs.txt?rank=0")
    assert answer.text == f"line {HOSTILE}\n"
    assert answer.headers["content-disposition"] == f'attachment; filename="{lease["request"]}.log"'
    assert browser.get(f"/ui/requests/{lease['request']}/logs.txt?rank=1;drop").status_code == 404
    whole = browser.get(f"/ui/gangs/{gang.id}/logs.txt")
    assert f"line {HOSTILE}\n" in whole.text
    assert whole.headers["content-disposition"] == f'attachment; filename="{gang.id}.log"'
    assert whole.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert browser.get(f"/ui/gangs/gng_{'0' * 26}/logs.txt").status_code == 404


# -------------------------------------------------------------------------------------------------- what they may do


def test_a_new_stream_of_logs_goes_on_after_what_was_seen(house: House, browser: httpx.Client) -> None:
    gang, lease = house.running()

    def write(number: int, text: str) -> None:
        chunk = {"seq": number, "request": lease["request"], "at": 1_800_000_000.0 + number, "text": text}
        assert gang.call("POST", f"/gangs/{gang.id}/logs", {"rank": 0, "chunks": [chunk]}).status_code == 200

    def follow(**params: str) -> tuple[str, str]:
        address = f"/ui/requests/{lease['request']}/logs"
        with browser.stream("GET", address, params={"rank": "0", **params}) as stream:
            lines = stream.iter_lines()
            name = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
            return name, next(line for line in lines if line.startswith("data: "))

    write(1, "first\n")
    seen, told = follow()
    assert "first" in told
    write(2, "second\n")
    _, told = follow(after=seen)
    assert "second" in told and "first" not in told


def test_a_run_of_a_schedule_leads_to_it_from_the_list(house: House, browser: httpx.Client) -> None:
    ours = {"muster/schedule": "nightly", "muster/scheduled_at": "2026-11-26T02:00:00Z"}
    run = house.submit(labels={"team": "ads", **ours})
    row = browser.get("/ui/requests").text.split(f'id="row-{run}"')[1].split("</tr>")[0]
    assert '<a class="mark" href="/ui/schedules/nightly">schedule nightly</a>' in row
    assert "team=ads" in row and "scheduled_at" not in row
    house.submit(labels={"muster/schedule": "../../v1/requests"})
    assert "v1/requests" not in browser.get("/ui/requests").text


def test_the_title_of_a_request_begins_with_how_it_is_doing(house: House, browser: httpx.Client) -> None:
    waiting = house.submit()
    page = browser.get(f"/ui/requests/{waiting}").text
    assert re.search(r"<title>queued · \w{8}…\w{4} · echo · Muster</title>", page)
    assert 'data-title="queued · ' in page
    house.api.post(f"/v1/requests/{waiting}/cancel")
    ended = browser.get(f"/ui/requests/{waiting}").text
    assert "<title>canceled · " in ended and "No attempt was made" in ended and "(to come)" not in ended


def test_who_may_only_look_gets_no_buttons_and_no_change(here: Replica, house: House) -> None:
    ended, mine = house.published({}), house.submit()
    with pages.signed_in(here.url, house.token(Scope.READ)) as reader:
        for request in (mine, ended):
            page = reader.get(f"/ui/requests/{request}").text
            assert "hx-post" not in page.partition('<main id="main"')[2]
            assert "Clone and edit" not in page
            for what in ("cancel", "retry", "delete"):
                assert reader.post(f"/ui/requests/{request}/{what}").status_code == 403, what
    assert not house.api.get(f"/v1/requests/{mine}").json()["is_terminal"]
    assert house.api.get(f"/v1/requests/{ended}").status_code == 200


def test_a_request_is_canceled_retried_and_deleted_by_its_page(house: House, browser: httpx.Client) -> None:
    mine, asked = house.submit(labels={"a": "b"}, input={"text": "again"}), {"HX-Request": "true"}
    assert browser.post(f"/ui/requests/{mine}/delete", headers=asked).status_code == 409
    assert browser.post(f"/ui/requests/{mine}/retry", headers=asked).status_code == 409
    canceled = browser.post(f"/ui/requests/{mine}/cancel", headers=asked)
    assert canceled.status_code == 204 and "It is canceled." in canceled.headers["hx-trigger"]
    again = browser.post(f"/ui/requests/{mine}/retry", headers=asked).headers["hx-redirect"].rpartition("/")[2]
    made = house.api.get(f"/v1/requests/{again}").json()
    assert (made["retry_of"], made["labels"], made["input"]) == (mine, {"a": "b"}, {"text": "again"})
    assert f'href="/ui/requests/{mine}"' in browser.get(f"/ui/requests/{again}").text
    assert browser.post(f"/ui/requests/{mine}/delete", headers=asked).headers["hx-redirect"] == "/ui/requests"
    gone = browser.get(f"/ui/requests/{mine}")
    assert gone.status_code == 410 and "was deleted" in gone.text


def test_all_that_fit_the_filters_are_canceled_at_once_and_no_other(
    here: Replica, house: House, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "AT_ONCE", 2)
    marked = [house.submit(labels={"run": "wrong"}) for _ in range(5)]
    other, theirs = house.submit(labels={"run": "right"}), House(here).submit(labels={"run": "wrong"})
    shown = browser.get("/ui/requests?q=run%3Dwrong").text
    assert 'hx-post="/ui/requests/_cancel?q=run%3Dwrong"' in shown
    assert "_cancel" not in browser.get("/ui/requests").text
    answer = browser.post("/ui/requests/_cancel?q=run%3Dwrong")
    assert answer.status_code == 204 and "5 canceled" in answer.headers["hx-trigger"]

    def states(*ids: str) -> list[str]:
        return [here.database.transact(lambda tx, one=one: make.request_row(tx, one).state) for one in ids]  # type: ignore[misc]

    assert states(*marked, other, theirs) == ["canceled"] * 5 + ["queued"] * 2
    assert "_cancel" not in browser.get("/ui/requests?q=run%3Dwrong").text
    for odd in ("", "?q=%3D7", "?status=nonsense"):
        assert browser.post(f"/ui/requests/_cancel{odd}").status_code == 422, odd
    assert "None of these" in browser.post("/ui/requests/_cancel?status=failed").headers["hx-trigger"]
    assert states(other) == ["queued"]
    with pages.signed_in(here.url, house.token(Scope.READ)) as reader:
        assert reader.post("/ui/requests/_cancel?q=run%3Dright").status_code == 403


def test_a_running_request_is_asked_to_stop(house: House, browser: httpx.Client) -> None:
    _, lease = house.running()
    said = browser.post(f"/ui/requests/{lease['request']}/cancel", headers={"HX-Request": "true"})
    assert "its gang stops at the next step" in said.headers["hx-trigger"]
    assert "Cancel</button>" not in browser.get(f"/ui/requests/{lease['request']}").text


@pytest.mark.parametrize("what", ["cancel", "retry", "delete"])
def test_a_change_without_the_proof_of_a_page_is_refused(house: House, browser: httpx.Client, what: str) -> None:
    mine = house.submit()
    assert browser.post(f"/ui/requests/{mine}/{what}", headers={"X-XSRF-TOKEN": "guess"}).status_code == 403
