"""The report stands alone, says what the table says, and is the same each time."""

from __future__ import annotations

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcm_lora.errors import UserError
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.evaluation.table import Table, load_table
from lcm_lora.files import sha256
from lcm_lora.params.report import Report
from lcm_lora.recipe import read_recipe
from lcm_lora.records import write_record
from lcm_lora.report import verdict
from lcm_lora.report.figures import candidates_by_step, moving_average, training_curve
from lcm_lora.report.grids import step_grid
from lcm_lora.report.page import report, worst_pictures
from lcm_lora.report.style import NAMES, number
from lcm_lora.training.curve import CurveRow

PARAMS = Report(title="A <small> test", rows=3, worst=5)


def write(artifacts: Path, out: Path, params: Report = PARAMS) -> Path:
    report(
        params,
        artifacts / "scores" / "scores.json",
        artifacts / "images",
        artifacts / "features",
        artifacts / "adapter",
        artifacts / "training",
        artifacts / "selection" / "selection.json",
        out,
    )
    return out


@pytest.fixture(scope="module")
def made(artifacts: Path) -> Path:
    return write(artifacts, artifacts.parent / "report")


@pytest.fixture(scope="module")
def table(artifacts: Path) -> Table:
    return load_table(artifacts / "scores" / "scores.json")


class Elements(HTMLParser):
    """Collect every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_it_writes_all_its_files(made: Path) -> None:
    found = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file()}
    assert found == {
        "index.html",
        "model_card.md",
        "scores.csv",
        "grid.png",
        "figures/quality_by_steps.svg",
        "figures/quality_by_evaluations.svg",
        "figures/training.svg",
        "figures/candidates.svg",
    }


def test_the_page_loads_nothing(made: Path) -> None:
    page = (made / "index.html").read_text()
    for _, attributes in Elements(page).found:
        for name in ("src", "srcset", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert not re.search(r"<(script|iframe|link)\b", page)


def test_ids_are_unique_and_references_meet_them(made: Path) -> None:
    page = (made / "index.html").read_text()
    ids = [a["id"] for _, a in Elements(page).found if "id" in a]
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)", page) + re.findall(r'href="#([^"]+)"', page)
    assert used
    assert set(used) <= set(ids)


def test_page_and_card_name_every_sampler_and_escape_the_title(made: Path) -> None:
    page, card = (made / "index.html").read_text(), (made / "model_card.md").read_text()
    for name in NAMES.values():
        assert name in page
        assert name in card or name == NAMES["real"]
    assert "<title>A &lt;small&gt; test</title>" in page
    assert "# A <small> test" in card


def test_a_second_report_has_the_same_bytes(artifacts: Path, made: Path, tmp_path: Path) -> None:
    assert sha256(write(artifacts, tmp_path / "again")) == sha256(made)


def test_figures_are_svg_and_say_what_the_axes_are(made: Path) -> None:
    for name, label in (
        ("quality_by_steps", "Sampling steps"),
        ("quality_by_evaluations", "Network evaluations a picture"),
        ("training", "Optimiser step"),
        ("candidates", "Optimiser step"),
    ):
        text = (made / "figures" / f"{name}.svg").read_text()
        ElementTree.fromstring(text)
        assert label in text
        assert "<dc:date>" not in text
    assert "Teacher, 100 evaluations" in (made / "figures" / "quality_by_steps.svg").read_text()


def chosen(values: dict[int, float], step: int, metric: str = "attributes") -> Selection:
    rows = tuple(JudgedCandidate(step=s, value=v, se=0.05) for s, v in values.items())
    lower = metric == "kid:real"
    how: dict[str, Any] = {"steps": 4, "guidance": 1.0, "prompts": 64}
    return Selection(metric=metric, lower_is_better=lower, rows=rows, chosen=step, **how)


def test_the_figure_of_candidates_marks_the_one_that_was_taken() -> None:
    values = {100: 0.5, 200: 0.7, 4000: 0.6}
    figures = [candidates_by_step(chosen(values, step)) for step in (200, 4000)]
    for figure, step in zip(figures, ("200", "4,000"), strict=True):
        ElementTree.fromstring(figure)
        assert f"Pictures that show all they should: taken at step {step}<" in figure
    assert figures[0].replace("200<", "4,000<") != figures[1]
    alone = candidates_by_step(chosen({200: -0.1}, 200, metric="kid:real"))
    ElementTree.fromstring(alone)
    assert "lower is better" in alone


def test_page_and_card_say_when_the_adapter_was_taken_and_by_what(
    made: Path, artifacts: Path
) -> None:
    recipe = read_recipe(artifacts / "adapter")
    line = "step 200 of 300, best of 3 candidates by attributes at 4 steps on 64 captions of their"
    assert line in (made / "index.html").read_text()
    assert f"| Taken at | {line} own |" in (made / "model_card.md").read_text()
    only = verdict.choice(chosen({1000: 0.5}, 1000), recipe)
    assert only == "step 1,000 of 300, the only candidate"


def test_gaps_of_the_gradient_norm_are_left_out_of_its_average() -> None:
    whole, gap = np.arange(1.0, 11.0), np.arange(1.0, 11.0)
    gap[[0, 4, 5, 6]] = np.nan
    plain = np.convolve(whole, np.full(3, 1 / 3), "valid")
    assert moving_average(whole, 3) == pytest.approx(plain)
    expected = [2.5, 3, 3.5, 4, np.nan, 8, 8.5, 9]
    assert moving_average(gap, 3) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    "gaps", [range(3), range(0, 90, 7), range(90)], ids=["first", "few", "all"]
)
def test_a_curve_with_gaps_is_drawn(gaps: range) -> None:
    rows = [
        CurveRow(
            step=i + 1, loss=1 / (i + 1), grad_norm=None if i in gaps else 2.0, learning_rate=1
        )
        for i in range(90)
    ]
    figure = training_curve(rows)
    ElementTree.fromstring(figure)
    assert "nan" not in figure
    whole = [row.model_copy(update={"grad_norm": 2.0}) for row in rows]
    assert figure != training_curve(whole)


def test_the_csv_is_the_table(made: Path, table: Table) -> None:
    with (made / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table.rows)
    for row, entry in zip(rows, table.rows, strict=True):
        assert float(row["value"]) == entry.value
        assert (row["sampler"], row["metric"]) == (entry.sampler, entry.metric)


def test_the_cards_scores_are_the_tables(made: Path, table: Table) -> None:
    card = (made / "model_card.md").read_text()
    (row,) = table.select(sampler="lcm", steps=4, metric="fd_shapes:real")
    line = next(line for line in card.splitlines() if line.startswith("| LCM-LoRA | 4 | 4 |"))
    assert verdict.interval(row) in line
    head = re.search(r"\n\| Sampler \|.*\n(\|[-:|]+\|)\n\| Teacher", card)
    assert head is not None
    assert line.count("|") == head[1].count("|")


def test_the_cards_code_is_python(made: Path) -> None:
    card = (made / "model_card.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    compile(code[1], "card", "exec")


def test_the_grid_holds_the_pictures_themselves(made: Path, artifacts: Path) -> None:
    from lcm_lora.evaluation.image_sets import read_pictures

    grid = np.asarray(Image.open(made / "grid.png").convert("RGB"))
    tar = artifacts / "images" / "lcm" / "steps-8_guidance-1.tar"
    for picture in read_pictures(tar, [0, 2]):
        large = np.asarray(picture.resize((96, 96), Image.Resampling.NEAREST))
        windows = np.flatnonzero((grid == large[0, 0]).all(2))
        places = (divmod(int(flat), grid.shape[1]) for flat in windows)
        assert any(np.array_equal(grid[y : y + 96, x : x + 96], large) for y, x in places)


def test_step_grids_take_pictures_of_any_size() -> None:
    for size in ((32, 32), (512, 512), (1024, 768)):
        sheet = step_grid([Image.new("RGB", size, "red")] * 5, ["a long caption " * 9] * 5)
        assert sheet.width < 1000
        assert (np.asarray(sheet) == (255, 0, 0)).all(2).any()


def test_worst_pictures_are_wrong_first_then_least_alike() -> None:
    clip, right = np.array([50.0, 10.0, 40.0, 30.0]), np.array([0, 1, 0, 1], np.uint8)
    assert worst_pictures(clip, right, 3) == [2, 0, 1]
    assert worst_pictures(clip, None, 2) == [1, 3]


def test_the_page_shows_as_many_worst_pictures_as_asked_for(made: Path) -> None:
    page = (made / "index.html").read_text()
    assert page.count("<figcaption>") == PARAMS.worst


def test_the_headline_follows_the_table(table: Table) -> None:
    best = verdict.recommended(table)
    assert number(best.value) in verdict.headline(table)
    assert number(verdict.teacher_row(table).value) in verdict.headline(table)
    rows = table.select(sampler="lcm", metric="fd_shapes:real")
    least = min(rows, key=lambda row: row.value)
    assert best.value <= least.value + 1.96 * least.se
    assert all(r.steps >= best.steps or r.value > least.value + 1.96 * least.se for r in rows)


def with_pairs(table: Table, **update: object) -> Table:
    pairs = tuple(pair.model_copy(update=update) for pair in table.paired)
    return table.model_copy(update={"paired": pairs})


def test_the_summary_says_where_the_adapter_loses(table: Table) -> None:
    worse = verdict.summary(with_pairs(table, low=1.0, high=2.0, better=False))
    assert "worse than at least one of them at 1, 2, 4 and 8 steps" in worse
    assert "better than" not in worse
    better = verdict.summary(with_pairs(table, low=-2.0, high=-1.0, better=True))
    assert "better than every classical solver of equal cost at 1, 2, 4 and 8 steps" in better
    none = verdict.summary(table.model_copy(update={"paired": ()}))
    assert "No classical solver" in none


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.012"),
        (0.999, "0.999"),
        (9.876, "9.88"),
        (9.9999, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1234.5, "1234"),
        (-0.5, "\N{MINUS SIGN}0.500"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_missing_inputs_are_named(artifacts: Path, tmp_path: Path) -> None:
    copy = tmp_path / "artifacts"
    shutil.copytree(artifacts, copy)
    (copy / "training" / "curve.jsonl").unlink()
    with pytest.raises(UserError, match="run `lcm-lora distill`"):
        write(copy, tmp_path / "out")
    shutil.copytree(artifacts / "training", copy / "training", dirs_exist_ok=True)
    (copy / "images" / "ddim" / "steps-4_guidance-3.tar").unlink()
    with pytest.raises(UserError, match=r"steps-4_guidance-3.tar: no such file"):
        write(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_captions_that_were_not_scored_are_refused(artifacts: Path, tmp_path: Path) -> None:
    copy = tmp_path / "artifacts"
    shutil.copytree(artifacts, copy)
    file = copy / "images" / "lcm" / "captions.json"
    file.write_text(file.read_text().replace("small", "large"))
    with pytest.raises(UserError, match=r"captions.json: not the captions that were scored; run"):
        write(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_page_and_card_name_the_commit_and_the_data(made: Path) -> None:
    page, card = (made / "index.html").read_text(), (made / "model_card.md").read_text()
    assert f"<code>{'c' * 16}</code>" in page
    assert f"commit `{'c' * 40}`" in card
    for text in (page, card):
        assert "d" * 16 in text
        assert "7045 samples" in text


def test_it_reports_without_attributes_and_without_a_floor(artifacts: Path, tmp_path: Path) -> None:
    copy = tmp_path / "artifacts"
    shutil.copytree(artifacts, copy)
    table = json.loads((copy / "scores" / "scores.json").read_text())
    for part in ("rows", "paired"):
        table[part] = [r for r in table[part] if r["metric"] != "attributes"]
    table["rows"] = [r for r in table["rows"] if r["sampler"] != "real"]
    write_record(
        copy / "selection" / "selection.json", chosen({200: 30.0}, 200, metric="clip_score")
    )
    (copy / "scores" / "scores.json").write_text(json.dumps(table))
    made = write(copy, tmp_path / "out")
    assert "Pictures that show" not in (made / "index.html").read_text()
