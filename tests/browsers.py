"""Which Chromium the tests of the page use: the system's, else one that playwright has fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def _found() -> str | None:
    for name in _NAMES:
        if place := shutil.which(name):
            return place
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return str(own) if own.is_file() else None


CHROMIUM = _found()
