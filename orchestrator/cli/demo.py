"""`python -m orchestrator.cli.demo`, or `make demo`: the main job on this machine, from nothing to a picture.

Starts a service of its own (state in ./demo-output/state, a free port), asks for a picture cold, then for the same
again while the gang is warm, shows what the difference is, draws all ten digits as a batch, and stops everything it
started.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import demo_batch, output
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.session import Session
from orchestrator.cli.text import duration, safe_lines
from orchestrator.cli.watching import tell, watch
from orchestrator.errors import MusterError, Unavailable

if TYPE_CHECKING:
    from orchestrator.client import Client, Gang, Request

FOLDER = Path("demo-output")
TEMPLATE = "digits"
INPUT = {"digit": 3, "seed": 7}
WARM_RUNS = 5
WHOLE_DEMO = timedelta(seconds=180)
START = timedelta(seconds=90)
DRAIN = timedelta(seconds=20)
STOP = timedelta(seconds=30)
LOG_LINES_SHOWN = 25


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One request as the caller felt it: from before the submit to the news of its end."""

    request: Request
    seconds: float


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _demo(FOLDER.absolute())
    except KeyboardInterrupt:
        output.complain("\nStopped; nothing is left running.")
        sys.exit(ExitCode.INTERRUPTED)
    except MusterError as error:
        output.complain(f"The demo failed: {error.message}")
        sys.exit(ExitCode.FAILED)


def _demo(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    until = time.monotonic() + WHOLE_DEMO.total_seconds()
    _say(f"Starting Muster on this machine (its log: {os.path.relpath(folder / 'muster.log')}) ...")
    with _service(folder) as client:
        _say(f"It is up at {client.url}. Storing the template `{TEMPLATE}`: a small diffusion model over 4 ranks.")
        _apply(client)
        _say("\nFirst request. No gang is there yet, so one is launched and loads the model:")
        cold = _ask(client, until)
        _say(f"Done in {duration(cold.seconds)}. The gang stays; {WARM_RUNS} more requests of the same kind:")
        warm = [_ask(client, until) for _ in range(WARM_RUNS)]
        pictures = _save(client, cold.request, folder)
        gang = _gang(client, warm[-1].request)
        _show(cold, warm, gang, pictures)
        _say("\nAll ten digits as a batch. It gets a gang of its own, which takes item after item:")
        demo_batch.show(demo_batch.run(client, TEMPLATE, folder, until))
        _say("\nStopping the gang and the service ...")
        _drain(client)
    _say(
        "Stopped. To go on by hand: `make up` in one terminal; in another `.venv/bin/muster open` shows its pages,\n"
        "`.venv/bin/muster --help` its commands."
    )


@contextmanager
def _service(folder: Path) -> Iterator[Client]:
    """A `muster up` of our own; stopped however this ends."""
    state, port = folder / "state", _free_port()
    log = folder / "muster.log"
    _forget(state)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "up", "--port", str(port)],
            env=_environment(state),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we stop it in good order
        )
    try:
        with _connected(process, state, port, log) as client:
            yield client
    finally:
        _stop(process)


def _forget(state: Path) -> None:
    """An older demo's requests must not stand before ours. What may still be alive is left for the service to find."""
    gangs = state / "gangs"
    if (state / "local.json").exists() or (gangs.is_dir() and any(one.is_dir() for one in gangs.iterdir())):
        return
    shutil.rmtree(state, ignore_errors=True)


def _environment(state: Path) -> dict[str, str]:
    """Ours without MUSTER_*: the demo must not touch a service or a database that is in use."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return {**kept, "MUSTER_HOME": str(state)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connected(process: subprocess.Popen[bytes], state: Path, port: int, log: Path) -> Client:
    """The client, once the service is ready for work."""
    from orchestrator.client import Client, find

    until = time.monotonic() + START.total_seconds()
    while time.monotonic() < until:
        if process.poll() is not None:
            raise MusterError(f"the service ended with exit code {process.returncode}:\n{_tail(log)}")
        with suppress(MusterError):
            place = find(environ={"MUSTER_HOME": str(state)})
            client = Client(place.url, place.token)
            if place.url.endswith(f":{port}") and client.ready().ok:
                return client
            client.close()
        time.sleep(0.2)
    raise Unavailable(f"the service was not ready after {duration(START.total_seconds())}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join(f"  {line}" for line in lines) or "  (its log is empty)"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C would; harder only if that does not help. A second Ctrl-C does not leave it behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for number, patience in ((signal.SIGINT, STOP), (signal.SIGTERM, STOP / 3), (signal.SIGKILL, STOP / 3)):
            if process.poll() is not None:
                return
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience.total_seconds())
    finally:
        signal.signal(signal.SIGINT, before)


def _apply(client: Client) -> None:
    from orchestrator.cli.template_files import read_template

    client.apply_template(read_template(TEMPLATE))


def _ask(client: Client, until: float) -> Timing:
    session = Session()
    began = time.monotonic()
    request = client.submit(TEMPLATE, INPUT)
    if not request.is_terminal:
        left = timedelta(seconds=max(1.0, until - time.monotonic()))
        request = watch(session, client, request.id, timeout=left)
    seconds = time.monotonic() - began
    if tell(session, client, request) is ExitCode.UNFINISHED:
        raise MusterError(f"{request.id} was not done {duration(WHOLE_DEMO.total_seconds())} after the demo began")
    if not request.succeeded:
        raise MusterError(f"{request.id} {request.status}")
    return Timing(request=request, seconds=seconds)


def _save(client: Client, request: Request, folder: Path) -> list[Path]:
    """digit.gif -> demo-output/digit-3.gif."""
    outputs = client.outputs(request.id)
    paths = [folder / f"digit-{INPUT['digit']}{Path(one.name).suffix}" for one in outputs]
    for one, path in zip(outputs, paths, strict=True):
        client.save_output(request.id, one, path)
    if not paths:
        raise MusterError(f"{request.id} succeeded without a picture")
    return paths


def _gang(client: Client, request: Request) -> Gang | None:
    """The gang that served it; a courtesy, so its absence is no failure."""
    gang_id = request.placement.gang if request.placement else None
    try:
        return client.gang(gang_id) if gang_id else None
    except MusterError:
        return None


def _show(cold: Timing, warm: list[Timing], gang: Gang | None, pictures: list[Path]) -> None:
    from rich.table import Table

    median = statistics.median(one.seconds for one in warm)
    grid = Table(title="What a warm gang is worth", show_header=False, title_justify="left")
    grid.add_row("cold", f"{cold.seconds:.2f} s  launch the gang, load the model, draw")
    grid.add_row("warm", f"{median:.2f} s  draw (median of {len(warm)})")
    grid.add_row("ratio", f"{cold.seconds / median:.1f} x")
    for name, value in _ranks([cold, *warm], gang):
        grid.add_row(name, safe_lines(value))
    grid.add_row("pictures", "\n".join(os.path.relpath(path) for path in pictures))
    click.echo()
    output.console(sys.stdout).print(grid)


def _ranks(timings: list[Timing], gang: Gang | None) -> list[tuple[str, str]]:
    """What shows that the same processes served all of it, or that they did not."""
    rows = []
    result = timings[-1].request.result
    if isinstance(result, dict) and "builds" in result:
        rows.append(("builds", f"{result['builds']} of the model on each rank"))
    if gang is not None:
        pids = ", ".join(str(rank.pid) for rank in gang.ranks or () if rank.pid is not None)
        rows.append(("gang", f"{gang.id}, {gang.served or '?'} requests served"))
        gangs = {one.request.placement.gang for one in timings if one.request.placement}
        kept = "the same for all requests" if gangs == {gang.id} and gang.incarnation == 1 else "restarted meanwhile"
        rows.append(("ranks", f"{gang.world} processes, {kept}: {pids or 'unknown'}"))
    return rows


def _drain(client: Client) -> None:
    """The gangs go before the service does. What does not go in time is left to the service's own stop."""
    until = time.monotonic() + DRAIN.total_seconds()
    with suppress(MusterError):
        for gang in client.gangs():
            if gang.state not in ("gone", "draining"):
                client.drain_gang(gang.id)
        while any(gang.state != "gone" for gang in client.gangs()) and time.monotonic() < until:
            time.sleep(0.3)


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
