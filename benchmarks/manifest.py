"""B1. A batch of 100,000 lines: how long until it is accepted, and in how much memory; and what bad ones are answered.

`python -m benchmarks.manifest` writes results/manifest.md.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import text

from benchmarks import machine, stand
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand, until

PART = 1 << 16
MOST_GROWTH_MIB = 150
PATH = "/v1/batches?template=echo"
METHOD = """
`muster up` over an embedded Postgres (fsync and synchronous commit on). Lines of about 100 bytes are sent in pieces of
64 KiB over one connection; the time counts from the first byte to the answer, when all items are committed. Memory is
the peak of the service's resident set (VmHWM, reset before each call), above what it was before. The template's schema
has a string, a number and an integer. Every refusal must leave no row.
"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """How a call ended."""

    what: str
    status: int | None
    said: str
    seconds: float
    grown_mib: float
    rows: int
    """Batches and requests that it left."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="manifest", title="A batch of many lines", method=METHOD, load_before=load)
    with stand.postgres() as url, stand.service(url) as muster:
        muster.apply("echo")
        _measure(result, muster, options.lines)
    result.write()


def _measure(result: Result, muster: Stand, count: int) -> None:
    good = [_item(n) for n in range(count)]
    _post(muster, "warming up", iter([b"".join(good[:1000])]))
    _cancel_all(muster)
    told = [_post(muster, f"{count:,} lines", _pieces(good))]
    batch = json.loads(told[0].said)["id"]
    looks = [_look(muster, batch) for _ in range(30)]
    ended_s, results = _cancel_all(muster), _read(muster, batch)
    told += _bad_ones(muster, good)
    rate = count / told[0].seconds
    clean = all(one.rows == 0 for one in told[1:])
    result.aims = [
        Aim(what="lines accepted", aim=f"{count:,}", measured=f"{count:,}", met=told[0].status == 202),
        _aim_memory("memory while it is accepted", told[0].grown_mib),
        _aim_memory("memory while bad ones are refused", max(one.grown_mib for one in told[1:])),
        Aim(what="rows that refused ones leave", aim="0", measured="0" if clean else "some", met=clean),
        Aim(
            what="one line of results for each line sent",
            aim=f"{count:,}",
            measured=f"{results['lines']:,}",
            met=results["lines"] == count,
        ),
    ]
    shown = [(one.what, one.status or "cut", _code(one), f"{one.seconds:.2f}", f"{one.grown_mib:.0f}") for one in told]
    result.tables = [
        ("Answers", ("sent", "status", "code and detail", "seconds", "MiB more"), shown),
        (
            f"{count:,} items",
            ("what", "measured"),
            [
                ("lines per second", f"{rate:,.0f}"),
                ("GET of the batch with its counts, median of 30", f"{1000 * statistics.median(looks):.1f} ms"),
                ("cancel until all are canceled", f"{ended_s:.1f} s"),
                ("results.jsonl, read whole", f"{results['seconds']:.1f} s, {results['grown']:.0f} MiB more"),
            ],
        ),
    ]
    result.samples = {"answers": [vars(one) | {"said": one.said[:500]} for one in told], "looks_s": looks}


def _aim_memory(what: str, grown: float) -> Aim:
    return Aim(
        what=what, aim=f"at most {MOST_GROWTH_MIB} MiB more", measured=f"{grown:.0f} MiB", met=grown <= MOST_GROWTH_MIB
    )


def _bad_ones(muster: Stand, good: list[bytes]) -> list[Told]:
    place = len(good) * 3 // 4
    name = json.loads(good[10])["custom_id"]
    with_bad = [*good[:place], b'{"custom_id": "bad", "input": {"sleep_s": "long"}}\n', *good[place + 1 :]]
    doubled = [*good[:place], json.dumps({"custom_id": name, "input": {}}).encode() + b"\n", *good[place + 1 :]]
    return [
        _post(muster, "one bad line at three quarters", _pieces(with_bad)),
        _post(muster, "a custom_id twice", _pieces(doubled)),
        _post(muster, "one line too many", _pieces([*good, _item(len(good))])),
        _post(muster, "one line of 1 GB", _endless(10**9)),
        _cut(muster, good),
    ]


def _item(n: int) -> bytes:
    words = " ".join(random.choice(("a", "cat", "sits", "on", "the", "mat")) for _ in range(8))
    return json.dumps({"custom_id": f"shot-{n:06d}", "input": {"text": words, "steps": 1 + n % 9}}).encode() + b"\n"


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    block = bytearray()
    for line in lines:
        block += line
        if len(block) >= PART:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _endless(size: int) -> Iterator[bytes]:
    piece = b"x" * PART
    for _ in range(size // PART):
        yield piece


def _watched(muster: Stand, what: str, call: Callable[[], tuple[int | None, str]]) -> Told:
    rows, before = _rows(muster), _reset_peak(muster.pid)
    began = time.perf_counter()
    status, said = call()
    seconds = time.perf_counter() - began
    return Told(
        what=what,
        status=status,
        said=said,
        seconds=seconds,
        grown_mib=_memory(muster.pid, "VmHWM") - before,
        rows=_rows(muster) - rows,
    )


def _post(muster: Stand, what: str, parts: Iterator[bytes]) -> Told:
    def call() -> tuple[int | None, str]:
        place = urlsplit(muster.url)
        line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=600)
        line.putrequest("POST", PATH)
        for name, value in (_headers(muster) | {"Transfer-Encoding": "chunked"}).items():
            line.putheader(name, value)
        line.endheaders()
        try:
            for part in parts:
                line.send(b"%x\r\n%s\r\n" % (len(part), part))
            line.send(b"0\r\n\r\n")
        except OSError:
            pass  # it was refused before its end: the answer says why
        try:
            answer = line.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return None, f"the connection was closed ({type(error).__name__})"
        finally:
            line.close()

    return _watched(muster, what, call)


def _cut(muster: Stand, good: list[bytes]) -> Told:
    """The caller goes away after 60 %."""
    body = b"".join(good)
    rows = _rows(muster)

    def call() -> tuple[int | None, str]:
        place = urlsplit(muster.url)
        head = "".join(f"{name}: {value}\r\n" for name, value in _headers(muster).items())
        with socket.create_connection((place.hostname, place.port)) as line:
            line.sendall(f"POST {PATH} HTTP/1.1\r\nHost: {place.netloc}\r\n{head}".encode())
            line.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) * 6 // 10])
        muster.line().good("GET", "/v1/batches")
        time.sleep(2)  # what it would do with what had come
        return None, "" if _rows(muster) == rows else "rows were left"

    return _watched(muster, "cut at 60 %", call)


def _headers(muster: Stand) -> dict[str, str]:
    return {"Authorization": f"Bearer {muster.token}", "Content-Type": "application/jsonl"}


def _code(told: Told) -> str:
    try:
        said: dict[str, Any] = json.loads(told.said)
    except ValueError:
        return told.said or "nothing is left of it"
    return f"`{said['code']}` {said['detail'][:120]}" if "code" in said else f"{said['counts']['total']:,} items"


def _rows(muster: Stand) -> int:
    query = text("SELECT (SELECT count(*) FROM batch) + (SELECT count(*) FROM request)")
    return int(muster.database.transact(lambda tx: tx.execute(query).scalar_one()))


def _look(muster: Stand, batch: str) -> float:
    line, began = muster.line(), time.perf_counter()
    line.good("GET", f"/v1/batches/{batch}")
    return time.perf_counter() - began


def _cancel_all(muster: Stand) -> float:
    """Seconds until every batch is over."""
    line, began = muster.line(), time.perf_counter()
    for batch in line.good("GET", "/v1/batches")["data"]:
        line.good("POST", f"/v1/batches/{batch['id']}/cancel")

    def over() -> bool:
        return all(one["is_terminal"] for one in line.good("GET", "/v1/batches")["data"])

    until(over, "all batches are over", within_s=600, every_s=0.2)
    return time.perf_counter() - began


def _read(muster: Stand, batch: str) -> dict[str, float]:
    place, before, began = urlsplit(muster.url), _reset_peak(muster.pid), time.perf_counter()
    line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=600)
    line.request("GET", f"/v1/batches/{batch}/results.jsonl", headers=_headers(muster))
    answer, lines = line.getresponse(), 0
    while block := answer.read(PART):
        lines += block.count(b"\n")
    line.close()
    grown = _memory(muster.pid, "VmHWM") - before
    return {"lines": lines, "seconds": time.perf_counter() - began, "grown": grown}


def _reset_peak(pid: int) -> float:
    """The resident set now, in MiB; its peak counts from here."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _memory(pid, "VmRSS")


def _memory(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"/proc/{pid}/status has no {name}")


if __name__ == "__main__":
    main()
