"""MLflow's own word to the outside about its registry, also of what somebody does by hand."""

from __future__ import annotations

import os
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lcm_lora.errors import UserError, reason
from tasks.servers.automations import Change

SECRET = "LCM_LORA_WEBHOOK_SECRET"
"""Variable of the environment with which MLflow signs what it sends; without it nothing is."""

_NAME = "lcm-lora"
_EVENTS = ("model_version.created", "model_version_alias.created", "model_version_alias.deleted")


def bring(client: MlflowClient, url: str) -> Change:
    """Have MLflow post to an address when a version is made or an alias moves, of any model.

    One that somebody disabled stays disabled. A secret cannot be read back, so one that is in the
    environment is written each time.

    Args:
        client: Of the server; a bare database sends nothing.
        url: The address, which has to be a public one with https, as MLflow wants it.

    Raises:
        UserError: MLflow does not take it.
    """
    wanted: dict[str, Any] = {"url": url, "events": list(_EVENTS)}
    secret = os.environ.get(SECRET)
    try:
        known = next((one for one in client.list_webhooks() if one.name == _NAME), None)
        if known is None:
            client.create_webhook(_NAME, secret=secret, **wanted)
            return "new"
        is_same = known.url == url and sorted(map(str, known.events)) == sorted(_EVENTS)
        if not is_same or secret:
            client.update_webhook(known.webhook_id, secret=secret, **wanted)
        return "unchanged" if is_same else "changed"
    except MlflowException as error:
        raise UserError(f"--webhook {url}: MLflow does not take it: {reason(error)}") from None
