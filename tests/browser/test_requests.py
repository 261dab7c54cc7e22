"""The pages about requests in Chromium, over a real service with real gangs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import gallery
import pytest
from acceptance.stage import Up, until
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

Visit = Callable[..., Page]
NAME = "gallery"
TEMPLATE = {
    "name": NAME,
    "handler": f"{Path(gallery.__file__).resolve()}:Gallery",
    "ranks_per_node": 2,
    "pool": {"min": 1, "max": 1, "idle_timeout_s": 600},
    "input": {
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "steps": {"type": "integer"}, "image": {"type": "string"}},
    },
}
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def painted(service: Up) -> Iterator[Up]:
    """The service with a gang of two ranks that paints."""
    service.client.apply_template(TEMPLATE)
    service.idle_gang(NAME)
    yield service


@pytest.fixture(scope="module")
def done(painted: Up) -> str:
    """A request that left outputs of every kind."""
    prompt = f"a lighthouse {gallery.HOSTILE} {gallery.RED} {gallery.FLIP}"
    labels = {"team": "ads", "evil": gallery.HOSTILE}
    return painted.run(NAME, {"prompt": prompt, "steps": 6}, labels=labels).id


@pytest.fixture(scope="module")
def failed(painted: Up) -> str:
    return painted.run(NAME, {"prompt": "it is torn", "fails_at": 2}).id


@pytest.fixture
def long(painted: Up) -> Iterator[str]:
    """A request that runs for as long as a test looks at it: the one gang has no time for others."""
    request = painted.client.submit(NAME, {"prompt": "for long", "steps": 2000, "step_s": 0.25})
    yield painted.running(request.id).id
    painted.client.cancel(request.id)
    painted.done(request.id)


def stays(page: Page) -> Callable[[], None]:
    """What is returned fails if the page was loaded anew since."""
    page.evaluate("window.stayed = true")

    def check() -> None:
        assert page.evaluate("window.stayed === true"), "the page was loaded anew"

    return check


def no_grave_finding(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in GRAVE] == []


# ------------------------------------------------------------------------------------------------------------ the list


def test_filters_change_the_table_and_the_address_and_nothing_else(visit: Visit, done: str, failed: str) -> None:
    page = visit("/requests")
    same = stays(page)
    page.get_by_role("checkbox", name="failed").check()
    expect(page.locator(f"#row-{failed}")).to_be_visible()
    expect(page.locator(f"#row-{done}")).to_have_count(0)
    assert page.url.endswith("/ui/requests?status=failed")
    page.get_by_role("checkbox", name="failed").uncheck()
    page.get_by_label("Search").fill("team=ads")
    expect(page.locator(f"#row-{failed}")).to_have_count(0)
    expect(page.locator(f"#row-{done}")).to_be_visible()
    expect(page.get_by_label("Search")).to_be_focused()
    same()
    shared = visit(page.url.partition("/ui")[2])
    expect(shared.get_by_label("Search")).to_have_value("team=ads")
    expect(shared.locator("tr[id^=row-]")).to_have_count(1)


def test_the_list_is_used_by_keyboard_alone(visit: Visit, done: str) -> None:
    page = visit("/requests")
    page.get_by_label("Search").focus()
    page.keyboard.type("ads")
    row = page.locator(f"#row-{done}")
    expect(page.locator("tr[id^=row-]")).to_have_count(1)
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == f"to-{done}":
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui/requests/{done}")
    page.go_back()
    expect(row).to_be_visible()
    expect(page.get_by_label("Search")).to_have_value("ads")


def test_new_rows_move_in_and_the_focus_stays(visit: Visit, painted: Up, done: str) -> None:
    page = visit("/requests")
    same = stays(page)
    page.locator(f"#to-{done}").focus()
    new = painted.client.submit(NAME, {"prompt": "moves in", "steps": 1})
    expect(page.locator(f"#row-{new.id}")).to_be_visible()
    expect(page.locator(f"#row-{new.id}").get_by_text("succeeded")).to_be_visible(timeout=60_000)
    expect(page.locator(f"#to-{done}")).to_be_focused()
    same()


def test_what_matches_nothing_leads_back_to_everything(visit: Visit, done: str) -> None:
    page = visit("/requests?q=nothing-like-this")
    expect(page.get_by_text("No request fits these filters.")).to_be_visible()
    page.get_by_role("link", name="Clear all filters").click()
    expect(page.locator(f"#row-{done}")).to_be_visible()


# ---------------------------------------------------------------------------------------------------------- one request


def test_what_is_selected_or_opened_stays_while_the_page_goes_on(visit: Visit, long: str) -> None:
    page = visit(f"/requests/{long}")
    step = page.get_by_text(re.compile(r"step \d+ of 2000"))
    expect(step).to_be_visible()
    page.get_by_text("As JSON").click()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#board h1'))")
    selected = page.evaluate("String(getSelection())")
    before = step.inner_text()
    expect(page.get_by_role("alert")).to_have_text("Kept as it was while text is selected.")
    assert (page.evaluate("String(getSelection())"), step.inner_text()) == (selected, before)
    page.evaluate("getSelection().removeAllRanges()")
    expect(step).not_to_have_text(before)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#input-title ~ details")).to_have_attribute("open", "")


def test_progress_and_waterfall_move_without_a_reload(visit: Visit, long: str) -> None:
    page = visit(f"/requests/{long}")
    same = stays(page)
    step = page.get_by_text(re.compile(r"step \d+ of 2000"))
    before = step.inner_text()
    expect(step).not_to_have_text(before)
    expect(page.locator("rect.on")).to_have_count(1)
    expect(page.get_by_role("row", name=re.compile("denoise"))).to_be_visible()
    same()


def test_a_request_that_waits_says_why_and_then_is_canceled_by_its_button(visit: Visit, painted: Up, long: str) -> None:
    waiting = painted.client.submit(NAME, {"prompt": "waits"}, mode="warm")
    page = visit(f"/requests/{waiting.id}")
    same = stays(page)
    expect(page.get_by_role("heading", name="Why it waits")).to_be_visible()
    expect(page.get_by_text(re.compile("at position 1: nothing is ahead of it")).first).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel", exact=True).press("Enter")
    expect(page.get_by_text("It is canceled.")).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    expect(page.get_by_role("main")).to_be_focused()  # neither the top of the page nor Retry, under a second Enter
    same()


def test_whoever_deletes_a_request_is_led_to_the_list(visit: Visit, painted: Up) -> None:
    request = painted.run(NAME, {"prompt": "goes away", "steps": 1, "outputs": False})
    page = visit(f"/requests/{request.id}")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/ui/requests")
    expect(page.get_by_role("heading", name="Requests")).to_be_visible()
    expect(page.locator(f"#row-{request.id}")).to_have_count(0)


def test_a_failing_rank_is_named_with_its_traceback(visit: Visit, failed: str) -> None:
    page = visit(f"/requests/{failed}")
    expect(page.get_by_role("heading", name="handler_error on rank 1")).to_be_visible()
    expect(page.locator("pre", has_text="Traceback (most recent call last)").first).to_be_visible()
    expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("Retry of")).to_be_visible()
    assert failed not in page.url


def test_a_killed_rank_is_one_attempt_and_the_retry_another(visit: Visit, painted: Up) -> None:
    request = painted.client.submit(NAME, {"prompt": "a rank dies", "dies_at": 2}).id
    painted.done(request, within=timedelta(minutes=3))
    page = visit(f"/requests/{request}")
    captions = page.locator(".waterfall caption")
    expect(captions).to_have_text([re.compile("Attempt 1 lost"), re.compile("Attempt 2 succeeded")])
    table = page.get_by_role("table", name="Attempts, newest first")
    expect(table.get_by_text("rank_failed")).to_be_visible()
    expect(table.get_by_text(re.compile("rank 1 on"))).to_be_visible()
    for phase in ("encode", "denoise", "decode", "save"):
        expect(page.locator(".waterfall").last.get_by_role("rowheader", name=phase)).to_be_visible()


def test_outputs_are_shown_as_what_they_are(visit: Visit, done: str) -> None:
    page = visit(f"/requests/{done}")
    for name in ("still.png", "moves.gif", "photo.jpg", "photo.webp"):
        picture = page.get_by_role("img", name=name)
        picture.scroll_into_view_if_needed()
        until(lambda p=picture: p.evaluate("one => one.naturalWidth") == 160, f"{name} is shown")
    page.get_by_role("link", name="facts.json").scroll_into_view_if_needed()
    expect(page.get_by_text('"seed": 7')).to_be_visible()
    page.get_by_role("link", name="notes.txt").scroll_into_view_if_needed()
    expect(page.locator(".outputs pre", has_text=f"A note.\n{gallery.HOSTILE}\nred \\u202eflipped")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="weights.bin").click()
    assert saved.value.path().stat().st_size == 5000


def test_hostile_outputs_never_run_however_they_are_opened(browser: Browser, painted: Up, done: str) -> None:
    page = browser.new_context(
        base_url=painted.replica.url
    ).new_page()  # what is refused here is written to its console
    page.goto(f"/ui/login#token={painted.token}")
    page.wait_for_url("**/ui/")
    page.goto(f"/ui/requests/{done}")
    title, asked = page.title(), []
    page.context.on("request", lambda request: asked.append(request.url))
    paths = [str(link.get_attribute("href")) for link in page.locator(".outputs .name a").all()]
    evil = [path for path in paths if re.search(r"page\.html|drawing\.svg|onerror|pretends", path)]
    assert len(evil) == 4
    for path in evil:
        page.evaluate(_EMBEDDED, path)
        with page.expect_download():
            page.get_by_role("link", name="open it as a page").first.click()
    page.wait_for_timeout(1500)
    assert page.title() == title
    assert [frame.url for frame in page.frames if "outputs" in frame.url] == []
    assert [url for url in asked if "/v1/" in url] == []
    page.context.close()


_EMBEDDED = """path => {
  for (const tag of ["iframe", "object", "embed", "img", "script", "video"]) {
    const one = document.createElement(tag);
    one[tag === "object" ? "data" : "src"] = path;
    document.body.append(one);
  }
  const link = document.createElement("a"); // without `download`: the browser goes there
  link.href = path;
  link.textContent = "open it as a page";
  document.querySelector("main").prepend(link);
}"""


def test_nothing_that_others_said_becomes_markup(visit: Visit, done: str, failed: str) -> None:
    for path in ("/requests", f"/requests/{done}", f"/requests/{failed}"):
        page = visit(path)
        expect(page.get_by_text(gallery.HOSTILE).first).to_be_attached()
        assert page.locator("main script").count() == 0
        assert "taken" not in page.title()
        assert gallery.FLIP not in page.locator("main").inner_text()


def test_the_lines_to_copy_are_copied_exactly(visit: Visit, painted: Up, done: str) -> None:
    page = visit(f"/requests/{done}")
    page.get_by_text("send the same again").click()
    page.locator("details", has_text="send the same again").get_by_role("button", name="Copy").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    prompt = painted.client.get(done).raw["input"]["prompt"]
    assert copied.startswith("muster submit gallery -i ") and prompt.replace("'", "'\"'\"'") in copied


def test_clone_and_edit_leads_to_the_form_with_its_values(visit: Visit, done: str) -> None:
    page = visit(f"/requests/{done}")
    page.get_by_role("link", name="Clone and edit").click()
    page.wait_for_url(f"**/templates/{NAME}/submit?from={done}")
    expect(page.get_by_label("steps")).to_have_value("6")


# ---------------------------------------------------------------------------------------------------------------- logs


def test_lines_are_found_by_what_they_hold(visit: Visit, done: str) -> None:
    page = visit(f"/requests/{done}")
    log = page.get_by_role("log")
    expect(log).to_contain_text("rank 0 encodes")
    page.get_by_label("Find in the lines").fill("NOWHERE in it")
    expect(page.locator("#log-state")).to_have_text(re.compile(r"^0 of \d+ lines here hold this\.$"))
    page.get_by_label("Find in the lines").fill("RANK 0 enc")
    expect(log.locator("div:visible").first).to_contain_text("rank 0 encodes")
    assert all("rank 0 enc" in text for text in log.locator("div:visible").all_inner_texts())
    page.get_by_label("Find in the lines").fill("")
    expect(page.locator("#log-state")).to_have_text("This is all that they wrote.")


def test_logs_of_a_rank_grow_and_are_text(visit: Visit, done: str) -> None:
    page = visit(f"/requests/{done}")
    log = page.get_by_role("log")
    expect(log).to_contain_text(f"rank 0 encodes {gallery.HOSTILE} red \\u202eflipped")
    page.get_by_role("checkbox", name="rank 1").check()
    expect(log).to_contain_text("r1 rank 1 encodes")
    page.get_by_role("checkbox", name="rank 0").uncheck()
    expect(log).not_to_contain_text("rank 0 encodes")
    expect(log).to_contain_text("rank 1 encodes")
    page.get_by_label("Wrap").uncheck()
    expect(log).not_to_have_class(re.compile("wrap"))
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download all").click()
    text = saved.value.path().read_text()
    assert "[r0] rank 0 encodes" in text and "[r1] rank 1 encodes" in text and gallery.RED in text


def test_no_more_lines_are_kept_than_a_browser_bears(visit: Visit, painted: Up) -> None:
    request = painted.client.submit(NAME, {"prompt": "speaks", "steps": 1, "lines": 3500, "outputs": False})
    page = visit(f"/requests/{request.id}")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line 3499 of rank 0", timeout=60_000)
    assert page.locator("#log > div").count() <= 2000
    expect(page.get_by_text("The last 2000 lines; the file has all.")).to_be_visible()


# ---------------------------------------------------------------------------------------------------------- everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_grave_finding_of_axe(visit: Visit, done: str, failed: str, long: str, scheme: str) -> None:
    for path in ("/requests", "/requests?q=nothing", f"/requests/{done}", f"/requests/{failed}", f"/requests/{long}"):
        no_grave_finding(visit(path, color_scheme=scheme))


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit: Visit, done: str, failed: str, long: str, width: int) -> None:
    for path in ("/requests", f"/requests/{done}", f"/requests/{failed}", f"/requests/{long}"):
        page = visit(path, viewport={"width": width, "height": 800})
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
