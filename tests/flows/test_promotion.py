"""A person is asked who becomes champion, takes it back, and what is done by hand is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, Project, copy_of
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun, State
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.input.actions import read_flow_run_input

from flows import consent
from flows import promote as promoting
from flows.promote import promote
from flows.retrain import retrain
from flows.rollback import rollback
from flows.watch import watch
from tasks.history import journal

NAME = "lcm-lora-shapes"
Enter = Callable[[Project], None]


def client(project: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")


def aliases(project: Project) -> dict[str, int]:
    found = client(project).get_registered_model(NAME).aliases
    return {alias: int(version) for alias, version in found.items()}


def told(project: Project) -> list[str]:
    entries = journal.read(client(project), NAME)
    return [f"{entry.kind} {entry.version} by {entry.by}" for entry in entries]


@pytest.fixture(scope="module")
def _proposed(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose second adapter is better, and whose parameters ask for a person's word."""
    project = copy_of(done.project, tmp_path_factory.mktemp("proposed") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        database = project.root / ".mlflow" / "mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        project.set("registry.approval", {"by": "person", "days": 3})
        project.set("distill.seed", 10)
        state = retrain(return_state=True)
        assert state.is_completed(), state.message
    return project


@pytest.fixture
def project(_proposed: Project, enter: Enter, tmp_path: Path) -> Project:
    own = copy_of(_proposed, tmp_path / "project")
    enter(own)
    return own


FIRST = ["intent 1 by gate", "champion 1 by gate"]
WAITING = {"champion": 1, "challenger": 2}


def paused() -> FlowRun | None:
    """Return the run that waits for an answer."""
    waiting = FlowRunFilter(
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Paused"])),
        name=FlowRunFilterName(like_="version 2: approval"),
    )
    with get_client(sync_client=True) as server:
        return next(iter(server.read_flow_runs(flow_run_filter=waiting)), None)


def has_form(run: FlowRun) -> bool:
    """Tell whether the form of the answer is there: it comes a moment after the pause."""
    return read_flow_run_input("paused-approval-schema", run.id) is not None


def answered(answers: list[dict[str, Any]]) -> tuple[State[Any], list[str]]:
    """Promote, give the answers one after another; return how it ended, and what became of each."""
    said = []
    with ThreadPoolExecutor() as pool:
        run: Future[State[Any]] = pool.submit(promote, return_state=True)
        for answer in answers:
            end = time.monotonic() + 60
            while (found := paused()) is None and not run.done() and time.monotonic() < end:
                time.sleep(0.2)
            assert found is not None, run.result().message
            with get_client(sync_client=True) as server:
                while not has_form(found):
                    time.sleep(0.1)
                said.append(server.resume_flow_run(found.id, run_input=answer).status.value)
        return run.result(), said


def test_a_better_adapter_waits_for_a_person(project: Project) -> None:
    assert aliases(project) == WAITING
    assert told(project) == FIRST


def test_only_a_whole_answer_is_taken_and_it_makes_the_champion(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoting, "_SECONDS_BETWEEN_LOOKS", 1)
    state, said = answered(
        [
            {"approve": True},
            {"approve": "perhaps", "by": "Anna", "why": "rings are rounder"},
            {"approve": True, "by": " ", "why": "rings are rounder"},
            {"approve": True, "by": "Anna", "why": "good"},
            {"approve": True, "by": "Anna", "why": "rings are rounder"},
        ]
    )
    assert said == ["REJECT"] * 4 + ["ACCEPT"]
    assert state.message == f"{NAME} version 2: champion, approved by Anna"
    assert aliases(project) == {"champion": 2}
    assert told(project) == [*FIRST, "intent 2 by Anna", "champion 2 by Anna"]
    entry = journal.read(client(project), NAME)[-1]
    assert (entry.why, entry.approval, entry.before) == ("rings are rounder", "person", "1")
    assert entry.scores is not None
    assert entry.scores.numbers["limit fd_shapes:real adapter/steps-4_guidance-1"] == 10.0
    assert entry.cost is not None
    assert client(project).get_model_version(NAME, "2").tags["approval"] == "approved"


def test_a_refusal_is_entered_and_nobody_is_asked_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoting, "_SECONDS_BETWEEN_LOOKS", 1)
    state, _ = answered([{"approve": False, "by": "Bert", "why": "squares look dull now"}])
    assert state.message == f"{NAME} version 2: refused by Bert"
    assert aliases(project) == WAITING
    assert told(project) == [*FIRST, "refused 2 by Bert"]
    assert client(project).get_model_version(NAME, "2").tags["approval"] == "refused"
    asked = promote(return_state=True)
    assert asked.message.startswith(f"{NAME}: nobody awaits approval; version 2 was refused")
    again = retrain(return_state=True)
    assert again.is_completed(), again.message
    assert told(project) == [*FIRST, "refused 2 by Bert"]


def test_whoever_is_silent_for_too_long_has_refused(project: Project) -> None:
    project.set("registry.approval.days", 2 / 86_400)
    state = promote(return_state=True)
    assert state.is_failed()
    assert aliases(project) == WAITING
    assert told(project) == [*FIRST, "refused 2 by None"]
    assert "nobody answered within" in journal.read(client(project), NAME)[-1].why
    with get_client(sync_client=True) as prefect:
        run = prefect.read_flow_run(state.state_details.flow_run_id)
    assert run.name.startswith("version 2: nobody answered within")


def test_silence_refuses_nothing_that_somebody_has_approved_elsewhere(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks, approved, answer = threading.Event(), threading.Event(), promoting._answer

    def silence(kind: Any, seconds: int) -> Any:
        asks.set()
        assert approved.wait(600)
        return answer(kind, 1)

    monkeypatch.setattr(promoting, "_answer", silence)
    with ThreadPoolExecutor() as pool:
        silent: Future[State[Any]] = pool.submit(promote, return_state=True)
        assert asks.wait(600)
        try:
            state = promote("2", by="Anna", why="rings are rounder", return_state=True)
        finally:
            approved.set()
        assert state.is_completed(), state.message
        assert silent.result().is_failed()
    assert told(project) == [*FIRST, "intent 2 by Anna", "champion 2 by Anna"]
    assert client(project).get_model_version(NAME, "2").tags["approval"] == "approved"


def test_a_champion_is_rolled_back_and_the_gate_alone_does_not_bring_it_again(
    project: Project,
) -> None:
    word = {"by": "Anna", "why": "rings are rounder"}
    assert promote("2", **word, return_state=True).is_completed()
    back = rollback("Bert", "squares look dull now", return_state=True)
    assert back.message == f"{NAME} version 1: champion again, in the place of version 2"
    assert aliases(project) == {"champion": 1}
    assert told(project)[-2:] == ["intent 1 by Bert", "champion 1 by Bert"]
    project.set("registry.approval.by", "gate")
    project.set("score.seed", 1)  # judged anew
    again = retrain(return_state=True)
    assert again.is_completed(), again.message
    assert aliases(project) == WAITING
    assert told(project)[-1] == "champion 1 by Bert"
    to = rollback("Bert", "it was not the squares", "2", return_state=True)
    assert to.is_completed(), to.message
    assert aliases(project)["champion"] == 2


def test_what_cannot_be_promoted_or_rolled_back_is_one_line(project: Project) -> None:
    word = ("Anna", "rings are rounder")
    bare = client(project).create_model_version(NAME, project.root.as_uri())
    for state, line in {
        promote("7", *word, return_state=True): f"models:/{NAME}/7: the registry does not have it",
        promote("01", *word, return_state=True): "version 1: is the champion already",
        promote("2", *word, "0" * 64, return_state=True): "version 2: was judged anew since it was",
        promote(str(bare.version), *word, return_state=True): "version 3: has no evidence",
        rollback(*word, return_state=True): ": there is no champion before to return to",
        rollback(*word, "2", return_state=True): "version 2: was never champion; name one of: 1",
    }.items():
        assert state.is_failed()
        assert line in str(state.message)
        assert "\n" not in str(state.message)
    assert aliases(project) == WAITING
    assert told(project) == FIRST


@pytest.mark.parametrize("answer", ["y", "no", None])
def test_a_word_on_the_terminal_is_about_what_was_shown(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
) -> None:
    def typed(question: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", typed)
    shown = consent.asked(None)
    said = capsys.readouterr()
    assert f"{NAME} version 2, in the place of version 1" in said.out
    if answer != "y":
        assert (shown, said.err) == (None, "error: not promoted, and nothing has changed\n")
        return
    assert shown is not None
    version, decision = shown.split()
    state = promote(version, "Anna", "rings are rounder", decision, return_state=True)
    assert state.message == f"{NAME} version 2: champion, approved by Anna"


def test_a_version_of_another_experiment_keeps_its_evidence(project: Project) -> None:
    project.set("registry.experiment", "another")
    project.set("score.seed", 1)  # judged anew
    again = retrain(return_state=True)
    assert again.is_completed(), again.message
    state = promote("2", "Anna", "rings are rounder", return_state=True)
    assert state.message == f"{NAME} version 2: champion, approved by Anna"


def test_a_watch_before_anything_is_registered_finds_nothing(
    fresh: Project, prefect_server: None, enter: Enter, tmp_path: Path
) -> None:
    enter(copy_of(fresh, tmp_path / "project"))
    assert watch(return_state=True).message == f"{NAME}: nothing is registered yet"


def test_what_is_done_by_hand_is_noticed(project: Project) -> None:
    client(project).set_registered_model_alias(NAME, "champion", "2")
    seen = watch(return_state=True)
    assert seen.message == f"{NAME}: 3 by hand: version 2"
    assert told(project) == [*FIRST, "by hand 2 by None"]
    assert watch(return_state=True).message == f"{NAME}: nothing new"
    (run,) = client(project).search_runs(["2"], max_results=1)
    client(project).delete_run(run.info.run_id)
    altered = watch(return_state=True)
    assert altered.is_failed()
    assert "was deleted; `mlflow runs restore" in str(altered.message)
