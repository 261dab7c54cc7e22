"""What a webhook message says, how it is signed, when it is tried again, and whose turn it is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from orchestrator.domain.lanes import LANE, SLOTS, choose
from orchestrator.domain.webhooks import (
    JITTER,
    LONGEST_RETRY_AFTER,
    SCHEDULE,
    Message,
    Seed,
    keys,
    next_pause,
    retry_after,
    signed,
)

NOW = datetime(2026, 11, 26, 5, 0, tzinfo=UTC)
MESSAGE = Message(subject="req_01", seq=7, type="request.succeeded", status="succeeded", at=NOW)
HOURS = 3600


def test_a_message_is_thin_and_the_same_at_every_try() -> None:
    body = MESSAGE.body("https://muster.example/")
    assert json.loads(body) == {
        "type": "request.succeeded",
        "timestamp": "2026-11-26T05:00:00Z",
        "data": {
            "id": "req_01",
            "status": "succeeded",
            "version": 7,
            "url": "https://muster.example/v1/requests/req_01",
        },
    }
    assert body == MESSAGE.body("https://muster.example") and len(body) < 20_000
    assert json.loads(MESSAGE.body(""))["data"]["url"] == "/v1/requests/req_01"


def test_the_schedule_is_the_documented_one() -> None:
    pauses = [next_pause(tries, None, 0.0) for tries in range(1, 11)]
    seconds = [None if pause is None else pause.total_seconds() for pause in pauses]
    assert seconds == [5, 300, 1800, 2 * HOURS, 5 * HOURS, 10 * HOURS, 14 * HOURS, 20 * HOURS, 24 * HOURS, None]


@given(tries=st.integers(1, 9), chance=st.floats(0, 1), asked=st.integers(0, 10**8))
def test_a_pause_is_never_shorter_than_the_schedule_nor_than_what_was_asked(
    tries: int, chance: float, asked: int
) -> None:
    pause = next_pause(tries, timedelta(seconds=asked), chance)
    assert pause is not None and pause >= SCHEDULE[tries]
    assert pause >= min(timedelta(seconds=asked), LONGEST_RETRY_AFTER)
    assert pause <= max(SCHEDULE[tries] * (1 + JITTER), LONGEST_RETRY_AFTER)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("9" * 400, 86400),
        ("Thu, 26 Nov 2026 06:00:00 GMT", 3600),
        ("Thu, 26 Nov 2020 06:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: int | None) -> None:
    said = retry_after(header, NOW)
    assert (None if said is None else said.total_seconds()) == seconds


def test_a_secret_is_derived_from_the_key_and_differs_for_every_owner_and_nonce() -> None:
    one, other = keys(["k" * 32]), keys(["l" * 32])
    assert one.newest and other.newest and one.newest != other.newest
    seeds = [Seed(owner=owner, key_id=one.newest, nonce=nonce) for owner in "ab" for nonce in "xy"]
    secrets = {one.secret(seed) for seed in seeds}
    assert len(secrets) == 4 and all(secret and secret.startswith("whsec_") for secret in secrets)
    assert one.secret(seeds[0]) == keys(["n" * 32, "k" * 32]).secret(seeds[0])
    assert other.secret(seeds[0]) is None
    assert keys([]).newest is None


def test_during_a_rotation_both_secrets_verify_and_others_do_not() -> None:
    known = keys(["k" * 32])
    old, new, wrong = (
        known.secret(Seed(owner="a", key_id=known.newest or "", nonce=nonce)) or "" for nonce in ("1", "2", "3")
    )
    body, now = MESSAGE.body(""), datetime.now(UTC)
    headers = signed(MESSAGE.id, body, [new, old], now)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers)["type"] == "request.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(wrong).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body.replace("req_01", "req_02"), headers)


# ------------------------------------------------------------------------------------------------------------- lanes


@dataclass(frozen=True)
class Due:
    lane: str


LANES = st.sampled_from([f"{tenant} https://{host}" for tenant in "ab" for host in ("x", "y", "z")])


@given(due=st.lists(LANES.map(Due), max_size=200), ailing=st.sets(LANES), open_=st.lists(LANES, max_size=SLOTS))
def test_no_lane_no_tenant_and_no_dead_receivers_take_more_than_their_share(
    due: list[Due], ailing: set[str], open_: list[str]
) -> None:
    chosen = [one.lane for one in choose(due, open_, ailing)]
    assert len(chosen) <= SLOTS - len(open_)
    before, after = Counter(open_), Counter(open_) + Counter(chosen)
    for lane in set(chosen):
        assert after[lane] <= max(before[lane], 1 if lane in ailing else LANE)
    for tenant in "ab":
        mine = sum(1 for lane in chosen if lane.startswith(tenant))
        assert not mine or sum(n for lane, n in after.items() if lane.startswith(tenant)) <= SLOTS // 2
    if any(lane in ailing for lane in chosen):
        assert sum(after[lane] for lane in ailing) <= SLOTS // 2


def test_many_dead_receivers_leave_room_for_one_that_answers() -> None:
    dead = [f"t{n} https://dead" for n in range(100)]
    due = [Due(lane) for lane in dead] + [Due("good https://alive")]
    assert Due("good https://alive") in choose(due, [], set(dead))
