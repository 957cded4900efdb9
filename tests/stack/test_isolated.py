"""A retrain by hand over three workers: in shares, with one sent again, and nothing made twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import with_word
from team import Team, gone
from team_stack import Stack

from tasks.isolated.checkout import CHECKOUTS, checkout

GPUS = ("worker-gpu", "worker-gpu-2")
ISOLATED = (sys.executable, "-m", "flows.retrain", "--isolated")


@pytest.fixture
def team(stack: Stack, tmp_path: Path) -> Iterator[Team]:
    """A team whose data is prepared on the GPUs' workers, in shares."""
    team = Team(stack, tmp_path, "isolated")
    graph = team.project.root / "dvc.yaml"
    command = "cmd: python toy.py prepare\n"
    shares = f"{command}    meta: {{pool: gpu, shares: true}}\n"
    graph.write_text(graph.read_text().replace(command, shares))
    team.publish("Prepared in shares")
    with team.at_work():
        yield team


def waited(team: Team, run: subprocess.Popen[str], *stages: str) -> str:
    """Wait for the end of a run that has to have these stages made; return its last line."""
    said, errors = run.communicate()
    assert team.started() == sorted(stages), said + errors
    return (said + errors).splitlines()[-1]


def test_only_what_nobody_has_made_is_made_in_shares_and_again_after_a_crash(team: Team) -> None:
    team.hold(*GPUS)
    run = team.begun(*ISOLATED)
    family = team.family(team.training(team.new("retrain", []), *GPUS))
    engine, *_ = with_word(family, "prefect.engine")
    engine.kill()
    assert gone(family)
    team.release(*GPUS)
    shares = ["prepare --share 1/2", "prepare --share 2/2"]
    paints = [f"generate {name}" for name in ("champion", "ddim", "teacher")]
    rest = ["decide", "distill", "distill", *paints, "prepare", "report", "score", "select"]
    waited(team, run, *shares, *rest)
    assert run.returncode == 0

    run = team.begun(*ISOLATED, "--why", "nothing is new")
    waited(team, run)
    assert run.returncode == 0
    run = team.begun(*ISOLATED, "--set", "report.title=Another")
    waited(team, run, "report")
    assert run.returncode == 0
    run = team.begun(*ISOLATED, "--set", "report.title=bad")
    last = waited(team, run, "report")
    assert (run.returncode, last) == (1, "error: report: report.title is bad; choose another")
    for clone in (team.project, *team.clones.values()):
        with checkout(clone.root, team.first):
            pass  # what a killed one has left goes with the next one
        assert [place.name for place in (clone.root / CHECKOUTS).iterdir()] == ["lock"]
