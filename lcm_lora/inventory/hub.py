"""Resolve a hub id to one commit and its files, on the hub or in the local hub cache."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.errors import UserError

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class OnHub:
    """A hub id at one commit, in the local cache."""

    folder: Path
    commit: str


def is_hub_id(name: str) -> bool:
    """Tell whether a name can only mean something on the hub, with or without a revision."""
    identifier, _, _ = name.partition("@")
    return _ID.fullmatch(identifier) is not None and not Path(name).exists()


def find_on_hub(what: str, model: str, revision: str | None, index: str) -> OnHub:
    """Return the commit that a revision of a hub id names now, and the folder of its files.

    Without the hub, what the local cache has of that revision counts, and a line says so.

    Args:
        what: Parameter that names it.
        model: Its hub id.
        revision: Commit, tag or branch; None is the main branch.
        index: File that every such repository holds.

    Raises:
        UserError: Neither the hub nor the cache knows it.
    """
    if not _ID.fullmatch(model):  # before the hub is asked what it would not know
        raise UserError(
            f"{what} {model}: neither a file, a folder nor a repository on the hub, which would be "
            "OWNER/NAME; mend its name"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        commit = HfApi().model_info(model, revision=revision, timeout=10).sha
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError):
        wanted = f"{model} at {revision or 'main'}"
        raise UserError(
            f"{what} {wanted}: neither a file, a folder nor a repository on the hub"
        ) from None
    except Exception as error:  # no network is a different error with every major version
        folder = cached_folder(model, revision, index)
        if folder is None:
            wanted = f"{model} at {revision or 'main'}"
            raise UserError(
                f"{what} {wanted}: not in the local hub cache, and the hub does not answer"
                f" ({type(error).__name__}); name a folder, or run once with a network"
            ) from None
        sys.stderr.write(f"{what}: offline; {model} as cached, commit {folder.name}\n")
        return OnHub(folder, folder.name)
    return OnHub(_fetched(what, model, str(commit), index), str(commit))


def _fetched(what: str, model: str, commit: str, index: str) -> Path:
    """Return the folder of a commit in the cache; what is not there yet is downloaded, once.

    A download that was killed leaves some of it, so the hub is asked for all.
    """
    if cached_folder(model, commit, index) is None:
        sys.stderr.write(f"{what}: fetching {model}, commit {commit}, once\n")
    if index != "model_index.json":
        from huggingface_hub import snapshot_download

        wanted = [index, "*.safetensors", "*.safetensors.index*.json"]
        return Path(snapshot_download(model, revision=commit, allow_patterns=wanted))
    from diffusers import DiffusionPipeline  # heavy, and seldom needed

    return Path(DiffusionPipeline.download(model, revision=commit, use_safetensors=True))


def cached_folder(model: str, revision: str | None, index: str) -> Path | None:
    """Return the folder of a hub id's files in the local cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, index, revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None
