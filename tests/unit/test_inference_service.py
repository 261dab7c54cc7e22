"""What each answer of the service means to a rank, against a local server that answers by script."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inference import backoff
from inference.contact import Contact
from inference.service import Over, Refused, Service, Stale, Superseded, Unreachable


class Script:
    """Answers one status after the other; 0 closes the connection without an answer."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.answer: dict[str, Any] = {"action": "continue"}
        self.bodies: list[bytes] = []
        self.tokens: list[str] = []
        self.peers: set[Any] = set()
        script = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                script.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                script.tokens.append(self.headers["Authorization"])
                script.peers.add(self.client_address)
                status = script.statuses.pop(0) if script.statuses else 200
                if status == 0:
                    self.close_connection = True
                    return
                sent = json.dumps(script.answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = _serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.01)


@pytest.fixture
def contact(tmp_path: Path) -> Contact:
    contact = Contact.of_node(tmp_path, "n0")
    contact.begin()
    return contact


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.close()


def _finish(service: Service) -> dict[str, Any]:
    return service.finish("att_1", b'{"outcome":"succeeded"}', meanwhile=lambda: None)


@pytest.mark.parametrize(
    ("status", "meaning"), [(401, Over), (410, Over), (409, Stale), (422, Refused), (404, Refused), (302, Refused)]
)
def test_a_final_answer_is_not_tried_again(
    script: Script, status: int, meaning: type[Exception], contact: Contact
) -> None:
    script.statuses = [status]
    with pytest.raises(meaning, match=str(status)):
        _finish(Service((script.url,), "gng_1", "secret", contact))
    assert len(script.bodies) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 0])
def test_no_real_answer_is_tried_again_with_the_same_bytes(script: Script, status: int, contact: Contact) -> None:
    script.statuses = [status, status, 200]
    assert _finish(Service((script.url,), "gng_1", "secret", contact)) == {"action": "continue"}
    assert len(set(script.bodies)) == 1
    assert len(script.bodies) == 3


def test_every_known_url_is_tried(script: Script, contact: Contact) -> None:
    nobody = "http://127.0.0.1:9"
    service = Service((nobody, script.url), "gng_1", "secret", contact)
    assert _finish(service) == {"action": "continue"}
    assert _finish(service) == {"action": "continue"}


def test_between_two_tries_the_caller_may_keep_its_gang_alive(script: Script, contact: Contact) -> None:
    script.statuses = [503, 503, 503]
    told: list[int] = []
    Service((script.url,), "gng_1", "secret", contact).finish("att_1", b"{}", meanwhile=lambda: told.append(1))
    assert len(told) == 3


def test_a_caller_in_a_hurry_gives_up_in_time(contact: Contact) -> None:
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        Service(("http://127.0.0.1:9",), "gng_1", "secret", contact).error(1, {}, give_up_s=0.2)
    assert time.monotonic() - begun < 2


def test_calls_share_one_connection(script: Script, contact: Contact) -> None:
    service = Service((script.url,), "gng_1", "secret", contact)
    for _ in range(5):
        _finish(service)
    assert len(script.peers) == 1


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(script: Script, contact: Contact) -> None:
    service = Service((script.url,), "gng_1", "secret", contact)
    _finish(service)
    script.statuses = [0, 200]
    assert _finish(service) == {"action": "continue"}


def test_the_gang_token_buys_an_incarnation_and_is_not_used_again(script: Script, contact: Contact) -> None:
    service = Service((script.url,), "gng_1", "gang", contact)
    service.hello(0, {})
    assert not service.knows_incarnation
    service.enter_incarnation(3, "incarnation")
    _finish(service)
    assert service.knows_incarnation
    assert script.tokens == ["Bearer gang", "Bearer incarnation"]


def test_waits_double_up_to_a_bound_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.2)
    waits = [wait for wait, _ in zip(backoff.delays(), range(50), strict=False)]
    assert 0.1 <= waits[0] <= 0.2
    assert all(2.5 <= wait <= 5.0 for wait in waits[10:])
    assert len(set(waits)) > 40


def test_only_an_answer_counts_as_contact_and_a_new_process_does_not(script: Script, contact: Contact) -> None:
    before = contact.at
    script.statuses = [503]
    with pytest.raises(Unreachable):
        Service((script.url,), "gng_1", "secret", contact).error(1, {}, give_up_s=0.001)
    again = Contact.of_node(contact._path.parent.parent, "n0")
    again.begin()
    assert again.at == before
    _finish(Service((script.url,), "gng_1", "secret", again))
    assert contact.at > before


def test_a_superseded_incarnation_is_not_the_end_of_its_gang(script: Script, contact: Contact) -> None:
    script.answer = {"code": "gang_superseded"}
    script.statuses = [410]
    with pytest.raises(Superseded):
        _finish(Service((script.url,), "gng_1", "secret", contact))
