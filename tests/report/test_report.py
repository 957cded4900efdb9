"""The report stands alone, says what the table says, and is the same each time."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from pages import check_alone, check_ids, check_names, said
from PIL import Image

from lcm_lora.champion import write_champion
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Table, read_table
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.files import sha256
from lcm_lora.gate.decision import Decision, Rule, read_decision
from lcm_lora.recipe import read_recipe
from lcm_lora.records import write_record
from lcm_lora.report import figures, galleries, verdict
from lcm_lora.report.grids import columns_of, compared_cells
from lcm_lora.report.judged import read_judged
from lcm_lora.report.numbers import gain_interval, gain_words, number, spread
from lcm_lora.report.pictures import open_pictures
from lcm_lora.report.rules import shown_rules
from lcm_lora.report.style import marks
from lcm_lora.report.thumbs import thumb
from lcm_lora.report.values import most_different, worst
from lcm_lora.seeing.image_sets import painting, read_pictures
from lcm_lora.training.curve import CurveRow

Write = Callable[..., Path]
JUDGED = "adapter/steps-4_guidance-1"


@pytest.fixture(scope="module")
def made(reports: dict[str, Path]) -> Path:
    return reports["better"]


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return (made / "index.html").read_text()


@pytest.fixture(scope="module")
def table(artifacts: Path) -> Table:
    return read_table(artifacts / "scores" / "scores.json")


@pytest.fixture(scope="module")
def decision(artifacts: Path) -> Decision:
    return read_decision(artifacts / "decision.json")


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


def test_the_page_stands_alone_and_is_told_to_those_who_hear_it(page: str) -> None:
    check_alone(page)
    check_ids(page)
    check_names(page)


@pytest.mark.parametrize(
    ("case", "says"),
    [("better", "Promote"), ("worse", "Do not promote"), ("first", "Promote")],
)
def test_the_first_words_are_the_verdict_and_its_reason(
    case: str, says: str, reports: dict[str, Path]
) -> None:
    page = (reports[case] / "index.html").read_text()
    decided = read_decision(reports[case].parent / "artifacts" / "decision.json")
    assert said(page, "h1") == [says]
    first = " ".join(page[: page.index("<nav")].split())
    assert decided.reason[1:].replace("'", "&#39;") in first
    for rule in decided.rules:
        assert rule.title in first
    assert ("No champion yet" in first) == (case == "first")
    assert ("4 of 4 rules hold" in first) == (case == "better")
    assert ("1 of 1 limit holds" in first) == (case == "first")
    assert ("<summary>3 rules need a champion</summary>" in first) == (case == "first")


def test_a_rules_bar_is_on_the_good_side_of_its_bound_where_it_holds(
    worse: Path, artifacts: Path
) -> None:
    verdicts = set()
    for folder in (artifacts, worse):
        table = read_table(folder / "scores" / "scores.json")
        for shown in shown_rules(table, read_decision(folder / "decision.json")):
            assert shown.bar is not None
            verdicts.add((shown.rule.kind, shown.rule.verdict))
            assert shown.bar.low <= shown.bar.value <= shown.bar.high
            edge = shown.bar.value if shown.rule.kind == "limit" else shown.bar.low
            assert (edge > shown.bar.bound) == (shown.rule.verdict == "passed")
            if shown.rule.kind != "limit":
                is_target = shown.rule.kind == "target"
                assert shown.bar.champion is not None
                assert (shown.bar.bound > shown.bar.champion) == is_target
    assert {("target", "passed"), ("target", "failed"), ("guard", "failed")} <= verdicts


def test_what_holds_by_least_would_fail_first(decision: Decision) -> None:
    """A limit asks for its value, so it is nearer than a guard with as much room in its value."""
    limit, target, guard, _ = decision.rules
    limit = limit.model_copy(update={"bound": 0.5, "value": 0.6, "low": 0.5, "high": 0.7})
    target = target.model_copy(update={"bound": 0.1, "value": -0.4, "low": -0.6, "high": -0.2})
    guard = guard.model_copy(update={"bound": 0.1, "value": 0.05, "low": -0.05, "high": 0.15})

    def nearest(*rules: Rule) -> Rule | None:
        return verdict.nearest_rule(decision.model_copy(update={"rules": rules}))

    # In half intervals: 1 to the limit's bound; 0.5 from the ends of both of the others.
    assert nearest(limit, target) == target
    assert nearest(limit, guard) == guard
    assert nearest(limit.model_copy(update={"value": 0.52}), target, guard) != target


def test_without_a_champion_nothing_is_drawn_of_one(first: Path) -> None:
    table = read_table(first / "scores" / "scores.json")
    decided = read_decision(first / "decision.json")
    assert verdict.best_gain(table, decided) is None
    shown = shown_rules(table, decided)
    assert [rule.bar is None for rule in shown] == [False, True, True, True]
    opened = open_pictures(first / "images", table)
    assert galleries.contrasts(opened, first / "features", decided, 3) == ([], [])


def test_the_decision_and_its_rules_speak_of_the_judged_cell(
    table: Table, decision: Decision, worse: Path
) -> None:
    assert verdict.judged_cell(table, decision).id == JUDGED
    found = verdict.best_gain(table, decision)
    pair = table.pair("kid_shapes:real", JUDGED, "champion/steps-4_guidance-1")
    assert found is not None
    assert pair is not None
    target = next(rule for rule in decision.rules if rule.kind == "target")
    assert (found.difference, found.low, found.high) == (target.value, target.low, target.high)
    assert found.difference == pair.difference
    assert found.is_rules
    unasked = verdict.best_gain(table, decision.model_copy(update={"rules": ()}))
    assert unasked is not None
    assert unasked.is_rules is False
    other = table.pair("kid_shapes:real", unasked.cell.id, f"champion/{unasked.cell.id[8:]}")
    assert other is not None
    assert (unasked.low, unasked.high) == (other.low, other.high)
    telling = verdict.telling_rule(read_decision(worse / "decision.json"))
    assert telling is not None
    assert (telling.kind, telling.verdict) == ("target", "failed")


def test_neither_guidance_nor_noise_confuses_a_comparison(table: Table) -> None:
    """At 4 steps there are five cells; each stands beside its own champion only."""
    for metric in table.metrics:
        for standing in verdict.standings(table, metric):
            assert standing.champion is not None
            assert standing.pair is not None
            own, other = standing.row.cell, standing.champion.cell
            assert own.partition("/")[2] == other.partition("/")[2]
            assert (standing.pair.a, standing.pair.b) == (own, other)
            assert standing.cell.seeds == 0
    found = {s.cell.id for s in verdict.standings(table, table.headline)}
    assert found == {cell.id for cell in table.cells_of("adapter") if cell.seeds == 0}


def test_a_painters_line_is_of_one_guidance(table: Table) -> None:
    lines = figures.quality_lines(table)
    assert len(lines) == 7
    for line in lines:
        assert len({cell.guidance for cell in line.cells}) == 1
        assert len({cell.steps for cell in line.cells}) == len(line.cells) > 1
        assert all(cell.seeds == 0 for cell in line.cells)
    sweeps = figures.sweep_lines(table)
    assert [[cell.guidance for cell in line.cells] for line in sweeps] == [[1.0, 1.5, 2.0]] * 2


def test_every_painter_has_a_mark_of_its_own(table: Table) -> None:
    found = marks(table)
    painters = {cell.painter for cell in table.cells} - {"real"}
    assert len({(found[name].colour, found[name].shape) for name in painters}) == len(painters)
    renamed = table.model_copy(
        update={
            "cells": tuple(
                cell.model_copy(update={"painter": f"p-{i}", "id": f"p-{i}/x"})
                for i, cell in enumerate(table.cells[:21])
            )
        }
    )
    names = [name for name in marks(renamed) if name.startswith("p-")]
    assert len({(marks(renamed)[n].colour, marks(renamed)[n].shape) for n in names[:20]}) == 20


def test_directions_come_from_the_metric_and_not_from_its_name(table: Table) -> None:
    turned = table.metric("clip_score").model_copy(update={"lower_is_better": True})
    metrics = tuple(turned if m.name == "clip_score" else m for m in table.metrics)
    other = table.model_copy(update={"metrics": metrics})
    for have, says in ((table, "higher is better"), (other, "lower is better")):
        metric = have.metric("clip_score")
        assert says in figures.quality_panel(have, metric, figures.STEPS)
    assert gain_words(turned, 0.5) == "0.500 worse"
    assert gain_words(table.metric("clip_score"), 0.5) == "0.500 better"


def test_differences_are_said_from_the_good_side(table: Table) -> None:
    distance, share = table.metric("kid_shapes:real"), table.metric("attributes")
    assert gain_words(distance, -0.25) == "0.250 better"
    assert gain_interval(distance, -0.4, -0.1) == "0.100 to 0.400 better"
    assert gain_interval(distance, -0.4, 0.1) == "0.100 worse to 0.400 better"
    assert gain_interval(share, -0.4, -0.1) == "10.0 to 40.0 points worse"


def test_titles_and_captions_are_escaped(page: str, made: Path) -> None:
    assert "<title>Promote: A &lt;small&gt; test</title>" in page
    assert "# A <small> test" in (made / "model_card.md").read_text()


def test_a_second_report_has_the_same_bytes(
    artifacts: Path, made: Path, tmp_path: Path, write_report: Write
) -> None:
    assert sha256(write_report(artifacts, tmp_path / "again")) == sha256(made)


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
    assert "Milliseconds a picture (Some CPU)" in (made / "index.html").read_text()
    assert "Teacher, 100 evaluations" in (made / "figures" / "quality_by_steps.svg").read_text()


def chosen(values: dict[int, float], step: int, metric: str = "attributes") -> Selection:
    rows = tuple(JudgedCandidate(step=s, value=v, se=0.05) for s, v in values.items())
    lower = metric == "kid:real"
    how: dict[str, Any] = {"steps": 4, "guidance": 1.0, "prompts": 64}
    return Selection(metric=metric, lower_is_better=lower, rows=rows, chosen=step, **how)


def test_the_figure_of_candidates_marks_the_one_that_was_taken() -> None:
    values = {100: 0.5, 200: 0.7, 4000: 0.6}
    drawn = [figures.candidates_by_step(chosen(values, step)) for step in (200, 4000)]
    for figure, step in zip(drawn, ("200", "4,000"), strict=True):
        ElementTree.fromstring(figure)
        assert f"attributes: taken at step {step}<" in figure
    assert drawn[0].replace("200<", "4,000<") != drawn[1]
    alone = figures.candidates_by_step(chosen({200: -0.1}, 200, metric="kid:real"))
    ElementTree.fromstring(alone)
    assert "lower is better" in alone


def test_page_and_card_say_when_the_adapter_was_taken_and_by_what(
    made: Path, page: str, artifacts: Path
) -> None:
    recipe = read_recipe(artifacts / "adapter")
    line = "step 200 of 300, best of 3 candidates by attributes at 4 steps on 64 captions of their"
    assert line in page
    assert f"| Taken at | {line} own |" in (made / "model_card.md").read_text()
    only = verdict.choice(chosen({1000: 0.5}, 1000), recipe)
    assert only == "step 1,000 of 300, the only candidate"


def test_gaps_of_the_gradient_norm_are_left_out_of_its_average() -> None:
    whole, gap = np.arange(1.0, 11.0), np.arange(1.0, 11.0)
    gap[[0, 4, 5, 6]] = np.nan
    plain = np.convolve(whole, np.full(3, 1 / 3), "valid")
    assert figures.moving_average(whole, 3) == pytest.approx(plain)
    expected = [2.5, 3, 3.5, 4, np.nan, 8, 8.5, 9]
    assert figures.moving_average(gap, 3) == pytest.approx(expected, nan_ok=True)


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
    figure = figures.training_curve(rows)
    ElementTree.fromstring(figure)
    assert "nan" not in figure
    whole = [row.model_copy(update={"grad_norm": 2.0}) for row in rows]
    assert figure != figures.training_curve(whole)


def test_the_csv_is_the_table(made: Path, table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO((made / "scores.csv").read_text())))
    found = {(row["cell"], row["metric"]): float(row["value"]) for row in rows}
    assert found == {(row.cell, row.metric): row.value for row in table.rows}
    assert len(rows) == len(table.rows)
    times = {row["cell"]: row["ms"] for row in rows}
    assert (times[JUDGED], times["real"]) == ("11.5", "")


def test_every_number_is_on_the_page_without_scripts(page: str, table: Table) -> None:
    body = page[page.index('aria-label="Every number"') :]
    values = re.findall(r'<tr data-painter="([\w-]+)" data-metric="([\w:]+)">', body)
    assert len(values) == len(table.rows)
    for row in table.rows:
        assert f'data-value="{row.value}"' in body


def test_the_cards_scores_are_the_tables(made: Path, table: Table) -> None:
    card = (made / "model_card.md").read_text()
    row = table.row(JUDGED, "kid_shapes:real")
    assert row is not None
    line = next(line for line in card.splitlines() if line.startswith("| New adapter, 4 steps |"))
    assert spread(table, row) in line
    head = re.search(r"\n\| Painter \|.*\n(\|[-:|]+\|)\n\| New adapter", card)
    assert head is not None
    assert line.count("|") == head[1].count("|")


def test_hubs_read_every_number_of_the_adapter_from_the_card(made: Path, table: Table) -> None:
    card = ModelCard.load(made / "model_card.md")
    found = {(r.metric_args["id"], r.metric_type): r for r in card.data.eval_results}
    own = [row for row in table.rows if row.cell.startswith("adapter/")]
    assert {key: result.metric_value for key, result in found.items()} == {
        (row.cell, row.metric): row.value for row in own
    }
    result = found[JUDGED, "kid_shapes:real"]
    assert result.metric_name == "Kernel distance to real pictures, 4 steps"
    assert result.dataset_name == f"Evaluation set {'7' * 12}"
    assert card.data.base_model == "shapes"


def test_the_cards_code_is_python(made: Path) -> None:
    card = (made / "model_card.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    compile(code[1], "card", "exec")


def test_the_grid_holds_the_pictures_themselves(made: Path, artifacts: Path) -> None:
    grid = np.asarray(Image.open(made / "grid.png").convert("RGB"))
    for painter in ("adapter", "champion"):
        tar = artifacts / "images" / painter / "steps-8_guidance-1.tar"
        for picture in read_pictures(tar, [0, 2], painting("ddim")):
            large = np.asarray(picture.resize((96, 96), Image.Resampling.NEAREST))
            windows = np.flatnonzero((grid == large[0, 0]).all(2))
            places = (divmod(int(flat), grid.shape[1]) for flat in windows)
            assert any(np.array_equal(grid[y : y + 96, x : x + 96], large) for y, x in places)


def test_large_pictures_are_shrunk_and_tiny_ones_are_kept_as_they_are() -> None:
    large = thumb(Image.new("RGB", (1024, 512), "red"), "a caption")
    assert (large.width, large.height, large.is_tiny) == (288, 144, False)
    assert large.url.startswith("data:image/jpeg;base64,")
    tiny = Image.effect_noise((32, 32), 60).convert("RGB")
    kept = thumb(tiny, "a caption")
    content = base64.b64decode(kept.url.removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).tobytes() == tiny.tobytes()


def test_a_row_of_pictures_starts_from_one_noise(table: Table) -> None:
    cells = compared_cells(table)
    assert {cell.seeds for cell in cells} == {0}
    assert len({cell.id for cell in cells}) == len(cells)
    assert {cell.painter for cell in cells} == {
        "teacher",
        "adapter",
        "champion",
        "ddim",
        "dpmpp",
        "released-lcm",
    }


def test_adapter_and_champion_stand_side_by_side_at_each_step_count(
    artifacts: Path, table: Table
) -> None:
    columns = galleries.side_by_side(open_pictures(artifacts / "images", table), 2)
    assert [column.steps for column in columns] == [0, 1, 1, 2, 2, 4, 4, 8, 8]
    titles = [column.mark.title for column in columns]
    assert titles == ["Teacher", *["New adapter", "Champion"] * 4]


def test_other_subjects_and_noises_are_shown_where_there_are_some(
    artifacts: Path, table: Table
) -> None:
    opened = open_pictures(artifacts / "images", table)
    noises = [column.how for column in galleries.noises(opened, 1)]
    assert noises == [
        "50 steps, guidance 3",
        "50 steps, guidance 3, noise 1",
        *["4 steps", "4 steps, noise 1", "4 steps, noise 2"] * 2,
    ]


def test_worst_pictures_are_wrong_first_then_least_alike() -> None:
    values = {"right": np.array([0.0, 1, 0, 1]), "clip": np.array([50.0, 10, 40, 30])}
    assert worst(values, 3) == [2, 0, 1]
    assert worst({"clip": values["clip"]}, 2) == [1, 3]


def test_pictures_differ_most_by_the_first_metric_then_by_the_next() -> None:
    mine = {"right": np.array([1.0, 0, 1, 1, 0]), "clip": np.array([5.0, 5, 9, 1, 3])}
    its = {"right": np.array([0.0, 1, 1, 1, 0]), "clip": np.array([5.0, 5, 1, 2, 3])}
    assert most_different(mine, its, 9) == ([0, 2], [1, 3])
    assert most_different(mine, its, 1) == ([0], [1])


def test_the_page_shows_as_many_worst_pictures_as_asked_for(page: str) -> None:
    section = page[page.index('id="worst"') : page.index('id="variety"')]
    assert section.count("<figcaption>") == 6


def test_only_pictures_that_are_shown_are_read(
    artifacts: Path, table: Table, tmp_path: Path
) -> None:
    """Whatever lies in the place of the others does not matter."""
    images = Path(shutil.copytree(artifacts / "images", tmp_path / "images"))
    tar = images / "ddim" / "steps-4_guidance-3.tar"
    with tarfile.open(tar) as members:
        spans = [(member.offset_data, member.size) for member in members]
    content = bytearray(tar.read_bytes())
    for start, size in spans[3:]:
        content[start : start + size] = bytes(size)
    tar.write_bytes(content)
    opened = open_pictures(images, table)
    assert columns_of(opened, compared_cells(table), 3)
    assert galleries.rivals(opened, 3)
    content[spans[0][0] + 40] ^= 1
    tar.write_bytes(content)
    with pytest.raises(UserError, match=r"steps-4_guidance-3.tar.*run `lcm-lora generate ddim`"):
        galleries.rivals(opened, 3)


def test_the_headline_follows_the_table(table: Table) -> None:
    best = verdict.recommended(table)
    row, teacher = (
        table.row(cell.id, table.headline.name) for cell in (best, verdict.teacher_cell(table))
    )
    assert row is not None
    assert teacher is not None
    assert spread(table, row) in verdict.headline(table)
    assert spread(table, teacher) in verdict.headline(table)
    assert best.id == "adapter/steps-8_guidance-1"


def test_a_rival_of_equal_cost_is_the_best_of_its_cost(table: Table) -> None:
    found = {s.cell.id: s for s in verdict.standings(table, table.headline)}
    standing = found["adapter/steps-8_guidance-1"]
    assert standing.rival is not None
    nfe = {cell.id: cell.nfe for cell in table.cells}
    assert nfe[standing.rival.cell] == 8
    none = table.model_copy(update={"pairs": ()})
    assert all(s.rival is None for s in verdict.standings(none, none.headline))
    assert "best other painter" not in verdict.headline(none)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.012"),
        (0.00034, "0.00034"),
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


def test_missing_inputs_are_named(artifacts: Path, tmp_path: Path, write_report: Write) -> None:
    copy = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    for name, mend in (
        ("training/curve.jsonl", "distill"),
        ("decision.json", "decide"),
        ("latency.json", "latency"),
        ("images/ddim/steps-4_guidance-3.tar", "generate ddim"),
        (f"features/{JUDGED}.safetensors", "features adapter"),
    ):
        (copy / name).unlink()
        with pytest.raises(UserError, match=rf"{name}: no such file; run `lcm-lora {mend}`"):
            write_report(copy, tmp_path / "out")
        shutil.copyfile(artifacts / name, copy / name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("painted.json", "small", "large"),
        ("steps-4_guidance-1.json", "2" * 64, "3" * 64),
        ("steps-4_guidance-1.json", '"adapter"', '"champion"'),
    ],
    ids=["captions", "subject", "painter"],
)
def test_pictures_that_were_not_scored_are_refused(
    artifacts: Path, tmp_path: Path, file: str, old: str, new: str, write_report: Write
) -> None:
    copy = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    path = copy / "images" / "adapter" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"{file}: not the .* scored; run"):
        write_report(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changed", ["protocol", "adapter", "champion", "value", "cell"])
def test_a_decision_about_other_numbers_is_refused(
    artifacts: Path, tmp_path: Path, changed: str
) -> None:
    decided = read_decision(artifacts / "decision.json")
    first, *rest = decided.rules
    update: dict[str, Any] = {
        "protocol": {"protocol_sha256": "0" * 64},
        "adapter": {"adapter_sha256": "0" * 64},
        "champion": {"champion": None},
        "value": {"rules": (*rest, first.model_copy(update={"value": 0.123}))},
        "cell": {"rules": (first.model_copy(update={"cell": "adapter/steps-3_guidance-1"}),)},
    }[changed]
    path = tmp_path / "decision.json"
    recipe, scores = read_recipe(artifacts / "adapter"), artifacts / "scores" / "scores.json"
    write_record(path, decided)
    read_judged(scores, path, recipe)
    write_record(path, decided.model_copy(update=update))
    with pytest.raises(UserError, match=r"decision.json: not about .*run `lcm-lora decide`"):
        read_judged(scores, path, recipe)


def test_a_champion_of_another_base_is_said_to_be_one(
    artifacts: Path, page: str, tmp_path: Path, write_report: Write
) -> None:
    copy = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    about = copy / "champion" / "adapter" / "recipe.json"
    other = json.loads(about.read_text())
    other["base"] |= {"model": "an-older-base", "sha256": "9" * 64}
    about.unlink()
    about.write_text(json.dumps(other))
    says = (write_report(copy, tmp_path / "out") / "index.html").read_text()
    assert "distilled from another base, an-older-base, and paints with this one" in says
    assert f"an-older-base<br><code>{'9' * 16}</code>" in says
    assert "another base" not in page
    write_champion(copy / "champion", None, None)
    with pytest.raises(UserError, match="not the champion that was scored; run `lcm-lora score`"):
        write_report(copy, tmp_path / "out")


def test_page_and_card_name_the_commit_and_the_data(made: Path, page: str) -> None:
    card = (made / "model_card.md").read_text()
    assert f"<code>{'c' * 16}</code>" in page
    assert f"commit `{'c' * 40}`" in card
    for text in (page, card):
        assert "d" * 16 in text
        assert "7045 samples" in text


def test_it_reports_a_bare_table(first: Path, tmp_path: Path, write_report: Write) -> None:
    """One metric, no floor, no rivals, no rule: what is not there is not spoken of."""
    copy = Path(shutil.copytree(first, tmp_path / "artifacts"))
    table = json.loads((copy / "scores" / "scores.json").read_text())
    headline, kept = table["metrics"][0]["name"], {"teacher", "adapter"}
    table["metrics"] = table["metrics"][:1]
    table["cells"] = [c for c in table["cells"] if c["painter"] in kept]
    ids = {c["id"] for c in table["cells"]}
    table["rows"] = [r for r in table["rows"] if r["metric"] == headline and r["cell"] in ids]
    table["pairs"] = []
    (copy / "scores" / "scores.json").write_text(json.dumps(table))
    decided = read_decision(copy / "decision.json")
    write_record(copy / "decision.json", decided.model_copy(update={"rules": ()}))
    made = write_report(copy, tmp_path / "out")
    page = (made / "index.html").read_text()
    assert "No rules" in page
    assert "Pictures that show" not in page
    assert "No other painter was compared" in page
