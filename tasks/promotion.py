"""Who is champion: a decision is carried out once, and nobody is overtaken unawares."""

from __future__ import annotations

import hashlib
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora.gate.decision import Decision
from tasks.champion import ALIAS, is_overtaken
from tasks.claim import claimed
from tasks.registry import Registered, version_of
from tasks.tracking import Tracker

Move = Literal["promoted", "challenger", "champion already", "carried out before", "overtaken"]
"""What came of a decision; `overtaken` if somebody else became champion meanwhile."""

_CHALLENGER = "challenger"
_AGAINST = "judged_against"


def crowned(tracker: Tracker, name: str, decision: Decision) -> Registered | None:
    """Return the adapter's version if it is champion, by a comparison that this one is no news to.

    That is one with itself, or with nobody, where the champion before it is not here: what is said
    of the version and in its run tells how it became champion, and has to stay.
    """
    version = version_of(tracker, name, decision.adapter_sha256)
    if version is None or _aliases(tracker, name).get(ALIAS) != str(version.version):
        return None
    if version.tags.get(_AGAINST) in {None, _rival(decision)}:
        return None
    return Registered(name, str(version.version), is_new=False)


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promote(tracker: Tracker, registered: Registered, decision: Decision) -> Move:
    """Carry out a decision once: the winner is champion, anyone else is the challenger.

    Only if the champion still is the one that was compared: of two runs at once, one wins. And only
    once: who moves the alias afterwards, by hand, has the last word on what that decision said.
    """
    client, name, version = tracker.client, registered.name, registered.version
    with claimed(client, name):
        done = _carried_out(decision)
        is_done = done in client.get_model_version(name, version).tags
        aliases = _aliases(tracker, name)
        if aliases.get(ALIAS) == version:
            if aliases.get(_CHALLENGER) == version:  # whoever promoted it died between two calls
                client.delete_registered_model_alias(name, _CHALLENGER)
            if decision.promote and not is_done:
                client.set_model_version_tag(name, version, done, "champion already")
            return "champion already"
        if is_overtaken(tracker, name, decision):
            return "overtaken"
        if is_done:
            return "carried out before" if decision.promote else "challenger"
        client.set_model_version_tag(name, version, _AGAINST, _rival(decision))
        client.set_model_version_tag(name, version, "gate", decision.reason)
        # A last look: people move aliases too, and claim nothing.
        if _aliases(tracker, name).get(ALIAS) != aliases.get(ALIAS):
            return "overtaken"
        move: Move = "promoted" if decision.promote else "challenger"
        client.set_registered_model_alias(name, ALIAS if decision.promote else _CHALLENGER, version)
        if decision.promote and _CHALLENGER in aliases:
            client.delete_registered_model_alias(name, _CHALLENGER)
        client.set_model_version_tag(name, version, done, move)
        return move


def _aliases(tracker: Tracker, name: str) -> dict[str, str]:
    aliases = tracker.client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in aliases.items()}


def _carried_out(decision: Decision) -> str:
    """Return the name of the tag that says that a decision was carried out."""
    return f"decision.{hashlib.sha256(decision.model_dump_json().encode()).hexdigest()[:16]}"


def _rival(decision: Decision) -> str:
    return decision.champion.version if decision.champion else "nobody"
