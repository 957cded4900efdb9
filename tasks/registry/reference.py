"""What a name means in the registry: NAME, models:/NAME@ALIAS, or models:/NAME/VERSION."""

from __future__ import annotations

import re

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from lcm_lora.errors import UserError, reason

_REFERENCE = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[\w-]+)|/(?P<version>\d+))")


def model_of(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return a registered model; None if nothing was ever registered under its name."""
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def find(client: MlflowClient, reference: str, mend: str) -> ModelVersion:
    """Return the version that a reference names now.

    Args:
        client: Of the registry.
        reference: Such as `models:/shapes@champion`.
        mend: What whoever wrote it can do if it names nothing.

    Raises:
        UserError: It is no such reference, or there is no such version.
    """
    if not (parts := _REFERENCE.fullmatch(reference)):
        raise UserError(
            f"{reference}: names no version; write models:/NAME/3 or models:/NAME@ALIAS"
        )
    try:
        if alias := parts["alias"]:
            return client.get_model_version_by_alias(parts["name"], alias)
        return client.get_model_version(parts["name"], parts["version"])
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise UserError(
            f"{reference}: the registry does not have it ({reason(error)}); {mend}"
        ) from None
