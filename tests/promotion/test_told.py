"""The journal is shown on the terminal and as a page that needs nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from promoting import Model, mlflow_in

from flows.journal import reigns, told
from tasks.history import journal
from tasks.history.entry import Note, Scores
from tasks.history.journal import Journal
from tasks.running.cost import Spent

pytestmark = pytest.mark.usefixtures("warm_starts")

NAME = "lcm-lora-shapes"
PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"

SPENT = Spent(
    seconds=120,
    cpu_seconds=120,
    gpu_seconds=0,
    joules=None,
    price=1.25,
    currency="EUR",
    missing=(),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose second version was champion for a while."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text(PRESET.read_text())
    with mlflow_in(root) as client:
        Model(client, NAME, root)
        made = Journal(client, NAME)
        for kind, version, before, by, is_rollback in (
            ("intent", "1", None, "gate", False),
            ("champion", "1", None, "gate", False),
            ("champion", "2", "1", "Anna <b>", False),
            ("champion", "1", "2", "Bert", True),
            ("refused", "3", "1", None, False),
        ):
            scores = Scores(reason="better", numbers={"limit attributes": 0.512})
            made.append(
                kind,
                Note(
                    version=version,
                    before=before,
                    by=by,
                    why=f"so says {by}, [see 12] [/b]",
                    scores=scores,
                    cost=SPENT.model_dump(mode="json"),
                    is_rollback=is_rollback,
                ),
            )
    return root


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lcm-lora"), "journal", *arguments]
    uri = f"sqlite:///{project / 'mlflow.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_the_terminal_has_the_newest_first_and_no_intent_that_has_ended(project: Path) -> None:
    done = run(project)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [line[0] for line in lines] == ["5", "4", "3", "2"]
    assert lines[1][3:6] == ["rolled", "back", "1"]
    assert "so says Bert, [see 12] [/b]" in done.stdout


def test_a_page_says_who_was_champion_when_and_why_and_fetches_nothing(project: Path) -> None:
    done = run(project, "--page", "journal.html", "--verify")
    assert done.returncode == 0, done.stderr
    page = (project / "journal.html").read_text()
    assert "Version 1</h1>" in page
    assert "Anna &lt;b&gt;" in page
    assert "2 min of a CPU core, 1.25 EUR" in page
    assert "http" not in page
    assert "5 entries as they were made, head " in done.stdout


def test_an_altered_journal_is_said_everywhere(project: Path) -> None:
    with mlflow_in(project) as client:
        experiment = client.get_experiment_by_name(f"{NAME} journal")
        (run_2,) = client.search_runs(
            [experiment.experiment_id], "attributes.run_name = '2 champion: version 1'"
        )
        before = run_2.data.tags["journal.entry"]
        client.set_tag(run_2.info.run_id, "journal.entry", before.replace("gate", "Carl"))
        done = run(project, "--page", "journal.html", "--verify")
        client.set_tag(run_2.info.run_id, "journal.entry", before)
    assert done.returncode == 1
    said = f"entry 2 was changed (run {run_2.info.run_id}), so entry 1 cannot be proved"
    assert f"altered: {said}" in done.stdout
    assert done.stderr == f"error: journal of {NAME}: 1 alterations; see above\n"
    assert "The journal was altered:" in (project / "journal.html").read_text()


def test_a_reign_lasts_until_the_next(project: Path) -> None:
    with mlflow_in(project) as client:
        entries = journal.read(client, NAME)
    found = reigns(entries)
    assert [reign.entry.version for reign in found] == ["1", "2", "1"]
    assert [reign.until for reign in found[1:]] == [r.entry.at for r in found[:2]]
    assert found[0].until is None
    assert [entry.kind for entry in told(entries[:1])] == ["intent"]  # still open


def test_without_a_registry_there_is_one_line(tmp_path: Path, client: MlflowClient) -> None:
    (tmp_path / "params.yaml").write_text(PRESET.read_text())
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "no such registry" in done.stderr
    assert done.stderr.count("\n") == 1
