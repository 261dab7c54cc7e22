"""The overview, pools, gangs and schedules in Chromium, over real gangs: what is done is seen, without a reload."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from acceptance.stage import Up, echo, until
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

Visit = Callable[..., Page]
WARM, BROKEN, LATE = "kept-warm", "cannot-start", "by-the-clock"
SLOW = 60_000
"""A gang of torch ranks starts, on two cores that others use as well. In ms."""


@pytest.fixture(scope="module")
def fleet(service: Up) -> Iterator[Up]:
    """A pool with an idle gang that served a request, one whose gangs cannot start, and a schedule."""
    service.client.apply_template(echo(WARM, ranks=2, min=1, max=2))
    service.client.apply_template({**echo(BROKEN, ranks=1), "handler": "no.such:Handler"})
    service.idle_gang(WARM)
    service.run(WARM, {"text": "a word", "hooks": {"print": "spoken"}}, mode="warm")
    failed = service.client.submit(BROKEN, {})
    service.client.schedules.create(
        LATE, "0 3 * * *", {"request": {"template": WARM, "input": {}}}, timezone="Asia/Tokyo"
    )
    until(lambda: service.client.pool(BROKEN).held or service.client.get(failed.id).is_terminal, "a start failed")
    yield service
    for name in (WARM, BROKEN):
        service.client.drain_pool(name)


def test_a_pool_is_drained_by_a_button_and_its_gangs_go_before_the_eyes(visit: Visit, fleet: Up) -> None:
    fleet.client.apply_template(echo("to-drain", ranks=1, min=1, max=2))
    fleet.idle_gang("to-drain")
    page = visit("/pools/to-drain")
    expect(page.get_by_role("img", name="1 idle; at most 2, 1 kept at least")).to_be_visible()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.evaluate("window.same = true")
    page.get_by_role("button", name="Drain").click()
    expect(page.locator("#said")).to_contain_text("1 gang of to-drain go when they are done")
    expect(page.get_by_text("drained: no gang is launched")).to_be_visible()
    expect(page.get_by_text("No gang is up.")).to_be_visible(timeout=SLOW)
    assert page.evaluate("window.same")
    assert "minimum and maximum become 0" in asked[0]
    page.get_by_role("link", name="Gangs that are gone").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("drained by a person")


def test_the_policy_is_changed_by_keyboard_and_what_is_wrong_stands_beside_the_field(visit: Visit, fleet: Up) -> None:
    page = visit(f"/pools/{WARM}")
    field = page.get_by_label("Maximum")
    field.focus()
    field.press("Control+a")
    field.press("0")
    field.press("Enter")
    expect(page.get_by_text("min (1) is above max (0)")).to_be_visible()
    page.get_by_label("Maximum").fill("3")
    page.get_by_label("Maximum").press("Enter")
    expect(page.locator("#said")).to_contain_text("keeps 1 to 3 gangs")
    expect(page.get_by_role("img", name="at most 3")).to_be_visible()
    assert fleet.client.pool(WARM).max == 3


def test_a_gang_that_cannot_start_says_why(visit: Visit, fleet: Up) -> None:
    page = visit(f"/pools/{BROKEN}")
    failed = page.locator("section", has=page.get_by_role("heading", name="Last failed start"))
    expect(failed).to_contain_text("No module named 'no'")
    failed.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Why it ended")).to_be_visible()
    expect(page.get_by_text("setup_failed", exact=True)).to_be_visible()
    page.get_by_text("Traceback", exact=True).click()
    expect(page.get_by_text("ModuleNotFoundError").first).to_be_visible()


def test_a_gang_shows_what_it_does_its_start_its_ranks_and_the_log_of_each(visit: Visit, fleet: Up) -> None:
    gang = fleet.idle_gang(WARM)
    page = visit(f"/gangs/{gang.id}")
    expect(page.locator(".doing")).to_contain_text("idle")
    start = page.get_by_role("table", name="Phases of the start")
    for phase in ("scheduling", "processes", "import", "rendezvous", "preflight", "load", "Together"):
        expect(start.get_by_role("rowheader", name=phase)).to_be_visible()
    page.get_by_role("navigation", name="Whose log").get_by_role("link", name="rank 1").click()
    expect(page.get_by_label("the last lines of rank 1")).to_contain_text("spoken 1")
    page.evaluate("window.same = true")
    request = fleet.client.submit(WARM, {"sleep_s": 20, "steps": 100, "hooks": {"print": "again"}}, mode="warm")
    doing = page.locator(".doing")
    expect(doing).to_contain_text("busy", timeout=SLOW)
    expect(doing).to_contain_text("of 100")
    first = doing.inner_text()
    expect(doing).not_to_have_text(first)
    expect(page.get_by_label("the last lines of rank 1")).to_contain_text("again 1")
    fleet.client.cancel(request.id)
    expect(page.locator("#served ~ div").get_by_role("row").nth(1)).to_contain_text("canceled", timeout=SLOW)
    assert page.evaluate("window.same")


def test_the_overview_moves_by_itself_and_keeps_the_focus(visit: Visit, fleet: Up) -> None:
    page = visit("/")
    pools = page.get_by_role("region", name="Pools and their queues")
    pools.get_by_role("link", name=WARM).focus()
    request = fleet.client.submit(WARM, {"sleep_s": 20, "steps": 100}, mode="warm")
    gangs = page.get_by_role("region", name="What gangs do now")
    expect(gangs.get_by_title(request.id)).to_be_visible(timeout=SLOW)
    expect(gangs.get_by_label(f"progress of {request.id}")).to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == WARM
    fleet.client.cancel(request.id)
    expect(gangs.get_by_title(request.id)).to_have_count(0, timeout=SLOW)
    failures = page.get_by_role("region", name="Recent failures")
    expect(failures).to_contain_text("No module named 'no'", timeout=SLOW)
    expect(page.get_by_role("region", name="Next by schedule")).to_contain_text(LATE)


def test_a_schedule_is_made_triggered_paused_and_resumed(visit: Visit, fleet: Up) -> None:
    page = visit("/schedules")
    page.get_by_role("link", name="New schedule").click()
    page.get_by_label("Name").fill("hourly")
    page.get_by_label("Cron rule").fill("*/30 8-18 * * mon-fri")
    page.get_by_label("Zone").fill("America/New_York")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("Every 30 minutes, between 08:00 and 18:59, Monday through Friday")
    expect(preview.get_by_role("row")).to_have_count(6)
    page.get_by_label("Template").select_option(WARM)
    page.get_by_label("text").fill("by hand")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_url("**/schedules/hourly")
    page.evaluate("window.same = true")
    page.get_by_role("button", name="Run now").click()
    ticks = page.get_by_role("region", name="Ticks so far")
    expect(ticks.get_by_role("row").nth(1)).to_contain_text("by hand")
    expect(ticks.get_by_role("row").nth(1)).to_contain_text("succeeded", timeout=SLOW)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", name="hourly paused")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("heading", name="hourly active")).to_be_visible()
    assert page.evaluate("window.same")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Cron rule").fill("0 99 * * *")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Not saved")).to_be_visible()
    expect(page.get_by_label("Cron rule")).to_be_focused()
    page.get_by_label("Cron rule").fill("@daily")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/schedules/sch_*")
    expect(page.get_by_text("At 00:00, every day")).to_be_visible()


def test_the_form_follows_what_is_to_run_and_keeps_the_rest(visit: Visit, fleet: Up) -> None:
    page = visit(f"/schedules/_new?template={WARM}")
    page.get_by_label("Name").fill("weekly")
    expect(page.get_by_label("text")).to_be_visible()
    page.get_by_label("a batch").check()
    page.get_by_role("textbox", name="Lines").fill("s3://nowhere/lines.jsonl")
    expect(page.get_by_label("text")).to_have_count(0)
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_text("Not saved")).to_be_visible()
    expect(page.get_by_role("textbox", name="Lines")).to_have_value("s3://nowhere/lines.jsonl")
    expect(page.get_by_role("textbox", name="Lines")).to_be_focused()
    expect(page.get_by_label("Name")).to_have_value("weekly")
    page.get_by_label("a request").check()
    expect(page.get_by_label("text")).to_be_visible()
    assert "weekly" not in [one.name for one in fleet.client.schedules.list()]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    visit: Visit, fleet: Up, theme: str, width: int
) -> None:
    gang = fleet.gangs(WARM)[0]
    gone = next(one for one in fleet.client.gangs(state=["gone"]) if one.template == BROKEN)
    page = visit("/", color_scheme=theme, viewport={"width": width, "height": 844})
    for path in (
        "/",
        "/pools",
        f"/pools/{WARM}",
        f"/pools/{BROKEN}",
        "/gangs",
        "/gangs?show=gone",
        f"/gangs/{gang.id}?rank=1",
        f"/gangs/{gone.id}",
        "/schedules",
        f"/schedules/{LATE}",
        "/schedules/_new",
        f"/schedules/{LATE}/edit",
    ):
        page.goto(f"/ui{path}")
        page.wait_for_load_state("load")
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert [(path, one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
