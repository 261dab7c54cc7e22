"""Where webhooks never go, and that TLS is held to the name."""

from __future__ import annotations

import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from receiver import Receiver, receiver
from webhook_house import House, house


def test_a_name_that_resolves_inside_at_send_time_is_refused_though_its_form_was_good(
    sending: House, there: Receiver
) -> None:
    asked: list[str] = []
    answers = {"rebound.example": ["127.0.0.1"], "mixed.example": ["93.184.216.34", "169.254.169.254"]}
    answers |= {"nat.example": ["64:ff9b::a9fe:a9fe"], "mapped.example": ["::ffff:127.0.0.1"], "none.example": []}

    async def inside(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[host]

    with house(sending.database, sending.desk.settings.folder, resolve=inside) as mine:
        hooks = {host: mine.endpoint(f"https://{host}/", "request.succeeded")[0] for host in answers}
        mine.finished()
        assert len(mine.send()["put_off"]) == len(answers)
        assert sorted(asked) == sorted(answers)
        for webhook in hooks.values():
            assert [(d.last_error, d.last_status) for d in mine.deliveries(webhook)] == [("address_refused", None)]
    assert there.heard == []


def test_the_connection_goes_to_the_address_that_was_looked_at(sending: House, there: Receiver) -> None:
    asked: list[str] = []

    async def once(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    url = f"http://only-we-know.example:{there.port}/"
    with house(sending.database, sending.desk.settings.folder, url.rstrip("/"), resolve=once) as mine:
        _, _secret = mine.endpoint(url, "request.succeeded")
        mine.finished()
        assert "delivered" in mine.send()
    assert asked == ["only-we-know.example"]  # nobody else resolved it: no resolver knows it
    assert there.heard[0].headers["host"] == f"only-we-know.example:{there.port}"


def test_an_ipv6_address_is_reached_and_named_as_the_host_header_has_it(sending: House) -> None:
    with socket.socket(socket.AF_INET6) as listening, ThreadPoolExecutor(1) as thread:
        listening.bind(("::1", 0))
        listening.listen()
        place = f"http://[::1]:{listening.getsockname()[1]}"
        head = thread.submit(_hear_once, listening)
        with house(sending.database, sending.desk.settings.folder, place) as mine:
            mine.endpoint(f"{place}/x", "request.succeeded")
            mine.finished()
            assert "delivered" in mine.send()
    assert f"host: {place.removeprefix('http://')}\r\n" in head.result(timeout=10).lower()


def _hear_once(listening: socket.socket) -> str:
    listening.settimeout(20)
    connection, _ = listening.accept()
    with connection:
        head = connection.recv(65536).decode()
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    return head


def test_a_place_that_is_not_allowed_any_more_is_not_sent_to(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    with house(sending.database, sending.desk.settings.folder) as mine:
        assert "put_off" in mine.send()
    assert sending.deliveries(webhook)[0].last_error == "not_allowed" and there.heard == []


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate for secure.example, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=secure.example"
    command += f" -addext subjectAltName=DNS:secure.example -keyout {folder}/key.pem -out {folder}/cert.pem"
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed: webhooks over TLS are not tested")
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.mark.parametrize(("host", "error"), [("secure.example", None), ("other.example", "tls")])
def test_tls_is_held_to_the_name_although_the_address_is_pinned(
    sending: House, certificate: Path, host: str, error: str | None
) -> None:
    async def loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with ExitStack() as stack:
        there = stack.enter_context(receiver(tls=serving))
        place = f"https://{host}:{there.port}"
        mine = stack.enter_context(
            house(sending.database, sending.desk.settings.folder, place, resolve=loopback, tls=trusting)
        )
        webhook, secret = mine.endpoint(f"{place}/x", "request.succeeded")
        mine.finished()
        mine.send()
        assert [d.last_error for d in mine.deliveries(webhook)] == [error]
        assert [one.verified(secret)["type"] for one in there.heard] == ([] if error else ["request.succeeded"])
