"""Return to a version that was champion once, as the journal tells."""

from __future__ import annotations

from mlflow import MlflowClient

from lcm_lora.errors import UserError
from lcm_lora.params.registry import Registry
from tasks.champions.activation import activate, opened
from tasks.history.entry import Entry, Note
from tasks.history.succession import champions, predecessor
from tasks.registry.aliases import CHAMPION


def roll_back(client: MlflowClient, registry: Registry, to: str | None, by: str, why: str) -> Entry:
    """Make a champion of before champion again.

    Args:
        client: Of the registry.
        registry: Which model, and how many pictures the version has to paint again.
        to: Its number; None for the champion before, which those that were rolled back are not.
        by: Who says so.
        why: Their reason.

    Raises:
        UserError: There is none, it was never champion, it is not fit, or somebody else moved the
            champion meanwhile.
    """
    name = registry.name
    with opened(client, name) as office:
        entries, before = office.journal.entries, office.aliases().get(CHAMPION)
    version = to or predecessor(entries)
    if version is None:
        raise UserError(f"{name}: there is no champion before to return to; promote a version")
    if version not in (known := champions(entries)):
        listed = ", ".join(known) or "none"
        raise UserError(f"{name} version {version}: was never champion; name one of: {listed}")
    note = Note(version=version, before=before, by=by, why=why, is_rollback=True)
    entry = activate(client, name, note, registry.smoke)
    if entry is None:
        raise UserError(f"{name} version {version}: is champion already; name another version")
    return entry
