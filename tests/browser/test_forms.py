"""A request by form: every kind of field by keyboard alone, what is wrong, files, clones; run by a real gang."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.stage import Up, echo
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

Visit = Callable[..., Page]
HOSTILE = '"><script>document.title="owned"</script><img src=x onerror=alert(1)>\u202egpj'
FIELDS = {
    "text": {"type": "string", "title": "What it says", "minLength": 1, "maxLength": 40},
    "story": {"type": "string", "format": "textarea", "description": "Some lines."},
    "steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 2},
    "sleep_s": {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
    "look": {"enum": ["noir", "pastel", "comic", "oil", "clay"]},
    "solver": {"enum": ["unipc", "dpm"], "default": "unipc"},
    "upscale": {"type": "boolean", "title": "Upscale twice"},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    "channels": {"type": "array", "uniqueItems": True, "items": {"enum": ["depth", "mask"]}},
    "size": {
        "type": "object",
        "title": "Size",
        "required": ["width"],
        "properties": {"width": {"type": "integer", "minimum": 16}, "height": {"type": "integer"}},
    },
    "image": {"type": ["string", "null"], "format": "muster-file", "title": "First picture"},
    "camera": {"anyOf": [{"type": "string"}, {"type": "array"}]},
    "evil": {"enum": [HOSTILE, "b", "c", "d", "e"], "title": HOSTILE, "description": HOSTILE},
}
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["text"], "properties": FIELDS}


@pytest.fixture(scope="module", autouse=True)
def templates(service: Up) -> Iterator[None]:
    """`every-field` has each kind and no gang; `painter` is a real one of two ranks."""
    service.client.apply_template(echo("every-field", ranks=2, input=SCHEMA, description=HOSTILE, max=0))
    fields = {name: FIELDS[name] for name in ("text", "steps", "sleep_s")}
    hooks = {"type": "object", "properties": {"raise_on_rank": {"type": "integer"}, "write": {"type": "string"}}}
    schema = {**SCHEMA, "properties": {**fields, "hooks": hooks}}
    service.client.apply_template(echo("painter", ranks=2, input=schema))
    yield


def recorded(service: Up, page: Page) -> Any:
    page.wait_for_url(re.compile(r"/ui/requests/req_"))
    return service.client.get(page.url.rpartition("/")[2])


def to(page: Page, label: str) -> None:
    """By Tab alone, as far as the field of that label."""
    wanted = page.get_by_label(label, exact=False).first
    for _ in range(80):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {label!r}")


def test_every_kind_of_field_is_filled_by_keyboard_alone(visit: Visit, service: Up) -> None:
    page = visit("/templates/every-field/submit")
    to(page, "What it says")
    page.keyboard.type("a cat")
    to(page, "story")
    page.keyboard.type("one\ntwo")
    to(page, "steps")
    page.keyboard.press("ArrowUp")
    to(page, "sleep_s")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.5")
    to(page, "look")
    page.keyboard.type("pas")
    to(page, "unipc")
    page.keyboard.press("ArrowDown")
    to(page, "Upscale twice")
    page.keyboard.press("Space")
    to(page, "tags")
    page.keyboard.type("red\nblue")
    to(page, "mask")
    page.keyboard.press("Space")
    to(page, "width")
    page.keyboard.type("64")
    to(page, "camera")
    page.keyboard.type('["pan"]')
    to(page, "auto")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".foresight .status")).to_have_text("batch")
    for _ in range(40):
        if page.evaluate("document.activeElement.textContent") == "Submit":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    found = recorded(service, page)
    assert found.raw["input"] == {
        "text": "a cat",
        "story": "one\ntwo",
        "steps": 3,
        "sleep_s": 0.5,
        "look": "pastel",
        "solver": "dpm",
        "upscale": True,
        "tags": ["red", "blue"],
        "channels": ["mask"],
        "size": {"width": 64},
        "camera": ["pan"],
    }
    assert found.raw["mode"] == "batch"
    service.client.cancel(found.id)


def test_what_is_wrong_is_said_beside_its_field_and_the_first_one_has_the_focus(visit: Visit) -> None:
    page = visit("/templates/every-field/submit")
    page.get_by_label("tags").fill("a\nb\nc\nd")
    page.get_by_label("story").fill("kept, <b>as typed</b>")
    page.get_by_label("camera").fill("{")
    page.get_by_role("button", name="Submit", exact=True).click()
    text = page.get_by_label("What it says")
    expect(text).to_be_focused()
    expect(text).to_have_attribute("aria-invalid", "true")
    expect(text).to_have_accessible_description(re.compile("Fill this in."))
    expect(page.get_by_label("tags")).to_have_accessible_description(re.compile("At most 3 entries"))
    expect(page.get_by_label("story")).to_have_value("kept, <b>as typed</b>")
    expect(page.get_by_label("camera")).to_have_value("{")
    expect(page.get_by_role("alert").filter(has_text="3 things are to be put right")).to_be_visible()


def test_a_number_that_the_browser_cannot_read_is_not_lost(visit: Visit) -> None:
    page = visit("/templates/every-field/submit")
    page.get_by_label("What it says").fill("x")
    steps = page.get_by_label("steps")
    steps.press("Control+A")
    steps.press_sequentially("1e")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(steps).to_be_focused()
    expect(steps).to_have_accessible_description(re.compile("This is no number"))
    assert "/submit" in page.url


def test_texts_of_the_template_are_text(visit: Visit) -> None:
    page = visit("/templates/every-field/submit")
    assert "owned" not in page.title()
    assert page.locator("main img, main script").count() == 0
    expect(page.get_by_label(re.compile("script"))).to_have_count(1)
    page.goto("/ui/templates/every-field")
    assert page.locator("main img, main script").count() == 0
    page.goto("/ui/templates")
    assert page.locator("main img, main script").count() == 0


def test_a_double_click_is_one_request(visit: Visit, service: Up) -> None:
    page = visit("/templates/every-field/submit")
    page.get_by_label("What it says").fill("twice")
    page.get_by_role("button", name="Submit", exact=True).dblclick()
    found = recorded(service, page)
    page.reload()
    same = [one.id for one in service.client.list(limit=50).data if one.raw["input"].get("text") == "twice"]
    assert same == [found.id]
    service.client.cancel(found.id)


def test_a_file_is_sent_with_its_progress_and_named_by_the_request(visit: Visit, service: Up, tmp_path: Path) -> None:
    picture = tmp_path / "a cät.png"
    picture.write_bytes(b"x" * 3_000_000)
    page = visit("/templates/every-field/submit")
    page.get_by_label("What it says").fill("with a picture")
    page.get_by_label("First picture", exact=False).first.set_input_files(picture)
    expect(page.locator(".chosen")).to_contain_text("a c_t.png, 2.9 MiB")
    page.get_by_role("button", name="Submit", exact=True).click()
    found = recorded(service, page)
    assert found.raw["input"]["image"].startswith("fil_")
    page.goto(f"/ui/templates/every-field/submit?from={found.id}")
    expect(page.locator(".chosen")).to_contain_text("a c_t.png, 2.9 MiB")
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".chosen")).to_be_hidden()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(lambda url: "/requests/" in url and found.id not in url)
    again = recorded(service, page)
    assert "image" not in again.raw["input"] or again.raw["input"]["image"] is None
    for one in (found, again):
        service.client.cancel(one.id)


def test_an_upload_is_cancelled_and_the_form_waits_for_one_that_is_under_way(visit: Visit, tmp_path: Path) -> None:
    large = tmp_path / "film.mp4"
    large.write_bytes(b"x" * 8_000_000)
    page = visit("/templates/every-field/submit")
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.get_by_label("What it says").fill("x")
    page.get_by_label("First picture", exact=False).first.set_input_files(large)
    expect(page.get_by_role("button", name="Cancel the upload")).to_be_visible()
    expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Cancel the upload").click()
    expect(page.get_by_role("button", name="Cancel the upload")).to_be_hidden()
    expect(page.get_by_role("button", name="Submit", exact=True)).to_be_enabled()
    assert page.locator("input.id").input_value() == ""


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(visit: Visit, tmp_path: Path) -> None:
    large = tmp_path / "huge.mp4"
    with large.open("wb") as file:
        file.truncate((4 << 30) + 1)  # takes no room
    page = visit("/templates/every-field/submit")
    page.get_by_label("First picture", exact=False).first.set_input_files(large)
    expect(page.get_by_role("alert").filter(has_text="at most 4.0 GiB")).to_be_visible()


def test_what_the_form_equals_is_shown_while_it_is_filled_and_copied(visit: Visit) -> None:
    page = visit("/templates/every-field/submit")
    page.get_by_label("What it says").fill("it's a cat")
    command = page.locator(".foresight pre").first
    expect(command).to_contain_text("s a cat")
    page.locator(".foresight [data-copy]").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == command.inner_text()


def test_a_request_by_form_runs_and_a_clone_of_it_is_edited(visit: Visit, service: Up) -> None:
    page = visit("/templates/painter/submit")
    page.get_by_label("What it says").fill("first")
    page.get_by_role("button", name="Submit", exact=True).click()
    first = recorded(service, page)
    assert service.done(first.id).status == "succeeded"
    page.goto(f"/ui/templates/painter/submit?from={first.id}")
    expect(page.get_by_label("What it says")).to_have_value("first")
    page.get_by_label("What it says").fill("second")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(lambda url: "/requests/" in url and first.id not in url)
    second = service.done(recorded(service, page).id)
    assert (second.status, second.raw["input"]["text"]) == ("succeeded", "second")


def test_a_template_is_written_corrected_and_deleted(visit: Visit, service: Up) -> None:
    page = visit("/templates/-/new")
    field = page.get_by_label("Template, as YAML")
    field.fill("name: by-hand\nhandler: inference.samples.echo:Echo\nnodes: eight\nranks: 1\n")
    page.get_by_role("button", name="Register").click()
    expect(field).to_be_focused()
    expect(page.get_by_role("alert").filter(has_text="/nodes")).to_contain_text("/ranks")
    field.fill("name: by-hand\nhandler: inference.samples.echo:Echo\nnodes: 1\n")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", name="by-hand")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/ui/templates")
    assert "by-hand" not in [one.name for one in service.client.templates()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path",
    [
        "/templates",
        "/templates/every-field",
        "/templates/every-field/submit",
        "/templates/every-field/edit",
        "/templates/-/new",
        "/batches/new",
    ],
)
def test_axe_finds_nothing_serious(visit: Visit, path: str, scheme: str) -> None:
    page = visit(path, color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_axe_finds_nothing_serious_in_a_form_with_mistakes(visit: Visit) -> None:
    page = visit("/templates/every-field/submit")
    page.get_by_text("Priority, labels, bounds").click()
    page.get_by_label("Priority").fill("99999")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_label("What it says")).to_be_focused()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize(
    "path", ["/templates", "/templates/every-field", "/templates/every-field/submit", "/batches/new"]
)
def test_nothing_sticks_out_at_a_phones_width(visit: Visit, path: str) -> None:
    page = visit(path, viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_session_that_is_over_takes_nothing_typed_with_it(visit: Visit, service: Up) -> None:
    page = visit("/templates/every-field/submit")
    cookies = page.context.cookies()
    page.context.clear_cookies(name="muster_session")
    page.get_by_label("What it says").fill("long thought about")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_text("Your session is over.").first).to_be_visible()
    expect(page.get_by_label("What it says")).to_have_value("long thought about")
    page.context.add_cookies(cookies)
    page.get_by_role("button", name="Submit", exact=True).click()
    service.client.cancel(recorded(service, page).id)
