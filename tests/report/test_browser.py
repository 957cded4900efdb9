"""The page in a real browser, Chromium without a window: quiet, alone, and every control works.

Where there is no Chromium they are left out, which the end of the tests says; what the page is
without scripts, `test_report.py` tests everywhere.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import CONTRASTS, UNSEEN_FOCUS, chromium, quiet_page
from playwright.sync_api import Browser, Page

from lcm_lora.evaluation.scores import read_table

WIDTHS = (400, 1400)
NUMBERS = "#numbers"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if it says anything to the console or asks the network."""
    with quiet_page(browser, "file:", "data:") as opened:
        yield opened


def show(page: Page, report: Path) -> None:
    page.goto((report / "index.html").as_uri())


def ink(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def shown(page: Page, column: int, area: str = NUMBERS) -> list[str]:
    """Return the texts of a column, of the rows that are to be seen."""
    found: list[str] = page.locator(f"{area} [data-numbers] tbody tr:visible").evaluate_all(
        f"rows => rows.map(row => row.cells[{column}].dataset.value "
        f"?? row.cells[{column}].textContent.trim())"
    )
    return found


@pytest.mark.parametrize("case", ["better", "worse", "first"])
def test_the_first_screen_says_what_to_do(page: Page, reports: dict[str, Path], case: str) -> None:
    for width, height in ((1400, 900), (400, 800)):
        page.set_viewport_size({"width": width, "height": height})
        show(page, reports[case])
        heading = page.get_by_role("heading", level=1)
        assert heading.inner_text() == ("Do not promote" if case == "worse" else "Promote")
        ends = [
            page.locator(selector).evaluate("part => part.getBoundingClientRect().bottom")
            for selector in (".ruling", ".rules li:first-child")
        ]
        assert max(ends) <= height
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "it scrolls sideways"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_systems_colours_until_others_are_chosen(
    page: Page, reports: dict[str, Path], scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    show(page, reports["better"])
    papers = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    assert ink(page) == papers[scheme]
    for choice in ("Dark", "Light"):
        page.get_by_label(choice).check()
        assert ink(page) == papers[choice.lower()]
    page.get_by_label("Auto").check()
    assert ink(page) == papers[scheme]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_paper(
    page: Page, reports: dict[str, Path], scheme: Any
) -> None:
    """As WCAG asks at level AA: 4.5 to 1."""
    page.emulate_media(color_scheme=scheme)
    for case in ("better", "worse"):
        show(page, reports[case])
        contrasts = page.evaluate(CONTRASTS)
        assert contrasts
        assert [found for found in contrasts if found[0] < 4.5] == []


def test_a_click_on_a_heading_sorts_by_size_and_once_more_turns_it(
    page: Page, reports: dict[str, Path]
) -> None:
    show(page, reports["better"])
    heading = page.locator(f"{NUMBERS} th", has_text="Value")
    assert heading.get_attribute("aria-sort") == "none"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in shown(page, 6)]
    assert values == sorted(values)
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in shown(page, 6)] == sorted(values, reverse=True)
    page.locator(f"{NUMBERS} th", has_text="Steps").get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "none"
    steps = shown(page, 1)
    numbers = [int(text) for text in steps if text]
    assert numbers == sorted(numbers)
    assert steps[: len(numbers)] == [str(number) for number in numbers], "what is missing is last"


def test_filters_join_and_say_how_many_they_leave(page: Page, reports: dict[str, Path]) -> None:
    show(page, reports["better"])
    table = read_table(reports["better"].parent / "artifacts" / "scores" / "scores.json")
    area = page.locator(f"{NUMBERS} [data-numbers]")
    area.get_by_label("Painter").select_option("champion")
    own = [row for row in table.rows if row.cell.startswith("champion/")]
    assert set(shown(page, 0)) == {"Champion"}
    assert len(shown(page, 0)) == len(own)
    area.get_by_label("Metric").select_option("clip_score")
    count = sum(row.metric == "clip_score" for row in own)
    assert area.locator("output").inner_text() == f"{count} of {len(table.rows)} shown"
    area.get_by_label("Holds the words").fill("31.")
    assert 0 < len(shown(page, 0)) < count
    area.get_by_label("Holds the words").fill("nothing of this kind")
    assert shown(page, 0) == []


def test_the_table_downloads_as_csv(page: Page, reports: dict[str, Path]) -> None:
    show(page, reports["better"])
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download all as CSV").click()
    assert caught.value.suggested_filename == "scores.csv"
    content = Path(caught.value.path()).read_text()
    assert content == (reports["better"] / "scores.csv").read_text()
    assert list(csv.DictReader(content.splitlines()))


def test_figures_are_drawn_against_what_is_chosen(page: Page, reports: dict[str, Path]) -> None:
    show(page, reports["better"])
    for name, label in (
        ("Milliseconds", "Milliseconds a picture"),
        ("Evaluations", "Network evaluations a picture"),
        ("Steps", "Sampling steps"),
    ):
        page.locator("#quality label", has_text=name).click()
        panels = page.locator("#quality .panels:visible")
        assert panels.count() == 1
        assert label in panels.inner_text()


def test_one_number_of_steps_can_be_looked_at_alone(page: Page, reports: dict[str, Path]) -> None:
    show(page, reports["better"])
    heads = page.locator("#side-by-side thead th:visible")
    assert heads.count() == 1 + 1 + 2 * 4
    page.locator("#side-by-side label", has_text="8").click()
    assert [text.split("\n")[0] for text in heads.all_inner_texts()] == [
        "Prompt",
        "Teacher",
        "New adapter",
        "Champion",
    ]


def test_everything_can_be_reached_and_told_by_keyboard(
    page: Page, reports: dict[str, Path]
) -> None:
    show(page, reports["better"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the verdict"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert ink(page) == "rgb(20, 23, 27)"
    unseen = page.evaluate(UNSEEN_FOCUS)
    assert unseen == []


def test_without_scripts_all_numbers_are_there_and_no_control_that_does_nothing(
    browser: Browser, reports: dict[str, Path]
) -> None:
    page = browser.new_page(java_script_enabled=False)
    show(page, reports["better"])
    assert page.get_by_role("heading", level=1).inner_text() == "Promote"
    rows = page.locator(f"{NUMBERS} tbody tr")
    table = read_table(reports["better"].parent / "artifacts" / "scores" / "scores.json")
    assert rows.count() == len(table.rows)
    assert page.locator("select:visible, input[type=search]:visible, th button").count() == 0
    assert page.get_by_role("link", name="Download all as CSV").is_visible()
    page.get_by_label("Dark").check()
    assert page.locator("#theme-dark").is_checked()
    page.close()
