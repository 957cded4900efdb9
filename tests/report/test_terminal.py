"""On a terminal of 80 columns the verdict and what it rests on can be read; all on request."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flows.summary import show_scores
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import read_table
from lcm_lora.gate.decision import read_decision
from lcm_lora.records import write_record
from lcm_lora.report.style import how_title
from lcm_lora.report.verdict import judged_metrics
from lcm_lora.terminal import run, shortened, show_all


def printed(folder: Path, everything: bool = False) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=80, highlight=False)
    table = read_table(folder / "scores" / "scores.json")
    if everything:
        show_all(console, table)
    else:
        show_scores(console, table, read_decision(folder / "decision.json"))
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize("case", ["artifacts", "worse", "first"])
def test_a_cell_is_one_line_and_no_line_is_longer_than_the_terminal(
    case: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(case)
    table = read_table(folder / "scores" / "scores.json")
    decision = read_decision(folder / "decision.json")
    lines = printed(folder)
    assert max(map(len, lines)) <= 80
    for metric in judged_metrics(table, decision):
        start = next(i for i, line in enumerate(lines) if line.startswith(metric.title))
        cells = lines[start + 2 : start + 2 + len(table.adapter)]
        for line, cell in zip(cells, table.adapter, strict=True):
            assert line.startswith(how_title(cell))
            assert "\N{PLUS-MINUS SIGN}" in line
            assert "…" not in line
    says = "Promote" if decision.promote else "Do not promote"
    assert any(line.startswith(says) for line in lines)
    asked = 4 if table.champion else 1
    assert sum(line.startswith(("  yes ", "  no  ")) for line in lines) == asked
    assert ("  -   3 rules need a champion" in lines) == (case == "first")


def test_who_is_champion_is_not_to_be_promoted(artifacts: Path) -> None:
    """After an unchanged run the decision of before still says that it should be."""
    table = read_table(artifacts / "scores" / "scores.json")
    decision = read_decision(artifacts / "decision.json").model_copy(update={"promote": True})
    for move, says in (("champion already", "Is champion "), ("promoted", "Promote ")):
        text = io.StringIO()
        show_scores(Console(file=text, width=80, highlight=False), table, decision, move)
        lines = text.getvalue().splitlines()
        assert [line[: len(says)] for line in lines if line.startswith(("Promote", "Is"))] == [says]


def test_every_number_has_a_line_of_its_own(artifacts: Path) -> None:
    table = read_table(artifacts / "scores" / "scores.json")
    lines = printed(artifacts, everything=True)
    assert max(map(len, lines)) <= 80
    for cell in table.cells:
        own = [line for line in lines if line.split(" ")[0] == cell.id]
        assert len(own) == sum(row.cell == cell.id for row in table.rows)


def test_a_long_id_keeps_how_it_paints_and_whose_it_is() -> None:
    how = "/steps-50_guidance-7.5_seeds-12"
    plain = f"adapter{how}"
    assert shortened(plain) == plain
    alike = {shortened(f"{'watercolours-' * 5}{end}{how}") for end in ("weak", "strong")}
    assert len(alike) == 2
    for text in alike:
        assert len(text) == 48
        assert text.startswith("water")
        assert text.endswith(how)


def test_a_decision_about_other_numbers_is_not_printed(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    decided = read_decision(copy / "decision.json")
    write_record(copy / "decision.json", decided.model_copy(update={"champion": None}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"decision.json: not about .*run `lcm-lora decide`"):
        run(everything=False, csv=False)
    run(everything=True, csv=False)


@pytest.mark.usefixtures("warm_starts")
def test_the_command_prints_all_of_it_and_csv(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "artifacts").symlink_to(artifacts)
    table = read_table(artifacts / "scores" / "scores.json")

    def call(*arguments: str) -> str:
        command = [Path(sys.executable).with_name("lcm-lora"), "scores", *arguments]
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
        return done.stdout

    assert "Promote" in call()
    rows = list(csv.DictReader(io.StringIO(call("--csv"))))
    assert [float(row["value"]) for row in rows] == [row.value for row in table.rows]
    assert "kid_shapes:teacher" in call("--all")
