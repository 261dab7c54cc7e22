"""The key that webhook secrets are derived from: made once, kept private, refused where it is short."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.errors import Invalid
from orchestrator.service.local import own_webhook_key
from orchestrator.settings import Settings


def test_up_makes_a_key_of_its_own_once_and_only_its_user_may_read_it(tmp_path: Path) -> None:
    place = tmp_path / "webhook.key"
    key = own_webhook_key(place)
    assert len(key) >= 32 and own_webhook_key(place) == key
    assert place.stat().st_mode & 0o777 == 0o600
    assert Settings(folder=tmp_path, webhook_keys=(key,)).checked()


def test_a_short_key_and_a_short_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="at least 32"):
        Settings(folder=tmp_path, webhook_keys=("short",)).checked()
    with pytest.raises(Invalid, match="MUSTER_WEBHOOK_RETENTION"):
        Settings(folder=tmp_path, webhook_retention=timedelta(hours=1)).checked()


def test_a_key_is_in_no_representation_of_the_settings(tmp_path: Path) -> None:
    assert "k" * 32 not in repr(Settings(folder=tmp_path, webhook_keys=("k" * 32,)))
