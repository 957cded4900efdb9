"""The page of the transfer evaluation in a real browser: quiet, alone, and readable everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import CONTRASTS, UNSEEN_FOCUS, chromium, quiet_page
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, made: Path) -> Iterator[Page]:
    """The page, which fails the test if it says anything to the console or asks the network."""
    with quiet_page(browser, "file:", "data:") as opened:
        opened.goto((made / "index.html").as_uri())
        yield opened


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (420, 900)])
def test_the_first_screen_says_whether_it_transfers_and_nothing_is_cut_off(
    page: Page, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    assert page.get_by_role("heading", level=1).inner_text() == "It transfers to 2 of 3 subjects"
    first = page.locator(".rules li").nth(0 if width < 500 else 2)
    assert first.evaluate("part => part.getBoundingClientRect().top") < height
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider than the screen scrolls within itself.
    wide = page.evaluate(
        """width => [...document.querySelectorAll("img, svg, td, p, li")]
          .filter((part) => part.checkVisibility() && !part.closest(".scroll, svg svg, .unseen"))
          .filter((part) => part.getBoundingClientRect().right > width + 1)
          .map((part) => part.outerHTML.slice(0, 80))""",
        width,
    )
    assert wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_paper(page: Page, scheme: Any) -> None:
    """As WCAG asks at level AA: 4.5 to 1."""
    page.emulate_media(color_scheme=scheme)
    contrasts = page.evaluate(CONTRASTS)
    assert contrasts
    assert [found for found in contrasts if found[0] < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_values_stand_out_from_the_strongest_field(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    field, paper, ink = page.evaluate(
        """() => {
          const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
          const fields = [...document.querySelectorAll("svg path")].map(getComputedStyle)
            .filter((style) => style.fill === "rgb(27, 128, 196)");
          const most = Math.max(...fields.map((style) => Number(style.opacity)));
          const body = getComputedStyle(document.body);
          return [most, rgb(body.backgroundColor), rgb(body.color)];
        }"""
    )
    mixed = [field * c + (1 - field) * p for c, p in zip((27, 128, 196), paper, strict=True)]
    lights = sorted((light(mixed), light(ink)))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def light(colour: Any) -> float:
    """Return the relative luminance of an sRGB colour in 0..255."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in colour)
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_everything_can_be_reached_by_keyboard_and_the_numbers_taken_home(
    page: Page, made: Path
) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    assert page.evaluate(UNSEEN_FOCUS) == []
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download all numbers as CSV").click()
    assert Path(caught.value.path()).read_bytes() == (made / "scores.csv").read_bytes()
