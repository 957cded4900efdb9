"""Ask a person about a version, by a run of its own that may wait for days."""

from __future__ import annotations

from itertools import count

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

from lcm_lora.gate.decision import Decision
from tasks.history.entry import decision_sha256
from tasks.registry.versions import Registered

DEPLOYMENT = "promote/promote"


def title(number: str) -> str:
    """Return the name of the run that asks about a version."""
    return f"version {number}: approval"


def propose(version: Registered, decision: Decision) -> FlowRun | None:
    """Ask for a run of the deployment that promotes, where the server has it.

    Once for a version and a decision, however often it is called.

    Returns:
        The run, which asks a person; None if nobody is asked.
    """
    logger = get_run_logger()
    by_hand = f"python -m flows.promote {version.version} --by NAME --why TEXT"
    try:
        run = _run(version, decision)
    except ObjectNotFound:
        logger.info("No deployment %s asks who approves %s: %s", DEPLOYMENT, version, by_hand)
    except httpx.HTTPError as error:
        logger.warning("Nobody is asked, since Prefect did not answer (%s): %s", error, by_hand)
    else:
        return run
    return None


def _run(version: Registered, decision: Decision) -> FlowRun:
    """Return the run that asks; another one if the one before died, or its deployment has gone."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(DEPLOYMENT).id
        # The server may hold other projects' questions, and decisions of equal content.
        about = f"{deployment} {version} {decision_sha256(decision)}"
        for attempt in count():
            run = client.create_flow_run_from_deployment(
                deployment,
                parameters={"version": version.version},
                name=title(version.version),
                idempotency_key=f"{about} {attempt}",
            )
            if run.state is None or not run.state.is_final() or run.state.is_completed():
                return run
    raise AssertionError
