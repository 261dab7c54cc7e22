"""The demo against the fake service; the real one is `make demo`."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from rest_fake import FAILED, GIF, SUCCEEDED, TOKEN, FakeService, serving

from orchestrator.cli import demo
from orchestrator.client import Client


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    service = FakeService([SUCCEEDED])
    service.outputs["digit.png"] = b"png"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "DRAIN", demo.timedelta(0))

    @contextmanager
    def running(_: Path):
        with serving(service) as url, Client(url, TOKEN) as client:
            yield client

    monkeypatch.setattr(demo, "_service", running)
    monkeypatch.setattr(demo.demo_batch, "run", lambda *_: None)
    monkeypatch.setattr(demo.demo_batch, "show", lambda _: None)
    return service


def test_the_demo_shows_cold_and_warm_and_leaves_the_picture(
    service: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main()
    assert (tmp_path / "demo-output" / "digit-3.gif").read_bytes() == GIF
    out = capsys.readouterr().out
    for words in ("cold", "warm", "ratio", "demo-output/digit-3.gif", "Stopped"):
        assert words in out
    assert len(service.requests) == 1 + demo.WARM_RUNS
    assert any(one.url.path.endswith("/drain") for one in service.seen)


def test_the_demo_fails_when_its_request_fails(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    service.script = [FAILED]
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 1 and "no such digit" in capsys.readouterr().err


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no room for Postgres\nexit 5\n")
    broken.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(SystemExit) as ended:
        demo.main()
    err = capsys.readouterr().err
    assert ended.value.code == 1 and "exit code 5" in err and "no room for Postgres" in err


def test_ctrl_c_stops_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = tmp_path / "python"
    slow.write_text(
        "#!/bin/sh\ntrap 'echo stopped > stopped; exit 0' INT\necho up > up\nwhile :; do sleep 0.05; done\n"
    )
    slow.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(slow))

    def interrupted(**_: object) -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.client.find", interrupted)
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 130 and (tmp_path / "stopped").exists()


def test_a_contact_sheet_has_every_picture_in_its_place(tmp_path: Path) -> None:
    pictures = []
    for gray in range(10):
        pictures.append(tmp_path / f"{gray}.png")
        Image.new("L", (4, 3), gray).save(pictures[-1])
    demo.demo_batch.paste(pictures, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (20, 6)
        assert [sheet.getpixel((4 * (n % 5), 3 * (n // 5))) for n in range(10)] == list(range(10))
