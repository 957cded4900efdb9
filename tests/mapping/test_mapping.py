"""The page of the transfer evaluation says what the tables say, and is the same each time."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import check_alone, check_ids, check_names, said
from PIL import Image
from presets import preset

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import read_table
from lcm_lora.files import sha256
from lcm_lora.mapping import galleries, words
from lcm_lora.mapping.figures import FIELD, draw_map, strengths
from lcm_lora.mapping.standing import best_of, by_cost, compared, standing, turned
from lcm_lora.mapping.subjects import Places, Tried, read_tried
from lcm_lora.params.generate import Cell
from lcm_lora.params.report import Report
from lcm_lora.params.transfer import WHOLE, Mix, Transfer
from lcm_lora.records import write_record
from lcm_lora.report.numbers import gain_interval, gain_range, spread
from lcm_lora.seeing.image_sets import read_pictures
from lcm_lora.stages import transfer_report as stage

Write = Callable[..., Path]
SHOWN = ["both", "attributes", "look", "kid_shapes:teacher", "fd_shapes:teacher", "clip_score"]


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return (made / "index.html").read_text()


@pytest.fixture(scope="module")
def every(project: Path, params: Transfer) -> dict[str, Tried]:
    found = read_tried(params, places_of(project))
    return {tried.name: tried for tried in found}


def places_of(root: Path) -> Places:
    return Places(root / "inventory", root / "images", root / "scores")


def copied(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder / "project"))


def changed(tried: Tried, **update: Any) -> Tried:
    return replace(tried, table=tried.table.model_copy(update=update))


def test_it_writes_the_page_the_numbers_and_the_maps(made: Path, params: Transfer) -> None:
    found = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file()}
    drawn = ("both", "attributes", "look", "kid_shapes-teacher")
    assert found == {
        "index.html",
        "scores.csv",
        "grid.png",
        *(f"figures/{name}_{m}.svg" for name in params.subjects for m in drawn),
    }


def test_the_page_stands_alone_and_is_told_to_those_who_hear_it(page: str) -> None:
    check_alone(page)
    check_ids(page)
    check_names(page)
    assert "<script" not in page
    assert "A &lt;small&gt; test</title>" in page


def test_the_first_words_are_the_answer_and_each_subject_has_its_own(
    page: str, every: dict[str, Tried]
) -> None:
    assert said(page, "h1") == ["It transfers to 2 of 3 subjects"]
    cards = page[page.index('id="subjects-title"') : page.index('id="losses-title"')]
    verdicts = re.findall(r'<li class="(\w+)">', cards)
    assert verdicts == ["worse", "better", "better", "worse"]
    for card, tried in zip(cards.split("<li class=")[1:], every.values(), strict=True):
        table, metric = tried.table, tried.table.metric("both")
        solvers = [c for c in table.cells if c.painter in {"ddim", "dpmpp"} and c.nfe == 4]
        best = max(solvers, key=lambda cell: table.row(cell.id, "both").value)  # type: ignore[union-attr]
        pair = table.pair("both", "adapter/steps-4_guidance-1", best.id)
        own = table.pair("both", "adapter/steps-4_guidance-1", "teacher/steps-50_guidance-3")
        for found in (pair, own):
            assert found is not None
            assert gain_interval(metric, found.low, found.high) in card
        for cell in ("adapter/steps-4_guidance-1", best.id, "teacher/steps-50_guidance-3"):
            row = table.row(cell, "both")
            assert row is not None
            assert spread(table, row) in card


@pytest.mark.parametrize(
    ("verdicts", "heading", "mood"),
    [
        (("better", "better", "better"), "It transfers to all 3 subjects", "yes"),
        (
            ("level", "better", "worse"),
            "Transfer is shown for 1 of 3 subjects; 1 not told apart",
            "some",
        ),
        (
            ("level", "worse", "level"),
            "Transfer is shown for none of 3 subjects; 2 not told apart",
            "some",
        ),
        (("better", "level"), "Transfer is shown for 1 of 2 subjects; 1 not told apart", "some"),
        (("worse", "better", "worse"), "It transfers to 1 of 3 subjects", "some"),
        (("worse", "worse", "worse"), "It transfers to none of 3 subjects", "no"),
        (("level", "level", "level"), "Not told apart from solvers", "some"),
        (("better",), "It transfers to dusk", "yes"),
        (("worse",), "It does not transfer to dusk", "no"),
        ((), "Compared with no solver", "some"),
    ],
)
def test_it_transfers_where_it_is_better_than_every_solver(
    every: dict[str, Tried], verdicts: tuple[str, ...], heading: str, mood: str
) -> None:
    tried = []
    away = words.elsewhere(list(every.values()))
    assert [one.name for one in away] == ["dusk", "ink", "dusk-ink"]
    for one, verdict in zip(away, verdicts or ("level",), strict=False):
        pairs = tuple(p.model_copy(update={"verdict": verdict}) for p in one.table.pairs)
        tried.append(changed(one, pairs=pairs if verdicts else ()))
    judged = words.judged(tried)
    assert words.heading(judged) == heading
    assert words.mood(judged) == mood


def test_one_solver_that_is_not_beaten_decides_whatever_its_value(every: dict[str, Tried]) -> None:
    tried, metric = every["dusk"], every["dusk"].table.metric("both")
    before = standing(tried, metric, tried.cell)
    assert before is not None
    assert before.solver is not None
    assert before.verdict == "better"
    other = "ddim/steps-4_guidance-1"
    assert before.solver.cell.id != other
    for verdict in ("level", "worse"):
        pairs = tuple(
            pair.model_copy(update={"verdict": verdict}) if pair.b == other else pair
            for pair in tried.table.pairs
        )
        one = standing(changed(tried, pairs=pairs), metric, tried.cell)
        assert one is not None
        assert one.solver is not None
        assert (one.verdict, one.solver.cell.id) == (verdict, other)


def test_at_home_it_is_shown_and_does_not_count(page: str, every: dict[str, Tried]) -> None:
    assert [tried.name for tried in every.values() if tried.is_control] == ["plain"]
    assert "on dusk, ink and dusk-ink; and, for comparison, on its own base." in page
    assert "<b>plain</b>, its own base, for comparison" in page
    lost = page[page.index('id="losses-title"') : page.index("<nav")]
    assert "<b>dusk-ink, " in lost
    assert "plain" not in lost
    assert "Beside the subject itself in many steps, at 4 steps in the metric named above" in lost
    assert "it is worse on dusk, ink and dusk-ink." in lost
    judged = words.judged(list(every.values()))
    unsure = tuple(p.model_copy(update={"verdict": "level"}) for p in every["ink"].table.pairs)
    assert words.behind(judged) == ["plain", "dusk", "ink", "dusk-ink"]
    assert words.behind(words.judged([changed(every["ink"], pairs=unsure)])) == []


def test_what_cannot_be_concluded_counts_for_nothing(page: str, every: dict[str, Tried]) -> None:
    tried = every["dusk"]
    metric = tried.table.metric("fd_shapes:teacher")
    one = standing(tried, metric, tried.cell)
    assert one is not None
    assert one.verdict == "none"
    assert metric.name not in {pair.metric for pair in compared(tried)}
    assert all(metric.title not in titles for _, titles in words.by_verdict(tried))
    row = tried.table.row(tried.cell.id, metric.name)
    assert row is not None
    assert spread(tried.table, row) in page, "its value is shown all the same"


@pytest.mark.parametrize("name", ["both", "kid_shapes:teacher"])
def test_a_bar_has_the_better_on_the_right(every: dict[str, Tried], name: str) -> None:
    for tried in every.values():
        metric = tried.table.metric(name)
        one = standing(tried, metric, tried.cell)
        assert one is not None
        assert one.solver is not None
        assert one.teacher is not None
        drawn, sign = words.bar(one), -1 if metric.lower_is_better else 1
        assert 0 < drawn.low < drawn.value < drawn.high < 100
        for other, place in ((one.solver, drawn.solver), (one.teacher, drawn.teacher)):
            assert place is not None
            assert 0 < place < 100
            is_better = sign * (other.row.value - one.row.value) > 0
            assert (place > drawn.value) == is_better


def test_every_loss_is_told_and_nothing_else(page: str, every: dict[str, Tried]) -> None:
    away = words.elsewhere(list(every.values()))
    pairs = [
        (tried, pair)
        for tried in away
        for pair in tried.table.pairs
        if pair.against == "rival" and pair.metric in SHOWN and pair.is_decisive
    ]
    lost = [(tried, pair) for tried, pair in pairs if pair.verdict == "worse"]
    assert lost
    assert words.counts(away) == {
        verdict: sum(pair.verdict == verdict for _, pair in pairs)
        for verdict in ("better", "level", "worse")
    }
    told = words.losses(away)
    assert sum(len(loss.said) for loss in told) == len(lost)
    for tried, pair in lost:
        (loss,) = [
            loss
            for loss in told
            if (loss.tried, loss.cell.id, loss.solver.id) == (tried, pair.a, pair.b)
        ]
        metric = tried.table.metric(pair.metric)
        assert f"{metric.title} {gain_interval(metric, pair.low, pair.high)}" in loss.said
    section = page[page.index('id="losses-title"') : page.index("<nav")]
    assert section.count("<li>") == len(told)


def test_what_never_loses_is_said_to(
    project: Path, params: Transfer, tmp_path: Path, write_page: Write
) -> None:
    root = copied(project, tmp_path)
    alone = params.model_copy(update={"subjects": {"dusk": params.subjects["dusk"]}, "map": None})
    path = root / "scores" / "dusk" / "scores.json"
    table = read_table(path)
    won = tuple(pair.model_copy(update={"verdict": "better"}) for pair in table.pairs)
    write_record(path, table.model_copy(update={"pairs": won}))
    page = (write_page(root, tmp_path / "out", alone) / "index.html").read_text()
    count = len(compared(changed(read_tried(alone, places_of(root))[0], pairs=won)))
    assert f"Nowhere: of {count} comparisons" in page


def test_what_tells_most_comes_first_and_real_pictures_are_no_mark(
    page: str, every: dict[str, Tried]
) -> None:
    assert [metric.name for metric in every["ink"].metrics] == SHOWN
    assert "to real pictures" not in page
    names = ("kid_shapes:teacher", "clip_score")
    kept = tuple(m for m in every["ink"].table.metrics if m.name in names)
    assert changed(every["ink"], metrics=kept).leading.name == "kid_shapes:teacher"


def test_the_table_holds_every_cell_beside_those_of_its_cost(
    page: str, every: dict[str, Tried]
) -> None:
    section = page[page.index('<section id="numbers">') : page.index('<section id="weights">')]
    for tried in every.values():
        table = tried.table
        groups = by_cost(tried)
        assert [own and own.nfe for own, _ in groups] == [1, 2, 4, 8, None]
        for own, solvers in groups:
            assert {cell.nfe for cell in solvers} == {own.nfe if own else 16}
        listed = [cell.id for own, solvers in groups for cell in [own, *solvers] if cell]
        known = {c.id for c in table.cells if c.painter in {"adapter", "ddim", "dpmpp"}}
        assert len(listed) == len(known)
        assert set(listed) == known
        for row in table.rows:
            if row.cell in known and row.metric in SHOWN:
                assert spread(table, row) in section
        for pair in table.pairs:
            if pair.metric in SHOWN and pair.is_decisive and pair.against != "map":
                assert gain_range(table.metric(pair.metric), pair.low, pair.high) in section


def test_gains_have_a_sign_and_the_good_side_up(every: dict[str, Tried]) -> None:
    table = every["ink"].table
    assert gain_range(table.metric("both"), -0.05, 0.12) == "\N{MINUS SIGN}5.0 to +12.0"
    assert gain_range(table.metric("kid_shapes:teacher"), 0.25, 0.5) == (
        "\N{MINUS SIGN}0.500 to \N{MINUS SIGN}0.250"
    )


def test_the_csv_holds_all_numbers_with_their_weights(
    made: Path, page: str, every: dict[str, Tried]
) -> None:
    text = (made / "scores.csv").read_text()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == sum(len(tried.table.rows) for tried in every.values())
    for line in lines:
        row = every[line["subject"]].table.row(line["cell"], line["metric"])
        assert row is not None
        assert float(line["value"]) == row.value
        mix = Mix(*(float(line[n] or "nan") for n in ("acceleration", "style")))
        assert (mix.name == line["painter"]) if line["acceleration"] else "mix" not in line["cell"]
    link = re.search(r'download="scores.csv" href="data:text/csv;base64,([^"]+)"', page)
    assert link is not None
    assert base64.b64decode(link[1]).decode() == text


@pytest.mark.parametrize("name", ["both", "kid_shapes:teacher"])
def test_a_map_has_a_field_for_each_point_and_the_better_is_the_stronger(
    every: dict[str, Tried], name: str
) -> None:
    tried, metric = every["ink"], every["ink"].table.metric(name)
    figure = draw_map(tried, metric)
    ElementTree.fromstring(figure)
    rows = [row for _, row in tried.rows(metric)]
    assert len(rows) == 20
    found = re.findall(rf"fill: {FIELD}; opacity: ([\d.]+)", figure)
    assert len(found) == 20
    values = np.array([row.value for row in rows]) * (-1 if metric.lower_is_better else 1)
    order = np.argsort(values)
    shades = np.array([float(shade) for shade in found])[order]
    assert (np.diff(shades) >= 0).all()
    assert shades[0] < 0.1 < 0.5 < shades[-1]
    for row in rows:
        value, half = (part.split()[0] for part in spread(tried.table, row).split("±"))
        assert f">{value}<" in figure
        assert f">± {half}<" in figure
    best = best_of(tried, metric)
    assert best is not None
    assert best.row == rows[order[-1]]
    alike = tuple(row.model_copy(update={"value": 0.5}) for row in tried.table.rows)
    whole = best_of(changed(tried, rows=alike), metric)
    assert whole is not None
    assert whole.point.mix == WHOLE


def test_strengths_are_of_ratios_for_distances_and_of_differences_for_all_else(
    every: dict[str, Tried],
) -> None:
    distance, share = (every["ink"].table.metric(n) for n in ("kid_shapes:teacher", "both"))
    sure = np.zeros(3)
    assert strengths(distance, [8.0, 4.0, 2.0], sure) == pytest.approx([0, 0.5, 1])
    assert strengths(share, [0.2, 0.4, 0.8], sure) == pytest.approx([0, 1 / 3, 1])
    assert strengths(distance, [-0.1, 0.0, 5.0], sure) == pytest.approx([1, 1, 0])
    assert strengths(distance, [-0.3, -0.1, -0.2], sure) == pytest.approx([1, 0, 0.5])
    assert strengths(share, [0.3, 0.3, 0.3], sure) == pytest.approx([0.5, 0.5, 0.5])


def test_noise_is_shown_as_noise(every: dict[str, Tried]) -> None:
    distance, share = (every["ink"].table.metric(n) for n in ("kid_shapes:teacher", "both"))
    found = strengths(share, [0.50, 0.51, 0.52], np.full(3, 0.1))
    assert found == pytest.approx([0.45, 0.5, 0.55])
    assert np.ptp(strengths(distance, [4.0, 4.1, 4.2], np.full(3, 2.0))) < 0.06
    assert np.ptp(strengths(share, [0.2, 0.5, 0.8], np.full(3, 0.1))) == pytest.approx(1)


def test_without_styles_the_map_is_a_line_with_its_marks(every: dict[str, Tried]) -> None:
    tried = every["dusk"]
    assert [point.mix.style for point in tried.points] == [1.0] * 5
    figure = draw_map(tried, tried.leading)
    ElementTree.fromstring(figure)
    assert FIELD not in figure
    assert "Weight of the new adapter, l1" in figure
    assert "Share of the style" not in figure
    told = turned(tried, tried.leading).values()
    assert "worse" in told
    assert [figure.count(sign) for sign in "▲▼"] == [
        list(told).count(verdict) for verdict in ("better", "worse")
    ]


def test_the_best_point_is_marked_with_what_it_is_worth(page: str, every: dict[str, Tried]) -> None:
    tried = every["ink"]
    best = best_of(tried, tried.leading)
    assert best is not None
    assert best.point.mix == (0.75, 1.0)
    row = tried.table.row("mix-75-100/steps-4_guidance-1", "both")
    assert row == best.row
    assert f"is best at l1 = 0.75, l2 = 1: {spread(tried.table, row)}, against" in page
    assert "It was chosen among 20 by the same pictures" in page


def test_points_are_told_apart_from_weights_as_they_are_by_pairs(
    page: str, every: dict[str, Tried]
) -> None:
    tried = every["ink"]
    told = turned(tried, tried.leading)
    assert len(told) == 19
    assert WHOLE not in told
    for mix, verdict in told.items():
        pair = tried.table.pair(
            "both", f"{mix.name}/steps-4_guidance-1", "mix-100-100/steps-4_guidance-1"
        )
        assert pair is not None
        assert pair.verdict == verdict
    better, worse, level = (
        list(told.values()).count(verdict) for verdict in ("better", "worse", "level")
    )
    assert better
    assert worse
    said = words.apart(tried, tried.leading)
    assert f"{better} better (▲), {worse} worse (▼) and {level} not told apart" in said
    assert said in page
    figure = draw_map(tried, tried.leading)
    assert (figure.count("▲"), figure.count("▼")) == (better, worse)
    alike = tuple(p.model_copy(update={"verdict": "level"}) for p in tried.table.pairs)
    unsure = words.apart(changed(tried, pairs=alike), tried.leading)
    assert unsure == "No point is told apart from weights as they are"
    assert words.apart(changed(tried, pairs=()), tried.leading) == ""


def test_the_grid_is_one_picture_of_all_subjects(made: Path, every: dict[str, Tried]) -> None:
    away = words.elsewhere(list(every.values()))
    grid = galleries.grid(away)
    assert Image.open(made / "grid.png").size == grid.size
    assert np.array_equal(np.asarray(Image.open(made / "grid.png")), np.asarray(grid))
    assert grid.width == 320 + 6 * 100 + 2 * 20 + 4
    assert grid.height == 92 + 6 * 100 + 4
    for place, tried in ((92, away[0]), (492, away[2])):
        read = tried.pictures.read(tried.table.cells_of("teacher", seeds=0)[0], [0])[0]
        shown = grid.crop((320, place, 416, place + 96)).resize(read.size, Image.Resampling.NEAREST)
        assert np.array_equal(np.asarray(shown), np.asarray(read))


def test_pictures_stand_where_their_weights_are(project: Path, every: dict[str, Tried]) -> None:
    tried = every["ink"]
    maps = galleries.picture_maps(tried)
    assert [m.caption for m in maps] == list(tried.pictures.captions[:2])
    for index, shown in enumerate(maps):
        assert shown.across == (0.0, 0.5, 0.75, 1.0, 1.25)
        assert [style for style, _ in shown.rows] == [1.5, 1.0, 0.5, 0.0]
        for style, row in shown.rows:
            for painted, weight in zip(row, shown.across, strict=True):
                mix = Mix(weight, style)
                tar = project / "images" / "ink" / mix.name / "steps-4_guidance-1.tar"
                assert painted.is_whole == (mix == (1, 1))
                assert same(painted.thumb, read_pictures(tar, [index], "")[0])


def same(thumb: Any, picture: Image.Image) -> bool:
    content = base64.b64decode(thumb.url.partition(",")[2])
    shown = Image.open(io.BytesIO(content)).convert("RGB")
    return np.array_equal(np.asarray(shown), np.asarray(picture))


def test_the_band_shows_the_subject_itself_the_adapter_and_the_best_of_each_cost(
    every: dict[str, Tried],
) -> None:
    shown = [(c.mark.title, c.how) for c in galleries.band(every["dusk"], 1)]
    assert shown[:5] == [
        ("Teacher", "50 steps, guidance 3"),
        *(("New adapter", how) for how in ("1 step", "2 steps", "4 steps", "8 steps")),
    ]
    table = every["dusk"].table
    best = []
    for cell in table.adapter:
        one = standing(every["dusk"], table.metric("both"), cell)
        assert one is not None
        assert one.solver is not None
        assert one.solver.cell.nfe == cell.nfe
        best.append(one.solver.cell.painter)
    assert [title for title, _ in shown[5:]] == ["DPM++"] * 4
    assert best == ["dpmpp"] * 4


def test_without_a_map_there_is_none_and_the_judged_cell_is_near_4_steps(
    project: Path, params: Transfer, tmp_path: Path, write_page: Write
) -> None:
    bare = params.model_copy(update={"map": None})
    made = write_page(project, tmp_path / "out", bare)
    page = (made / "index.html").read_text()
    assert 'id="weights"' not in page
    assert "#weights" not in page
    check_ids(page)
    assert not (made / "figures").exists()
    assert {tried.cell.steps for tried in read_tried(bare, places_of(project))} == {4}
    wanted = params.map.model_copy(update={"cell": Cell(steps=7, guidance=1.0)})  # type: ignore[union-attr]
    other = params.model_copy(update={"map": wanted})
    assert {tried.cell.steps for tried in read_tried(other, places_of(project))} == {8}


def test_a_bare_table_is_reported_without_what_is_not_there(
    project: Path, params: Transfer, tmp_path: Path, write_page: Write
) -> None:
    """No solver was compared, one metric was measured."""
    root = copied(project, tmp_path)
    alone = params.model_copy(update={"subjects": {"ink": params.subjects["ink"]}})
    path = root / "scores" / "ink" / "scores.json"
    table = read_table(path)
    kept = tuple(metric for metric in table.metrics if metric.name == "clip_score")
    rows = tuple(row for row in table.rows if row.metric == "clip_score")
    bare = table.model_copy(update={"metrics": kept, "rows": rows, "pairs": ()})
    write_record(path, bare)
    page = (write_page(root, tmp_path / "out", alone) / "index.html").read_text()
    assert said(page, "h1") == ["Compared with no solver"]
    assert "It was compared with no solver of equal cost." in page
    check_ids(page)


def test_the_page_names_what_was_put_together(page: str) -> None:
    made = page[page.index('<section id="made">') :]
    for text in (
        f"shapes-dusk<br><code>{'d' * 16}",
        f"styles/ink.safetensors, weight 0.8<br><code>{'a' * 16}",
        "base, on which the adapter was distilled",
        "LCM with the adapter",
        "seed 1000",
        "12 held-out prompts",
        f"<code>{'7' * 16}</code>",
    ):
        assert text in made


@pytest.mark.parametrize(
    ("file", "mend"),
    [
        ("scores/dusk/scores.json", "transfer-score dusk"),
        ("inventory/ink.json", "inventory"),
        ("images/ink/adapter/painted.json", "transfer ink"),
        ("images/ink/ddim/steps-4_guidance-1.json", "transfer ink"),
        ("images/dusk-ink/mix-50-100/steps-4_guidance-1.tar", "transfer dusk-ink"),
    ],
)
def test_what_is_missing_or_damaged_ends_in_one_line(
    project: Path, tmp_path: Path, write_page: Write, file: str, mend: str
) -> None:
    file = file.replace("ddim/steps-4_guidance-1", "dpmpp/steps-4_guidance-1")
    root = copied(project, tmp_path)
    content = (root / file).read_bytes()
    (root / file).unlink()
    with pytest.raises(UserError, match=rf"{file}: no such file; run `lcm-lora {mend}`$"):
        write_page(root, tmp_path / "out")
    (root / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"{file}: .*run `lcm-lora {mend}`") as error:
        write_page(root, tmp_path / "out")
    assert str(error.value).isprintable()
    assert not (tmp_path / "out").exists()


def test_scores_that_lack_a_point_or_the_adapter_are_refused(
    project: Path, params: Transfer, tmp_path: Path
) -> None:
    root = copied(project, tmp_path)
    path = root / "scores" / "ink" / "scores.json"
    table = read_table(path)
    for painter in ("mix-50-100", "adapter"):
        cells = tuple(cell for cell in table.cells if cell.painter != painter)
        write_record(path, table.model_copy(update={"cells": cells}))
        with pytest.raises(
            UserError, match=rf"says nothing of {painter}; run `lcm-lora transfer i"
        ):
            read_tried(params, places_of(root))


def test_pictures_of_other_captions_are_refused(
    project: Path, tmp_path: Path, write_page: Write
) -> None:
    root = copied(project, tmp_path)
    about = root / "images" / "ink" / "adapter" / "painted.json"
    about.write_text(about.read_text().replace("small", "large"))
    with pytest.raises(
        UserError, match="not the captions that were scored; run `lcm-lora transfer"
    ):
        write_page(root, tmp_path / "out")


def test_the_stage_draws_the_same_bytes_from_the_places_of_the_project(
    project: Path, made: Path, params: Transfer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project / "inventory", layout.INVENTORY / "transfer")
    shutil.copytree(project / "adapter", layout.ADAPTER)
    for kind in ("images", "scores"):
        shutil.copytree(project / kind, layout.TRANSFER / kind)
    with_subjects(params)
    stage.run()
    assert sha256(layout.TRANSFER / "report") == sha256(made)
    with_subjects(params.model_copy(update={"subjects": {}}))
    stage.run()
    assert list((layout.TRANSFER / "report").iterdir()) == [], "an old page would mislead"


def with_subjects(params: Transfer) -> None:
    """Write a whole params.yaml with this section; JSON is YAML."""
    shown = Report(title="A <small> test", rows=3)
    whole = preset().model_copy(update={"transfer": params, "report": shown})
    layout.PARAMS.write_text(json.dumps(whole.model_dump(mode="json")))
