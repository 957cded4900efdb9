"""The demo's page in a real browser: quiet, alone, and everything on it works.

Where there is no Chromium it is left out, which the end of the tests says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from browsers import CONTRASTS, UNSEEN_FOCUS, chromium, quiet_page
from demos import VERSION, Server
from playwright.sync_api import Browser, Locator, Page, expect

from lcm_lora.demo.wish import MOST_PICTURES


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, after its first pictures; it fails the test if it complains or asks elsewhere."""
    with quiet_page(browser, f"{server.url}/", "data:") as opened:
        # Nothing is painted until the slowest are left out.
        opened.route("**/paint", lambda route: route.fulfill(body='{"event": "done"}\n'))
        opened.goto(server.url)
        opened.get_by_label("Teacher").uncheck()
        opened.get_by_label("8", exact=True).uncheck()
        finished(opened, "6 pictures")
        opened.unroute("**/paint")
        opened.get_by_role("button", name="Paint", exact=True).click()
        expect(pictures(opened)).to_have_count(6)
        finished(opened, "6 pictures")
        yield opened


def finished(page: Page, words: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(f"{words} in")


def pictures(page: Page) -> Locator:
    return page.locator("#results figure:not(.awaited) img")


def sources(page: Page) -> list[str | None]:
    return [image.get_attribute("src") for image in pictures(page).all()]


def test_pictures_come_by_painter_and_steps(page: Page) -> None:
    assert page.get_by_role("heading", level=2).all_inner_texts() == ["New adapter", "Champion"]
    assert page.get_by_text(VERSION).is_visible()
    alts = [image.get_attribute("alt") or "" for image in pictures(page).all()]
    prompt = page.get_by_label("What should the picture show?").input_value()
    assert alts[0] == f"New adapter, 1 step: {prompt}"
    assert alts[-1] == f"Champion, 4 steps: {prompt}"
    times = page.locator("figcaption span").all_inner_texts()
    assert all(re.fullmatch(r"\d+ ms|\d+\.\d s", time) for time in times)
    assert len(set(sources(page))) == 6
    painters, steps = (page.locator(f"[name={name}]").count() for name in ("painter", "steps"))
    assert painters * steps <= MOST_PICTURES, "whatever is chosen can be painted"


def test_it_paints_again_whatever_is_changed(page: Page) -> None:
    before = sources(page)
    page.get_by_label("What should the picture show?").fill("a large red circle")
    page.get_by_label("Champion").uncheck()
    page.get_by_label("4", exact=True).uncheck()
    finished(page, "2 pictures")
    changed = sources(page)
    assert not set(changed) & set(before)
    page.get_by_role("button", name="New noise").click()
    expect(page.get_by_role("status")).not_to_contain_text("noise 0")
    finished(page, "2 pictures")
    assert not set(sources(page)) & set(changed)
    page.get_by_label("Noise", exact=True).fill("0")
    expect(page.get_by_role("status")).to_contain_text("noise 0")
    assert sources(page) == changed, "the same noise, the same pictures"


def test_by_keyboard_alone(page: Page) -> None:
    assert page.evaluate(UNSEEN_FOCUS) == []
    page.get_by_label("As I type").uncheck()
    page.get_by_label("What should the picture show?").focus()
    before = sources(page)
    page.keyboard.press("Control+A")
    page.keyboard.type("a small cyan square")
    assert sources(page) == before, "nothing is painted before it is asked for"
    page.keyboard.press("Enter")
    finished(page, "6 pictures")
    assert not set(sources(page)) & set(before)


def test_dials_paint_anew_and_say_what_they_stand_at(page: Page) -> None:
    """By keyboard; where all is as at first again, so are the pictures."""
    before = sources(page)
    for label, key, at in (
        ("Acceleration", "Home", "0"),
        ("Style drawn", "End", "1.5"),
        ("Style other one", "PageUp", None),
        ("Guidance", "ArrowRight", "1.25"),
    ):
        dial = page.get_by_label(label)
        says, first = page.locator(f"#{dial.get_attribute('id')} + b"), dial.input_value()
        with page.expect_response("**/paint"):
            dial.press(key)
        finished(page, "6 pictures")
        expect(says).to_have_text(at or dial.input_value())
        assert sources(page) != before
        with page.expect_response("**/paint"):
            dial.fill(first)
        finished(page, "6 pictures")
        expect(says).to_have_text(first)
        assert sources(page) == before


def test_whom_a_negative_prompt_reaches_is_said(page: Page) -> None:
    box, says = page.get_by_label("What should it not show?"), page.locator("#acts")
    before = sources(page)
    expect(says).to_have_text("Acts above guidance 1 only: here on nobody.")
    box.fill("a ring")
    with page.expect_response("**/paint"):
        page.get_by_role("button", name="Paint", exact=True).click()
    finished(page, "6 pictures")
    assert sources(page) == before
    page.get_by_label("As I type").uncheck()
    page.get_by_label("Teacher").check()
    expect(says).to_have_text("Acts above guidance 1 only: here on Teacher.")
    page.get_by_label("Guidance").fill("2")
    page.get_by_label("Champion").uncheck()
    expect(says).to_have_text("Acts above guidance 1 only: here on New adapter, Teacher.")
    page.get_by_label("Teacher").uncheck()
    page.get_by_role("button", name="Paint", exact=True).click()
    finished(page, "3 pictures")
    expect(page.locator("#results")).to_contain_text("guidance 2, two evaluations a step")


def test_an_example_is_painted_and_escape_stops_it(page: Page) -> None:
    page.get_by_label("As I type").uncheck()
    for chip in page.locator("[name=painter]").all():  # enough to be stopped in the middle
        chip.check()
    page.get_by_label("8", exact=True).check()
    example = page.locator("[data-example]").last
    example.click()
    words = example.inner_text()
    assert page.get_by_label("What should the picture show?").input_value() == words
    expect(pictures(page).first).to_have_attribute("alt", f"New adapter, 1 step: {words}")
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_have_text("Stopped")
    expect(page.locator(".next")).to_have_count(0)


def test_what_is_given_up_is_not_waited_for(page: Page) -> None:
    """Also where nothing takes its place: nobody is left to paint, or there is no prompt."""
    bar, box = page.get_by_role("progressbar"), page.get_by_label("What should the picture show?")
    page.route("**/paint", lambda route: None)  # nobody ever answers
    for give_up, says in (
        (lambda: box.fill(""), ""),
        (lambda: [page.get_by_label(name).uncheck() for name in ("New adapter", "Champion")], "No"),
    ):
        box.fill("a large red circle")
        expect(bar).to_be_visible()
        expect(page.locator("#doing")).to_have_text("Painting")
        expect(page.get_by_role("status")).to_have_text("")
        give_up()
        expect(bar).to_be_hidden()
        expect(page.locator("#doing")).to_have_text("")
        expect(page.get_by_role("status")).to_contain_text(says)
    page.get_by_label("As I type").uncheck()
    page.get_by_label("Champion").check()
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("Painting")


def test_what_goes_wrong_is_said(page: Page) -> None:
    for name in ("New adapter", "Champion"):
        page.get_by_label(name).uncheck()
    expect(page.get_by_role("status")).to_have_text("Nobody is chosen to paint.")
    page.evaluate("document.querySelector('#prompt').maxLength = 999")
    page.get_by_label("New adapter").check()
    page.route("**/paint", lambda route: route.fulfill(body='{"event": "error", "says": "no"}\n'))
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("no")


def test_it_is_readable_in_any_light_and_width(page: Page) -> None:
    ink = "getComputedStyle(document.body).backgroundColor"
    schemes: list[tuple[Literal["light", "dark"], str]] = [
        ("light", "rgb(255, 255, 255)"),
        ("dark", "rgb(20, 23, 27)"),
    ]
    for scheme, paper in schemes:
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(ink) == paper
        contrasts = page.evaluate(CONTRASTS)
        assert contrasts
        assert [found for found in contrasts if found[0] < 4.5] == []
    for scheme, paper in schemes:
        page.get_by_label(scheme.capitalize(), exact=True).check()
        assert page.evaluate(ink) == paper
    for width in (400, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        across = [box["y"] for box in map(Locator.bounding_box, pictures(page).all()) if box]
        assert len(set(across)) == 2, "a painter's pictures are side by side"
