"""Two years of ticks in six zones, schedulers that race, die and come back: one run or one recorded skip each (B4).

`make test` runs coarse rules; `make ticks` (MUSTER_TICKS=all) the fine ones too.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import builders as make
import pytest
from cronsim import CronSim
from races import together
from scheduled import House
from sqlalchemy import text

from orchestrator.errors import MusterError
from orchestrator.store.database import Database, Record, Tx
from orchestrator.store.fires import Started

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
BEGIN = {"America/Sao_Paulo": datetime(2018, 1, 1, tzinfo=UTC)}
"""Brazil gave up changing its clocks in 2019: its two years begin in 2018."""
ELSEWHERE = datetime(2026, 1, 1, tzinfo=UTC)
YEARS = timedelta(days=730)
ZONES = (
    "America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu", "UTC",
)  # fmt: skip
COARSE = ("15 2 * * sun", "45 1 * 3,4,10,11 sun", "0 */12 * 2,11 sun")
"""Clocks change on Sundays in all of these zones."""
FINE = ("30 2 * * *", "30 1 * * *", "0 */12 * * *", "45 23 * * *")
SKIPPING = {"overlap": "skip", "misfire": "catch_up", "max_catch_up": 100}
KEEPING = {"overlap": "allow", "misfire": "catch_up", "max_catch_up": 100}


@dataclass(frozen=True, kw_only=True)
class Zoned:
    """A rule in a zone, and the schedule that was made of it."""

    rule: str
    zone: str
    schedule: str
    begin: datetime

    def named(self) -> set[datetime]:
        """Every instant that docs/schedules.md names, found by walking through the hours around each change."""
        zone, end = ZoneInfo(self.zone), self.begin + YEARS
        both, found = self.rule.split()[1].startswith("*"), set[datetime]()
        bare = (self.begin - DAY).replace(tzinfo=None)
        for wall in takewhile(lambda one: one < end.replace(tzinfo=None) + DAY, CronSim(self.rule, bare)):
            shown = _shown(wall, zone)
            found |= set(shown) if both else {shown[0]}
        return {tick for tick in found if self.begin < tick <= end}


def _shown(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The minutes at which clocks show it; the first after it if none do."""
    first = wall.replace(tzinfo=UTC) - timedelta(hours=15)
    near = [first + n * MINUTE for n in range(0, 30 * 60, 15)]  # all changes of these years are at quarters
    local = [(at + wall.minute % 15 * MINUTE).astimezone(zone) for at in near]
    exact = [at.astimezone(UTC) for at in local if at.replace(tzinfo=None) == wall]
    if exact:
        return exact
    return [next(at for at in near if at.astimezone(zone).replace(tzinfo=None) > wall)]


class Killed(MusterError):
    """A replica died in the middle of a transaction."""


@dataclass
class Rival(House):
    """A replica that now and then dies before its commit: before its run is recorded, after it, or on the way."""

    chance: random.Random = field(default_factory=random.Random)
    deaths: int = 0

    def start(self, tx: Tx, schedule: Record, fire: Record) -> Started:
        fate = self.chance.random()
        if fate < 0.03:
            self._die(tx)
        started = super().start(tx, schedule, fire)
        if fate > 0.97:
            self._die(tx)
        return started

    def _die(self, tx: Tx) -> None:
        """Its process is gone; or Postgres lost it, and what it does next fails."""
        self.deaths += 1
        if self.chance.random() < 0.5:
            raise Killed("killed")
        killer = "SELECT pg_terminate_backend(:pid)"
        pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self.database.transact(lambda other: other.execute(text(killer), {"pid": pid}))


@pytest.fixture
def rivals(database: Database, tmp_path: Path) -> Iterator[list[Rival]]:
    first = Rival(database, tmp_path, chance=random.Random(1))
    own = Database(database.url, connections=8)
    yield [first, Rival(own, tmp_path, template=first.template, chance=random.Random(2))]
    first.retire()
    own.close()


def zoned(house: House, rules: tuple[str, ...]) -> list[Zoned]:
    found = []
    for number, (rule, zone) in enumerate((rule, zone) for zone in ZONES for rule in rules):
        begin = BEGIN.get(zone, ELSEWHERE)
        house.now = begin
        end_at = (begin + YEARS).isoformat().replace("+00:00", "Z")
        policy = SKIPPING if number % 2 else KEEPING
        schedule = house.make(rule, timezone=zone, end_at=end_at, **policy)
        found.append(Zoned(rule=rule, zone=zone, schedule=schedule, begin=begin))
    return found


def race(rivals: list[Rival], until: datetime) -> None:
    """Both look at everything that is due at that time, again whenever one of them dies."""
    for rival in rivals:
        rival.now = until

    def work(rival: Rival) -> None:
        while True:
            try:
                rival.at(until)
            except MusterError:
                continue
            return

    done = together([lambda rival=rival: work(rival) for rival in rivals])
    assert done == [None, None], done


def live_through(rivals: list[Rival], made: list[Zoned]) -> None:
    """Steps of some days, so that several ticks come at once and some come late; runs end now and then."""
    chance = random.Random(3)
    for begin in sorted({one.begin for one in made}):
        now = begin
        while now < begin + YEARS + DAY:
            now += chance.choice((timedelta(hours=7), 2 * DAY, 9 * DAY, 20 * DAY))
            race(rivals, now)
            if chance.random() < 0.5:
                rivals[0].end_runs()
    race(rivals, ELSEWHERE + YEARS + 2 * DAY)


def check(house: House, made: list[Zoned]) -> Counter[str]:
    """Each tick that is named has one row, and its run is a request of its own. Returns what became of them."""
    became: Counter[str] = Counter()
    for one in made:
        fires = house.fires(one.schedule)
        assert {fire.tick for fire in fires} == one.named(), (one.rule, one.zone)
        assert len(fires) == len({fire.tick for fire in fires})
        for fire in fires:
            assert (fire.state == "ran" and fire.request_id) or (fire.state == "skipped" and fire.reason), fire
            became[fire.reason_code or fire.state] += 1
    ran = house.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request"))
    assert ran == became["ran"], "a request for each run, and no other"
    return became


@pytest.mark.long
def test_each_tick_of_two_years_has_one_run_or_one_recorded_skip(rivals: list[Rival]) -> None:
    made = zoned(rivals[0], COARSE)
    live_through(rivals, made)
    became = check(rivals[0], made)
    assert became["ran"] > 600 and became["overlap"] > 100 and sum(rival.deaths for rival in rivals) > 10, became


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.environ.get("MUSTER_TICKS") != "all", reason="minutes: `make ticks` runs it")
def test_each_tick_of_fine_rules_has_one_run_or_one_recorded_skip(rivals: list[Rival]) -> None:
    made = zoned(rivals[0], FINE)
    live_through(rivals, made)
    became = check(rivals[0], made)
    print(became, [rival.deaths for rival in rivals])
    assert became["ran"] > 5_000 and sum(rival.deaths for rival in rivals) > 100, became
