"""Register the adapter that the stages left, and carry out what the gate decided about it."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.client.schemas import FlowRun

from flows import proposal, registered
from lcm_lora import layout
from lcm_lora.evaluation.scores import Table, read_table
from lcm_lora.gate.decision import Decision, read_decision
from lcm_lora.params.file import Params
from tasks.champions import champion, promotion, run_page
from tasks.champions.promotion import Move
from tasks.registry import versions
from tasks.registry.versions import Registered
from tasks.servers import events
from tasks.tracking.results import log_results
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import read_training


@dataclass(frozen=True)
class Judged:
    """What a run came to."""

    table: Table
    decision: Decision
    version: Registered
    move: Move
    asks: FlowRun | None = None
    """The run that asks a person about the version."""


def register_and_judge(tracker: Tracker, params: Params) -> Judged | None:
    """Register the adapter and carry out the decision; None if it is about a champion of before.

    Where a person has the last word, they are asked; the run does not wait for them.

    Raises:
        UserError: What the stages left is damaged, the version is not fit to be champion, or MLflow
            did not answer.
    """
    with registered.answering(params.registry.name):
        return _judged(tracker, params)


def _judged(tracker: Tracker, params: Params) -> Judged | None:
    table, training = read_table(tracker.root / layout.SCORES), read_training(tracker.root)
    decision = read_decision(tracker.root / layout.DECISION)
    if champion.is_overtaken(tracker, params.registry.name, decision):
        return None
    if version := promotion.crowned(tracker, params.registry.name, decision):
        run_page.write(tracker, version, table, decision, "champion already")
        return Judged(table, decision, version, "champion already")
    run_id = log_results(tracker, params, training, table, decision)
    version = versions.register(tracker, run_id, params, training, decision)
    move = promotion.promote(tracker, version, decision, params.registry)
    if move == "overtaken":
        return None
    run_page.write(tracker, version, table, decision, move)
    if version.is_new:
        payload = {"name": version.name, "version": version.version, "reason": decision.reason}
        events.emit("adapter.registered", events.model(version.name), payload)
    asks = proposal.propose(version, decision) if move == "proposed" else None
    return Judged(table, decision, version, move, asks)
