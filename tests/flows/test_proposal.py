"""A person is asked once about a version: by a run that lives, whatever else the server holds."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flows.proposal import propose
from lcm_lora.gate.decision import Decision
from tasks.registry.versions import Registered

DECISION = Decision(
    promote=True,
    reason="better at 4 steps",
    champion=None,
    adapter_sha256="a" * 64,
    protocol_sha256="b" * 64,
    rules=(),
)


def deployed(client: Any) -> UUID:
    """Deploy what asks; return its id."""
    made: UUID = client.create_deployment(client.create_flow_from_name("promote"), "promote")
    return made


def asked(name: str, number: str, decision: Decision = DECISION) -> UUID | None:
    """Propose a version of a model, as a retrain does; return the id of the run that asks."""
    from prefect import flow

    @flow
    def judge() -> UUID | None:
        run = propose(Registered(name, number, is_new=True), decision)
        return run.id if run else None

    return judge()


def test_each_version_of_each_model_has_a_question_of_its_own(client: Any) -> None:
    from prefect.states import Cancelled, Completed

    deployment = deployed(client)
    first = asked("rings", "1")
    assert asked("rings", "1") == first
    # The decisions of other projects may have the same content.
    others = [asked("squares", "1"), asked("rings", "2")]
    anew = asked("rings", "1", DECISION.model_copy(update={"reason": "better at 2 steps"}))
    assert len({first, *others, anew}) == 4
    client.set_flow_run_state(first, Cancelled(), force=True)
    second = asked("rings", "1")
    assert second != first
    client.set_flow_run_state(second, Completed(), force=True)
    assert asked("rings", "1") == second
    client.delete_deployment(deployment)
    assert asked("rings", "1") is None
    # Nobody can answer what a deployment asked that is gone.
    deployment = deployed(client)
    assert asked("rings", "1") not in {None, first, second}
    client.delete_deployment(deployment)
