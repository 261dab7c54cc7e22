"""What a pod does before it is told to go: it asks, stays while there is work, and never holds anything up."""

import time
from pathlib import Path

import pytest
from test_inference_service import Script

from inference import recall


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    script = Script()
    (tmp_path / "token").write_text("gang-token\n")
    monkeypatch.setenv("MUSTER_API_URLS", script.url)
    monkeypatch.setenv("MUSTER_GANG", "gng_1")
    monkeypatch.setenv("MUSTER_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("MUSTER_NODE", "m-s-x-worker-1")
    monkeypatch.setenv("MUSTER_SCRATCH", str(tmp_path))
    monkeypatch.setattr(recall, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(recall, "GIVE_UP_S", 0.2)
    yield script
    script.close()


def test_it_stays_until_the_work_is_done(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script.answer = {"stay": True}
    monkeypatch.setattr(recall.time, "sleep", lambda _: len(script.bodies) < 3 or script.answer.update(stay=False))
    recall.stay_until_done(60)
    assert script.bodies == [b'{"node":"m-s-x-worker-1"}'] * 4
    assert set(script.tokens) == {"Bearer gang-token"}


def test_it_stays_no_longer_than_it_may(script: Script) -> None:
    script.answer = {"stay": True}
    began = time.monotonic()
    recall.stay_until_done(0.3)
    assert 0.3 <= time.monotonic() - began < 5


@pytest.mark.parametrize("status", [401, 404, 409, 410, 422])
def test_whatever_the_service_refuses_it_goes_at_once(
    script: Script, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    script.statuses = [status]
    recall.stay_until_done(60)
    assert len(script.bodies) == 1
    assert "goes at once" in capsys.readouterr().err


def test_without_an_answer_or_an_environment_it_goes_at_once(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script.statuses = [500] * 1000
    recall.stay_until_done(60)
    monkeypatch.delenv("MUSTER_GANG")
    recall.stay_until_done(60)
