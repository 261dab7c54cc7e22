"""U1 and U2: what somebody does in a morning, from a first request to a paused schedule; with a mouse, and without."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import gallery
import pytest
from acceptance.stage import Up
from playwright.sync_api import Locator, Page, expect

Visit = Callable[..., Page]
NAME = "story"
TEMPLATE = {
    "name": NAME,
    "handler": f"{Path(gallery.__file__).resolve()}:Gallery",
    "ranks_per_node": 2,
    "pool": {"min": 0, "max": 1, "idle_timeout_s": 600},
    "input": {
        "type": "object",
        "required": ["prompt"],
        "properties": {"prompt": {"type": "string"}, "steps": {"type": "integer", "default": 8}},
    },
}
LINES = "".join(f'{{"custom_id": "shot-{n}", "input": {{"prompt": "shot {n}", "steps": 2}}}}\n' for n in range(5))
STARTED_MS = 90_000


class Mouse:
    """Clicks and types."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, place: Locator) -> None:
        place.click()

    def write(self, place: Locator, text: str) -> None:
        place.fill(text)

    def choose(self, place: Locator, value: str) -> None:
        place.select_option(value)


class Keys:
    """Goes to everything by Tab from where the page begins, and uses it as the keyboard does."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, place: Locator) -> None:
        self._go(place)
        kind = place.evaluate("one => one.type ?? ''")
        self.page.keyboard.press("Space" if kind in ("checkbox", "radio") else "Enter")

    def write(self, place: Locator, text: str) -> None:
        self._go(place)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)

    def choose(self, place: Locator, value: str) -> None:
        self._go(place)
        self.page.keyboard.type(value)

    def _go(self, place: Locator) -> None:
        place.wait_for(state="visible")
        for _ in range(150):
            if place.evaluate("one => one === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {place}")


@pytest.mark.parametrize("hand", [Mouse, Keys])
def test_a_morning_with_muster(visit: Visit, service: Up, hand: type[Mouse | Keys], tmp_path: Path) -> None:
    service.client.apply_template({**TEMPLATE, "name": "stay", "input": {}})  # comes first to whoever types `st`
    service.client.apply_template(TEMPLATE)
    page = visit("/")
    page.on("dialog", lambda dialog: dialog.accept())
    hands = hand(page)
    _submit_and_watch(page, hands)
    _read_what_rank_1_said(page, hands)
    _cancel_and_retry(page, hands, service)
    _start_a_batch(page, hands, tmp_path)
    _drain_the_pool(page, hands)
    _pause_a_schedule(page, hands, f"nightly-{hand.__name__.lower()}")


def _link(page: Page, name: str) -> Locator:
    return page.get_by_role("link", name=name, exact=True).first


def _button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True).first


def _submit(page: Page, hands: Mouse | Keys, prompt: str, steps: int) -> None:
    hands.press(_link(page, "Templates"))
    page.wait_for_url("**/ui/templates")  # links of the page before may bear the same names
    hands.press(_link(page, NAME))
    hands.press(_link(page, "Submit a request"))
    hands.write(page.get_by_label("prompt").first, prompt)
    hands.write(page.get_by_label("steps").first, str(steps))
    hands.press(_button(page, "Submit"))
    page.wait_for_url(re.compile(r"/ui/requests/req_"))


def _submit_and_watch(page: Page, hands: Mouse | Keys) -> None:
    _submit(page, hands, "a lighthouse", 120)
    page.evaluate("window.stayed = true")
    bar = page.locator("#main progress").first
    bar.wait_for(timeout=STARTED_MS)
    seen = float(bar.get_attribute("value") or 0)
    page.wait_for_function(
        "seen => (document.querySelector('#main progress')?.value ?? 1e9) > seen", arg=seen, timeout=STARTED_MS
    )
    expect(page.locator("h1 ~ p .status, .head .status").first).to_have_text("succeeded", timeout=STARTED_MS)
    assert page.evaluate("window.stayed === true"), "the page was loaded anew"
    picture = page.get_by_role("img", name=re.compile("still.png")).first
    page.wait_for_function("one => one.complete && one.naturalWidth > 0", arg=picture.element_handle())


def _read_what_rank_1_said(page: Page, hands: Mouse | Keys) -> None:
    rank = page.get_by_role("checkbox", name="rank 1")
    if not rank.is_checked():
        hands.press(rank)
    expect(page.locator("#log")).to_contain_text("rank 1 encodes")


def _cancel_and_retry(page: Page, hands: Mouse | Keys, service: Up) -> None:
    _submit(page, hands, "far too long", 2000)
    first = page.url
    page.locator("#main progress").first.wait_for(timeout=STARTED_MS)
    hands.press(_button(page, "Cancel"))
    status = page.locator("h1 ~ p .status, .head .status").first
    expect(status).to_have_text("canceled", timeout=30_000)
    hands.press(_button(page, "Retry"))
    page.wait_for_url(lambda url: "/ui/requests/req_" in url and url != first)
    assert service.client.get(page.url.rpartition("/")[2]).raw["retry_of"] == first.rpartition("/")[2]
    hands.press(_button(page, "Cancel"))
    expect(status).to_have_text("canceled", timeout=STARTED_MS)


def _start_a_batch(page: Page, hands: Mouse | Keys, folder: Path) -> None:
    lines = folder / "shots.jsonl"
    lines.write_text(LINES)
    hands.press(_link(page, "Batches"))
    page.wait_for_url("**/ui/batches")  # links of the page before may bear the same names
    page.goto("/ui/batches/new")
    hands.choose(page.get_by_label("Template"), NAME)
    with page.expect_file_chooser() as chooser:
        hands.press(page.get_by_label("File of lines (JSONL)"))
    chooser.value.set_files(lines)
    hands.press(_button(page, "Start the batch"))
    page.wait_for_url(re.compile(r"/ui/batches/bat_"))
    expect(page.locator("h1 ~ .status, .head .status").first).to_have_text("completed", timeout=STARTED_MS)
    with page.expect_download() as download:
        hands.press(_link(page, "results.jsonl"))
    assert len(Path(download.value.path()).read_text().splitlines()) == 5


def _drain_the_pool(page: Page, hands: Mouse | Keys) -> None:
    hands.press(_link(page, "Pools"))
    page.wait_for_url("**/ui/pools")  # links of the page before may bear the same names
    hands.press(_link(page, NAME))
    page.wait_for_url(f"**/ui/pools/{NAME}")
    hands.press(_button(page, "Drain"))
    expect(page.get_by_text("no gang").first).to_be_visible(timeout=30_000)


def _pause_a_schedule(page: Page, hands: Mouse | Keys, name: str) -> None:
    hands.press(_link(page, "Schedules"))
    page.wait_for_url("**/ui/schedules")  # links of the page before may bear the same names
    hands.press(_link(page, "New schedule"))
    hands.write(page.get_by_label("Name").first, name)
    hands.write(page.get_by_label("Cron rule").first, "0 2 * * *")
    hands.choose(page.get_by_label("Template"), NAME)
    hands.write(page.get_by_label("prompt").first, "every night")
    hands.press(_button(page, "Make it"))
    expect(page.get_by_role("heading", name=re.compile(name))).to_contain_text("active")
    hands.press(_button(page, "Pause"))
    expect(page.get_by_role("heading", name=re.compile(name))).to_contain_text("paused")
