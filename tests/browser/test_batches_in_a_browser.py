"""Batches in a browser: from a file of lines to the results, with what fails tried again, by real gangs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.stage import Up, echo, until
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

Visit = Callable[..., Page]
ITEMS = 20


@pytest.fixture(scope="module", autouse=True)
def templates(service: Up) -> Iterator[None]:
    hooks = {"type": "object", "properties": {"raise_on_rank": {"type": "integer"}, "write": {"type": "string"}}}
    fields = {"text": {"type": "string"}, "sleep_s": {"type": "number"}, "steps": {"type": "integer"}, "hooks": hooks}
    schema = {"type": "object", "additionalProperties": False, "required": ["text"], "properties": fields}
    retry = {"max_attempts": 1}
    service.client.apply_template(echo("sheets", ranks=2, input=schema, retry=retry))
    yield


def lines(number: int = ITEMS, *, bad: int | None = None, **values: Any) -> list[dict[str, Any]]:
    found = [{"custom_id": f"i-{n}", "input": {"text": f"t{n}", **values}} for n in range(number)]
    if bad is not None:
        found[bad]["input"]["hooks"] = {"raise_on_rank": 1}
    return found


def written(folder: Path, items: list[Any]) -> Path:
    file = folder / "lines.jsonl"
    file.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in items))
    return file


def batch_of(page: Page) -> str:
    page.wait_for_url(re.compile(r"/ui/batches/bat_"))
    return page.url.rpartition("/")[2]


def test_twenty_lines_become_results_and_what_failed_is_tried_again(visit: Visit, service: Up, tmp_path: Path) -> None:
    page = visit("/batches/new?template=sheets")
    page.get_by_label("File of lines (JSONL)").set_input_files(written(tmp_path, lines(bad=3, sleep_s=0.2, steps=2)))
    page.get_by_role("button", name="Start the batch").click()
    batch_id = batch_of(page)
    shares = page.locator("svg.shares")
    expect(shares).to_have_attribute("aria-label", re.compile(r"[1-9]\d* succeeded"), timeout=60_000)
    expect(page.locator("h1 .status").first).to_have_text("completed", timeout=60_000)
    expect(shares).to_have_attribute("aria-label", "Items: 19 succeeded, 1 failed")
    page.get_by_role("link", name=re.compile("^failed")).click()
    row = page.get_by_role("row").filter(has_text="i-3")
    expect(row).to_contain_text("rank 1 raises as asked")
    page.get_by_role("button", name="Retry i-3").click()
    until(lambda: service.client.batches.item(batch_id, "i-3").retry_of, "i-3 is another request")
    expect(page.locator("h1 .status").first).to_have_text("completed", timeout=60_000)
    page.get_by_role("button", name="Run what is not done (1)").click()
    expect(page.locator("h1 .status").first).not_to_have_text("completed")
    expect(page.locator("h1 .status").first).to_have_text("completed", timeout=60_000)
    with page.expect_download() as download:
        page.get_by_role("link", name="results.jsonl").click()
    results = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert [one["custom_id"] for one in results] == [f"i-{n}" for n in range(ITEMS)]
    assert [one["custom_id"] for one in results if one["status"] != "succeeded"] == ["i-3"]
    with page.expect_download() as download:
        page.get_by_role("link", name="errors.jsonl").click()
    (error,) = Path(download.value.path()).read_text().splitlines()
    assert json.loads(error)["input"]["hooks"] == {"raise_on_rank": 1}


def test_bad_lines_are_listed_and_left_out_if_asked(visit: Visit, service: Up, tmp_path: Path) -> None:
    page = visit("/batches/new?template=sheets")
    bad = ["<b>no json</b>", {"custom_id": "<i>x</i>", "input": {"text": "x"}}, {"input": {"text": 5}}, *lines(1)]
    page.get_by_label("Or lines typed here").fill(written(tmp_path, bad).read_text())
    page.get_by_role("button", name="Start the batch").click()
    listed = page.locator(".summary:visible li")
    expect(listed).to_have_count(3)
    expect(listed.nth(0)).to_contain_text("Line 1")
    expect(listed.nth(2)).to_contain_text("Line 3 /input/text")
    expect(page.locator(".summary")).to_be_focused()
    page.get_by_label("is left out").check()
    page.get_by_role("button", name="Start the batch").click()
    batch_id = batch_of(page)
    expect(page.get_by_role("heading", name="Lines that are no items")).to_be_visible()
    assert page.locator("main b, main i").count() == 0
    service.client.batches.cancel(batch_id)


def test_terms_that_cannot_be_read_are_said_beside_their_field(visit: Visit) -> None:
    page = visit("/batches/new?template=sheets")
    page.get_by_role("button", name="Take it").click()
    page.get_by_label("Failures it may have").fill("a few")
    page.get_by_role("button", name="Start the batch").click()
    field = page.get_by_label("Failures it may have")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Or lines typed here")).to_have_value(re.compile("item-1"))


def test_an_upload_of_lines_is_cancelled(visit: Visit, tmp_path: Path) -> None:
    page = visit("/batches/new?template=sheets")
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.get_by_label("File of lines (JSONL)").set_input_files(written(tmp_path, lines(20_000)))
    page.get_by_role("button", name="Start the batch").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("button", name="Start the batch")).to_be_enabled()
    page.goto("/ui/batches")
    assert "/batches/new" not in page.url


def test_a_batch_is_paused_resumed_and_canceled_from_its_page(visit: Visit, service: Up) -> None:
    batch = service.client.batches.submit("sheets", lines(50, sleep_s=2.0, steps=4))
    page = visit(f"/batches/{batch.id}")
    status = page.locator("h1 .status").first
    expect(status).to_have_text("running", timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(status).to_have_text(re.compile("queued|running"))
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(status).to_have_text("canceled", timeout=60_000)
    expect(page.get_by_role("button", name=re.compile("Run what is not done"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_pages_of_batches(visit: Visit, service: Up, scheme: str) -> None:
    batch = service.client.batches.submit("sheets", [*lines(3), {"input": {"text": 5}}], errors="items")
    for path in ("/batches", f"/batches/{batch.id}"):
        page = visit(path, color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    service.client.batches.cancel(batch.id)


def test_nothing_sticks_out_at_a_phones_width_on_the_pages_of_batches(visit: Visit, service: Up) -> None:
    batch = service.client.batches.submit("sheets", lines(3))
    for path in ("/batches", f"/batches/{batch.id}"):
        page = visit(path, viewport={"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    service.client.batches.cancel(batch.id)
