"""Cron rules: what is taken, and that they fire as docs/schedules.md says when clocks change.

The oracle walks over every minute of the world's time, so it shares no step with what it looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from orchestrator.domain.cron import ALIASES, parse
from orchestrator.errors import Invalid

MINUTE = timedelta(minutes=1)
CHANGES = {
    "America/New_York": ("2026-03-07", "2026-10-31"),
    "Europe/London": ("2026-03-28", "2026-10-24"),
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),
    "America/Sao_Paulo": ("2018-02-17", "2018-11-03"),
    "Asia/Kathmandu": ("2026-03-07",),
    "Pacific/Apia": ("2011-12-29",),
    "UTC": ("2026-03-28",),
}
"""Days around which the clocks of a zone change, or do not; in Apia a whole day is missing."""
RULES = (
    "30 2 * * *", "30 1 * * *", "0 0 * * *", "15 2 * * *", "0,30 1-3 * * *", "*/20 * * * *", "*/20 1,2,3 * * *",
    "30 * * * *", "0 */6 * * *", "*/15 */2 * * *", "45 23 * * sat,sun", "5 1 * * 0",
)  # fmt: skip


def walls(rule: str, begin: datetime, end: datetime) -> set[datetime]:
    """Every wall time of the rule, by cronsim, which knows of no zone here."""
    bare = begin.replace(tzinfo=None) - timedelta(days=4)
    return set(takewhile(lambda wall: wall <= end.replace(tzinfo=None) + timedelta(days=2), CronSim(rule, bare)))


def told(rule: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """Every instant at which docs/schedules.md says that the rule fires."""
    both = rule.split()[1].startswith("*")
    fits, fires, seen = walls(rule, begin, end), set[datetime](), set[datetime]()
    before = (begin - timedelta(days=2)).astimezone(zone).replace(tzinfo=None)
    instant = begin - timedelta(days=2)
    while instant <= end:
        wall = instant.astimezone(zone).replace(tzinfo=None)
        missing = [before + n * MINUTE for n in range(1, (wall - before) // MINUTE)] if wall > before else []
        if fits.intersection(missing) or (wall in fits and (both or wall not in seen)):
            fires.add(instant)
        seen |= {wall, *missing}
        before, instant = wall, instant + MINUTE
    return sorted(fire for fire in fires if begin < fire <= end)


def around(zone: str) -> Iterator[tuple[datetime, datetime]]:
    for day in CHANGES[zone]:
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
        yield begin, begin + timedelta(hours=60)


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_fires_as_documented_when_clocks_change(rule: str, zone: str) -> None:
    cron = parse(rule, zone)
    for begin, end in around(zone):
        expected = told(rule.upper(), ZoneInfo(zone), begin, end)
        found = [tick for tick in islice(cron.ticks(begin), len(expected) + 1) if tick <= end]
        assert found == expected


@pytest.mark.parametrize("rule", ["30 1 * * *", "*/20 * * * *", "0,30 1-3 * * *"])
@pytest.mark.parametrize("zone", CHANGES)
def test_wherever_one_begins_to_look_the_ticks_are_the_same(rule: str, zone: str) -> None:
    cron = parse(rule, zone)
    for begin, end in around(zone):
        whole = [tick for tick in islice(cron.ticks(begin), 400) if tick <= end]
        for hours in range(0, 60, 1):
            middle = begin + timedelta(hours=hours, minutes=47)
            assert next(cron.ticks(middle)) == next(tick for tick in [*whole, next(cron.ticks(end))] if tick > middle)


@pytest.mark.parametrize("rule", RULES)
def test_ticks_go_forward_by_a_minute_at_least(rule: str) -> None:
    for zone in CHANGES:
        begin = next(around(zone))[0]
        ticks = list(islice(parse(rule, zone).ticks(begin), 300))
        assert all(later - earlier >= MINUTE for earlier, later in pairwise(ticks))


def test_new_york_as_the_page_says() -> None:
    def days(rule: str, begin: str) -> list[str]:
        ticks = islice(parse(rule, "America/New_York").ticks(datetime.fromisoformat(begin)), 3)
        return [tick.isoformat() for tick in ticks]

    assert days("30 2 * * *", "2026-03-07T12:00Z")[0] == "2026-03-08T07:00:00+00:00", "02:30 is missing: 03:00 EDT"
    assert days("30 1 * * *", "2026-10-31T12:00Z")[:2] == ["2026-11-01T05:30:00+00:00", "2026-11-02T06:30:00+00:00"]
    assert days("30 * * * *", "2026-11-01T05:00Z") == [f"2026-11-01T0{hour}:30:00+00:00" for hour in (5, 6, 7)]


@pytest.mark.parametrize(
    "rule",
    [
        "R * * * *", "H * * * *", "? * * * *", "5-1 * * * *", "* * * * * *", "* * * *", "", "60 * * * *", "0 24 * * *",
        "0 0 0 * *", "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8", "0 0 L * *", "0 0 15W * *", "0 0 LW * *", "0 0 * * 1#2",
        "0 0 * * 5L", "*/0 * * * *", "*/61 * * * *", "5/10 * * * *", "1,,2 * * * *", "0 0 * MON *", "0 0 JAN * *",
        "@reboot", "@every 1s", "TZ=UTC 0 0 * * *", "CRON_TZ=UTC 0 0 * * *", "0 0 * * \u0661", "0" * 300,
    ],
)  # fmt: skip
def test_what_is_no_rule_of_five_plain_fields_is_refused(rule: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(rule, "UTC")
    assert (refused.value.code, refused.value.pointer) == ("invalid_input", "/cron")


@pytest.mark.parametrize("rule", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30-31 feb *"])
def test_a_rule_that_never_fires_is_refused(rule: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(rule, "UTC")
    assert refused.value.code == "never_fires"


def test_a_rule_for_leap_days_is_taken() -> None:
    assert next(parse("0 0 29 2 *", "UTC").ticks(datetime(2026, 1, 1, tzinfo=UTC))) == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_five_fields(alias: str) -> None:
    assert parse(alias, "UTC").rule == ALIASES[alias]


def test_a_day_of_both_kinds_fits_either() -> None:
    ticks = islice(parse("0 0 13 * fri", "UTC").ticks(datetime(2026, 11, 1, tzinfo=UTC)), 3)
    assert [tick.day for tick in ticks] == [6, 13, 20], "Fridays and thirteenths, as cron has it"


@pytest.mark.parametrize(
    "zone",
    ["Mars/Base", "../../etc/passwd", "EST5EDT", "", "europe/berlin", "Europe", "a\0/b", "/etc/localtime", "\ud800/x"],
)
def test_what_is_no_iana_zone_is_refused(zone: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse("0 0 * * *", zone)
    assert refused.value.pointer == "/timezone"
