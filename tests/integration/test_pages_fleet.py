"""The overview, pools and gangs as pages, without a browser: who may do what, what is shown of whom, hostile text."""

from __future__ import annotations

import builders as make
import pytest
from replica import Replica
from sqlalchemy import text
from visitors import Visitor, words

from orchestrator.domain.states import Outcome, Reason
from orchestrator.store import fleet, gangs, requests
from orchestrator.store.tokens import Scope

EVIL = "<script>alert(1)</script> \x1b[31m\u202ered"


@pytest.fixture
def owner(here: Replica) -> Visitor:
    return Visitor(here)


@pytest.fixture
def reader(here: Replica, owner: Visitor) -> Visitor:
    """Of the same tenant, and may only look."""
    return Visitor(here, Scope.READ, tenant=owner.tenant)


def pool_of(visitor: Visitor, **changes: object) -> make.Record:
    pool: make.Record = visitor.transact(lambda tx: make.pool(tx, tenant=visitor.tenant, **changes))
    return pool


def busy(visitor: Visitor, pool: make.Record) -> make.Lease:
    lease: make.Lease = visitor.transact(lambda tx: make.running(tx, pool, tenant=visitor.tenant))
    return lease


def test_an_empty_installation_teaches_three_commands(owner: Visitor) -> None:
    page = owner.get("/")
    for command in ("muster template apply digits", "muster submit digits -i digit=7 --wait", "muster ls"):
        assert command in page


def test_the_overview_shows_what_waits_what_gangs_do_and_what_failed(owner: Visitor) -> None:
    pool = pool_of(owner, pool={"max": 3})
    lease, failed = busy(owner, pool), busy(owner, pool)
    owner.transact(lambda tx: make.finish(tx, failed, Outcome.FAILED, error={"code": "handler_error", "message": EVIL}))
    waiting = owner.transact(lambda tx: make.queued(tx, pool, tenant=owner.tenant))
    page = owner.get("/")
    assert lease.request in page
    assert lease.gang.id in page
    assert failed.request in page
    assert "run 1 of 10" in words(page)
    assert f"?status=queued&amp;template={pool.template}" in page
    assert waiting is not None
    assert "<script>alert" not in page
    assert "\\u202e" in page


def test_a_request_that_expired_is_a_failure_without_an_error(owner: Visitor) -> None:
    pool = pool_of(owner)
    late = owner.transact(lambda tx: make.queued(tx, pool, tenant=owner.tenant))
    assert owner.transact(lambda tx: requests.expire(tx, late))
    assert late in owner.get("/").split('id="failures"')[1]


def test_nobody_sees_anything_of_another_tenant(here: Replica, owner: Visitor) -> None:
    pool, other = pool_of(owner), Visitor(here)
    lease = busy(owner, pool)
    for path in (f"/pools/{pool.template}", f"/gangs/{lease.gang.id}"):
        owner.get(path)
        assert 'class="card sorry"' in other.get(path, 404)
    for path in ("/", "/pools", "/gangs", "/gangs?show=gone"):
        page = other.get(path)
        assert pool.template not in page
        assert lease.gang.id not in page


def test_a_reader_is_offered_no_change_and_refused_each(owner: Visitor, reader: Visitor) -> None:
    pool = pool_of(owner)
    gang = busy(owner, pool).gang
    assert "<form" not in reader.get(f"/pools/{pool.template}")
    assert "hx-post" not in reader.get(f"/gangs/{gang.id}").split("<main")[1]
    for path in (f"/pools/{pool.template}", f"/pools/{pool.template}/drain", f"/pools/{pool.template}/recycle"):
        assert reader.post(path, min="0", max="5", idle_timeout_s="9").status_code == 403
    assert reader.post(f"/gangs/{gang.id}/drain").status_code == 403
    assert owner.transact(lambda tx: make.gang_row(tx, gang)).state == "ready"


def test_the_policy_of_a_pool_is_changed_by_its_form(owner: Visitor) -> None:
    pool = pool_of(owner)
    answer = owner.post(f"/pools/{pool.template}", min="1", max="4", idle_timeout_s="90")
    assert answer.status_code == 204
    assert "1 to 4 gangs" in answer.headers["hx-trigger"]
    assert 'value="90"' in owner.get(f"/pools/{pool.template}")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("min", "minus"),
        ("max", "-1"),
        ("min", "9"),
        ("idle_timeout_s", "nan"),
        ("idle_timeout_s", ""),
        ("max", "1e400"),
    ],
)
def test_a_policy_that_cannot_be_comes_back_as_typed_with_what_is_wrong_beside_it(
    owner: Visitor, field: str, said: str
) -> None:
    pool = pool_of(owner)
    answer = owner.post(f"/pools/{pool.template}", **{"min": "1", "max": "4", "idle_timeout_s": "90", field: said})
    assert answer.status_code == 422
    assert f'value="{said}"' in answer.text
    assert f'id="{field}-wrong"' in answer.text
    row = owner.transact(lambda tx: make.pools_of(tx, owner.tenant))[0]
    assert (row.min_gangs, row.max_gangs) == (0, 1)


def test_draining_a_pool_lets_its_gangs_go_and_launches_none(here: Replica, owner: Visitor) -> None:
    pool = pool_of(owner, pool={"min": 1, "max": 3})
    gang, alone = busy(owner, pool).gang, owner.transact(lambda tx: make.ready(tx, pool))
    answer = owner.post(f"/pools/{pool.template}/drain")
    assert answer.status_code == 204
    assert "2 gangs" in answer.headers["hx-trigger"]
    assert {owner.transact(lambda tx, g=g: make.gang_row(tx, g)).state for g in (gang, alone)} == {"draining"}
    assert "drained: no gang is launched" in words(owner.get(f"/pools/{pool.template}"))
    assert "plan" in here.rung


def test_recycling_a_pool_leaves_its_policy(owner: Visitor) -> None:
    pool = pool_of(owner, pool={"min": 1, "max": 3})
    gang = owner.transact(lambda tx: make.ready(tx, pool))
    assert owner.post(f"/pools/{pool.template}/recycle").status_code == 204
    assert owner.transact(lambda tx: make.gang_row(tx, gang)).state == "draining"
    row = owner.transact(lambda tx: make.pools_of(tx, owner.tenant))[0]
    assert (row.min_gangs, row.max_gangs) == (1, 3)


def test_a_gang_of_pods_leads_to_its_pytorchjob(owner: Visitor) -> None:
    pool = pool_of(owner)
    gang = owner.transact(lambda tx: make.ready(tx, pool))
    at = "UPDATE gang SET backend = 'kubeflow:team-a/muster' WHERE id = :g"
    owner.transact(lambda tx: tx.execute(text(at), {"g": gang.id}))
    page, name = words(owner.get(f"/gangs/{gang.id}")), owner.transact(lambda tx: make.gang_row(tx, gang)).name
    assert f"PyTorchJob team-a/{name}" in page
    assert f"kubectl -n team-a get pytorchjob {name} -o yaml" in page
    assert f"kubectl -n team-a get pods -l training.kubeflow.org/job-name={name}" in page
    assert "pods a place, the image" in page


def test_gangs_of_an_earlier_version_are_told_apart(owner: Visitor) -> None:
    pool = pool_of(owner)
    owner.transact(lambda tx: make.ready(tx, pool))
    assert "earlier versions" not in owner.get("/pools")
    owner.transact(lambda tx: make.pool(tx, tenant=owner.tenant, name=pool.template, description="another"))
    page = words(owner.get("/pools"))
    assert f"earlier versions, on their way out {pool.template} v1 1 idle" in page


def test_what_runs_now_is_no_idle_time(owner: Visitor) -> None:
    pool = pool_of(owner)
    lease = busy(owner, pool)
    ready, granted = "now() - interval '80 s'", "now() - interval '50 s'"
    for moved in (
        f"UPDATE gang SET first_ready_at = {ready}, ready_at = {ready} WHERE id = :g",
        "UPDATE gang SET launched_at = now() - interval '100 s' WHERE id = :g",
        f"UPDATE gang_rank SET ready_at = {ready} WHERE gang_id = :g",
        f"UPDATE attempt SET granted_at = {granted} WHERE gang_id = :g",
    ):
        owner.transact(lambda tx, m=moved: tx.execute(text(m), {"g": lease.gang.id}))
    (spent,) = owner.transact(lambda tx: fleet.spent(tx, owner.tenant, 86400))
    assert spent.starting == pytest.approx(20, abs=2)
    assert spent.warm == pytest.approx(50, abs=5)
    assert spent.idle == pytest.approx(30, abs=5)
    owner.transact(lambda tx: make.finish(tx, lease, run_s=45.0))
    assert owner.transact(lambda tx: fleet.spent(tx, owner.tenant, 86400))[0].warm == pytest.approx(45)


def test_a_pool_shows_its_last_failed_start_with_the_cause(owner: Visitor) -> None:
    pool = pool_of(owner)
    gang = owner.transact(lambda tx: make.loading(tx, pool))
    owner.transact(lambda tx: gangs.end(tx, gang.id, Reason.RANK_FAILED, f"no module named 'torch' {EVIL}"))
    page = owner.get(f"/pools/{pool.template}")
    assert gang.id in page
    assert "no module named 'torch'" in words(page)
    assert "<script>alert" not in page
    assert "No gang is launched until" in words(page)


def test_gangs_are_listed_in_pages_the_live_and_those_that_are_gone(owner: Visitor) -> None:
    pool = pool_of(owner, pool={"max": 100})
    live = [owner.transact(lambda tx: make.planned(tx, pool)).id for _ in range(53)]
    first = owner.get("/gangs")
    assert "53 planned" in words(first)
    following = first.split('class="paging"')[1].split('href="/ui')[1].split('"')[0].replace("&amp;", "&")
    second = owner.get(following)
    assert [gang for gang in live if gang in second] == live[:3]
    assert sum(gang in first for gang in live) == 50
    for gang in live[:2]:
        owner.transact(lambda tx, g=gang: gangs.end(tx, g, Reason.DRAINED, "drained by a person"))
    gone = owner.get("/gangs?show=gone")
    assert [gang for gang in live if gang in gone] == live[:2]
    assert "drained by a person" in gone


@pytest.mark.parametrize(
    "path", ["/gangs?at=x", "/gangs?show=all", "/gangs?template=%00", "/pools/NO", "/gangs/%F0%9F%92"]
)
def test_an_address_that_makes_no_sense_is_no_defect(owner: Visitor, path: str) -> None:
    assert 'class="card sorry"' in owner.get(path, 400 if "at=" in path else 404)


def test_the_overview_stays_readable_with_five_hundred_gangs(owner: Visitor) -> None:
    for _ in range(20):
        pool = pool_of(owner, pool={"max": 25})
        owner.transact(lambda tx, p=pool: [make.planned(tx, p) for _ in range(25)])
    page = owner.get("/")
    assert "500 planned" in words(page)
    assert page.count('class="id" href="/ui/gangs/') == 60
    assert "Show all: 22 more" in words(page)
    assert len(page) < 100_000
