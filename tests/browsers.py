"""Which Chromium the tests of pages use: the system's, else one that playwright has fetched.

And what they ask every page that is open in it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def _found() -> str | None:
    for name in _NAMES:
        if place := shutil.which(name):
            return place
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return str(own) if own.is_file() else None


CHROMIUM = _found()
_PATIENCE = 60_000
"""Milliseconds in which a page does what is asked, on a machine that stands still at times."""

expect.set_options(timeout=_PATIENCE)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a Chromium without a window."""
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container seldom has, and the page is our own.
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=2 * _PATIENCE
        )
        yield opened
        opened.close()


@contextlib.contextmanager
def quiet_page(browser: Browser, *own: str) -> Iterator[Page]:
    """Yield a page that fails the test if it complains, or asks for what does not begin so."""
    opened, heard = browser.new_page(viewport={"width": 1400, "height": 900}), []
    opened.set_default_timeout(_PATIENCE)
    opened.on("console", lambda message: heard.append(message.text))
    opened.on("pageerror", lambda error: heard.append(str(error)))
    opened.on(
        "request", lambda asked: None if asked.url.startswith(own) else heard.append(asked.url[:99])
    )
    yield opened
    opened.close()
    assert heard == []


CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92
      : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const paper = (part) => {
    for (; part; part = part.parentElement) {
      const colour = parse(getComputedStyle(part).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const kinds = "p, h1, h2, h3, dt, dd, th, td, li, span, b, code, a, button, label, legend";
  const texts = [...document.querySelectorAll(kinds)].filter((part) =>
    part.checkVisibility() && !part.closest("svg, .bar, .unseen")
      && [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((part) => {
    const [a, b] = [light(parse(getComputedStyle(part).color)), light(paper(part))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return [contrast, part.textContent.trim().slice(0, 40)];
  });
}"""
"""The contrast of every text that is to be seen, with its first words."""

UNSEEN_FOCUS = """() => {
  const parts = [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")];
  return parts.filter((part) => part.checkVisibility() && !part.matches(".skip")).filter((part) => {
    part.focus({focusVisible: true});
    const ringed = part.matches("[type=radio], [type=checkbox]") ? part.nextElementSibling : part;
    return document.activeElement !== part || getComputedStyle(ringed).outlineStyle === "none";
  }).map((part) => part.outerHTML.slice(0, 80));
}"""
"""What cannot be focused, or does not show that it is."""
